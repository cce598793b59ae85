//! Stands between a process and all its peers, on one port: sees every request in one order, and lets some of them come
//! to grief, before or after the peer has processed them. Knows which peer a request is for and what to call it;
//! judges nothing.

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

/// Longer than the function reads.
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
    /// What it is for, such as `PutSecretValue OAUTH_CLAIM`.
    pub name: String,
    /// Whether the peer has answered it, whatever became of the answer.
    pub processed: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The peer does not get it, and nothing comes back.
    HoldBefore,
    /// The peer processes it, and nothing comes back.
    HoldAfter,
    /// The peer does not get it; the connection is closed.
    CloseBefore,
    /// The peer processes it; the connection is closed.
    CloseAfter,
    /// The peer refuses it in a word: the status, and the error's code. Nothing is processed.
    Refuse(u16, &'static str),
    /// The peer processes it; half of the answer comes back, and the connection is closed.
    Truncate,
    /// The peer processes it; a page of HTML comes back.
    Html,
    /// The peer processes it; an answer comes back that has no end in sight.
    Flood,
}

impl Strike {
    /// Whether the peer does not get the request.
    pub fn is_before(self) -> bool {
        matches!(self, Self::HoldBefore | Self::CloseBefore | Self::Refuse(..))
    }
}

/// Which requests a strike meets.
#[derive(Clone, Debug)]
pub enum When {
    /// The one with this number, counted from 0.
    Nth(usize),
    /// That one, and all to its peer that come after it and whose names start so.
    From(usize, &'static str),
    /// The `nth` whose name starts so, counted from 1.
    Named(String, usize),
}

impl When {
    /// Whether the last of these is meant.
    fn meets(&self, seen: &[Observed]) -> bool {
        let number = seen.len() - 1;
        match self {
            Self::Nth(nth) => *nth == number,
            Self::From(first, name) => {
                *first <= number && seen[*first].peer == seen[number].peer && seen[number].name.starts_with(name)
            }
            Self::Named(name, nth) => {
                let named = |seen: &Observed| seen.name.starts_with(name);
                named(&seen[number]) && seen.iter().filter(|seen| named(seen)).count() == *nth
            }
        }
    }
}

/// Where a process's requests go.
pub struct Upstreams {
    /// Without a slash at the end.
    pub secrets_manager: String,
    /// With its path.
    pub provider: String,
}

/// The gateway, on a thread of its own. Dropped, it closes its port.
pub struct Gateway {
    address: String,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    upstreams: Upstreams,
    strike: Mutex<Option<(When, Strike)>>,
    seen: watch::Sender<Vec<Observed>>,
    /// How many requests have met the strike.
    struck: watch::Sender<usize>,
}

impl Gateway {
    pub async fn start(upstreams: Upstreams) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let listener = listener.into_std().expect("a socket to hand over");
        let shared = Arc::new(Shared {
            upstreams,
            strike: Mutex::default(),
            seen: watch::Sender::default(),
            struck: watch::Sender::default(),
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

    /// Secrets Manager, by way of here.
    pub fn secrets_manager(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A Runtime API, by way of here. Its address is part of this one, so that no request of a process that is dead by now
    /// gets to the Runtime API of the next.
    pub fn runtime_api(&self, its_address: &str) -> String {
        format!("http://{}/{its_address}", self.address)
    }

    /// The provider's token endpoint, by way of here.
    pub fn token_endpoint(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Strikes requests to come; there is one strike at a time.
    pub fn strike(&self, when: When, strike: Strike) {
        *self.shared.strike() = Some((when, strike));
    }

    /// Lets all requests through from now on, and forgets those that came.
    pub fn mend(&self) {
        *self.shared.strike() = None;
        self.shared.seen.send_replace(Vec::new());
        self.shared.struck.send_replace(0);
    }

    /// The requests since the start or the last mending, in their order.
    pub fn seen(&self) -> Vec<Observed> {
        self.shared.seen.borrow().clone()
    }

    /// How many requests have met the strike.
    pub fn struck(&self) -> usize {
        *self.shared.struck.borrow()
    }

    /// Waits until a request has met the strike.
    pub async fn until_struck(&self) {
        let mut struck = self.shared.struck.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), struck.wait_for(|&struck| struck > 0)).await;
        assert!(waited.is_ok(), "the request to strike did not come; these did: {:?}", self.seen());
    }

    /// Waits until so many requests of this name have come.
    pub async fn until_seen(&self, name: &str, times: usize) {
        let mut seen = self.shared.seen.subscribe();
        let enough = seen.wait_for(|seen| seen.iter().filter(|seen| seen.name == name).count() >= times);
        let waited = tokio::time::timeout(Duration::from_secs(30), enough).await.is_ok();
        assert!(waited, "{name} did not come; these did: {:?}", self.seen());
    }
}

impl Shared {
    fn strike(&self) -> MutexGuard<'_, Option<(When, Strike)>> {
        self.strike.lock().expect("no one panicked with it")
    }

    /// Notes a request; tells its number and what strikes it.
    fn arrived(&self, peer: Peer, name: String) -> (usize, Option<Strike>) {
        let mut number = 0;
        let mut struck = None;
        self.seen.send_modify(|seen| {
            number = seen.len();
            seen.push(Observed { peer, name, processed: false });
            struck = self.strike().as_ref().filter(|(when, _)| when.meets(seen)).map(|(_, strike)| *strike);
        });
        (number, struck)
    }

    fn processed(&self, number: usize) {
        self.seen.send_modify(|seen| {
            // None: mended meanwhile.
            if let Some(seen) = seen.get_mut(number) {
                seen.processed = true;
            }
        });
    }

    /// Hands a request on; the whole answer.
    async fn forward(&self, http: &reqwest::Client, asked: &Asked) -> io::Result<(Response<()>, String)> {
        let url = match asked.peer {
            Peer::RuntimeApi => format!("http:/{}", asked.head.uri.path()),
            Peer::SecretsManager => format!("{}/", self.upstreams.secrets_manager),
            Peer::Provider => self.upstreams.provider.clone(),
        };
        let mut headers = asked.head.headers.clone();
        headers.remove(header::HOST);
        let request = http.request(asked.head.method.clone(), url).headers(headers).body(asked.body.clone());
        let answer = request.send().await.map_err(io::Error::other)?;
        let mut head = Response::new(());
        *head.status_mut() = answer.status();
        *head.headers_mut() = answer.headers().clone();
        Ok((head, answer.text().await.map_err(io::Error::other)?))
    }
}

/// A request, read.
struct Asked {
    peer: Peer,
    name: String,
    head: hyper::http::request::Parts,
    body: String,
}

impl Asked {
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
        // An error is a process that went away, or a connection closed on purpose.
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// An error makes hyper close the connection without an answer.
async fn respond(
    shared: Arc<Shared>,
    http: reqwest::Client,
    request: Request<Incoming>,
) -> io::Result<Response<Payload>> {
    let asked = Asked::read(request).await?;
    let (number, strike) = shared.arrived(asked.peer, asked.name.clone());
    let answer = if strike.is_some_and(Strike::is_before) {
        None
    } else {
        let answer = shared.forward(&http, &asked).await?;
        shared.processed(number);
        Some(answer)
    };
    if strike.is_some() {
        shared.struck.send_modify(|struck| *struck += 1);
    }
    let (status, text) = match (strike, answer) {
        (Some(Strike::HoldBefore | Strike::HoldAfter), _) => return std::future::pending().await,
        (Some(Strike::Refuse(status, code)), _) => {
            // As both write it: awsJson1.1's error and RFC 6749's.
            (status, Payload::whole(json!({"__type": code, "Message": "struck", "error": code}).to_string()))
        }
        (Some(Strike::Truncate), Some((head, text))) => {
            let head = head.status();
            let length = text.len();
            let response = Response::builder().status(head).header("content-length", length);
            return response.body(Payload::half_of(text)).map_err(io::Error::other);
        }
        (Some(Strike::Html), _) => (200, Payload::whole("<html><body>Welcome to the hotel</body></html>".to_owned())),
        (Some(Strike::Flood), _) => (200, Payload::huge(TOO_LONG)),
        (None, Some((head, text))) => {
            let mut response = head.map(|()| Payload::whole(text));
            response.headers_mut().remove(header::TRANSFER_ENCODING);
            return Ok(response);
        }
        _ => return Err(io::ErrorKind::ConnectionAborted.into()),
    };
    Response::builder().status(status).body(text).map_err(io::Error::other)
}
