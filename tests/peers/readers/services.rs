//! All services that a reader function calls, on one port: Secrets Manager and the extension (both with moto behind them), Lambda's
//! Invoke API (with the refresher behind it), and the API that accepts the tokens. Records all requests in order.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use aws_sdk_secretsmanager::config::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use chrono::{DateTime, NaiveDateTime};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    http::request::Parts,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use token_refresher::http_client::HttpClients;

use super::super::{functions::Lambda, support::provider::Provider};

pub const ACCESS_KEY_ID: &str = "test";
pub const SECRET_ACCESS_KEY: &str = "unseen-secret-access-key";
pub const SESSION_TOKEN: &str = "unseen-session-token";
/// An ARN has characters that a path and its signature encode differently.
pub const REFRESHER: &str = "arn:aws:lambda:eu-central-1:123456789012:function:token-refresher";

/// How the store behaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Store {
    Works,
    /// Returns 500 to every request.
    Fails,
    /// Returns 400, as for a role without the permission.
    Denies,
}

/// The tokens that the API accepts.
#[derive(Clone, PartialEq)]
pub enum Accepts {
    /// The one that the provider issued last.
    Newest,
    /// The one that the provider issued last, unless it is this one.
    NewestBut(String),
    Nothing,
}

pub struct Services {
    pub port: u16,
    shared: Arc<Shared>,
}

/// How long the extension caches a secret: the default of `SECRETS_MANAGER_TTL`.
const EXTENSION_TTL_MS: u64 = 300_000;

struct Shared {
    moto: String,
    http: reqwest::Client,
    refresher: Arc<Lambda>,
    provider: Arc<Provider>,
    seen: Mutex<Vec<String>>,
    store: Mutex<Store>,
    accepts: Mutex<Accepts>,
    /// Whether the next request for a refresh finds another one in progress, with reserved concurrency 1.
    is_busy: AtomicBool,
    /// How many requests find the function busy with another secret.
    busy_requests: AtomicU64,
    now_ms: AtomicU64,
    /// The cache of the extension: for each query the time and the response.
    extension: Mutex<HashMap<String, (u64, Bytes)>>,
}

impl Services {
    pub async fn start(moto: &str, refresher: Arc<Lambda>, provider: Arc<Provider>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let shared = Arc::new(Shared {
            moto: moto.to_owned(),
            http: HttpClients::new(|_| None).expect("an HTTP client").provider,
            refresher,
            provider,
            seen: Mutex::default(),
            store: Mutex::new(Store::Works),
            accepts: Mutex::new(Accepts::Newest),
            is_busy: AtomicBool::new(false),
            busy_requests: AtomicU64::new(0),
            now_ms: AtomicU64::new(0),
            extension: Mutex::default(),
        });
        let server_state = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&server_state);
                let service = service_fn(move |request| Arc::clone(&shared).respond(request));
                // An error means that the function disconnected.
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { port, shared }
    }

    pub fn set_store(&self, store: Store) {
        *self.shared.store.lock().expect("no thread panicked") = store;
    }

    pub fn set_api(&self, accepts: Accepts) {
        *self.shared.accepts.lock().expect("no thread panicked") = accepts;
    }

    /// From now on the API rejects the token that is the newest now.
    pub fn reject_newest(&self) {
        self.set_api(Accepts::NewestBut(self.shared.newest()));
    }

    pub fn be_busy_once(&self) {
        self.shared.is_busy.store(true, Relaxed);
    }

    /// The next so many requests for a refresh find the function busy with another secret.
    pub fn be_busy_with_another_secret(&self, requests: u64) {
        self.shared.busy_requests.store(requests, Relaxed);
    }

    /// Sets the time of the extension's cache.
    pub fn set_time(&self, now_ms: u64) {
        self.shared.now_ms.store(now_ms, Relaxed);
    }

    /// The requests since the last call, in order.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.seen.lock().expect("no thread panicked"))
    }
}

