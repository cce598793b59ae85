//! Builds the claims of the JWTs that a request needs. Signs nothing.
//!
//! A JWT is the grant (RFC 7523 section 2.1), or it authenticates the client: in the form (section 2.2), or in a header as GitHub
//! expects it of its Apps.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    client::Client,
    grant::Grant,
    jwt::{self, PrivateKey},
};
use crate::{
    secret::Secret,
    token_secret::{
        client_settings::TokenEndpointAuthMethod,
        document::{Document, json_string},
        signing::{SigningAlgorithm, Subject},
    },
};

/// How far `iat` is in the past: the provider's clock may be behind
/// (<https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>).
const BACKDATED_BY: TimeDelta = TimeDelta::seconds(60);

/// How long from now a JWT is valid. Each request has its own. Box allows 60 seconds at most
/// (<https://developer.box.com/guides/authentication/jwt/without-sdk/>).
const VALIDITY: TimeDelta = TimeDelta::seconds(50);

/// What signs the JWTs of a client.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The key.
    pub key: Key,
    /// `kid` of the header.
    pub key_id: Option<String>,
    /// JWT claims to add or to replace; one with the value null is left out.
    pub claim_changes: Document,
    /// Whom a JWT is about, unless `claim_changes` says it.
    pub subject: Subject,
}

/// A key that can sign.
#[derive(Clone, Debug)]
pub enum Key {
    /// A private key in this process.
    Private(PrivateKey),
    /// A key in AWS KMS.
    Kms {
        /// Its id, its ARN or its alias.
        id: String,
        /// How it is to sign.
        algorithm: SigningAlgorithm,
    },
}

impl Key {
    /// How it signs.
    #[must_use]
    pub const fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Private(key) => key.algorithm,
            Self::Kms { algorithm, .. } => *algorithm,
        }
    }

    /// The text that names or is the key.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Private(key) => key.pem.expose(),
            Self::Kms { id, .. } => id,
        }
    }
}

/// What a JWT is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is the grant.
    Grant,
    /// It authenticates the client.
    Client,
}

/// The signed JWTs of one request.
#[derive(Clone, Debug, Default)]
pub struct SignedJwts {
    /// The grant.
    pub grant: Option<Secret>,
    /// What authenticates the client.
    pub client: Option<Secret>,
}

impl Signer {
    /// The text to sign for a new JWT: its header and its claims.
    #[must_use]
    pub fn input(&self, purpose: Purpose, client: &Client, grant: &Grant, now: DateTime<Utc>) -> String {
        let claims = self.claims(purpose, client, grant, now, &format!("{:032x}", fastrand::u128(..)));
        jwt::input(self.key.algorithm(), self.key_id.as_deref(), claims.expose())
    }

    /// The claims (RFC 7523 section 3). `id`: different in every JWT.
    fn claims(&self, purpose: Purpose, client: &Client, grant: &Grant, now: DateTime<Utc>, id: &str) -> Secret {
        let mut claims = Document::default();
        claims.set("iss", json_string(client.client_id.expose()));
        // GitHub knows `iss`, `iat` and `exp`.
        let is_bearer = purpose == Purpose::Client && client.auth_method == TokenEndpointAuthMethod::BearerJwt;
        if !is_bearer {
            if self.subject == Subject::Client {
                claims.set("sub", json_string(client.client_id.expose()));
            }
            claims.set("aud", json_string(client.token_endpoint.as_str()));
            claims.set("jti", json_string(id));
        }
        claims.set("iat", (now - BACKDATED_BY).timestamp().to_string());
        claims.set("exp", (now + VALIDITY).timestamp().to_string());
        // If there are two JWTs, `assertionClaims` are those of the grant.
        if purpose == Purpose::Grant || !grant.is_jwt_bearer() {
            for (name, value) in self.claim_changes.members() {
                match value {
                    "null" => claims.remove(name),
                    value => claims.set(name, value.to_owned()),
                }
            }
        }
        claims.to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oauth::client::tests::settings,
        token_secret::{client_settings::ClientSettings, signing::JWT_BEARER},
    };

    fn signer(claims: &str) -> Signer {
        let key = Key::Kms { id: "key".to_owned(), algorithm: SigningAlgorithm::Es256 };
        Signer { key, key_id: None, claim_changes: Document::parse(claims).unwrap(), subject: Subject::Client }
    }

    fn client(method: &str) -> Client {
        let mut settings = ClientSettings {
            client_id: Some("id".into()),
            token_endpoint: Some("https://id.example/token".into()),
            token_endpoint_auth_method: TokenEndpointAuthMethod::read(method),
            ..settings()
        };
        settings.signing.key = Some(crate::token_secret::signing::KeySetting::Kms("key".to_owned()));
        Client::new(settings, &Grant::Other(JWT_BEARER.to_owned())).unwrap()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap()
    }

    #[test]
    fn each_kind_of_jwt_has_its_claims() {
        const TIMES: &str = r#""iat":1767225540,"exp":1767225650"#;
        let [jwt_bearer, refresh_token] = [Grant::Other(JWT_BEARER.to_owned()), Grant::RefreshToken("r".into())];
        let all = format!(r#"{{"iss":"id","sub":"id","aud":"https://id.example/token","jti":"7",{TIMES}}}"#);
        for (purpose, method, grant, changes, expected) in [
            (Purpose::Grant, "none", &jwt_bearer, "{}", all.clone()),
            (Purpose::Client, "private_key_jwt", &refresh_token, "{}", all.clone()),
            (Purpose::Client, "bearer_jwt", &refresh_token, "{}", format!(r#"{{"iss":"id",{TIMES}}}"#)),
            (
                Purpose::Client,
                "bearer_jwt",
                &refresh_token,
                r#"{"iss":4711,"iat":null,"aud":"github"}"#,
                r#"{"iss":4711,"exp":1767225650,"aud":"github"}"#.to_owned(),
            ),
            (
                Purpose::Grant,
                "private_key_jwt",
                &jwt_bearer,
                r#"{"sub":null,"scope":"a b","aud":"https://id.example","exp":9}"#,
                r#"{"iss":"id","aud":"https://id.example","jti":"7","iat":1767225540,"exp":9,"scope":"a b"}"#
                    .to_owned(),
            ),
            // The changes are those of the grant.
            (Purpose::Client, "private_key_jwt", &jwt_bearer, r#"{"sub":null}"#, all),
        ] {
            let claims = signer(changes).claims(purpose, &client(method), grant, now(), "7");
            assert_eq!(claims.expose(), expected, "{purpose:?} {method} {changes}");
        }
    }

    #[test]
    fn no_two_jwts_are_the_same() {
        let input = || signer("{}").input(Purpose::Grant, &client("none"), &Grant::Other(JWT_BEARER.to_owned()), now());
        assert_ne!(input(), input());
    }
}
