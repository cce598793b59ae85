//! `Reader::send`: requests with the token, to an API that accepts only the newest token.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use token_refresher::{
    Reader,
    http_client::HttpClients,
    reader::{ReadError, RefresherFunction, Reply, SecretVersion, SendError, Source},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// An API, and the secret with the token for it.
struct World {
    url: String,
    state: Arc<Mutex<State>>,
    refreshes: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

struct State {
    /// The token that the API accepts.
    accepted: String,
    /// The token in the secret.
    held: String,
    /// The token and the body of each request.
    requests: Vec<(String, String)>,
}

impl World {
    async fn with(accepted: &str, held: &str) -> Self {
        let state = State { accepted: accepted.to_owned(), held: held.to_owned(), requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/me", listener.local_addr().unwrap());
        let server_state = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&server_state);
                let service = service_fn(move |request: Request<Incoming>| {
                    let state = Arc::clone(&state);
                    async move {
                        let token = request.headers()["authorization"].to_str().unwrap().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                        let mut state = state.lock().unwrap();
                        let status = if token == format!("Bearer {}", state.accepted) { 200 } else { 401 };
                        state.requests.push((token, String::from_utf8(body).unwrap()));
                        let response = Response::builder().status(status).body(Full::new(Bytes::new())).unwrap();
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, state, refreshes: Arc::default(), server }
    }

    fn source(&self) -> Source {
        let state = Arc::clone(&self.state);
        Source::from_fn(move |_| {
            let held = state.lock().unwrap().held.clone();
            let text = json!({"accessToken": held, "expiresAt": 4_070_908_800_000_i64}).to_string();
            async move { Ok(SecretVersion::text(held, text)) }
        })
    }

    fn reader(&self) -> Reader {
        let (state, counter) = (Arc::clone(&self.state), Arc::clone(&self.refreshes));
        let refresher = RefresherFunction::from_fn("token-refresher", move |_| {
            counter.fetch_add(1, Relaxed);
            let mut state = state.lock().unwrap();
            let accepted = state.accepted.clone();
            let report = json!({"outcome": "refreshed", "versionId": accepted});
            state.held = accepted;
            async move { Ok(Reply::Report(report)) }
        });
        Reader::builder(self.source(), "crm/oauth").refresher(refresher).build()
    }

    fn tokens(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.iter().map(|(token, _)| token.clone()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn client() -> reqwest::Client {
    HttpClients::new(|_| None).unwrap().store
}

#[tokio::test]
async fn a_request_carries_the_token() {
    let world = World::with("v1", "v1").await;
    let response = world.reader().send(client().post(&world.url).body("hello")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(world.state.lock().unwrap().requests, [("Bearer v1".to_owned(), "hello".to_owned())]);
}

#[tokio::test]
async fn a_request_is_sent_once_more_after_a_401_with_a_new_token_and_the_same_body() {
    let world = World::with("v2", "v1").await;
    let reader = world.reader();
    let response = reader.send(client().post(&world.url).body("hello")).await.unwrap();
    assert_eq!(response.status(), 200);
    let hello = |token: &str| (format!("Bearer {token}"), "hello".to_owned());
    assert_eq!(world.state.lock().unwrap().requests, [hello("v1"), hello("v2")]);
    assert_eq!(reader.send(client().get(&world.url)).await.unwrap().status(), 200);
    assert_eq!((world.tokens().len(), world.refreshes.load(Relaxed)), (3, 1));
}

#[tokio::test]
async fn a_second_401_is_returned_and_not_retried() {
    let world = World::with("v2", "v1").await;
    let reader = world.reader();
    reader.access_token().await.unwrap();
    // Another process has written a token that the API does not accept either.
    world.state.lock().unwrap().held = "v3".to_owned();
    let response = reader.send(client().get(&world.url)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(world.tokens(), ["Bearer v1", "Bearer v3"]);
}

#[tokio::test]
async fn the_401_is_returned_if_there_is_no_other_token() {
    let world = World::with("v2", "v1").await;
    let source = Source::from_fn(|_| async {
        Ok(SecretVersion::text("v1", r#"{"accessToken":"v1","expiresAt":4070908800000}"#))
    });
    let response = Reader::new(source, "crm/oauth").send(client().get(&world.url)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(world.tokens(), ["Bearer v1"]);
}

#[tokio::test]
async fn many_tasks_with_the_same_401_cause_one_refresh() {
    let world = World::with("v2", "v1").await;
    let (reader, client) = (world.reader(), client());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (reader, request) = (reader.clone(), client.get(&world.url));
        tasks.spawn(async move { reader.send(request).await.unwrap().status() });
    }
    while let Some(status) = tasks.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(world.refreshes.load(Relaxed), 1);
}

#[tokio::test]
async fn the_error_after_a_401_without_a_new_token_mentions_the_401() {
    let world = World::with("v1", "v1").await;
    let message = "a person must consent again".to_owned();
    let failed = Reply::Error { error_type: "ReauthorizationRequired".to_owned(), message };
    let refresher = RefresherFunction::from_fn("token-refresher", move |_| {
        let failed = failed.clone();
        async move { Ok(failed) }
    });
    world.state.lock().unwrap().accepted = "v2".to_owned();
    let reader = Reader::builder(world.source(), "crm/oauth").refresher(refresher).build();
    let error = reader.send(client().get(&world.url)).await.unwrap_err();
    assert!(matches!(error, SendError::NotReplaced(_)));
    assert_eq!(
        error.to_string(),
        "the API answered 401, and there is no token to send instead: secret `crm/oauth`: no new token from the function \
         `token-refresher`: ReauthorizationRequired: a person must consent again"
    );
}

#[tokio::test]
async fn any_client_of_reqwest_can_be_made_once_there_is_a_reader() {
    let world = World::with("v1", "v1").await;
    let reader = world.reader();
    // Without a default crypto provider this panics.
    let response = reader.send(reqwest::Client::new().get(&world.url)).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn the_error_of_an_unsent_request_has_its_cause() {
    let world = World::with("v1", "hun\u{7}ter2").await;
    let error = world.reader().send(client().get(&world.url)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "secret `crm/oauth`: its access token contains characters that are not allowed in a header"
    );
    assert!(!format!("{error:?}").contains("ter2"));

    let world = World::with("v1", "v1").await;
    let error = world.reader().send(client().get("http://api.example/me?a=b")).await.unwrap_err();
    assert_eq!(error.to_string(), "not sent: the token would go to api.example in the clear; use https");
    let error = world.reader().send(client().get("no url")).await.unwrap_err();
    assert!(matches!(error, SendError::Request(_)));
    assert_eq!(error.to_string(), "the request failed: relative URL without a base");

    let none = Source::from_fn(|_| async { Ok(SecretVersion::text("v", "{}")) });
    let error = Reader::new(none, "crm/oauth").send(client().get(&world.url)).await.unwrap_err();
    assert!(matches!(&error, SendError::Token(ReadError::NoToken { .. })));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("holds no access token yet"));
    // What a `main` that returns the error prints, and what Lambda shows of it.
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.starts_with("there is no token to send: secret `crm/oauth` holds no access token yet"), "{text}");
    }
    assert_eq!(world.tokens().len(), 0);
}
