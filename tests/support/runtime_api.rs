//! AWS Lambda's Runtime API, over real HTTP/1.1 on its own port, to drive the real binary of a function. It knows nothing of what
//! the function does.
#![allow(dead_code, unused_imports, reason = "each integration test is a crate of its own and uses a part of this")]

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

mod function;
pub use function::Function;

/// How long an invocation may take before the function counts as gone.
const INVOCATION_TIMEOUT: Duration = Duration::from_mins(2);
/// How long to wait for a response that a process sent before it died.
const RESPONSE_TIMEOUT_AFTER_DEATH: Duration = Duration::from_millis(300);

/// When an invocation ends.
#[derive(Clone, Copy, Debug)]
pub enum Deadline {
    /// This many milliseconds after the function has fetched the event.
    InMs(u64),
    /// At this time, in milliseconds since the epoch. Some emulators send one in 1970.
    AtMs(u64),
}

/// The result of an invocation.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Response(Value),
    Error {
        error_type: String,
        message: String,
        /// The header `Lambda-Runtime-Function-Error-Type`.
        header: String,
    },
    /// The process died, or no process fetched the event and responded within two minutes.
    Gone,
}

struct Event {
    id: String,
    payload: String,
    deadline: Deadline,
}

/// How many processes were started with one Runtime API, and how many of them have exited.
#[derive(Clone, Copy, Default)]
struct Processes {
    started: usize,
    exited: usize,
}

struct State {
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    /// The caller that waits for each invocation, by its id.
    waiting: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    init_error: Mutex<Option<Value>>,
    processes: watch::Sender<Processes>,
}

/// A running Runtime API for one process at a time. It closes its port and every connection when it is dropped.
pub struct RuntimeApi {
    address: SocketAddr,
    state: Arc<State>,
    queue: mpsc::UnboundedSender<Event>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl RuntimeApi {
    pub async fn start() -> Self {
        let (queue, events) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            events: tokio::sync::Mutex::new(events),
            waiting: Mutex::default(),
            init_error: Mutex::default(),
            processes: watch::Sender::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let listener = listener.into_std().expect("a socket to hand over");
        let (stop, stopped) = oneshot::channel();
        let its_state = Arc::clone(&state);
        // On its own thread, because a test can block while it waits for a process, and can use more than one runtime.
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, its_state) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, queue, stop: Some(stop), server: Some(server) }
    }

    /// The value for `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sends the event to the function and waits for the result.
    pub async fn invoke(&self, payload: &str, deadline: Deadline) -> Outcome {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let id = format!("00000000-0000-4000-8000-{:012x}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (sender, mut result) = oneshot::channel();
        self.state.waiting.lock().expect("no request panicked").insert(id.clone(), sender);

        let mut processes = self.state.processes.subscribe();
        let exited = processes.borrow().exited;
        let is_dead = |now: &Processes| now.exited > exited || (now.started > 0 && now.started == now.exited);
        self.queue.send(Event { id, payload: payload.to_owned(), deadline }).unwrap_or_else(|_| panic!("no server"));
        tokio::select! {
            biased;
            outcome = &mut result => return outcome.unwrap_or(Outcome::Gone),
            _ = processes.wait_for(is_dead) => {}
            () = tokio::time::sleep(INVOCATION_TIMEOUT) => {}
        }
        tokio::time::timeout(RESPONSE_TIMEOUT_AFTER_DEATH, result)
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or(Outcome::Gone)
    }

    /// The error that the function sent to `init/error`.
    pub fn init_error(&self) -> Option<Value> {
        self.state.init_error.lock().expect("no request panicked").clone()
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.server.take().map(JoinHandle::join);
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        let service = service_fn(move |request| respond(Arc::clone(&state), request));
        // An error means that the function died.
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// If this returns an error, hyper closes the connection without a response.
async fn respond(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path().strip_prefix("/2018-06-01/runtime/").unwrap_or_default();
    match (&head.method, path.split('/').collect::<Vec<_>>().as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&state).await,
        (&Method::POST, ["invocation", id, "response"]) => {
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            Ok(complete(&state, id, Outcome::Response(serde_json::from_slice(&body).unwrap_or_else(|_| text()))))
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            let error: Value = serde_json::from_slice(&body).unwrap_or_default();
            let member = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            let header = head.headers.get("lambda-runtime-function-error-type").and_then(|value| value.to_str().ok());
            let header = header.unwrap_or_default().to_owned();
            let (error_type, message) = (member("errorType"), member("errorMessage"));
            Ok(complete(&state, id, Outcome::Error { error_type, message, header }))
        }
        (&Method::POST, ["init", "error"]) => {
            let error = serde_json::from_slice(&body).unwrap_or_default();
            *state.init_error.lock().expect("no request panicked") = Some(error);
            Ok(response(202, &json!({"status": "OK"})))
        }
        _ => Ok(response(404, &json!({"errorType": "NotFound", "errorMessage": head.uri.path()}))),
    }
}

/// The long poll. It never returns an error response, because `lambda_runtime` panics without the header of the request id.
async fn next(state: &State) -> io::Result<Response<Full<Bytes>>> {
    let mut processes = state.processes.subscribe();
    let exited = processes.borrow().exited;
    let event = tokio::select! {
        biased;
        // A dead process must not fetch the event of the one that comes after it.
        _ = processes.wait_for(|now| now.exited > exited) => return Err(io::ErrorKind::ConnectionAborted.into()),
        event = waited_for_event(state) => event,
    };
    let deadline_ms = match event.deadline {
        Deadline::InMs(ms) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
            now.as_millis() + u128::from(ms)
        }
        Deadline::AtMs(ms) => ms.into(),
    };
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", event.id)
        .header("lambda-runtime-deadline-ms", deadline_ms.to_string())
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:token-refresher")
        .header(
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
        );
    Ok(response.body(event.payload.into()).expect("a response"))
}

/// The next event whose caller still waits.
async fn waited_for_event(state: &State) -> Event {
    let mut events = state.events.lock().await;
    loop {
        let Some(event) = events.recv().await else { return std::future::pending().await };
        let waiting = state.waiting.lock().expect("no request panicked");
        if waiting.get(&event.id).is_some_and(|sender| !sender.is_closed()) {
            return event;
        }
    }
}

fn complete(state: &State, id: &str, outcome: Outcome) -> Response<Full<Bytes>> {
    let waiting = state.waiting.lock().expect("no request panicked").remove(id);
    match waiting.map(|waiting| waiting.send(outcome)) {
        Some(Ok(())) => response(202, &json!({"status": "OK"})),
        _ => response(400, &json!({"errorType": "InvalidRequestID", "errorMessage": "no such invocation"})),
    }
}

fn response(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let head = Response::builder().status(status).header("content-type", "application/json");
    head.body(body.to_string().into()).expect("a response")
}
