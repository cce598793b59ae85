//! The tokens of the benchmark: the names of their secrets, their texts, and a provider with single-use refresh tokens.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::json;
use token_refresher::{
    clock::Clock,
    oauth::{
        exchanger::{Exchange, Exchanger},
        grant::Grant,
        response,
    },
    secret::Secret,
};

pub const PREFIX: &str = "load/";

/// How long a token lives: an hour.
pub const LIFETIME_SECONDS: u32 = 3600;

const ENDPOINTS: usize = 20;
const LATENCY: Duration = Duration::from_millis(250);

pub fn name(index: usize) -> String {
    format!("{PREFIX}{index:05}")
}

pub fn index_of(name: &str) -> Option<usize> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// A refresh token of the secret `index`, the one after `number` others.
fn refresh_token(index: usize, number: u32) -> String {
    format!("refresh-{index}-{number}-{:a<64}", "")
}

/// An access token that came with that refresh token.
pub fn access_token(index: usize, number: u32) -> String {
    format!("access-{index}-{number}-{:a<64}", "")
}

/// How many refresh tokens came before this one.
pub fn number_of(refresh_token: &str) -> u32 {
    parts_of(refresh_token).1
}

fn parts_of(refresh_token: &str) -> (usize, u32) {
    let mut parts = refresh_token.split('-').skip(1);
    let mut next = || parts.next().expect("a token of this provider");
    (next().parse().expect("a number"), next().parse().expect("a number"))
}

/// A token secret as a person puts it after the consent.
pub fn first(index: usize, expires_at: DateTime<Utc>) -> Secret {
    let endpoint = index % ENDPOINTS;
    let document = json!({
        "accessToken": access_token(index, 0),
        "refreshToken": refresh_token(index, 0),
        "expiresAt": expires_at.timestamp_millis(),
        "tokenEndpoint": format!("https://id{endpoint}.example/oauth/token"),
        "clientId": format!("client{endpoint}"),
        "clientSecret": format!("secret{endpoint}"),
    });
    document.to_string().into()
}

/// The provider. A clone is the same.
#[derive(Clone)]
pub struct Provider(Arc<Mutex<State>>);

struct State {
    /// For each secret, the number of the only valid refresh token.
    valid: Vec<u32>,
    exchanges: u64,
    double_exchanges: u64,
}

impl Provider {
    pub fn new(secrets: usize) -> Self {
        Self(Arc::new(Mutex::new(State { valid: vec![0; secrets], exchanges: 0, double_exchanges: 0 })))
    }

    pub fn exchanges(&self) -> u64 {
        self.lock().exchanges
    }

    pub fn double_exchanges(&self) -> u64 {
        self.lock().double_exchanges
    }

    /// For each secret, the number of the only valid refresh token.
    pub fn valid(&self) -> Vec<u32> {
        self.lock().valid.clone()
    }

    pub fn exchanger(&self, clock: Clock) -> Exchanger {
        let provider = self.clone();
        Exchanger::from_fn(move |exchange| {
            let (provider, clock) = (provider.clone(), clock.clone());
            async move {
                clock.sleep(LATENCY / 2).await;
                let (status, body) = provider.lock().exchange(&exchange);
                clock.sleep(LATENCY / 2).await;
                response::read(status, None, body.as_bytes(), clock.now(), &[])
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no exchange panics")
    }
}

impl State {
    fn exchange(&mut self, exchange: &Exchange) -> (u16, String) {
        let Grant::RefreshToken(sent) = &exchange.grant;
        let (index, number) = parts_of(sent.expose());
        self.exchanges += 1;
        if number != self.valid[index] {
            self.double_exchanges += 1;
            return (400, json!({"error": "invalid_grant"}).to_string());
        }
        self.valid[index] += 1;
        let issued = json!({
            "access_token": access_token(index, number + 1),
            "refresh_token": refresh_token(index, number + 1),
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
        });
        (200, issued.to_string())
    }
}
