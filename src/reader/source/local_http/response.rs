//! Interprets an agent's response: a version, or a failure. Opens no socket.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    reader::source::SecretVersion,
    sanitize::sanitize_line,
    store::{
        StoreError,
        aws::{self, GET},
    },
};

/// How much of a response's text a message contains.
const MAX_DETAIL_CHARS: usize = 300;

/// Why an attempt gave no version.
pub(super) enum Failure {
    /// The agent does not listen yet, or responds that it is not ready: Lambda starts it in parallel with the function.
    NotReady(String),
    Final(StoreError),
}

/// Reads a response. `agent`: its sender, for messages.
pub(super) fn read(agent: &str, status: u16, body: &[u8]) -> Result<SecretVersion, Failure> {
    if status == 200 {
        let unreadable =
            || StoreError::Unavailable { action: GET, detail: format!("the {agent} did not return a secret") };
        let value: SecretValueResponse = serde_json::from_slice(body).map_err(|_| Failure::Final(unreadable()))?;
        return value.into_version().ok_or_else(|| Failure::Final(unreadable()));
    }
    Err(failure(agent, status, body))
}

/// Interprets a response with another status. The extension's texts are not documented. An unknown one counts as temporary, so
/// the reader continues to use a valid cached token.
fn failure(agent: &str, status: u16, body: &[u8]) -> Failure {
    let error: ServiceError = serde_json::from_slice(body).unwrap_or_default();
    let text = String::from_utf8_lossy(body);
    let message = if error.message.is_empty() { &*text } else { &error.message };
    // Users of the extension report the text "not ready to serve traffic, please wait".
    if message.contains("not ready") {
        return Failure::NotReady(format!("the {agent} is not ready"));
    }
    let code = error.code.rsplit('#').next().unwrap_or_default();
    let detail = match code {
        "" => format!("the {agent} answered {status}: {}", sanitize_line(message, MAX_DETAIL_CHARS)),
        code => format!("{}: {}", sanitize_line(code, 64), sanitize_line(message, MAX_DETAIL_CHARS)),
    };
    Failure::Final(match (status, code) {
        (401 | 403, "") => {
            StoreError::Rejected { action: GET, detail: format!("{detail}; its token is not the one that was sent") }
        }
        (404, "") => StoreError::Rejected { action: GET, detail: format!("{detail}; something else listens there") },
        (_, "") => StoreError::Unavailable { action: GET, detail },
        (_, code) => aws::meaning(GET, status, code, message, detail),
    })
}

/// The response of `GetSecretValue` as JSON; members that are not needed are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretValueResponse {
    version_id: String,
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

impl SecretValueResponse {
    fn into_version(self) -> Option<SecretVersion> {
        let binary = self.secret_binary.map(Zeroizing::new);
        match (self.secret_string, binary) {
            (Some(text), _) => Some(SecretVersion::text(self.version_id, text)),
            (None, Some(text)) => Some(SecretVersion::bytes(self.version_id, BASE64.decode(text.as_bytes()).ok()?)),
            (None, None) => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServiceError {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message")]
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "agent on port 1";

    #[test]
    fn each_response_without_a_secret_becomes_an_error() {
        let unavailable = |detail: &str| StoreError::Unavailable { action: GET, detail: detail.to_owned() };
        let rejected = |detail: &str| StoreError::Rejected { action: GET, detail: detail.to_owned() };
        for (status, body, expected) in [
            (200, "healthy", unavailable("the agent on port 1 did not return a secret")),
            (200, r#"{"VersionId":"v"}"#, unavailable("the agent on port 1 did not return a secret")),
            (
                400,
                r#"{"__type":"ResourceNotFoundException","message":"can't find"}"#,
                StoreError::NotFound { detail: "ResourceNotFoundException: can't find".to_owned() },
            ),
            (
                400,
                r#"{"__type":"com.amazonaws#AccessDeniedException","Message":"no"}"#,
                StoreError::AccessDenied { action: GET, detail: "AccessDeniedException: no".to_owned() },
            ),
            (502, r#"{"__type":"ConnectionError","message":"Read Error"}"#, unavailable("ConnectionError: Read Error")),
            (500, r#"{"__type":"InternalFailure"}"#, unavailable(r#"InternalFailure: {"__type":"InternalFailure"}"#)),
            (
                429,
                "Connection limit exceeded",
                unavailable("the agent on port 1 answered 429: Connection limit exceeded"),
            ),
            (
                403,
                "Bad Token",
                rejected("the agent on port 1 answered 403: Bad Token; its token is not the one that was sent"),
            ),
            (404, "Not found", rejected("the agent on port 1 answered 404: Not found; something else listens there")),
            (400, "an unexpected\nerror", unavailable("the agent on port 1 answered 400: an unexpected?error")),
        ] {
            match read(AGENT, status, body.as_bytes()) {
                Err(Failure::Final(error)) => assert_eq!(error, expected, "{status} {body}"),
                _ => panic!("{status} {body}"),
            }
        }
        let not_ready = read(AGENT, 400, b"not ready to serve traffic, please wait");
        assert!(matches!(not_ready, Err(Failure::NotReady(_))));
    }

    #[test]
    fn text_and_bytes_are_read() {
        let version = |body: &str| read(AGENT, 200, body.as_bytes()).ok().unwrap();
        let text =
            version(r#"{"ARN":"a","VersionId":"v1","SecretString":"tést","CreatedDate":"1.5","ResultMetadata":{}}"#);
        assert_eq!(text.id.as_str(), "v1");
        assert!(text.content == crate::store::Content::Text("tést".into()));
        let bytes = version(r#"{"VersionId":"v1","SecretString":null,"SecretBinary":"AJ+S"}"#);
        assert!(bytes.content == SecretVersion::bytes("v1", vec![0, 159, 146]).content);
    }
}
