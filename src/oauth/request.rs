//! Builds the request: the POST that a client sends with a grant (RFC 6749 sections 2.3.1, 4 and 6). Opens no socket.

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::{Serializer, byte_serialize};
use reqwest::{
    Method, Request,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};
use zeroize::Zeroizing;

use super::{assertion::SignedJwts, client::Client, grant::Grant};
use crate::{
    sanitize::sanitize_line,
    secret::Secret,
    token_secret::{
        client_settings::{TokenEndpointAuthMethod, TokenRequestFormat},
        document::json_string,
    },
};

/// `client_assertion_type` of a JWT (RFC 7523 section 2.2).
const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Headers that extra headers must not replace.
const RESERVED_HEADERS: [&str; 6] =
    ["content-type", "content-length", "transfer-encoding", "connection", "host", "expect"];

impl Client {
    /// The request that exchanges a grant. `jwts`: those that grant and client need.
    ///
    /// # Errors
    ///
    /// The problem, with the name of the extra parameter or header that cannot be sent.
    pub fn request(&self, grant: &Grant, jwts: &SignedJwts) -> Result<Request, String> {
        let mut form = grant.form();
        if self.signs(grant) {
            form.push(("assertion", text(jwts.grant.as_ref())));
        }
        let mut request = Request::new(Method::POST, self.token_endpoint.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // Without it a provider may compress (RFC 9110 section 12.5.3), and only gzip is decoded.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(match self.request_format {
                TokenRequestFormat::Form => "application/x-www-form-urlencoded",
                TokenRequestFormat::Json => "application/json",
            }),
        );
        for (name, value) in &self.profile.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        for (name, value) in &self.extra_headers {
            let wrong = |why: &str| format!("its `extraHeaders.{}` {why}", sanitize_line(name, 64));
            let name = HeaderName::try_from(name).map_err(|_| wrong("is not a header name"))?;
            if name == CONTENT_TYPE {
                return Err(wrong(
                    "belongs to the request itself; take it out, and for JSON set tokenRequestFormat to \"json\"",
                ));
            }
            if RESERVED_HEADERS.contains(&name.as_str()) {
                return Err(wrong("belongs to the request itself; take it out"));
            }
            let value =
                HeaderValue::try_from(value.expose()).map_err(|_| wrong("has a character that no header may have"))?;
            headers.insert(name, sensitive(value));
        }
        let method = self.auth_method;
        let secret = self.client_secret.as_ref();
        let client_id = ("client_id", self.client_id.expose());
        let authorization = match method {
            TokenEndpointAuthMethod::ClientSecretBasic | TokenEndpointAuthMethod::ClientSecretBasicRaw => {
                secret.map(|secret| basic(&self.client_id, secret, method))
            }
            TokenEndpointAuthMethod::ClientSecretPost => {
                form.push(client_id);
                form.extend(secret.map(|secret| ("client_secret", secret.expose())));
                None
            }
            TokenEndpointAuthMethod::PrivateKeyJwt => {
                let jwt = text(jwts.client.as_ref());
                form.extend([client_id, ("client_assertion_type", CLIENT_ASSERTION_TYPE), ("client_assertion", jwt)]);
                None
            }
            TokenEndpointAuthMethod::BearerJwt => Some(bearer(text(jwts.client.as_ref()))),
            // The assertion names the client. A parameter `client_id` is for clients that authenticate (RFC 7521 section 4.1).
            TokenEndpointAuthMethod::None if grant.is_jwt_bearer() => None,
            TokenEndpointAuthMethod::None => {
                form.push(client_id);
                None
            }
        };
        if let Some(authorization) = authorization {
            if headers.contains_key(AUTHORIZATION) {
                let method = method.name();
                return Err(format!("its `extraHeaders.authorization` conflicts with {method}; take one out"));
            }
            headers.insert(AUTHORIZATION, authorization);
        }
        for (name, value) in &self.extra_parameters {
            // RFC 6749 section 3.2: parameters must not be included more than once.
            if form.iter().any(|(present, _)| present == name) {
                return Err(format!(
                    "its `extraParameters.{}` is in the request already; take it out",
                    sanitize_line(name, 64)
                ));
            }
            form.push((name, value.expose()));
        }
        let own = |name: &String| self.extra_parameters.iter().any(|(own, _)| own == name);
        let of_profile = self.profile.parameters.iter().filter(|(name, _)| !own(name));
        form.extend(of_profile.map(|(name, value)| (name.as_str(), value.as_str())));
        // Allocated once with enough room: a string that grows leaves unwiped copies in memory.
        let length: usize = form.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6).sum();
        let mut body = String::with_capacity(length + 2);
        *request.body_mut() = Some(match self.request_format {
            TokenRequestFormat::Form => Serializer::new(body).extend_pairs(form).finish().into(),
            TokenRequestFormat::Json => {
                body.push('{');
                for (index, (name, value)) in form.into_iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    let (name, value) = (json_string(name), Zeroizing::new(json_string(value)));
                    body.extend([comma, name.as_str(), ":", value.as_str()]);
                }
                body.push('}');
                body.into()
            }
        });
        // RFC 9110 section 8.6. The HTTP client leaves it out if the body is empty.
        if request.body().and_then(reqwest::Body::as_bytes).is_some_and(<[u8]>::is_empty) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }
}

