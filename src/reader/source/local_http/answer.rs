//! What an agent's answer means: a version, or why there is none. Opens no socket.

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

/// How much of an answer's own text is shown.
const MAX_DETAIL_CHARS: usize = 300;

/// Why a try gave no version.
pub(super) enum Failure {
    /// It is not there yet, or says that it is not ready: Lambda starts it beside the function.
    Starting(String),
    Final(StoreError),
}

/// Reads an answer; `who` gave it.
pub(super) fn version(who: &str, status: u16, answer: &[u8]) -> Result<SecretVersion, Failure> {
    if status == 200 {
        let unreadable = || StoreError::Unavailable { action: GET, detail: format!("the {who} answered no secret") };
        let got: Got = serde_json::from_slice(answer).map_err(|_| Failure::Final(unreadable()))?;
        return got.version().ok_or_else(|| Failure::Final(unreadable()));
    }
    Err(failure(who, status, answer))
}

/// What an answer of another status means. The extension's texts are not documented: what is not known is taken for something
/// that passes, so that it cannot take away a token that is good.
fn failure(who: &str, status: u16, answer: &[u8]) -> Failure {
    let error: ServiceError = serde_json::from_slice(answer).unwrap_or_default();
    let text = String::from_utf8_lossy(answer);
    let message = if error.message.is_empty() { &*text } else { &error.message };
    // "not ready to serve traffic, please wait", as users of the extension report it.
    if message.contains("not ready") {
        return Failure::Starting(format!("the {who} is not ready"));
    }
    let code = error.code.rsplit('#').next().unwrap_or_default();
    let detail = match code {
        "" => format!("the {who} answered {status}: {}", sanitize_line(message, MAX_DETAIL_CHARS)),
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

/// What is read of an answer: that of `GetSecretValue`, as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    version_id: String,
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

impl Got {
    fn version(self) -> Option<SecretVersion> {
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

    const WHO: &str = "agent on port 1";

    #[test]
    fn each_answer_that_is_no_secret_has_its_meaning() {
        let unavailable = |detail: &str| StoreError::Unavailable { action: GET, detail: detail.to_owned() };
        let rejected = |detail: &str| StoreError::Rejected { action: GET, detail: detail.to_owned() };
        for (status, answer, expected) in [
            (200, "healthy", unavailable("the agent on port 1 answered no secret")),
            (200, r#"{"VersionId":"v"}"#, unavailable("the agent on port 1 answered no secret")),
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
            match version(WHO, status, answer.as_bytes()) {
                Err(Failure::Final(error)) => assert_eq!(error, expected, "{status} {answer}"),
                _ => panic!("{status} {answer}"),
            }
        }
        let not_ready = version(WHO, 400, b"not ready to serve traffic, please wait");
        assert!(matches!(not_ready, Err(Failure::Starting(_))));
    }

    #[test]
    fn text_and_bytes_are_read() {
        let read = |answer: &str| version(WHO, 200, answer.as_bytes()).ok().unwrap();
        let text =
            read(r#"{"ARN":"a","VersionId":"v1","SecretString":"tést","CreatedDate":"1.5","ResultMetadata":{}}"#);
        assert_eq!(text.id.as_str(), "v1");
        assert!(text.content == crate::store::Content::Text("tést".into()));
        let bytes = read(r#"{"VersionId":"v1","SecretString":null,"SecretBinary":"AJ+S"}"#);
        assert!(bytes.content == SecretVersion::bytes("v1", vec![0, 159, 146]).content);
    }
}
