//! An OAuth client, made from merged settings and checked. Sends nothing.

use std::{fmt, net::IpAddr, time::Duration};

use reqwest::Url;

use super::{
    assertion::{Key, SignedJwts, Signer},
    grant::Grant,
    jwt::PrivateKey,
};
use crate::{
    error::Advice,
    providers::Profile,
    secret::Secret,
    token_secret::{
        DEFAULT_LIFETIME,
        client_settings::{ClientSettings, TokenEndpointAuthMethod, TokenRequestFormat},
        provider::{NamedProvider, ProfileSettings, RefreshTokenRules},
        signing::{JwtSettings, KeySetting, SigningAlgorithm},
    },
};

/// An OAuth client, complete and checked.
#[derive(Clone)]
pub struct Client {
    /// The token endpoint.
    pub token_endpoint: Url,
    /// The client's id.
    pub client_id: Secret,
    /// The client's secret; `None` for a public client.
    pub client_secret: Option<Secret>,
    /// How the client authenticates.
    pub auth_method: TokenEndpointAuthMethod,
    /// What signs its JWTs, if its requests need any.
    pub signer: Option<Signer>,
    /// The format of the request's body.
    pub request_format: TokenRequestFormat,
    /// Parameters to add to the body.
    pub extra_parameters: Vec<(String, Secret)>,
    /// Headers to add to the request.
    pub extra_headers: Vec<(String, Secret)>,
    /// The lifetime of an access token if the provider names none.
    pub default_lifetime: Duration,
    /// The lifetime of an access token, whatever the provider names.
    pub lifetime: Option<Duration>,
    /// What the provider's profile brings besides; empty for a provider without a name.
    pub profile: Box<ProfileSettings>,
}

impl Client {
    /// Checks the settings and makes a client of them. `grant`: what it is to exchange.
    ///
    /// # Errors
    ///
    /// The problem, with the name of the missing or wrong member and without its value.
    pub fn new(settings: ClientSettings, grant: &Grant) -> Result<Self, String> {
        let auth_method = settings.token_endpoint_auth_method.unwrap_or_else(|| default_auth_method(&settings, grant));
        let needs_secret = auth_method.needs_secret();
        let extra_parameters = settings.extra_parameters.unwrap_or_default();
        let is_signed = signs(grant, &extra_parameters) || auth_method.needs_jwt();
        let is_empty = auth_method.is_basic() && settings.has_empty_client_secret;
        let client_secret = settings.client_secret.or(is_empty.then(|| "".into())).filter(|_| needs_secret);
        let lacks_secret = needs_secret && client_secret.is_none();
        let lacks_key = is_signed && settings.signing.key.is_none() && settings.signing.problem.is_none();
        let profile = match settings.provider {
            Some(NamedProvider::Known(profile)) => {
                // A parameter that cannot be filled, and that no other setting has.
                let names = profile.unfilled.iter();
                let is_missing = |name: &&String| !extra_parameters.iter().any(|(own, _)| own == *name);
                if let (Some(_), Some(problem)) = (names.clone().find(is_missing), &profile.problem) {
                    return Err(problem.to_string());
                }
                profile
            }
            Some(NamedProvider::Unknown(name)) if settings.token_endpoint.is_none() => {
                return Err(unknown_provider(&name));
            }
            Some(NamedProvider::Unknown(_)) | None => Box::default(),
        };
        let (token_endpoint, client_id) = match (settings.token_endpoint, settings.client_id) {
            (Some(token_endpoint), Some(client_id)) if !lacks_secret && !lacks_key => (token_endpoint, client_id),
            (token_endpoint, client_id) => {
                let missing = missing(&[
                    ("tokenEndpoint", "TOKEN_ENDPOINT", token_endpoint.is_none()),
                    ("clientId", "CLIENT_ID", client_id.is_none()),
                    ("clientSecret", "CLIENT_SECRET", lacks_secret),
                    ("privateKey", "PRIVATE_KEY", lacks_key),
                ]);
                let unused_key = if lacks_secret && settings.signing.key.is_some() { UNUSED_KEY } else { "" };
                return Err(format!("{missing}{unused_key}"));
            }
        };
        let token_endpoint =
            endpoint(token_endpoint.expose()).map_err(|problem| format!("its `tokenEndpoint` {problem}"))?;
        let is_used = |member: &&&str| match **member {
            "clientSecret" => needs_secret,
            "privateKey" | "signingKmsKeyId" | "assertionClaims" => is_signed,
            _ => true,
        };
        if let Some(member) = settings.bound_to_other_endpoint.iter().find(is_used) {
            return Err(format!(
                "its `tokenEndpoint` is not the endpoint that its `{member}` belongs to, the one in its \
                 `clientCredentialsSecretId`; take its `tokenEndpoint` out, make the two the same, or give it a `{member}` of \
                 its own"
            ));
        }
        let client = Self {
            token_endpoint,
            client_id,
            client_secret,
            auth_method,
            signer: if is_signed { Some(signer(settings.signing)?) } else { None },
            request_format: settings.token_request_format.unwrap_or_default(),
            extra_parameters,
            extra_headers: settings.extra_headers.unwrap_or_default(),
            default_lifetime: settings.default_lifetime.filter(|life| !life.is_zero()).unwrap_or(DEFAULT_LIFETIME),
            lifetime: settings.lifetime,
            profile,
        };
        // A client whose request cannot be built is an error here, before a run claims anything.
        client.request(grant, &SignedJwts::default())?;
        Ok(client)
    }

