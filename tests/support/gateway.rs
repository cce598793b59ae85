//! A proxy between a process and all its peers, on one port. It records every request in order, and injects faults before or after
//! the peer has processed a request. It knows which peer a request is for, and names it; it checks nothing.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use token_refresher::http_client::HttpClients;
use tokio::sync::{oneshot, watch};

use super::provider::Payload;

/// Longer than the longest response that the function reads, in bytes.
const TOO_LONG: usize = 1024 * 1024 + 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    RuntimeApi,
    SecretsManager,
    Provider,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Observed {
    pub peer: Peer,
    /// Its purpose, such as `PutSecretValue OAUTH_CLAIM`.
    pub name: String,
    /// Whether the peer has responded, even if the response was then lost.
    pub processed: bool,
}

/// An injected fault: what happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// The peer does not receive it. No response is sent.
    HoldBefore,
    /// The peer processes it. No response is sent.
    HoldAfter,
    /// The peer does not receive it. The connection is closed.
    CloseBefore,
    /// The peer processes it. The connection is closed without a response.
    CloseAfter,
    /// The peer does not receive it. The response is an error with this status and code.
    Refuse(u16, &'static str),
    /// The peer processes it. Half of the response is sent, then the connection is closed.
    Truncate,
    /// The peer processes it. The response is an HTML page.
    Html,
    /// The peer processes it. The response is longer than the function reads.
    Flood,
}

impl InjectedFault {
    /// Whether the peer does not receive the request.
    pub fn is_before(self) -> bool {
        matches!(self, Self::HoldBefore | Self::CloseBefore | Self::Refuse(..))
    }
}

/// The requests that an injected fault affects.
#[derive(Clone, Debug)]
pub enum When {
    /// The one with this number, counted from 0.
    Nth(usize),
    /// The one with this number, and all later ones to the same peer whose names start with this text.
    From(usize, &'static str),
    /// The `nth` one whose name starts with this text, counted from 1.
    Named(String, usize),
    /// All whose names start with this text.
    EachNamed(String),
}

impl When {
    /// Whether the last of these requests is affected.
    fn affects(&self, seen: &[Observed]) -> bool {
        let number = seen.len() - 1;
        match self {
            Self::Nth(nth) => *nth == number,
            Self::From(first, name) => {
                *first <= number && seen[*first].peer == seen[number].peer && seen[number].name.starts_with(name)
            }
            Self::EachNamed(name) => seen[number].name.starts_with(name),
            Self::Named(name, nth) => {
                let named = |seen: &Observed| seen.name.starts_with(name);
                named(&seen[number]) && seen.iter().filter(|seen| named(seen)).count() == *nth
            }
        }
    }
}

/// The addresses of the real peers.
pub struct Upstreams {
    /// Without a final slash.
    pub secrets_manager: String,
    /// With its path.
    pub provider: String,
}

/// The gateway, on its own thread. It closes its port when it is dropped.
pub struct Gateway {
    address: String,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    upstreams: Upstreams,
    fault: Mutex<Option<(When, InjectedFault)>>,
    seen: watch::Sender<Vec<Observed>>,
    /// How many requests the fault has affected.
    faulted: watch::Sender<usize>,
}

impl Gateway {
    pub async fn start(upstreams: Upstreams) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let listener = listener.into_std().expect("a socket to hand over");
        let shared = Arc::new(Shared {
            upstreams,
            fault: Mutex::default(),
            seen: watch::Sender::default(),
            faulted: watch::Sender::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let its = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, its) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, _stop: stop }
    }

    /// The address for Secrets Manager.
    pub fn secrets_manager(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address for a Runtime API. It contains the API's own address, so that no request of a dead process reaches the Runtime
    /// API of the next one.
    pub fn runtime_api(&self, its_address: &str) -> String {
        format!("http://{}/{its_address}", self.address)
    }

    /// The address for the provider's token endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Injects a fault into later requests. It replaces the fault that was set before.
    pub fn inject(&self, when: When, fault: InjectedFault) {
        *self.shared.fault() = Some((when, fault));
    }

    /// Removes the fault, and clears the list of requests.
    pub fn reset(&self) {
        *self.shared.fault() = None;
        self.shared.seen.send_replace(Vec::new());
        self.shared.faulted.send_replace(0);
    }

    /// The requests since the start or the last reset, in order.
    pub fn seen(&self) -> Vec<Observed> {
        self.shared.seen.borrow().clone()
    }

    /// How many requests the fault has affected.
    pub fn faulted(&self) -> usize {
        *self.shared.faulted.borrow()
    }

    /// Waits until the fault has affected a request.
    pub async fn until_faulted(&self) {
        let mut faulted = self.shared.faulted.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), faulted.wait_for(|&count| count > 0)).await;
        assert!(waited.is_ok(), "no request met the fault; these arrived: {:?}", self.seen());
    }

    /// Waits until so many requests of this name have arrived.
    pub async fn until_seen(&self, name: &str, times: usize) {
        let mut seen = self.shared.seen.subscribe();
        let enough = seen.wait_for(|seen| seen.iter().filter(|seen| seen.name == name).count() >= times);
        let waited = tokio::time::timeout(Duration::from_secs(30), enough).await.is_ok();
        assert!(waited, "{name} did not arrive; these did: {:?}", self.seen());
    }
}

