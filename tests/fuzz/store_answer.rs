//! Any response of Secrets Manager, through the AWS SDK without a socket: its content, or the documented error of the store, in one
//! line that quotes nothing of the request. An input is a line with the action and the status (and a header `x-amzn-errortype`),
//! and a body.

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;
use token_refresher::{
    secret::Secret,
    store::{Label, SecretStore, Selector, StoreError, VersionId, secrets_manager::SecretsManager},
};

use crate::text::assert_one_printable_line;

/// The token in the request. The seeds quote it.
const TOKEN: &str = "at-Zm9vYmFyLWFjY2Vzcy10b2tlbg-8157";

pub fn target(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (head, body) = (String::from_utf8_lossy(&input[..at]), input.get(at + 1..).unwrap_or_default());
    let mut words = head.split(' ');
    let (action, status, header) = (words.next().unwrap_or_default(), words.next(), words.next());
    let Some(status) = status.and_then(|status| status.parse().ok()) else { return };
    let Some(response) = Response::new(status, header, body) else { return };
    let store = response.store();
    let failed = block_on(async {
        match action {
            "get" => match store.get("crm", Selector::Label(Label::Current)).await {
                Ok(version) => {
                    // The SDK accepts invalid JSON in members that it does not know.
                    assert!(member(body, "SecretString").is_none_or(|sent| sent == version.body.expose()));
                    assert!(member(body, "VersionId").is_none_or(|sent| sent == version.id.as_str()));
                    None
                }
                Err(error) => Some(error),
            },
            "put" => {
                let sent = Secret::from(format!(r#"{{"accessToken":"{TOKEN}","expiresAt":0}}"#));
                store.put("crm", &id(1), Label::Staged, &sent).await.err()
            }
            "move" => store.move_current("crm", &id(1), &id(2)).await.err(),
            _ => match store.list("crm").await {
                // The response repeats the same page. The store still ends the list.
                Ok(listed) => {
                    assert!(listed.iter().all(|version| body_has(body, version.id.as_str())));
                    None
                }
                Err(error) => Some(error),
            },
        }
    });
    match failed {
        None => assert!((200..300).contains(&status), "{status}"),
        Some(error) => {
            assert_one_printable_line(&error.to_string(), 600);
            let message = error.to_string();
            let quoted = TOKEN.as_bytes().windows(8).any(|piece| message.contains(str::from_utf8(piece).unwrap()));
            assert!(action != "put" || !quoted, "the message quotes what was sent");
            if header.is_none() && !(200..300).contains(&status) {
                assert_is_the_documented_error(&error, action, status, body);
            }
        }
    }
}

/// Fails unless the error is the one of the service's API reference, by the code in the body if it is plain text.
fn assert_is_the_documented_error(error: &StoreError, action: &str, status: u16, body: &[u8]) {
    let Some(code) = member(body, "__type").filter(|code| code.bytes().all(|byte| byte.is_ascii_alphabetic())) else {
        return;
    };
    let unavailable = matches!(error, StoreError::Unavailable { .. });
    let deleted = matches!(error, StoreError::NotFound { .. });
    let holds = match (code.as_str(), action) {
        ("ResourceExistsException", _) => *error == StoreError::Exists,
        ("ResourceNotFoundException", _) => deleted,
        ("LimitExceededException", "put") => matches!(error, StoreError::Quota { .. } | StoreError::Rejected { .. }),
        ("InvalidRequestException", "move") => matches!(error, StoreError::Moved { .. }) || deleted,
        ("InvalidParameterException", "move") => matches!(error, StoreError::Moved { .. }),
        ("InvalidRequestException", _) => unavailable || deleted || matches!(error, StoreError::Rejected { .. }),
        ("ExpiredTokenException", _) => matches!(error, StoreError::NotAuthenticated { .. }),
        ("AccessDeniedException" | "DecryptionFailure" | "EncryptionFailure", _) => {
            matches!(error, StoreError::AccessDenied { .. })
        }
        ("ThrottlingException" | "TooManyRequestsException", _) => {
            unavailable || matches!(error, StoreError::Throttled { .. })
        }
        _ if (500..600).contains(&status) => unavailable || matches!(error, StoreError::AccessDenied { .. }),
        // The SDK accepts more spellings of a code than this test.
        _ => *error != StoreError::Binary,
    };
    assert!(holds, "{action}, {status}, {code}: {error:?}");
}

fn member(body: &[u8], name: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get(name)?.as_str()?.to_owned())
}

fn body_has(body: &[u8], text: &str) -> bool {
    let escaped = serde_json::to_string(text).unwrap();
    let body = String::from_utf8_lossy(body);
    body.contains(text) || body.contains(escaped.trim_matches('"')) || body.contains('\\')
}

fn id(n: u8) -> VersionId {
    format!("00000000-0000-4000-8000-00000000000{n}").into()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// An HTTP client for the SDK that sends the same response to every request.
#[derive(Clone, Debug)]
struct Response(http::Response<Vec<u8>>);

impl Response {
    /// `None` if the status or the header is not possible.
    fn new(status: u16, header: Option<&str>, body: &[u8]) -> Option<Self> {
        let mut response = http::Response::builder().status(status);
        if let Some(header) = header {
            response = response.header("x-amzn-errortype", header);
        }
        response.body(body.to_vec()).ok().map(Self)
    }

    fn store(self) -> SecretsManager {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "key", None, None, "test")))
            .retry_config(RetryConfig::disabled())
            .http_client(self);
        SecretsManager::new(&config.build()).unwrap()
    }
}

impl HttpClient for Response {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Response {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let response = self.0.clone().map(SdkBody::from);
        HttpConnectorFuture::ready(Ok(HttpResponse::try_from(response).unwrap()))
    }
}
