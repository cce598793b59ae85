//! A replacement for the AWS Parameters and Secrets Lambda Extension, in front of the tests' Secrets Manager. It follows AWS's
//! documentation: a header with the session token, a query, and a cache that no request can bypass. The real one is closed source.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::support::secrets_manager::{FakeSecretsManager, Handle};

pub struct Extension {
    port: u16,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    token: String,
    cache: HashMap<String, String>,
    paths: Vec<String>,
    not_ready: usize,
}

impl Extension {
    pub async fn start(secrets_manager: &FakeSecretsManager, token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { token: token.to_owned(), ..State::default() }));
        let (secrets_manager, server_state) = (secrets_manager.handle(), Arc::clone(&state));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (secrets_manager, state) = (secrets_manager.clone(), Arc::clone(&server_state));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (status, body) = state.lock().unwrap().respond(&request, &secrets_manager);
                    let body = Full::new(Bytes::from(body));
                    let response = Response::builder().status(status).body(body).unwrap();
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { port, state, server }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and query of each request.
    pub fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().paths.clone()
    }

    /// Responds to the next so many requests as if it were still starting.
    pub fn not_ready(&self, requests: usize) {
        self.state.lock().unwrap().not_ready = requests;
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn respond(&mut self, request: &Request<Incoming>, secrets_manager: &Handle) -> (u16, String) {
        let path = request.uri().to_string();
        self.paths.push(path.clone());
        if self.not_ready > 0 {
            self.not_ready -= 1;
            return (400, "not ready to serve traffic, please wait".to_owned());
        }
        let token = request.headers().get("x-aws-parameters-secrets-token").map(|token| token.to_str().unwrap());
        if token != Some(&self.token) || request.method() != "GET" {
            return (401, "please provide the session token".to_owned());
        }
        if let Some(cached) = self.cache.get(&path) {
            return (200, cached.clone());
        }
        let query = request.uri().query().unwrap_or_default();
        let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!(request.uri().path(), "/secretsmanager/get");
        let (id, stage) = (query.get("versionId"), query.get("versionStage"));
        let known = ["secretId", "versionId", "versionStage", "refreshNow"];
        assert!(query.keys().all(|name| known.contains(&name.as_str())), "{query:?}");
        let (id, stage) = (id.map(String::as_str), stage.map(String::as_str));
        let Some((id, text)) = secrets_manager.version(&query["secretId"], id, stage) else {
            let error = json!({"__type": "ResourceNotFoundException", "message": "can't find the specified secret."});
            return (400, error.to_string());
        };
        let response = json!({
            "ARN": "arn", "Name": query["secretId"], "VersionId": id, "SecretString": text, "CreatedDate": "1.5",
            "ResultMetadata": {},
        });
        self.cache.insert(path, response.to_string());
        (200, response.to_string())
    }
}
