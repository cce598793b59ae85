//! The authorization request (RFC 6749 section 4.1.1, with PKCE) and the redirect that answers it. Sends nothing.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::Url;
use sha2::{Digest, Sha256};

use super::failure::Failure;
use crate::{sanitize::sanitize_line, secret::Secret};

/// How much of an error of the provider is shown.
const MAX_SHOWN: usize = 200;

/// The longest redirect that is read.
pub(super) const MAX_REDIRECT_BYTES: usize = 16 * 1024;

/// One authorization request, and what its redirect must contain.
pub(super) struct Request {
    /// The address to open.
    pub address: Url,
    /// The code verifier; `None` without PKCE.
    pub verifier: Option<Secret>,
    pub redirect_uri: String,
    state: Secret,
    issuer: Option<String>,
    requires_issuer: bool,
}

/// What a request is made of.
pub(super) struct Parts<'a> {
    pub authorization_endpoint: &'a Url,
    pub client_id: &'a str,
    pub redirect_uri: &'a str,
    /// The scopes, joined.
    pub scope: &'a str,
    /// Further parameters. They replace those of the same name, except `state`, which must stay random.
    pub parameters: &'a BTreeMap<String, String>,
    pub uses_pkce: bool,
    /// The issuer, if it is known, and whether each redirect must name it (RFC 9207).
    pub issuer: Option<&'a str>,
    pub requires_issuer: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Redirect {
    pub code: Secret,
    /// The other parameters, without the state.
    pub parameters: Vec<(String, String)>,
}

/// Why a redirect brings no code.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RedirectError {
    /// Its `state` is not ours: it belongs to another login or is forged. The login goes on.
    NotOfThisLogin,
    /// The provider did not grant access. The texts are whole sentences, without a full stop.
    Denied(String),
    /// It is damaged, or somebody else has sent it.
    Wrong(String),
}

/// 256 bits that nobody can guess, in base64url: 43 characters, the shortest code verifier (RFC 7636 section 4.1).
fn random_text() -> Result<Secret, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::later(format!("the system returned no random bytes: {error}")))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes).into())
}

/// The challenge of a verifier (RFC 7636 section 4.2).
fn challenge(verifier: &Secret) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()))
}

impl Request {
    /// Makes a request with a new state and a new verifier.
    pub(super) fn new(parts: &Parts<'_>) -> Result<Self, Failure> {
        let verifier = if parts.uses_pkce { Some(random_text()?) } else { None };
        Ok(Self::with(parts, random_text()?, verifier))
    }

