//! What the log and the metrics need to know of a run, however it ends. Decides nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::ids::ClientDigest;
use crate::token_secret::TokenSecret;

/// Collects what is observed during one run. Filled by the run, read when it has ended.
#[derive(Debug, Default)]
pub struct Observation(Mutex<Observed>);

/// What was observed of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Calls to the secret store.
    pub calls: u32,
    /// How long the exchange took, retries included. `None`: nothing was exchanged.
    pub exchange: Option<TimeDelta>,
    /// When the current access token expires, if a token secret was read that contains it.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the current refresh token expires, likewise.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
    /// When the client's secret expires, if a person has written that and the run has read it.
    pub client_secret_expires_at: Option<DateTime<Utc>>,
    /// The token endpoint without its query, and the client, if the run has read them.
    pub client: Option<(String, ClientDigest)>,
    /// Whether this run recorded a refusal: later runs need not ask the provider again.
    pub has_recorded_refusal: bool,
    /// When the grant ends, if that is soon and no run before this one could know it.
    pub grant_ends_at: Option<DateTime<Utc>>,
    /// What a person should correct in the token secret, in sentences.
    pub warnings: Vec<String>,
}

impl Observation {
    /// What was observed so far.
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.lock().clone()
    }

    /// Counts a call to the store.
    pub fn call(&self) {
        self.lock().calls += 1;
    }

    /// The exchange has ended, with or without a response.
    pub fn exchange(&self, took: TimeDelta) {
        self.lock().exchange = Some(took);
    }

    /// The client's secret expires then.
    pub fn client_secret_expires_at(&self, time: Option<DateTime<Utc>>) {
        let mut observed = self.lock();
        observed.client_secret_expires_at = time.or(observed.client_secret_expires_at);
    }

    /// The run uses this client.
    pub fn client(&self, endpoint: String, client: ClientDigest) {
        self.lock().client = Some((endpoint, client));
    }

    /// The refusal is recorded.
    pub fn recorded_refusal(&self) {
        self.lock().has_recorded_refusal = true;
    }

    /// The grant ends then.
    pub fn grant_ends_at(&self, time: Option<DateTime<Utc>>) {
        self.lock().grant_ends_at = time;
    }

    /// These tokens are current, as far as the run knows. What a person should correct in the tokens before them still counts.
    pub fn current(&self, token: &TokenSecret) {
        let mut observed = self.lock();
        observed.expires_at = token.expires_at;
        observed.refresh_token_expires_at = token.refresh_token_expires_at;
        observed.client_secret_expires_at = token.client.client_secret_expires_at.or(observed.client_secret_expires_at);
        for warning in token.warnings() {
            if !observed.warnings.contains(&warning) {
                observed.warnings.push(warning);
            }
        }
        observed.warnings.truncate(TokenSecret::MAX_WARNINGS);
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