impl Shared {
    fn fault(&self) -> MutexGuard<'_, Option<(When, InjectedFault)>> {
        self.fault.lock().expect("no thread panicked with the lock")
    }

    /// Records a request. Returns its number, and the fault that affects it, if any.
    fn arrived(&self, peer: Peer, name: String) -> (usize, Option<InjectedFault>) {
        let mut number = 0;
        let mut injected = None;
        self.seen.send_modify(|seen| {
            number = seen.len();
            seen.push(Observed { peer, name, processed: false });
            injected = self.fault().as_ref().filter(|(when, _)| when.affects(seen)).map(|(_, fault)| *fault);
        });
        (number, injected)
    }

    fn processed(&self, number: usize) {
        self.seen.send_modify(|seen| {
            // `None`: the list was cleared in between.
            if let Some(seen) = seen.get_mut(number) {
                seen.processed = true;
            }
        });
    }

    /// Forwards a request to its peer. Returns the whole response.
    async fn forward(&self, http: &reqwest::Client, received: &Received) -> io::Result<(Response<()>, String)> {
        let url = match received.peer {
            Peer::RuntimeApi => format!("http:/{}", received.head.uri.path()),
            Peer::SecretsManager => format!("{}/", self.upstreams.secrets_manager),
            Peer::Provider => self.upstreams.provider.clone(),
        };
        let mut headers = received.head.headers.clone();
        headers.remove(header::HOST);
        let request = http.request(received.head.method.clone(), url).headers(headers).body(received.body.clone());
        let response = request.send().await.map_err(io::Error::other)?;
        let mut head = Response::new(());
        *head.status_mut() = response.status();
        *head.headers_mut() = response.headers().clone();
        Ok((head, response.text().await.map_err(io::Error::other)?))
    }
}

/// A request with its whole body.
struct Received {
    peer: Peer,
    name: String,
    head: hyper::http::request::Parts,
    body: String,
}

impl Received {
    async fn read(request: Request<Incoming>) -> io::Result<Self> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let body = String::from_utf8(body.to_vec()).map_err(io::Error::other)?;
        let path = head.uri.path();
        let (peer, name) = if let Some((_, path)) = path.split_once("/2018-06-01/runtime/") {
            (Peer::RuntimeApi, path.rsplit('/').next().unwrap_or_default().to_owned())
        } else if path == "/token" {
            (Peer::Provider, "POST /token".to_owned())
        } else {
            let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
            let action = target.strip_prefix("secretsmanager.").unwrap_or(target);
            (Peer::SecretsManager, call_name(action, &serde_json::from_str(&body).unwrap_or_default()))
        };
        Ok(Self { peer, name, head, body })
    }
}

fn call_name(action: &str, call: &Value) -> String {
    let label = call["VersionStage"].as_str().or(call["VersionStages"][0].as_str());
    let which = label.or(call["VersionId"].as_str().and(Some("by id")));
    let secret_id = call["SecretId"].as_str().unwrap_or_default();
    format!("{action} {}of {secret_id}", which.map(|which| format!("{which} ")).unwrap_or_default())
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let http = HttpClients::new(|_| None).expect("an HTTP client").provider;
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, http) = (Arc::clone(&shared), http.clone());
        let service = service_fn(move |request| respond(Arc::clone(&shared), http.clone(), request));
        // An error means that the process died, or that the connection was closed on purpose.
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// If this returns an error, hyper closes the connection without a response.
async fn respond(
    shared: Arc<Shared>,
    http: reqwest::Client,
    request: Request<Incoming>,
) -> io::Result<Response<Payload>> {
    let received = Received::read(request).await?;
    let (number, fault) = shared.arrived(received.peer, received.name.clone());
    let peer_response = if fault.is_some_and(InjectedFault::is_before) {
        None
    } else {
        let response = shared.forward(&http, &received).await?;
        shared.processed(number);
        Some(response)
    };
    if fault.is_some() {
        shared.faulted.send_modify(|count| *count += 1);
    }
    let (status, text) = match (fault, peer_response) {
        (Some(InjectedFault::HoldBefore | InjectedFault::HoldAfter), _) => return std::future::pending().await,
        (Some(InjectedFault::Refuse(status, code)), _) => {
            // The error members of both protocols: awsJson1.1 and RFC 6749.
            (status, Payload::whole(json!({"__type": code, "Message": "an injected fault", "error": code}).to_string()))
        }
        (Some(InjectedFault::Truncate), Some((head, text))) => {
            let head = head.status();
            let length = text.len();
            let response = Response::builder().status(head).header("content-length", length);
            return response.body(Payload::half_of(text)).map_err(io::Error::other);
        }
        (Some(InjectedFault::Html), _) => {
            (200, Payload::whole("<html><body>Welcome to the hotel</body></html>".to_owned()))
        }
        (Some(InjectedFault::Flood), _) => (200, Payload::huge(TOO_LONG)),
        (None, Some((head, text))) => {
            let mut response = head.map(|()| Payload::whole(text));
            response.headers_mut().remove(header::TRANSFER_ENCODING);
            return Ok(response);
        }
        _ => return Err(io::ErrorKind::ConnectionAborted.into()),
    };
    Response::builder().status(status).body(text).map_err(io::Error::other)
}
