//! An authorization server over a real socket on port 0: discovery, code exchange with PKCE, device flow, registration. A test plays the
//! browser: it reads the address that `tokenctl` prints, and calls the redirect address.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::AbortHandle};

pub const ACCESS_TOKEN: &str = "unseen-at-4f9a1c7e2b";
pub const REFRESH_TOKEN: &str = "unseen-rt-81d3e6a05f";
pub const CODE: &str = "unseen-7c20b9d84e/+";
pub const DEVICE_CODE: &str = "unseen-dc-95e7f1a3b6";
pub const REGISTERED_SECRET: &str = "unseen-rs-0a6d2f8c4b";
pub const REGISTRATION_TOKEN: &str = "unseen-gt-3b9e7d1f50";

/// What no output may contain.
pub const SECRETS: [&str; 6] = [ACCESS_TOKEN, REFRESH_TOKEN, CODE, DEVICE_CODE, REGISTERED_SECRET, REGISTRATION_TOKEN];

/// One request to it.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub authorization: Option<String>,
    pub body: String,
}

impl Received {
    /// A parameter of its form.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.body.as_bytes());
        pairs.find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    /// Responses of the token endpoint that come before the tokens.
    token_responses: VecDeque<(u16, Value)>,
    token_delay: Duration,
    /// Changes of the metadata.
    metadata: Value,
}

/// The server. It stops when it is dropped.
pub struct AuthorizationServer {
    pub issuer: String,
    state: Arc<Mutex<State>>,
    serving: AbortHandle,
}

impl AuthorizationServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let (its_state, its_issuer) = (Arc::clone(&state), issuer.clone());
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (state, issuer) = (Arc::clone(&its_state), its_issuer.clone());
                let service = service_fn(move |request| respond(Arc::clone(&state), issuer.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        Self { issuer, state, serving: serving.abort_handle() }
    }

    /// The token endpoint sends this response once, before all others.
    pub fn respond_next(&self, status: u16, body: Value) {
        lock(&self.state).token_responses.push_back((status, body));
    }

    /// The token endpoint responds so late.
    pub fn delay(&self, delay: Duration) {
        lock(&self.state).token_delay = delay;
    }

    /// Changes members of the metadata.
    pub fn change_metadata(&self, changes: Value) {
        lock(&self.state).metadata = changes;
    }

    /// The requests to a path so far.
    pub fn received(&self, path: &str) -> Vec<Received> {
        lock(&self.state).received.iter().filter(|received| received.path == path).cloned().collect()
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn respond(
    state: Arc<Mutex<State>>,
    issuer: String,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let authorization = header("authorization");
    let body = request.into_body().collect().await.expect("a whole request").to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("UTF-8");
    lock(&state).received.push(Received { path: path.clone(), authorization, body });
    let (status, json) = match path.as_str() {
        "/.well-known/openid-configuration" => {
            let mut metadata = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "device_authorization_endpoint": format!("{issuer}/device"),
                "registration_endpoint": format!("{issuer}/register"),
                "scopes_supported": ["openid", "offline_access", "orders.read"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
                "authorization_response_iss_parameter_supported": true,
            });
            for (name, value) in lock(&state).metadata.as_object().into_iter().flatten() {
                metadata[name] = value.clone();
            }
            (200, metadata)
        }
        "/device" => (
            200,
            json!({
                "device_code": DEVICE_CODE, "user_code": "WDJB-MJHT", "verification_uri": format!("{issuer}/enter"),
                "verification_uri_complete": format!("{issuer}/enter?code=WDJB-MJHT"), "expires_in": 60, "interval": 1,
            }),
        ),
        "/register" => (
            201,
            json!({
                "client_id": "registered", "client_secret": REGISTERED_SECRET, "client_secret_expires_at": 4_102_444_800_i64,
                "token_endpoint_auth_method": "client_secret_basic", "registration_access_token": REGISTRATION_TOKEN,
                "registration_client_uri": format!("{issuer}/register/registered"),
            }),
        ),
        "/token" => {
            let (scripted, delay) = {
                let mut state = lock(&state);
                (state.token_responses.pop_front(), state.token_delay)
            };
            tokio::time::sleep(delay).await;
            scripted.unwrap_or_else(|| {
                let tokens = json!({
                    "access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN, "token_type": "Bearer", "expires_in": 3600,
                });
                (200, tokens)
            })
        }
        _ => (404, json!({})),
    };
    let mut response = Response::new(Full::new(Bytes::from(json.to_string())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", "application/json".parse().expect("a header"));
    Ok(response)
}

/// The challenge of a verifier (RFC 7636 section 4.2).
pub fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}