    /// What is known of the provider's refresh tokens; nothing at another address than that of the profile.
    #[must_use]
    pub fn refresh_tokens(&self) -> RefreshTokenRules {
        let own = self.profile.settings.token_endpoint.as_ref().and_then(|own| Url::parse(own.expose()).ok());
        if own.is_some_and(|own| own == self.token_endpoint) {
            self.profile.refresh_tokens
        } else {
            RefreshTokenRules::default()
        }
    }

    /// Whether this client signs the grant.
    #[must_use]
    pub fn signs(&self, grant: &Grant) -> bool {
        signs(grant, &self.extra_parameters)
    }

    /// The token endpoint for messages: without its query, which may contain a key.
    #[must_use]
    pub fn endpoint_without_query(&self) -> String {
        let mut url = self.token_endpoint.clone();
        url.set_query(None);
        url.to_string()
    }

    /// What to do when the provider rejects the client.
    #[must_use]
    pub fn advice(&self) -> Advice {
        let signs = self.auth_method.needs_jwt() || self.auth_method == TokenEndpointAuthMethod::None;
        Advice::new(match &self.signer {
            Some(_) if signs => {
                "check clientId, the key, keyId, signingAlgorithm and assertionClaims against the provider's console, and that the \
                 public key is registered there"
            }
            _ if self.encoding_matters() => {
                "check clientId, clientSecret and tokenEndpointAuthMethod against the provider's console; its id or secret has \
                 characters that client_secret_basic encodes and client_secret_basic_raw does not: try the other, or \
                 client_secret_post"
            }
            _ => "check clientId, clientSecret and tokenEndpointAuthMethod against the provider's console",
        })
    }

    /// Whether providers that read a Basic header differently see different credentials: some compare them before the encoding that
    /// RFC 6749 section 2.3.1 demands, and some after it.
    fn encoding_matters(&self) -> bool {
        let is_encoded = |text: &Secret| form_urlencoded::byte_serialize(text.expose().as_bytes()).ne([text.expose()]);
        self.auth_method.is_basic()
            && (is_encoded(&self.client_id) || self.client_secret.as_ref().is_some_and(is_encoded))
    }

    /// The values that this client sends and that no message may contain.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let extras = self.extra_parameters.iter().chain(&self.extra_headers).map(|(_, value)| value);
        self.client_secret.iter().chain(extras)
    }
}

/// What to do about a key that nothing uses.
const UNUSED_KEY: &str = "; there is a key, and nothing uses it: for a client that signs set `tokenEndpointAuthMethod` to \"private_key_jwt\" or \
                          \"bearer_jwt\", for an assertion set `grantType` to \"urn:ietf:params:oauth:grant-type:jwt-bearer\"";

