//! What is seen of a run on its way, however it ends: for the log and the metrics. Decides nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::token_secret::TokenSecret;

/// What a run has shown so far. Made for one run, filled by it, read when it has ended.
#[derive(Debug, Default)]
pub struct Observation(Mutex<Seen>);

/// What was seen of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Calls to the secret store.
    pub calls: u32,
    /// How long the provider took to answer, tries again included. `None`: it was not asked.
    pub exchange: Option<TimeDelta>,
    /// When the current access token expires, where a token secret was read and says so.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the current refresh token itself ends, likewise.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
}

impl Observation {
    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        *self.lock()
    }

    /// A call to the store is made.
    pub fn call(&self) {
        self.lock().calls += 1;
    }

    /// The provider has answered, or has not.
    pub fn exchange(&self, took: TimeDelta) {
        self.lock().exchange = Some(took);
    }

    /// These tokens are current, as far as the run knows.
    pub fn current(&self, token: &TokenSecret) {
        let mut seen = self.lock();
        seen.expires_at = token.expires_at;
        seen.refresh_token_expires_at = token.refresh_token_expires_at;
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
