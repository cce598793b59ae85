//! The client of the authorization server, and its authentication. Checks no token.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::endpoint::Request;

/// The client authentication methods of RFC 7591 that the provider supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    ClientSecretPost,
    ClientSecretBasic,
    /// Not registered: compares the Basic header without decoding it.
    ClientSecretBasicRaw,
    None,
}

pub struct Client {
    pub id: String,
    pub secret: String,
    pub method: AuthMethod,
}

impl Client {
    /// Whether the request uses exactly the configured method: RFC 6749 2.3 allows one method in each request.
    pub fn authenticates(&self, request: &Request) -> bool {
        let posted = (request.field("client_id"), request.field("client_secret"));
        let (id, secret) = (self.id.as_str(), self.secret.as_str());
        match (self.method, request.header("authorization")) {
            (AuthMethod::ClientSecretPost, None) => posted == (Some(id), Some(secret)),
            (AuthMethod::None, None) => posted == (Some(id), None),
            (AuthMethod::ClientSecretBasic, Some(header)) => {
                posted.1.is_none()
                    && basic(header).is_some_and(|(its_id, its_secret)| its_id == id && its_secret == secret)
            }
            (AuthMethod::ClientSecretBasicRaw, Some(header)) => {
                posted.1.is_none() && header == format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
            }
            _ => false,
        }
    }
}

/// The id and secret in a Basic header, form-decoded (RFC 6749 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(header.strip_prefix("Basic ")?).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

/// `None` if the text is not form-encoded: a strict server rejects it.
fn form_decoded(text: &str) -> Option<String> {
    let is_encoded = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*-._%+~".contains(&byte));
    is_encoded.then(|| form_urlencoded::parse(text.as_bytes()).next().unwrap_or_default().0.into_owned())
}