/// How a client authenticates if no setting says it. An assertion that is the grant names the client: then authentication is optional
/// (RFC 7521 section 4.1).
fn default_auth_method(settings: &ClientSettings, grant: &Grant) -> TokenEndpointAuthMethod {
    if settings.client_secret.is_none() && signs(grant, settings.extra_parameters.as_deref().unwrap_or_default()) {
        return TokenEndpointAuthMethod::None;
    }
    TokenEndpointAuthMethod::default()
}

/// Whether the grant is an assertion to sign, and not one that somebody else has signed.
#[must_use]
pub fn signs(grant: &Grant, extra_parameters: &[(String, Secret)]) -> bool {
    grant.is_jwt_bearer() && !extra_parameters.iter().any(|(name, _)| name == "assertion")
}

/// Checks the provider that the settings of one place name.
///
/// # Errors
///
/// A variable of its address cannot be filled, or its name is almost that of a profile, and the place names no endpoint itself: the
/// endpoint of another place must not stand in.
pub fn check_provider(settings: &ClientSettings) -> Result<(), String> {
    match &settings.provider {
        _ if settings.token_endpoint.is_some() => Ok(()),
        Some(NamedProvider::Known(profile)) => {
            profile.problem.as_ref().map_or(Ok(()), |problem| Err(problem.to_string()))
        }
        Some(NamedProvider::Unknown(name)) => similar(name).map_or(Ok(()), |_| Err(unknown_provider(name))),
        None => Ok(()),
    }
}

/// The known provider that is probably meant.
pub(crate) fn similar(name: &str) -> Option<&'static str> {
    let lower = name.trim().to_ascii_lowercase();
    let distance = |known: &str| strsim::osa_distance(known, &lower);
    // Two errors only in a long name; none in a very short one, which is another word then.
    let max_errors = match lower.len() {
        0..4 => 0,
        4..=12 => 1,
        _ => 2,
    };
    Profile::names().min_by_key(|known| distance(known)).filter(|known| distance(known) <= max_errors)
}

/// A provider without a profile, and without a token endpoint.
fn unknown_provider(name: &str) -> String {
    let near = similar(name).map(|near| format!(" (is \"{near}\" meant?)")).unwrap_or_default();
    format!("its `provider` \"{name}\" is not one of those in docs/providers.md{near}, and there is no `tokenEndpoint`")
}

/// Reads the key.
fn signer(settings: JwtSettings) -> Result<Signer, String> {
    if let Some(problem) = settings.problem {
        return Err(problem.to_string());
    }
    let key = match settings.key {
        Some(KeySetting::Private(pem)) => {
            let key = PrivateKey::read(pem, settings.algorithm);
            Key::Private(key.map_err(|problem| format!("its `privateKey` {problem}"))?)
        }
        // The key's kind is known to KMS only.
        Some(KeySetting::Kms(id)) => Key::Kms { id, algorithm: settings.algorithm.unwrap_or(SigningAlgorithm::Rs256) },
        None => return Err(missing(&[("privateKey", "PRIVATE_KEY", true)])),
    };
    Ok(Signer { key, key_id: settings.key_id, claim_changes: settings.assertion_claims, subject: settings.subject })
}

/// What is missing of a client: each member, its setting, and whether it is missing.
fn missing(members: &[(&str, &str, bool)]) -> String {
    let missing = members.iter().filter(|(_, _, is_missing)| *is_missing);
    let names: Vec<_> = missing.clone().map(|(member, _, _)| format!("`{member}`")).collect();
    let settings: Vec<_> = missing.map(|(_, setting, _)| *setting).collect();
    let are = if names.len() == 1 { "is" } else { "are" };
    let hint = if settings.contains(&"CLIENT_SECRET") {
        "; a public client, which has no secret, needs `tokenEndpointAuthMethod` \"none\""
    } else if settings.contains(&"PRIVATE_KEY") {
        "; a key in AWS KMS is named by `signingKmsKeyId`"
    } else {
        ""
    };
    format!(
        "{} {are} neither in it, nor in its `clientCredentialsSecretId`, nor set as {}{hint}",
        names.join(" and "),
        settings.join(" and ")
    )
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.endpoint_without_query())
    }
}

