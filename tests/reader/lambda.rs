//! Requests to a deployed refresher: the request, its signature, computed independently, and the meaning of each response.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use token_refresher::{
    Reader,
    reader::{RefresherFunction, Remedy, SecretVersion, Source},
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::world::token_or_error;

const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SESSION_TOKEN: &str = "a session/token+=";

/// Lambda's Invoke API. It records requests and sends a fixed response.
struct LambdaApi {
    url: String,
    requests: Arc<Mutex<Vec<Received>>>,
    server: JoinHandle<()>,
}

/// A request as it arrived.
struct Received {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl LambdaApi {
    async fn responding(status: u16, header: Option<(&'static str, &'static str)>, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&requests);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let received = Arc::clone(&received);
                let service = service_fn(move |request: Request<Incoming>| {
                    let received = Arc::clone(&received);
                    async move {
                        let (head, request_body) = request.into_parts();
                        let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
                        let headers =
                            head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
                        let request_body = request_body.collect().await.unwrap().to_bytes().to_vec();
                        let request_body = String::from_utf8(request_body).unwrap();
                        let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
                        let request = Received { method, path, headers, body: request_body };
                        received.lock().unwrap().push(request);
                        let response = Response::builder().status(status);
                        let response = header.into_iter().fold(response, |all, (name, value)| all.header(name, value));
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, requests, server }
    }

    fn function(&self, name: &str) -> RefresherFunction {
        let credentials = aws_sdk_secretsmanager::config::Credentials::new(
            ACCESS_KEY,
            SECRET_KEY,
            Some(SESSION_TOKEN.to_owned()),
            None,
            "tests",
        );
        let config = aws_config::SdkConfig::builder()
            .region(aws_config::Region::new("eu-central-1"))
            .endpoint_url(&self.url)
            .credentials_provider(aws_sdk_secretsmanager::config::SharedCredentialsProvider::new(credentials))
            .build();
        RefresherFunction::lambda_with(name, &config).unwrap()
    }
}

impl Drop for LambdaApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A reader whose secret never changes, and whose token the API has rejected.
async fn rejected_reader(function: RefresherFunction) -> Reader {
    let text = r#"{"accessToken":"t0ps3cret","expiresAt":4070908800000}"#;
    let source = Source::from_fn(move |_| async move { Ok(SecretVersion::text("v1", text)) });
    let builder = Reader::builder(source, "crm/oauth").refresher(function);
    let reader = builder.patience(std::time::Duration::from_millis(300)).build();
    reader.rejected(&reader.access_token().await.unwrap());
    reader
}

#[tokio::test]
async fn the_function_is_invoked_once_with_a_signed_request() {
    for (name, path) in [
        ("token-refresher", "/2015-03-31/functions/token-refresher/invocations"),
        (
            "arn:aws:lambda:us-east-1:123456789012:function:token-refresher:live",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Atoken-refresher%3Alive/invocations",
        ),
    ] {
        let api = LambdaApi::responding(200, None, r#"{"outcome":"in_progress","versionId":"v1"}"#).await;
        let reader = rejected_reader(api.function(name)).await;
        reader.access_token().await.unwrap_err();
        let requests = api.requests.lock().unwrap();
        let [request] = requests.as_slice() else { panic!("{} requests", requests.len()) };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path));
        assert_eq!(request.body, r#"{"force":true,"ifVersionId":"v1","secretId":"crm/oauth"}"#);
        let region = if name.starts_with("arn") { "us-east-1" } else { "eu-central-1" };
        assert_eq!(request.headers["authorization"], request.expected_authorization(region));
        assert_eq!(request.headers["x-amz-security-token"], SESSION_TOKEN);
    }
}

#[tokio::test]
async fn each_response_has_its_remedy() {
    for (status, header, body, remedy, part) in [
        (
            429,
            None,
            r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded"}"#,
            Remedy::Wait,
            "there is no new version after",
        ),
        (
            200,
            Some(("x-amz-function-error", "Unhandled")),
            r#"{"errorType":"ReauthorizationRequired","errorMessage":"a person must consent again"}"#,
            Remedy::Consent,
            "ReauthorizationRequired: a person must consent again",
        ),
        (
            403,
            Some(("x-amzn-errortype", "AccessDeniedException")),
            r#"{"Message":"User is not authorized"}"#,
            Remedy::FixSetting,
            "not allowed to invoke it (403, AccessDeniedException: User is not authorized); add to this function's role: \
             {\"Action\":\"lambda:InvokeFunction\"",
        ),
        (
            404,
            Some(("x-amzn-errortype", "ResourceNotFoundException")),
            r#"{"Message":"Function not found"}"#,
            Remedy::FixSetting,
            "it cannot be invoked (404, ResourceNotFoundException: Function not found)",
        ),
        (503, None, "", Remedy::Wait, "Lambda answered 503"),
        (200, None, r#""Hello from Lambda!""#, Remedy::FixSetting, "the response is not a refresher report"),
    ] {
        let api = LambdaApi::responding(status, header, body).await;
        let reader = rejected_reader(api.function("token-refresher")).await;
        let error = reader.access_token().await.unwrap_err();
        assert_eq!(error.remedy(), remedy, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(api.requests.lock().unwrap().len(), 1, "{status}");
        assert_eq!(token_or_error(reader.access_token().await), "t0ps3cret");
    }
}

#[tokio::test]
async fn an_unreachable_lambda_api_is_a_temporary_error() {
    let function = {
        let api = LambdaApi::responding(200, None, "").await;
        api.function("token-refresher")
    };
    tokio::task::yield_now().await;
    let error = rejected_reader(function).await.access_token().await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Wait);
    assert!(error.to_string().contains("Lambda cannot be reached: Connection refused"), "{error}");
}

impl Received {
    /// The `authorization` header for this request by "Create a signed AWS API request" in the IAM User Guide.
    fn expected_authorization(&self, region: &str) -> String {
        let authorization = &self.headers["authorization"];
        let names = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        for needed in ["host", "x-amz-date", "x-amz-security-token", "content-type"] {
            assert!(names.split(';').any(|name| name == needed), "{needed} is not signed: {names}");
        }
        let headers = names.split(';').fold(String::new(), |mut all, name| {
            writeln!(all, "{name}:{}", self.headers[name].trim()).unwrap();
            all
        });
        // Every service except S3 encodes the already encoded path once more.
        let path = self.path.replace('%', "%25");
        let body = hex(&Sha256::digest(&self.body));
        let canonical = format!("POST\n{path}\n\n{headers}\n{names}\n{body}");
        let time = &self.headers["x-amz-date"];
        let date = &time[..8];
        let scope = format!("{date}/{region}/lambda/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = [date, region, "lambda", "aws4_request"]
            .iter()
            .fold(format!("AWS4{SECRET_KEY}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

/// RFC 2104, for keys of at most one block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| (0..64).map(|i| key.get(i).copied().unwrap_or(0) ^ byte).collect::<Vec<_>>();
    let inner = Sha256::digest([pad(0x36).as_slice(), text].concat());
    Sha256::digest([pad(0x5c).as_slice(), &inner].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut all, byte| {
        write!(all, "{byte:02x}").unwrap();
        all
    })
}
