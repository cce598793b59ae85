//! The token endpoint of an authorization server, over real HTTP/1.1 on its own port. It implements the refresh of RFC 6749, sends
//! recorded responses, or misbehaves. It records every request.
#![allow(dead_code, unused_imports, reason = "each integration test is a crate of its own and uses a part of this")]

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::{oneshot, watch};

mod client;
mod endpoint;
mod grants;
mod response;
pub use self::{
    client::AuthMethod,
    endpoint::{CLIENT_ID, CLIENT_SECRET, Request},
    grants::World,
    response::{Payload, Response},
};
use self::{
    client::Client,
    endpoint::{Endpoint, Reply},
    grants::Pair,
};

/// A running token endpoint. It closes its port and every connection when it is dropped.
pub struct Provider {
    address: SocketAddr,
    endpoint: Arc<Mutex<Endpoint>>,
    arrived: watch::Receiver<usize>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Provider {
    /// With single-use refresh tokens. A second use revokes all tokens of the grant.
    pub fn rotating() -> Self {
        Self::always(Response::Exchange)
    }

    /// Sends the same response to every request.
    pub fn responding(status: u16, content_type: &str, body: &str) -> Self {
        Self::always(Response::fixed(status, content_type, body))
    }

    /// Sends these responses in order, then exchanges.
    pub fn script(responses: impl IntoIterator<Item = Response>) -> Self {
        let provider = Self::rotating();
        responses.into_iter().for_each(|response| provider.respond_next(response));
        provider
    }

    /// Expects requests in JSON.
    pub fn taking_json(self) -> Self {
        self.endpoint.lock().unwrap().takes_json = true;
        self
    }

    /// Sends this response to every request, except to those of a script.
    pub fn always(response: Response) -> Self {
        let (arrivals, arrived) = watch::channel(0);
        let endpoint = Arc::new(Mutex::new(Endpoint::new(response)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket for Tokio");
        let address = listener.local_addr().expect("a bound address");
        let (stop, stopped) = oneshot::channel();
        let its_endpoint = Arc::clone(&endpoint);
        // On its own thread, because a test can block while it waits for a process, and can use more than one runtime.
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, its_endpoint, arrivals) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, endpoint, arrived, stop: Some(stop), server: Some(server) }
    }

    #[must_use]
    pub fn in_world(self, world: World) -> Self {
        self.endpoint().grants.world = world;
        self
    }

    #[must_use]
    pub fn with_client(self, id: &str, secret: &str, method: AuthMethod) -> Self {
        self.endpoint().client = Client { id: id.to_owned(), secret: secret.to_owned(), method };
        self
    }

    /// Sets the `expires_in` of an exchange, in seconds. The default is 3600.
    #[must_use]
    pub fn with_lifetime(self, seconds: u64) -> Self {
        self.endpoint().expires_in = seconds;
        self
    }

    /// Adds members to each response with tokens.
    #[must_use]
    pub fn with_members(self, more: serde_json::Value) -> Self {
        self.endpoint().more = more;
        self
    }

    /// Adds a response to the script.
    pub fn respond_next(&self, response: Response) {
        self.endpoint().script.push_back(response);
    }

    /// A person consents. Returns an access token and a refresh token, for a new secret.
    pub fn issue(&self) -> (String, String) {
        let Pair { access, refresh } = self.endpoint().grants.issue();
        (access, refresh)
    }

    /// Revokes every refresh token, as when a person removes the application from their account.
    pub fn withdraw_consent(&self) {
        self.endpoint().grants.withdraw_consent();
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Whether this refresh token is valid: the newest one of a grant that is not revoked.
    pub fn is_alive(&self, refresh_token: &str) -> bool {
        self.endpoint().grants.is_alive(refresh_token)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.endpoint().requests.clone()
    }

    /// How many requests have arrived, including those that failed.
    pub fn exchanges(&self) -> usize {
        self.endpoint().requests.len()
    }

    /// How many exchanges issued tokens, including those whose response was lost.
    pub fn granted(&self) -> usize {
        self.endpoint().grants.granted
    }

    /// How many times a spent refresh token was used.
    pub fn reuses(&self) -> usize {
        self.endpoint().grants.reuses
    }

    /// Every token that was issued, or that is in a fixed response. No output may show one.
    pub fn every_token_issued(&self) -> Vec<String> {
        let endpoint = self.endpoint();
        [endpoint.grants.issued.as_slice(), &endpoint.replayed].concat()
    }

    /// Waits until so many requests have arrived and were processed, with or without a response.
    pub async fn until_exchanges(&self, count: usize) {
        let mut arrived = self.arrived.clone();
        let enough = arrived.wait_for(|&arrived| arrived >= count);
        let waited = tokio::time::timeout(Duration::from_mins(1), enough).await;
        assert!(waited.is_ok(), "{} of {count} requests arrived within a minute", self.exchanges());
    }

    fn endpoint(&self) -> MutexGuard<'_, Endpoint> {
        self.endpoint.lock().expect("the server did not panic")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.server.take().map(JoinHandle::join);
    }
}

async fn serve(listener: std::net::TcpListener, endpoint: Arc<Mutex<Endpoint>>, arrivals: watch::Sender<usize>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (endpoint, arrivals) = (Arc::clone(&endpoint), arrivals.clone());
        let service = service_fn(move |request| respond(Arc::clone(&endpoint), arrivals.clone(), request));
        // An error means that the client disconnected, or that the response was cut off on purpose.
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// If this returns an error, hyper closes the connection without a response.
async fn respond(
    endpoint: Arc<Mutex<Endpoint>>,
    arrivals: watch::Sender<usize>,
    request: hyper::Request<Incoming>,
) -> io::Result<hyper::Response<Payload>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        form: fields(&body),
        body: text(&body),
    };
    let (delay, reply) = {
        let mut endpoint = endpoint.lock().expect("no request panicked");
        let reply = endpoint.handle(request);
        arrivals.send_replace(endpoint.requests.len());
        reply
    };
    tokio::time::sleep(delay).await;
    match reply {
        Reply::Send(response) => Ok(response),
        Reply::Close => Err(io::ErrorKind::ConnectionAborted.into()),
        Reply::Never => std::future::pending().await,
    }
}

/// The fields of a body, of JSON or of a form.
fn fields(body: &[u8]) -> Vec<(String, String)> {
    match serde_json::from_slice::<std::collections::BTreeMap<String, String>>(body) {
        Ok(fields) => fields.into_iter().collect(),
        Err(_) => form_urlencoded::parse(body).into_owned().collect(),
    }
}
