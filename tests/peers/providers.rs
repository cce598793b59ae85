//! The real authorization servers: login, the client's requests, and the number of requests that they received.

use base64::{Engine, engine::general_purpose::STANDARD};
use form_urlencoded::Serializer;
use serde_json::{Value, json};
use token_refresher::http_client::HttpClients;

use super::peer;

/// The secret of the confidential client, at both kinds of server. Form encoding changes six of its characters.
const CLIENT_SECRET: &str = "unseen-s3cr+t/=& %:x";

/// One client of one authorization server.
pub struct Provider {
    http: reqwest::Client,
    pub token_endpoint: String,
    pub client_id: &'static str,
    pub client_secret: Option<&'static str>,
    pub auth_method: &'static str,
    /// The URL that returns tokens for a POST, like a login of a person.
    login: String,
    /// The URL that returns the number of requests to the token endpoint.
    exchanges: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    fn of(response: &Value) -> Self {
        let member = |name: &str| response[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        Self { access: member("access_token"), refresh: member("refresh_token") }
    }
}

impl Provider {
    /// oidc-provider: refresh tokens rotate, and a second use revokes all tokens of the grant.
    pub fn oidc(client_id: &'static str) -> Self {
        Self::oidc_at("PEER_OIDC_ISSUER", "PEER_OIDC_CONTROL", client_id)
    }

    /// oidc-provider that returns the same refresh token.
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

    /// Django OAuth Toolkit: for 60 s it returns the new tokens again for a spent refresh token.
    pub fn toolkit_with_grace() -> Self {
        Self::toolkit_at("PEER_DOT_GRACE_URL")
    }

    /// Django OAuth Toolkit: it rejects a spent refresh token, and revokes nothing.
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

    /// The client of this server that gets tokens for itself.
    pub fn machine(self) -> Self {
        Self { client_id: "machine", client_secret: Some(CLIENT_SECRET), auth_method: "client_secret_basic", ..self }
    }

    /// A token secret without any token, for the client itself.
    pub fn secret_of_client(&self, scope: &str) -> Value {
        json!({
            "grantType": "client_credentials",
            "extraParameters": {"scope": scope},
            "tokenEndpoint": self.token_endpoint,
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
            "tokenEndpointAuthMethod": self.auth_method,
        })
    }

    /// A token secret without any token, for a client that signs with this algorithm. `grant`: the members of its grant.
    pub fn secret_of_signer(&self, algorithm: &str, private_key: &str, grant: &Value) -> Value {
        let mut secret = json!({
            "tokenEndpoint": self.token_endpoint,
            "clientId": format!("signer-{algorithm}"),
            "tokenEndpointAuthMethod": "private_key_jwt",
            "privateKey": private_key,
            "keyId": "key-1",
            "signingAlgorithm": algorithm,
        });
        for (name, value) in grant.as_object().expect("an object") {
            secret[name] = value.clone();
        }
        secret
    }

    /// A person logs in and consents.
    pub async fn log_in(&self) -> Tokens {
        let response = self.http.post(&self.login).send().await.expect("a response");
        assert_eq!(response.status(), 200, "the login failed");
        Tokens::of(&serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON"))
    }

    /// Exchanges a refresh token like any client of the provider. Returns the new tokens, or the `error` of the response.
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
        let response = request.send().await.expect("a response");
        let is_success = response.status().is_success();
        let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        if is_success { Ok(Tokens::of(&body)) } else { Err(body["error"].as_str().unwrap_or_default().to_owned()) }
    }

    /// How many requests with this refresh token the token endpoint has received, from any client.
    pub async fn times_presented(&self, refresh_token: &str) -> usize {
        let exchanges = self.exchanges.as_ref().expect("a provider that counts");
        let query = Serializer::new(String::new()).append_pair("refresh_token", refresh_token).finish();
        let response = self.http.get(format!("{exchanges}?{query}")).send().await.expect("a response");
        response.text().await.expect("a body").parse().expect("a number")
    }

    /// A token secret with these tokens, long due.
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
