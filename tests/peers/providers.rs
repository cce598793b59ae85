//! The real authorization servers: logging in, being their client, and what they saw.

use base64::{Engine, engine::general_purpose::STANDARD};
use form_urlencoded::Serializer;
use serde_json::{Value, json};
use token_refresher::http_client::HttpClients;

use super::peer;

/// What both kinds of server have as a confidential client's secret: form encoding changes six of its characters.
const CLIENT_SECRET: &str = "unseen-s3cr+t/=& %:x";

/// One client of one authorization server.
pub struct Provider {
    http: reqwest::Client,
    pub token_endpoint: String,
    pub client_id: &'static str,
    pub client_secret: Option<&'static str>,
    pub auth_method: &'static str,
    /// Where a POST gives tokens as a person's login does.
    login: String,
    /// Where it tells what its token endpoint was asked.
    exchanges: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    fn of(answer: &Value) -> Self {
        let member = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        Self { access: member("access_token"), refresh: member("refresh_token") }
    }
}

impl Provider {
    /// oidc-provider: refresh tokens rotate, and one that comes twice costs the whole family.
    pub fn oidc(client_id: &'static str) -> Self {
        Self::oidc_at("PEER_OIDC_ISSUER", "PEER_OIDC_CONTROL", client_id)
    }

    /// oidc-provider, answering the refresh token it was given.
    pub fn oidc_echo(client_id: &'static str) -> Self {
        Self::oidc_at("PEER_OIDC_ECHO_ISSUER", "PEER_OIDC_ECHO_CONTROL", client_id)
    }

    fn oidc_at(issuer: &str, control: &str, client_id: &'static str) -> Self {
        let (client_secret, auth_method) = match client_id {
            "basic" => (Some(CLIENT_SECRET), "client_secret_basic"),
            "post" => (Some("unseen-post-secret"), "client_secret_post"),
            "public" => (None, "none"),
            _ => panic!("no client {client_id}"),
        };
        Self {
            http: HttpClients::new(|_| None).expect("HTTP clients").provider,
            token_endpoint: peer(issuer) + "/token",
            client_id,
            client_secret,
            auth_method,
            login: format!("{}/login/{client_id}", peer(control)),
            exchanges: Some(peer(control) + "/exchanges"),
        }
    }

    /// Django OAuth Toolkit: for 60 s a spent refresh token is answered with the pair that replaced it.
    pub fn toolkit_with_grace() -> Self {
        Self::toolkit_at("PEER_DOT_GRACE_URL")
    }

    /// Django OAuth Toolkit: a spent refresh token is refused, and that is all.
    pub fn toolkit_without_reuse_detection() -> Self {
        Self::toolkit_at("PEER_DOT_NO_REUSE_DETECTION_URL")
    }

    fn toolkit_at(url: &str) -> Self {
        Self {
            http: HttpClients::new(|_| None).expect("HTTP clients").provider,
            token_endpoint: peer(url) + "/o/token/",
            client_id: "toolkit",
            client_secret: Some(CLIENT_SECRET),
            auth_method: "client_secret_basic",
            login: peer(url) + "/seed",
            exchanges: None,
        }
    }

    /// A person logs in and consents.
    pub async fn log_in(&self) -> Tokens {
        let answer = self.http.post(&self.login).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "the login failed");
        Tokens::of(&serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON"))
    }

    /// Spends a refresh token as any client of the provider does: the new tokens, or the `error` of the refusal.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, String> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", refresh_token);
        let mut request = self.http.post(&self.token_endpoint);
        if self.auth_method == "client_secret_basic" {
            let encode = |text| form_urlencoded::byte_serialize(text).collect::<String>();
            let secret = self.client_secret.unwrap_or_default();
            let credentials = [self.client_id, secret].map(|text| encode(text.as_bytes())).join(":");
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(credentials)));
        } else {
            form.append_pair("client_id", self.client_id);
            self.client_secret.map(|secret| form.append_pair("client_secret", secret));
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.finish());
        let answer = request.send().await.expect("an answer");
        let is_success = answer.status().is_success();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
        if is_success { Ok(Tokens::of(&answer)) } else { Err(answer["error"].as_str().unwrap_or_default().to_owned()) }
    }

    /// How often the token endpoint was asked with this refresh token, by whomever.
    pub async fn times_presented(&self, refresh_token: &str) -> usize {
        let exchanges = self.exchanges.as_ref().expect("a provider that counts");
        let query = Serializer::new(String::new()).append_pair("refresh_token", refresh_token).finish();
        let answer = self.http.get(format!("{exchanges}?{query}")).send().await.expect("an answer");
        answer.text().await.expect("a body").parse().expect("a number")
    }

    /// The token secret of these tokens, long due.
    pub fn secret(&self, tokens: &Tokens) -> Value {
        let mut secret = json!({
            "accessToken": tokens.access,
            "refreshToken": tokens.refresh,
            "expiresAt": 1_700_000_000_000_u64,
            "tokenEndpoint": self.token_endpoint,
            "clientId": self.client_id,
            "tokenEndpointAuthMethod": self.auth_method,
        });
        if let Some(client_secret) = self.client_secret {
            secret["clientSecret"] = client_secret.into();
        }
        secret
    }
}