/// A JWT; empty while a client is only checked.
fn text(jwt: Option<&Secret>) -> &str {
    jwt.map_or("", Secret::expose)
}

/// `client_secret_basic`: id and secret are form-encoded, joined with `:` and encoded as base64 (RFC 6749 section 2.3.1). Without
/// the form-encoding, an authorization server rejects or misreads secrets with `% + / = &`. `client_secret_basic_raw` is for those
/// that do not decode it.
fn basic(client_id: &Secret, client_secret: &Secret, method: TokenEndpointAuthMethod) -> HeaderValue {
    let encoded = |secret: &Secret| {
        Zeroizing::new(match method {
            TokenEndpointAuthMethod::ClientSecretBasicRaw => secret.expose().to_owned(),
            _ => byte_serialize(secret.expose().as_bytes()).collect(),
        })
    };
    let pair = Zeroizing::new(format!("{}:{}", *encoded(client_id), *encoded(client_secret)));
    let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
    // Never fails: a header may contain all characters of base64.
    sensitive(HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("")))
}

/// `bearer_jwt`: the JWT itself (RFC 6750 section 2.1).
fn bearer(jwt: &str) -> HeaderValue {
    let value = Zeroizing::new(format!("Bearer {jwt}"));
    // Never fails: a header may contain all characters of a JWT.
    sensitive(HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("")))
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oauth::client::tests::settings,
        token_secret::{
            SecretProblem,
            client_settings::ClientSettings,
            signing::{JWT_BEARER, JwtSettings, KeySetting},
        },
    };

    fn grant() -> Grant {
        Grant::RefreshToken("r/1".into())
    }

    fn client(settings: ClientSettings) -> Result<Client, String> {
        Client::new(settings, &grant())
    }

    fn body(request: &Request) -> &str {
        std::str::from_utf8(request.body().unwrap().as_bytes().unwrap()).unwrap()
    }

    #[test]
    fn the_client_authenticates_in_the_form_or_in_a_header_or_sends_no_secret() {
        let secret = "client_secret=s3cr%2Bt%2F%3D%26+%25%3Ax";
        for (method, authorization, form) in [
            (None, None, format!("&client_id=my+id&{secret}")),
            (Some("client_secret_post"), None, format!("&client_id=my+id&{secret}")),
            // base64("my+id:s3cr%2Bt%2F%3D%26+%25%3Ax")
            (Some("client_secret_basic"), Some("Basic bXkraWQ6czNjciUyQnQlMkYlM0QlMjYrJTI1JTNBeA=="), String::new()),
            // base64("my id:s3cr+t/=& %:x")
            (Some("client_secret_basic_raw"), Some("Basic bXkgaWQ6czNjcit0Lz0mICU6eA=="), String::new()),
            (Some("none"), None, "&client_id=my+id".to_owned()),
        ] {
            let made = client(ClientSettings {
                token_endpoint_auth_method: method.and_then(TokenEndpointAuthMethod::read),
                ..settings()
            });
            let request = made.unwrap().request(&grant(), &SignedJwts::default()).unwrap();
            let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
            assert_eq!(header, authorization, "{method:?}");
            assert_eq!(body(&request), format!("grant_type=refresh_token&refresh_token=r%2F1{form}"), "{method:?}");
        }
    }

    #[test]
    fn extra_parameters_and_headers_are_added() {
        let made = client(ClientSettings {
            extra_parameters: Some(vec![("audience".into(), "https://api".into())]),
            extra_headers: Some(vec![("X-Api-Key".into(), "k".into()), ("accept".into(), "*/*".into())]),
            token_endpoint_auth_method: Some(TokenEndpointAuthMethod::None),
            ..settings()
        });
        let request = made.unwrap().request(&grant(), &SignedJwts::default()).unwrap();
        assert_eq!(
            body(&request),
            "grant_type=refresh_token&refresh_token=r%2F1&client_id=my+id&audience=https%3A%2F%2Fapi"
        );
        assert_eq!(request.headers()["x-api-key"], "k");
        assert_eq!(request.headers()[ACCEPT], "*/*");
        assert_eq!(
            request.headers()[ACCEPT_ENCODING],
            "identity",
            "a response in another encoding than gzip could not be read"
        );
        assert_eq!(request.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
    }

    #[test]
    fn a_request_in_json_has_the_same_parameters() {
        let made = client(ClientSettings {
            token_request_format: Some(TokenRequestFormat::Json),
            extra_parameters: Some(vec![("audience".into(), "https://\"api\"".into())]),
            ..settings()
        });
        let request = made.unwrap().request(&grant(), &SignedJwts::default()).unwrap();
        assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(
            body(&request),
            r#"{"grant_type":"refresh_token","refresh_token":"r/1","client_id":"my id","client_secret":"s3cr+t/=& %:x","audience":"https://\"api\""}"#
        );
    }

    #[test]
    fn a_signed_jwt_is_the_grant_or_authenticates_the_client() {
        const ASSERTION: &str = "client_id=my+id&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=c.c";
        let jwt_bearer = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=g.g";
        let jwts = SignedJwts { grant: Some("g.g".into()), client: Some("c.c".into()) };
        for (grant_type, method, secret, authorization, form) in [
            (JWT_BEARER, None, None, None, jwt_bearer.to_owned()),
            (JWT_BEARER, Some("none"), Some("s"), None, jwt_bearer.to_owned()),
            (JWT_BEARER, None, Some("s"), None, format!("{jwt_bearer}&client_id=my+id&client_secret=s")),
            (JWT_BEARER, Some("private_key_jwt"), None, None, format!("{jwt_bearer}&{ASSERTION}")),
            (
                "client_credentials",
                Some("private_key_jwt"),
                None,
                None,
                format!("grant_type=client_credentials&{ASSERTION}"),
            ),
            ("", Some("bearer_jwt"), Some("s"), Some("Bearer c.c"), String::new()),
        ] {
            let settings = ClientSettings {
                client_secret: secret.map(Secret::from),
                token_endpoint_auth_method: method.and_then(TokenEndpointAuthMethod::read),
                signing: JwtSettings { key: Some(KeySetting::Kms("alias/a".to_owned())), ..JwtSettings::default() },
                ..settings()
            };
            let grant = Grant::Other(grant_type.to_owned());
            let request = Client::new(settings, &grant).unwrap().request(&grant, &jwts).unwrap();
            let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
            assert_eq!((header, body(&request)), (authorization, form.as_str()), "{grant_type} {method:?}");
        }
    }

    #[test]
    fn a_request_in_json_without_parameters_is_an_empty_object() {
        let settings = ClientSettings {
            token_request_format: Some(TokenRequestFormat::Json),
            token_endpoint_auth_method: Some(TokenEndpointAuthMethod::BearerJwt),
            signing: JwtSettings { key: Some(KeySetting::Kms("alias/a".to_owned())), ..JwtSettings::default() },
            ..settings()
        };
        let grant = Grant::Other(String::new());
        let request = Client::new(settings, &grant).unwrap().request(&grant, &SignedJwts::default()).unwrap();
        assert_eq!(body(&request), "{}");
    }

    #[test]
    fn an_empty_client_secret_is_sent_in_a_basic_header_only() {
        let with_secret = |method: &str, other: Option<&str>| {
            client(ClientSettings {
                client_id: Some("id".into()),
                client_secret: other.map(Secret::from),
                has_empty_client_secret: true,
                token_endpoint_auth_method: TokenEndpointAuthMethod::read(method),
                ..settings()
            })
        };
        for (method, other, authorization) in [
            ("client_secret_basic", None, "Basic aWQ6"),
            ("client_secret_basic_raw", None, "Basic aWQ6"),
            ("client_secret_basic", Some("s"), "Basic aWQ6cw=="),
        ] {
            let request = with_secret(method, other).unwrap().request(&grant(), &SignedJwts::default()).unwrap();
            assert_eq!(request.headers()[AUTHORIZATION], authorization, "{method}");
        }
        assert!(with_secret("client_secret_post", None).unwrap_err().starts_with("`clientSecret` is neither in it"));
    }

    #[test]
    fn settings_that_cannot_be_sent_are_named_when_the_client_is_made() {
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
                "`clientSecret` is neither in it, nor in its `clientCredentialsSecretId`, nor set as CLIENT_SECRET; a public client, which \
                 has no secret, needs `tokenEndpointAuthMethod` \"none\"",
            ),
            (
                ClientSettings { token_endpoint: None, client_id: None, client_secret: None, ..settings() },
                "`tokenEndpoint` and `clientId` and `clientSecret` are neither in it, nor in its `clientCredentialsSecretId`, nor set \
                 as TOKEN_ENDPOINT and CLIENT_ID and CLIENT_SECRET; a public client, which has no secret, needs \
                 `tokenEndpointAuthMethod` \"none\"",
            ),
            (
                ClientSettings { extra_parameters: extra("grant_type"), ..settings() },
                "its `extraParameters.grant_type` is in the request already; take it out",
            ),
            (
                ClientSettings { extra_headers: extra("Host"), ..settings() },
                "its `extraHeaders.Host` belongs to the request itself; take it out",
            ),
            (
                ClientSettings { extra_headers: extra("Content-Type"), ..settings() },
                "its `extraHeaders.Content-Type` belongs to the request itself; take it out, and for JSON set \
                 tokenRequestFormat to \"json\"",
            ),
            (
                ClientSettings { extra_headers: extra("a b"), ..settings() },
                "its `extraHeaders.a b` is not a header name",
            ),
            (
                ClientSettings { extra_headers: Some(vec![("a".into(), "x\ny".into())]), ..settings() },
                "its `extraHeaders.a` has a character that no header may have",
            ),
        ] {
            assert_eq!(client(settings).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_client_that_signs_needs_a_key_that_fits() {
        let none = "`privateKey` is neither in it, nor in its `clientCredentialsSecretId`, nor set as PRIVATE_KEY; a key in AWS KMS is \
                    named by `signingKmsKeyId`";
        let problem = SecretProblem::Duplicate("privateKey".to_owned(), "signingKmsKeyId".to_owned());
        let signing = |key: Option<&str>| JwtSettings {
            key: key.map(|pem| KeySetting::Private(pem.into())),
            ..JwtSettings::default()
        };
        for (method, signing, expected) in [
            ("private_key_jwt", signing(None), Some(none)),
            ("bearer_jwt", signing(None), Some(none)),
            (
                "private_key_jwt",
                signing(Some("unseen")),
                Some(
                    "its `privateKey` is not a private key in PEM, which begins with \"-----BEGIN PRIVATE KEY-----\", \
                      \"-----BEGIN RSA PRIVATE KEY-----\" or \"-----BEGIN EC PRIVATE KEY-----\"",
                ),
            ),
            (
                "private_key_jwt",
                JwtSettings { problem: Some(problem), ..signing(None) },
                Some("it has both `privateKey` and `signingKmsKeyId`; take one out"),
            ),
            // Nothing is signed: the members may be another program's.
            ("client_secret_post", signing(Some("unseen")), None),
        ] {
            let settings = ClientSettings {
                token_endpoint_auth_method: TokenEndpointAuthMethod::read(method),
                signing,
                ..settings()
            };
            assert_eq!(client(settings).err().as_deref(), expected, "{method}");
        }
    }
}