    fn with(parts: &Parts<'_>, state: Secret, verifier: Option<Secret>) -> Self {
        let own = |name: &str| parts.parameters.contains_key(name);
        let challenge = verifier.as_ref().map(challenge);
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", parts.client_id),
            ("redirect_uri", parts.redirect_uri),
            ("state", state.expose()),
        ];
        if !parts.scope.is_empty() {
            pairs.push(("scope", parts.scope));
        }
        if let Some(challenge) = &challenge {
            pairs.extend([("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")]);
        }
        pairs.retain(|(name, _)| *name == "state" || !own(name));
        pairs.extend(
            parts
                .parameters
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .filter(|(name, _)| *name != "state"),
        );
        let mut address = parts.authorization_endpoint.clone();
        address.query_pairs_mut().extend_pairs(pairs);
        Self {
            address,
            verifier,
            redirect_uri: parts.redirect_uri.to_owned(),
            state,
            issuer: parts.issuer.map(str::to_owned),
            requires_issuer: parts.requires_issuer,
        }
    }

    /// Reads the query of a redirect.
    pub(super) fn read(&self, query: &str) -> Result<Redirect, RedirectError> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let get = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        if get("state") != Some(self.state.expose()) {
            return Err(RedirectError::NotOfThisLogin);
        }
        let wrong = |text: String| Err(RedirectError::Wrong(text));
        // RFC 6749 section 3.1: a parameter must not be included more than once.
        for name in ["code", "state", "iss", "error"] {
            if pairs.iter().filter(|(other, _)| other == name).count() > 1 {
                return wrong(format!("the redirect has `{name}` twice"));
            }
        }
        match (&self.issuer, get("iss")) {
            (Some(issuer), Some(iss)) if issuer != iss => {
                return wrong(format!(
                    "the redirect is from the issuer {}, and the login was begun at {issuer}: another server may have sent it (RFC 9207)",
                    sanitize_line(iss, MAX_SHOWN)
                ));
            }
            (Some(issuer), None) if self.requires_issuer => {
                return wrong(format!("the redirect does not name its issuer, and {issuer} always does (RFC 9207)"));
            }
            _ => {}
        }
        if let Some(error) = get("error") {
            let description = get("error_description").map(|text| format!(": {}", sanitize_line(text, MAX_SHOWN)));
            return Err(RedirectError::Denied(format!(
                "the provider did not grant access ({}{})",
                sanitize_line(error, MAX_SHOWN),
                description.unwrap_or_default()
            )));
        }
        match get("code").filter(|code| !code.is_empty()) {
            Some(code) => {
                let is_other = |name: &str| name != "code" && name != "state";
                let code = code.into();
                Ok(Redirect { code, parameters: pairs.into_iter().filter(|(name, _)| is_other(name)).collect() })
            }
            None => wrong("the redirect has no code".to_owned()),
        }
    }

    /// Reads an address that a person has pasted: the whole one, or only its query.
    pub(super) fn read_pasted(&self, text: &str) -> Result<Redirect, RedirectError> {
        let text = text.trim().trim_matches(['"', '\'', '<', '>']).trim();
        let query = match (Url::parse(text), text.split_once('?')) {
            (Ok(address), _) => address.query().unwrap_or_default().to_owned(),
            (Err(_), Some((_, query))) => query.split('#').next().unwrap_or_default().to_owned(),
            (Err(_), None) => text.to_owned(),
        };
        self.read(&query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "st4te";

    fn request(issuer: Option<&str>, requires_issuer: bool) -> Request {
        let endpoint = Url::parse("https://id.example/authorize?tenant=1").unwrap();
        let parameters = [("prompt", "consent"), ("scope", "mine")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let parts = Parts {
            authorization_endpoint: &endpoint,
            client_id: "my id",
            redirect_uri: "http://127.0.0.1:8080/callback",
            scope: "a b",
            parameters: &parameters,
            uses_pkce: true,
            issuer,
            requires_issuer,
        };
        // The verifier of RFC 7636 appendix B.
        Request::with(&parts, STATE.into(), Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into()))
    }

    #[test]
    fn the_address_has_every_parameter_once() {
        assert_eq!(
            request(None, false).address.as_str(),
            "https://id.example/authorize?tenant=1&response_type=code&client_id=my+id&redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2Fcallback\
             &state=st4te&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&prompt=consent&scope=mine"
        );
    }

    #[test]
    fn state_and_verifier_are_new_for_each_request() {
        let endpoint = Url::parse("https://id.example/authorize").unwrap();
        let parts = Parts {
            authorization_endpoint: &endpoint,
            client_id: "id",
            redirect_uri: "x:/",
            scope: "",
            parameters: &BTreeMap::new(),
            uses_pkce: true,
            issuer: None,
            requires_issuer: false,
        };
        let (first, second) = (Request::new(&parts).unwrap(), Request::new(&parts).unwrap());
        assert_ne!(first.state, second.state);
        assert_ne!(first.verifier, second.verifier);
        assert_eq!(first.verifier.unwrap().expose().len(), 43);
        assert!(Request::new(&Parts { uses_pkce: false, ..parts }).unwrap().verifier.is_none());
    }

    #[test]
    fn a_redirect_brings_its_code_only_if_state_and_issuer_are_right() {
        const ISSUER: &str = "https://id.example";
        let not_ours = || Err(RedirectError::NotOfThisLogin);
        let wrong = |text: &str| Err(RedirectError::Wrong(text.to_owned()));
        let denied = |text: &str| Err(RedirectError::Denied(text.to_owned()));
        let other = "the redirect is from the issuer https://evil.example, and the login was begun at https://id.example: another server \
                     may have sent it (RFC 9207)";
        for (issuer, requires, query, expected) in [
            (None, false, "code=c%2F1&state=st4te", Ok("c/1")),
            (None, false, "code=c&state=st4te&iss=https%3A%2F%2Fwhoever", Ok("c")),
            (None, false, "code=c&state=st4te2", not_ours()),
            (None, false, "code=c&state=", not_ours()),
            (None, false, "code=c", not_ours()),
            (None, false, "error=access_denied", not_ours()),
            (None, false, "", not_ours()),
            (None, false, "state=st4te", wrong("the redirect has no code")),
            (None, false, "code=&state=st4te", wrong("the redirect has no code")),
            (None, false, "code=c&code=d&state=st4te", wrong("the redirect has `code` twice")),
            (None, false, "code=c&state=st4te&state=x", wrong("the redirect has `state` twice")),
            (
                None,
                false,
                "error=access_denied&error_description=no%0Athanks&state=st4te",
                denied("the provider did not grant access (access_denied: no?thanks)"),
            ),
            (Some(ISSUER), true, "code=c&state=st4te&iss=https%3A%2F%2Fid.example", Ok("c")),
            (Some(ISSUER), false, "code=c&state=st4te&iss=https%3A%2F%2Fid.example", Ok("c")),
            (Some(ISSUER), false, "code=c&state=st4te&iss=https%3A%2F%2Fevil.example", wrong(other)),
            (Some(ISSUER), false, "code=c&state=st4te", Ok("c")),
            (
                Some(ISSUER),
                true,
                "code=c&state=st4te",
                wrong("the redirect does not name its issuer, and https://id.example always does (RFC 9207)"),
            ),
        ] {
            let read = request(issuer, requires).read(query).map(|redirect| redirect.code.expose().to_owned());
            assert_eq!(read, expected.map(str::to_owned), "{query}");
        }
    }

    #[test]
    fn a_pasted_address_may_be_quoted_or_only_a_query() {
        for pasted in [
            "https://client.example/callback?code=c&state=st4te",
            "  'https://client.example/callback?code=c&state=st4te#_'\r\n",
            "<http://127.0.0.1:1/?state=st4te&code=c>",
            "com.example.app:/callback?code=c&state=st4te",
            "client.example/callback?code=c&state=st4te#top",
            "code=c&state=st4te",
        ] {
            assert_eq!(request(None, false).read_pasted(pasted).unwrap().code.expose(), "c", "{pasted}");
        }
        for pasted in ["c", "", "https://client.example/callback", "https://client.example/callback#code=c&state=st4te"]
        {
            assert_eq!(
                request(None, false).read_pasted(pasted).unwrap_err(),
                RedirectError::NotOfThisLogin,
                "{pasted}"
            );
        }
    }

    #[test]
    fn debug_shows_neither_code_nor_state() {
        let redirect = request(None, false).read("code=hunter2&state=st4te&realmId=7").unwrap();
        assert_eq!(format!("{redirect:?}"), r#"Redirect { code: Secret(..), parameters: [("realmId", "7")] }"#);
    }
}
