//! A small authorization server on loopback. Its refresh tokens are single-use: a second use revokes all tokens of the grant.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

/// A handle to the server. A clone is a handle to the same server.
#[derive(Clone, Default)]
pub struct AuthorizationServer {
    state: Arc<Mutex<State>>,
    url: String,
}

#[derive(Default)]
struct State {
    issued: u32,
    grants: u32,
    /// The grant of each valid refresh token, and of each spent one.
    live: HashMap<String, u32>,
    spent: HashMap<String, u32>,
    exchanges: usize,
}

impl AuthorizationServer {
    /// Starts the server on a free port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let server = Self { url: format!("http://{}/token", listener.local_addr()?), ..Self::default() };
        let handle = server.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let handle = handle.clone();
                let service = service_fn(move |request| respond(handle.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
            }
        });
        Ok(server)
    }

    /// The token endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A person consents. Returns the first refresh token.
    pub fn consent(&self) -> String {
        let mut state = self.state();
        state.grants += 1;
        let grant = state.grants;
        state.issue(grant)
    }

    /// The person withdraws all consents.
    pub fn withdraw_consent(&self) {
        self.state().live.clear();
    }

    /// The number of exchange requests so far.
    pub fn exchanges(&self) -> usize {
        self.state().exchanges
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn issue(&mut self, grant: u32) -> String {
        self.issued += 1;
        let token = format!("refresh-token-{}", self.issued);
        self.live.insert(token.clone(), grant);
        token
    }

    fn exchange(&mut self, token: &str) -> Option<String> {
        self.exchanges += 1;
        if let Some(revoked) = self.spent.get(token) {
            self.live.retain(|_, grant| grant != revoked);
        }
        let grant = self.live.remove(token)?;
        self.spent.insert(token.to_owned(), grant);
        Some(self.issue(grant))
    }
}

async fn respond(server: AuthorizationServer, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let token = form_urlencoded::parse(&body).find(|(name, _)| name == "refresh_token").map(|(_, value)| value);
    let refreshed = token.and_then(|token| server.state().exchange(&token));
    let (status, body) = match refreshed {
        Some(token) => {
            let access_token = token.replace("refresh", "access");
            (200, json!({"access_token": access_token, "refresh_token": token, "expires_in": 3600}))
        }
        None => (400, json!({"error": "invalid_grant"})),
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}