type HttpResponse = Response<Full<Bytes>>;

impl Shared {
    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Result<HttpResponse, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a whole request").to_bytes();
        let path = head.uri.path();
        let mut response = if let Some(path) = path.strip_prefix("/api") {
            self.api(&head, path).await
        } else if path == "/secretsmanager/get" {
            self.extension(&head).await
        } else if path.starts_with("/2015-03-31/functions/") {
            self.invoke(&head, &body).await
        } else {
            let call: Value = serde_json::from_slice(&body).expect("JSON");
            let version = call["VersionStage"].as_str().or(call["VersionId"].as_str()).expect("a label or an id");
            self.record(format!("read {version}"));
            self.get_secret_value(&body).await
        };
        // The SDK for Node corrects its clock by this header, and retries.
        let now_ms = i64::try_from(self.now_ms.load(Relaxed)).expect("a time");
        let now = DateTime::from_timestamp_millis(now_ms).expect("a time").format("%a, %d %b %Y %H:%M:%S GMT");
        response.headers_mut().insert("date", now.to_string().parse().expect("a header's value"));
        Ok(response)
    }

    fn record(&self, request: String) {
        self.seen.lock().expect("no thread panicked").push(request);
    }

    /// Whether the API has accepted a request.
    fn has_accepted_one(&self) -> bool {
        let seen = self.seen.lock().expect("no thread panicked");
        seen.iter().any(|call| call.starts_with("GET") && call.ends_with("200"))
    }

    fn newest(&self) -> String {
        let issued = self.provider.every_token_issued();
        issued.into_iter().rfind(|token| token.starts_with("unseen-access")).expect("a token")
    }

    /// The API. A 401 for `/late` is sent only after another call was accepted.
    async fn api(&self, head: &Parts, path: &str) -> HttpResponse {
        let newest = self.newest();
        let accepts = self.accepts.lock().expect("no thread panicked").clone();
        let given = head.headers.get("authorization").and_then(|value| value.to_str().ok());
        let is_newest = given == Some(&format!("Bearer {newest}"));
        let status =
            if is_newest && accepts != Accepts::Nothing && accepts != Accepts::NewestBut(newest) { 200 } else { 401 };
        while path == "/late" && status == 401 && !self.has_accepted_one() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.record(format!("GET {path} {status}"));
        response(status, &json!({"path": path}).to_string())
    }

    async fn get_secret_value(&self, body: &[u8]) -> HttpResponse {
        match *self.store.lock().expect("no thread panicked") {
            Store::Works => {}
            Store::Fails => return response(500, r#"{"__type":"InternalServiceError","Message":"try later"}"#),
            Store::Denies => return response(400, r#"{"__type":"AccessDeniedException","Message":"not you"}"#),
        }
        let credential = format!("{ACCESS_KEY_ID}/20260101/eu-central-1/secretsmanager/aws4_request");
        let request = self.http.post(&self.moto).body(body.to_vec());
        let request = request
            .header("x-amz-target", "secretsmanager.GetSecretValue")
            .header("content-type", "application/x-amz-json-1.1")
            .header("authorization", format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=, Signature="));
        let got = request.send().await.expect("moto");
        response(got.status().as_u16(), &got.text().await.expect("a body"))
    }

    /// The extension, as AWS documents it ("Use AWS Secrets Manager secrets in AWS Lambda functions"): the header, the
    /// query's three members, the default stage, the cache. Its response to a wrong header is not documented.
    async fn extension(&self, head: &Parts) -> HttpResponse {
        let token = head.headers.get("x-aws-parameters-secrets-token");
        if token.is_none_or(|token| token != SESSION_TOKEN) {
            return response(401, "the header is missing or wrong");
        }
        let query = head.uri.query().unwrap_or_default();
        let members: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let which = members.get("versionId").or(members.get("versionStage")).map_or("AWSCURRENT", String::as_str);
        let now_ms = self.now_ms.load(Relaxed);
        let cached = self.extension.lock().expect("no thread panicked").get(query).cloned();
        if let Some((_, body)) = cached.filter(|(since_ms, _)| now_ms < since_ms + EXTENSION_TTL_MS) {
            self.record(format!("extension {which}, cached"));
            return Response::new(body.into());
        }
        self.record(format!("extension {which}"));
        let mut call = json!({"SecretId": members["secretId"]});
        for (member, name) in [("versionId", "VersionId"), ("versionStage", "VersionStage")] {
            if let Some(value) = members.get(member) {
                call[name] = value.as_str().into();
            }
        }
        let got = self.get_secret_value(call.to_string().as_bytes()).await;
        if got.status() != 200 {
            return got;
        }
        let body = got.into_body().collect().await.expect("a body in memory").to_bytes();
        self.extension.lock().expect("no thread panicked").insert(query.to_owned(), (now_ms, body.clone()));
        Response::new(body.into())
    }

    async fn invoke(self: &Arc<Self>, head: &Parts, body: &Bytes) -> HttpResponse {
        assert_signed(head, body);
        let function = head.uri.path().split('/').nth(3).expect("a name").replace("%3A", ":");
        assert_eq!(function, REFRESHER);
        let event = String::from_utf8(body.to_vec()).expect("UTF-8");
        let mut shown: Value = serde_json::from_str(&event).expect("JSON");
        shown.as_object_mut().expect("an object").remove("secretId").expect("the secret's name");
        self.record(format!("invoke {shown}"));
        let is_busy = self.is_busy.swap(false, Relaxed);
        if is_busy {
            // The other request is processed in the meantime.
            let (shared, event) = (Arc::clone(self), event.clone());
            tokio::spawn(async move { shared.refresher.invoke(&event).await });
        }
        if is_busy || self.busy_requests.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            let reason = r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","message":"Rate Exceeded."}"#;
            return with_header(response(429, reason), "x-amzn-errortype", "TooManyRequestsException");
        }
        match self.refresher.invoke(&event).await {
            Ok(report) => response(200, &report.to_string()),
            Err(failure) => {
                let error = json!({"errorType": failure.error_type, "errorMessage": failure.message});
                with_header(response(200, &error.to_string()), "x-amz-function-error", "Unhandled")
            }
        }
    }
}

fn response(status: u16, body: &str) -> HttpResponse {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(body.to_owned().into()).expect("a response")
}

fn with_header(mut response: HttpResponse, name: &'static str, value: &'static str) -> HttpResponse {
    response.headers_mut().insert(name, value.parse().expect("a header's value"));
    response
}

/// Fails unless the request has the signature that AWS's own implementation computes.
fn assert_signed(head: &Parts, body: &[u8]) {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let time = NaiveDateTime::parse_from_str(header("x-amz-date"), "%Y%m%dT%H%M%SZ").expect("a date").and_utc();
    let credentials = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, Some(SESSION_TOKEN.to_owned()), None, "tests");
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("lambda")
        .time(SystemTime::from(time))
        .settings(SigningSettings::default())
        .build()
        .expect("parameters")
        .into();
    let authorization = header("authorization");
    let signed = authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next()).expect("headers");
    let own = ["x-amz-date", "x-amz-security-token"];
    let signed = signed.split(';').filter(|name| !own.contains(name)).map(|name| (name, header(name)));
    let url = format!("http://{}{}", header("host"), head.uri.path());
    let request =
        SignableRequest::new(head.method.as_str(), &url, signed, SignableBody::Bytes(body)).expect("a request");
    let (instructions, signature) = sign(request, &parameters).expect("a signature").into_parts();
    let expected = instructions.headers().find(|(name, _)| *name == "authorization").expect("a header").1;
    assert!(authorization.ends_with(&signature), "the signature differs from {expected}");
}