/// Checks settings that may be incomplete. `grant`: what a client with them is to exchange. `before`, `after`: how it authenticates according
/// to the places that come before these settings, and after them.
///
/// # Errors
///
/// The problem, with the name of the wrong member and without its value.
pub fn check(
    settings: &ClientSettings,
    grant: &Grant,
    [before, after]: [Option<TokenEndpointAuthMethod>; 2],
) -> Result<(), String> {
    let method = before.or(settings.token_endpoint_auth_method).or(after);
    let method = method.unwrap_or_else(|| default_auth_method(settings, grant));
    let settings = ClientSettings { token_endpoint_auth_method: Some(method), ..settings.clone() };
    let rest = ClientSettings {
        token_endpoint: Some("https://localhost/".into()),
        client_id: Some("id".into()),
        client_secret: Some("secret".into()),
        signing: JwtSettings { key: Some(KeySetting::Kms("key".to_owned())), ..JwtSettings::default() },
        ..ClientSettings::default()
    };
    Client::new(settings.or(rest), grant).map(drop)
}

/// Reads and checks a token endpoint.
///
/// # Errors
///
/// The problem and the allowed values, as the end of a sentence that starts with the name of the setting.
pub fn endpoint(text: &str) -> Result<Url, String> {
    const ALLOWED: &str = "allowed is https, or http to a loopback address";
    let url = Url::parse(text).map_err(|problem| format!("is not a URL ({problem}); {ALLOWED}"))?;
    let host = url.host_str().unwrap_or_default();
    // Over plain http anyone on the path could read the tokens and the client's secret, and forge the response.
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err(format!("is http to {host}; {ALLOWED}")),
        scheme => return Err(format!("is {scheme}, neither https nor http; {ALLOWED}")),
    }
    if address.is_some_and(is_never_a_provider) {
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

/// Whether no provider can have this address: the addresses of instance and container metadata (link-local, and `fd00:ec2::/32` of
/// AWS), multicast, broadcast and unspecified addresses. Private addresses are allowed: companies run their own providers.
fn is_never_a_provider(address: IpAddr) -> bool {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The settings of a whole client.
    pub(in crate::oauth) fn settings() -> ClientSettings {
        ClientSettings {
            token_endpoint: Some("https://id.example/token?tenant=1".into()),
            client_id: Some("my id".into()),
            client_secret: Some("s3cr+t/=& %:x".into()),
            ..ClientSettings::default()
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
        for (rejected, problem) in [
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
                "is not a URL (relative URL without a base); allowed is https, or http to a loopback address",
            ),
            (
                "http://127.0.0.1.id.example/",
                "is http to 127.0.0.1.id.example; allowed is https, or http to a loopback address",
            ),
            ("http://localhost./", "is http to localhost.; allowed is https, or http to a loopback address"),
            ("https://me:pw@id.example/", "has a user name or password in it; use clientId and clientSecret"),
            ("https://id.example/#x", "has a fragment (#...), which RFC 6749 section 3.2 forbids"),
        ] {
            assert_eq!(endpoint(rejected).unwrap_err(), problem, "{rejected}");
        }
    }

    #[test]
    fn an_address_is_recognized_in_every_notation() {
        for (address, http, https) in [
            ("127.0.0.1", true, true),
            ("2130706433", true, true),
            ("0x7f.1", true, true),
            ("0177.0.0.1", true, true),
            ("[::ffff:127.0.0.1]", true, true),
            ("[::ffff:7f00:1]", true, true),
            // A company's own provider, with a certificate from SSL_CERT_FILE.
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
            for (scheme, allowed) in [("http", http), ("https", https)] {
                let url = format!("{scheme}://{address}/token");
                assert_eq!(endpoint(&url).is_ok(), allowed, "{url}: {:?}", endpoint(&url));
            }
        }
        let problem = "is at 169.254.169.254, an address that no provider has; name the provider's host";
        assert_eq!(endpoint("https://2852039166/").unwrap_err(), problem);
    }

    #[test]
    fn messages_and_debug_contain_the_endpoint_without_its_query() {
        let client = Client::new(settings(), &Grant::RefreshToken("r".into())).unwrap();
        assert_eq!(client.endpoint_without_query(), "https://id.example/token");
        assert_eq!(format!("{client:?}"), "Client(https://id.example/token)");
    }
}
