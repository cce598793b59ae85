//! The request: a client put together from what several places say of it, and the POST it sends (RFC 6749 sections 2.3.1
//! and 6). Opens no socket.

use std::{fmt, net::IpAddr, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::{Serializer, byte_serialize};
use reqwest::{
    Method, Request, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use zeroize::Zeroizing;

use crate::{
    secret::Secret,
    shown::shown,
    token_secret::{
        DEFAULT_LIFETIME,
        client_settings::{ClientSettings, TokenEndpointAuthMethod},
    },
};

/// Headers that belong to the request itself.
const RESERVED_HEADERS: [&str; 6] =
    ["content-type", "content-length", "transfer-encoding", "connection", "host", "expect"];

/// An OAuth client, complete and checked.
#[derive(Clone)]
pub struct Client {
    /// Where tokens are exchanged.
    pub token_endpoint: Url,
    /// The client's id.
    pub client_id: Secret,
    /// The client's secret; `None` for a public client.
    pub client_secret: Option<Secret>,
    /// How the client authenticates.
    pub auth_method: TokenEndpointAuthMethod,
    /// Parameters to add to the form.
    pub extra_parameters: Vec<(String, Secret)>,
    /// Headers to add to the request.
    pub extra_headers: Vec<(String, Secret)>,
    /// The lifetime to assume when the provider names none.
    pub default_lifetime: Duration,
}

impl Client {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// What is missing or wrong, by the name of its member, without its value.
    pub fn new(settings: ClientSettings) -> Result<Self, String> {
        let missing = |member: &str, setting: &str| {
            format!("`{member}` is neither in it, nor in its `clientCredentialsSecretId`, nor set as {setting}")
        };
        let token_endpoint = settings.token_endpoint.ok_or_else(|| missing("tokenEndpoint", "TOKEN_ENDPOINT"))?;
        let token_endpoint =
            endpoint(token_endpoint.expose()).map_err(|problem| format!("its `tokenEndpoint` {problem}"))?;
        let auth_method = settings.token_endpoint_auth_method.unwrap_or_default();
        let sent = |member: &&&str| **member != "clientSecret" || auth_method != TokenEndpointAuthMethod::None;
        if let Some(member) = settings.for_another_endpoint.iter().find(sent) {
            return Err(format!(
                "its `tokenEndpoint` is not the one that stands beside its `{member}`, in its `clientCredentialsSecretId`: what is \
                 kept with an endpoint goes to no other; take its `tokenEndpoint` out, make the two the same, or give it \
                 a `{member}` of its own"
            ));
        }
        let client_secret = match auth_method {
            TokenEndpointAuthMethod::None => None,
            _ => Some(settings.client_secret.ok_or_else(|| missing("clientSecret", "CLIENT_SECRET"))?),
        };
        let client = Self {
            token_endpoint,
            client_id: settings.client_id.ok_or_else(|| missing("clientId", "CLIENT_ID"))?,
            client_secret,
            auth_method,
            extra_parameters: settings.extra_parameters.unwrap_or_default(),
            extra_headers: settings.extra_headers.unwrap_or_default(),
            default_lifetime: settings.default_lifetime.filter(|life| !life.is_zero()).unwrap_or(DEFAULT_LIFETIME),
        };
        // What cannot be sent is found before anything is claimed.
        client.request(&Secret::from("refresh token"))?;
        Ok(client)
    }

    /// The token endpoint as messages show it: without a query, which may hold a key.
    #[must_use]
    pub fn endpoint_shown(&self) -> String {
        let mut url = self.token_endpoint.clone();
        url.set_query(None);
        url.to_string()
    }

    /// All that this client sends and nobody may see.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let extras = self.extra_parameters.iter().chain(&self.extra_headers).map(|(_, value)| value);
        self.client_secret.iter().chain(extras)
    }

    /// The request that exchanges a refresh token.
    ///
    /// # Errors
    ///
    /// Which extra parameter or header cannot be sent, and why.
    pub fn request(&self, refresh_token: &Secret) -> Result<Request, String> {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        let mut request = Request::new(Method::POST, self.token_endpoint.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        for (name, value) in &self.extra_headers {
            let wrong = |why: &str| format!("its `extraHeaders.{}` {why}", shown(name, 64));
            let name = HeaderName::try_from(name).map_err(|_| wrong("is no header name"))?;
            if RESERVED_HEADERS.contains(&name.as_str()) {
                return Err(wrong("belongs to the request itself; take it out"));
            }
            let value =
                HeaderValue::try_from(value.expose()).map_err(|_| wrong("has a character that no header may have"))?;
            headers.insert(name, sensitive(value));
        }
        match (self.auth_method, &self.client_secret) {
            (TokenEndpointAuthMethod::ClientSecretBasic, Some(secret)) => {
                if headers.contains_key(AUTHORIZATION) {
                    return Err("its `extraHeaders.authorization` is in the way of client_secret_basic; take one out"
                        .to_owned());
                }
                headers.insert(AUTHORIZATION, basic(&self.client_id, secret));
            }
            (TokenEndpointAuthMethod::ClientSecretPost, Some(secret)) => {
                form.extend([("client_id", self.client_id.expose()), ("client_secret", secret.expose())]);
            }
            _ => form.push(("client_id", self.client_id.expose())),
        }
        for (name, value) in &self.extra_parameters {
            // RFC 6749 section 3.2: parameters must not be included more than once.
            if form.iter().any(|(present, _)| present == name) {
                return Err(format!(
                    "its `extraParameters.{}` is in the request already; take it out",
                    shown(name, 64)
                ));
            }
            form.push((name, value.expose()));
        }
        let length: usize = form.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let form = Serializer::new(String::with_capacity(length)).extend_pairs(form).finish();
        *request.body_mut() = Some(form.into());
        Ok(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.endpoint_shown())
    }
}

/// Checks settings that need not be complete.
///
/// # Errors
///
/// What is wrong with those that are there, by the name of the member, without its value.
pub fn check(settings: &ClientSettings) -> Result<(), String> {
    let rest = ClientSettings {
        token_endpoint: Some("https://localhost/".into()),
        client_id: Some("id".into()),
        client_secret: Some("secret".into()),
        ..ClientSettings::default()
    };
    Client::new(settings.clone().or(rest)).map(drop)
}

/// Reads and checks a token endpoint.
///
/// # Errors
///
/// What it is and what is allowed, as the end of a sentence that begins with its name.
pub fn endpoint(text: &str) -> Result<Url, String> {
    const ALLOWED: &str = "allowed is https, or http to a loopback address";
    let url = Url::parse(text).map_err(|problem| format!("is no URL ({problem}); {ALLOWED}"))?;
    let host = url.host_str().unwrap_or_default();
    // A token or secret sent over plain http is anyone's, and the answer is anyone's to forge.
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err(format!("is http to {host}; {ALLOWED}")),
        scheme => return Err(format!("is {scheme}, neither https nor http; {ALLOWED}")),
    }
    if address.is_some_and(is_nowhere) {
        return Err(format!("is at {host}, an address that no provider has; name the provider's host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it; use clientId and clientSecret".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment (#...), which RFC 6749 section 3.2 forbids".to_owned());
    }
    Ok(url)
}

/// Addresses that are never a provider's: those of instance and container metadata (link-local, and AWS's own
/// `fd00:ec2::/32`), groups, and "this host". Private ones may be: companies run providers of their own.
fn is_nowhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_link_local() || address.is_unspecified() || address.is_multicast() || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.segments().starts_with(&[0xfd00, 0xec2])
        }
    }
}

/// `client_secret_basic`: id and secret form-encoded, then joined and base64 (RFC 6749 section 2.3.1). Unencoded, an
/// authorization server refuses or misreads secrets with `% + / = &`.
fn basic(client_id: &Secret, client_secret: &Secret) -> HeaderValue {
    let encoded = |secret: &Secret| Zeroizing::new(byte_serialize(secret.expose().as_bytes()).collect::<String>());
    let pair = Zeroizing::new(format!("{}:{}", *encoded(client_id), *encoded(client_secret)));
    let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
    // Base64 has no character that a header may not have.
    sensitive(HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("")))
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ClientSettings {
        ClientSettings {
            token_endpoint: Some("https://id.example/token?tenant=1".into()),
            client_id: Some("my id".into()),
            client_secret: Some("s3cr+t/=& %:x".into()),
            ..ClientSettings::default()
        }
    }

    fn body(request: &Request) -> &str {
        std::str::from_utf8(request.body().unwrap().as_bytes().unwrap()).unwrap()
    }

    #[test]
    fn the_client_authenticates_in_the_form_in_a_header_or_not_at_all() {
        let secret = "client_secret=s3cr%2Bt%2F%3D%26+%25%3Ax";
        for (method, authorization, form) in [
            (None, None, format!("&client_id=my+id&{secret}")),
            (Some("client_secret_post"), None, format!("&client_id=my+id&{secret}")),
            // base64("my+id:s3cr%2Bt%2F%3D%26+%25%3Ax")
            (Some("client_secret_basic"), Some("Basic bXkraWQ6czNjciUyQnQlMkYlM0QlMjYrJTI1JTNBeA=="), String::new()),
            (Some("none"), None, "&client_id=my+id".to_owned()),
        ] {
            let client = Client::new(ClientSettings {
                token_endpoint_auth_method: method.and_then(TokenEndpointAuthMethod::read),
                ..settings()
            });
            let request = client.unwrap().request(&"r/1".into()).unwrap();
            let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
            assert_eq!(header, authorization, "{method:?}");
            assert_eq!(body(&request), format!("grant_type=refresh_token&refresh_token=r%2F1{form}"), "{method:?}");
        }
    }

    #[test]
    fn extra_parameters_and_headers_are_added() {
        let client = Client::new(ClientSettings {
            extra_parameters: Some(vec![("audience".into(), "https://api".into())]),
            extra_headers: Some(vec![("X-Api-Key".into(), "k".into()), ("accept".into(), "*/*".into())]),
            token_endpoint_auth_method: Some(TokenEndpointAuthMethod::None),
            ..settings()
        });
        let request = client.unwrap().request(&"r".into()).unwrap();
        assert_eq!(
            body(&request),
            "grant_type=refresh_token&refresh_token=r&client_id=my+id&audience=https%3A%2F%2Fapi"
        );
        assert_eq!(request.headers()["x-api-key"], "k");
        assert_eq!(request.headers()[ACCEPT], "*/*");
        assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
    }

    #[test]
    fn what_cannot_be_sent_is_named_before_anything_is_sent() {
        let extra = |name: &str| Some(vec![(name.to_owned(), Secret::from("x"))]);
        for (settings, problem) in [
            (
                ClientSettings { token_endpoint: None, ..settings() },
                "`tokenEndpoint` is neither in it, nor in its `clientCredentialsSecretId`, nor set as TOKEN_ENDPOINT",
            ),
            (
                ClientSettings { client_id: None, ..settings() },
                "`clientId` is neither in it, nor in its `clientCredentialsSecretId`, nor set as CLIENT_ID",
            ),
            (
                ClientSettings { client_secret: None, ..settings() },
                "`clientSecret` is neither in it, nor in its `clientCredentialsSecretId`, nor set as CLIENT_SECRET",
            ),
            (
                ClientSettings { extra_parameters: extra("grant_type"), ..settings() },
                "its `extraParameters.grant_type` is in the request already; take it out",
            ),
            (
                ClientSettings { extra_headers: extra("Host"), ..settings() },
                "its `extraHeaders.Host` belongs to the request itself; take it out",
            ),
            (ClientSettings { extra_headers: extra("a b"), ..settings() }, "its `extraHeaders.a b` is no header name"),
            (
                ClientSettings { extra_headers: Some(vec![("a".into(), "x\ny".into())]), ..settings() },
                "its `extraHeaders.a` has a character that no header may have",
            ),
        ] {
            assert_eq!(Client::new(settings).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_token_endpoint_is_https_or_loopback() {
        for allowed in [
            "https://id.example/token",
            "https://id.example:8443/oauth/token?tenant=1",
            "http://localhost:8080/token",
            "http://127.0.0.1/token",
            "http://127.1.2.3:9/token",
            "http://[::1]:9/token",
        ] {
            assert!(endpoint(allowed).is_ok(), "{allowed}");
        }
        for (refused, problem) in [
            ("http://id.example/token", "is http to id.example; allowed is https, or http to a loopback address"),
            (
                "http://169.254.169.254/latest/api/token",
                "is http to 169.254.169.254; allowed is https, or http to a loopback address",
            ),
            (
                "http://localhost.evil.example/",
                "is http to localhost.evil.example; allowed is https, or http to a loopback address",
            ),
            ("ftp://id.example/", "is ftp, neither https nor http; allowed is https, or http to a loopback address"),
            (
                "id.example/token",
                "is no URL (relative URL without a base); allowed is https, or http to a loopback address",
            ),
            (
                "http://127.0.0.1.id.example/",
                "is http to 127.0.0.1.id.example; allowed is https, or http to a loopback address",
            ),
            ("http://localhost./", "is http to localhost.; allowed is https, or http to a loopback address"),
            ("https://me:pw@id.example/", "has a user name or password in it; use clientId and clientSecret"),
            ("https://id.example/#x", "has a fragment (#...), which RFC 6749 section 3.2 forbids"),
        ] {
            assert_eq!(endpoint(refused).unwrap_err(), problem, "{refused}");
        }
    }

    #[test]
    fn an_address_is_judged_by_what_it_is_however_it_is_written() {
        for (address, loopback, elsewhere) in [
            ("127.0.0.1", true, true),
            ("2130706433", true, true),
            ("0x7f.1", true, true),
            ("0177.0.0.1", true, true),
            ("[::ffff:127.0.0.1]", true, true),
            ("[::ffff:7f00:1]", true, true),
            // A company's own provider, with a certificate that SSL_CERT_FILE vouches for.
            ("10.0.0.1", false, true),
            ("192.168.0.1", false, true),
            ("[fd00::1]", false, true),
            ("169.253.255.255", false, true),
            ("169.255.0.0", false, true),
            ("[fd00:ec1::254]", false, true),
            ("169.254.0.0", false, false),
            ("169.254.255.255", false, false),
            ("169.254.169.254", false, false),
            ("169.254.170.2", false, false),
            ("2852039166", false, false),
            ("0xa9fea9fe", false, false),
            ("0251.0376.0251.0376", false, false),
            ("169.254.43518", false, false),
            ("[::ffff:169.254.169.254]", false, false),
            ("[::ffff:a9fe:a9fe]", false, false),
            ("[fe80::1]", false, false),
            ("[fd00:ec2::254]", false, false),
            ("[fd00:ec2::23]", false, false),
            ("0.0.0.0", false, false),
            ("[::]", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("[ff02::1]", false, false),
        ] {
            for (scheme, allowed) in [("http", loopback), ("https", elsewhere)] {
                let url = format!("{scheme}://{address}/token");
                assert_eq!(endpoint(&url).is_ok(), allowed, "{url}: {:?}", endpoint(&url));
            }
        }
        let problem = "is at 169.254.169.254, an address that no provider has; name the provider's host";
        assert_eq!(endpoint("https://2852039166/").unwrap_err(), problem);
    }

    #[test]
    fn messages_and_debug_show_the_endpoint_without_its_query() {
        let client = Client::new(settings()).unwrap();
        assert_eq!(client.endpoint_shown(), "https://id.example/token");
        assert_eq!(format!("{client:?}"), "Client(https://id.example/token)");
    }
}
