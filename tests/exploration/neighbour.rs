//! A second secret in the world of a sweep. Its store and its provider respond at once. Does not know the token secret.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use token_refresher::{
    oauth::{
        exchanger::Exchange,
        response::{self, TokenResponse},
    },
    store::{Version, versions::Versions},
};

use crate::{
    plan::{Neighbour, Responses},
    promises::{BrokenPromise, ensure},
    provider::{Behaviour, Provider},
    replies::{denied_reply, read_reply},
    run::{Reply, Step},
    world::tokens,
};

pub const NAME: &str = "crm/prod/other";
pub const ENDPOINT: &str = "https://other.example/token";

pub type SharedNeighbour = Arc<Mutex<OtherSecret>>;

/// The secret, and the provider of its tokens.
#[derive(Debug)]
pub struct OtherSecret {
    kind: Neighbour,
    versions: Versions,
    provider: Provider,
    /// How often its refresh token was sent.
    pub exchanges: usize,
}

impl OtherSecret {
    pub fn new(kind: Neighbour, now: DateTime<Utc>) -> Self {
        let mut provider = Provider::new(Behaviour::ReuseEndsGrant, Responses::Understood, false);
        let first = provider.consent();
        let pair = &provider.pairs[first];
        let mut document = json!({
            "accessToken": pair.access,
            "refreshToken": pair.refresh,
            "expiresAt": (now - TimeDelta::hours(3)).timestamp_millis(),
            "tokenEndpoint": ENDPOINT,
            "clientId": "client",
            "clientSecret": "the client's secret",
        });
        match kind {
            Neighbour::Refused => document["refreshToken"] = json!("never issued"),
            Neighbour::Invalid => document["expiresAt"] = json!([]),
            Neighbour::None | Neighbour::Due | Neighbour::Denied => {}
        }
        let id = "00000000-0000-4000-8000-0000000000ff".into();
        let created = now - TimeDelta::hours(3);
        let versions = Versions::create("arn:aws:other", &id, &document.to_string().into(), created).expect("room");
        Self { kind, versions, provider, exchanges: 0 }
    }

    pub fn exists(&self) -> bool {
        self.kind != Neighbour::None
    }

    /// What a batch returns for it.
    pub fn current(&self) -> Option<Version> {
        if self.kind == Neighbour::Denied { None } else { current_of(&self.versions) }
    }

    pub fn reply(&mut self, step: &Step, now: DateTime<Utc>) -> Reply {
        if self.kind == Neighbour::Denied {
            return denied_reply(step);
        }
        match step {
            Step::Put { id, label, body } => {
                Reply::Done(self.versions.put(id, body, Some(&[label.as_str().to_owned()]), now))
            }
            Step::Move { label, from, to } => Reply::Done(self.versions.move_label(label.as_str(), from.as_ref(), to)),
            step => read_reply(&self.versions, step),
        }
    }

    pub fn exchange(&mut self, exchange: &Exchange, now: DateTime<Utc>) -> TokenResponse {
        self.exchanges += 1;
        let (status, body, _) = self.provider.exchange(&exchange.grant.identity());
        response::read(status, None, body.as_bytes(), now, &[])
    }

    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// A neighbour that is due was refreshed, once, whatever happened to the other secret.
    pub fn check(&self, swept: bool) -> Result<(), BrokenPromise> {
        match self.kind {
            Neighbour::Due => {
                let text = self.versions.get(None, None).expect("a current version").body.expose().to_owned();
                let (refresh, access) = tokens(&text).expect("tokens");
                let pair = self.provider.find(&refresh, &access).expect("tokens that were issued");
                ensure(self.provider.is_alive(pair), || "the other secret holds dead tokens".to_owned())?;
                ensure(!swept || pair > 0, || "the other secret was not refreshed".to_owned())
            }
            Neighbour::Refused => ensure(self.exchanges <= 1, || "a recorded refusal is ignored".to_owned()),
            Neighbour::None | Neighbour::Invalid | Neighbour::Denied => Ok(()),
        }
    }
}

/// The error of a neighbour that cannot be refreshed.
pub fn expected_error(kind: Neighbour) -> Option<&'static str> {
    match kind {
        Neighbour::None | Neighbour::Due => None,
        Neighbour::Invalid => Some("InvalidSecret"),
        Neighbour::Denied => Some("AccessDenied"),
        Neighbour::Refused => Some("ReauthorizationRequired"),
    }
}

/// What a batch or a search returns for a secret.
pub fn current_of(versions: &Versions) -> Option<Version> {
    versions.get(None, None).ok()
}
