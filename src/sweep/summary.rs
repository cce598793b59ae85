//! The counts and lists of a sweep, in bounded memory. No IO.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::{
    error::ErrorType,
    protocol::{observation::Observed, outcome::Outcome},
};

/// How many failures a report has at most.
const MAX_FAILURES: usize = 20;

/// How many tokens the report of a dry run has at most.
const MAX_TOKENS: usize = 500;

/// How many secrets of a sweep ended in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub secrets: usize,
    /// Not due.
    pub skipped: usize,
    /// Refreshed; in a dry run, those that would be.
    pub refreshed: usize,
    /// Recovered; in a dry run, those that would be.
    pub recovered: usize,
    /// Another run holds the claim.
    pub in_progress: usize,
    /// Earlier attempts failed.
    pub backing_off: usize,
    /// Somebody put other tokens into the secret.
    pub superseded: usize,
    /// Not token secrets.
    pub ignored: usize,
    /// Failed.
    pub failed: usize,
    /// Due, and not begun.
    pub not_reached: usize,
}

/// One failure, as the report lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The secret, or the prefix that could not be searched.
    pub secret_id: String,
    /// The type of the error.
    pub error_type: ErrorType,
    /// Its text.
    pub message: String,
}

/// One token, as the report of a dry run lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenState {
    /// The secret.
    pub secret_id: String,
    /// What a run would do, or "failed".
    pub outcome: &'static str,
    /// When the access token expires, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Seconds from now until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// Why it would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'static str>,
}

impl TokenState {
    /// A token whose run would end so; without an outcome, it would fail.
    #[must_use]
    pub fn new(
        secret_id: &str,
        outcome: Option<Outcome>,
        expires_at: Option<DateTime<Utc>>,
        error_type: Option<ErrorType>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            secret_id: secret_id.to_owned(),
            outcome: outcome.map_or("failed", Outcome::as_str),
            expires_at: expires_at.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            expires_in_seconds: expires_at.map(|time| (time - now).num_seconds()),
            error_type: error_type.map(ErrorType::as_str),
        }
    }

    /// Failed ones first, then due ones, then by expiry.
    fn key(&self) -> (u8, Option<i64>, &str) {
        let rank = if self.error_type.is_some() {
            0
        } else if self.outcome == Outcome::Skipped.as_str() {
            2
        } else {
            1
        };
        (rank, self.expires_in_seconds, &self.secret_id)
    }
}

/// What expires when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiries {
    /// The access token.
    pub expires_at: Option<DateTime<Utc>>,
    /// The refresh token.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
    /// The client's secret.
    pub client_secret_expires_at: Option<DateTime<Utc>>,
}

impl Expiries {
    /// What was observed of one token.
    #[must_use]
    pub const fn of(observed: &Observed) -> Self {
        Self {
            expires_at: observed.expires_at,
            refresh_token_expires_at: observed.refresh_token_expires_at,
            client_secret_expires_at: observed.client_secret_expires_at,
        }
    }
}

/// The result of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many secrets ended in each way.
    pub counts: Counts,
    /// The earliest expiries.
    pub earliest: Expiries,
    /// How many access tokens have expired.
    pub expired: usize,
    /// Calls to the store.
    pub calls: u64,
    /// Some of the failures.
    pub failures: Vec<Failure>,
    /// The tokens, if this was a dry run: those that are due or fail come first.
    pub tokens: Vec<TokenState>,
    /// What a person should correct, in sentences.
    pub warnings: Vec<String>,
}

impl Summary {
    /// A secret's run, or the look at it, ended with this outcome.
    pub fn add_outcome(&mut self, outcome: Outcome) {
        self.counts.secrets += 1;
        let count = match outcome {
            Outcome::Skipped => &mut self.counts.skipped,
            Outcome::Refreshed | Outcome::WouldRefresh => &mut self.counts.refreshed,
            Outcome::Recovered | Outcome::WouldRecover => &mut self.counts.recovered,
            Outcome::InProgress => &mut self.counts.in_progress,
            Outcome::BackingOff => &mut self.counts.backing_off,
            Outcome::Superseded => &mut self.counts.superseded,
        };
        *count += 1;
    }

    /// A secret failed.
    pub fn add_failure(&mut self, failure: Failure) {
        self.counts.secrets += 1;
        self.counts.failed += 1;
        self.list_failure(failure);
    }

    /// Lists a failure, `TokenNotStored` first.
    fn list_failure(&mut self, failure: Failure) {
        if failure.error_type == ErrorType::TokenNotStored {
            let first_other = self.failures.iter().position(|other| other.error_type != ErrorType::TokenNotStored);
            self.failures.insert(first_other.unwrap_or(self.failures.len()), failure);
            self.failures.truncate(MAX_FAILURES);
        } else if self.failures.len() < MAX_FAILURES {
            self.failures.push(failure);
        }
    }

    /// A secret that is not a token secret.
    pub fn add_ignored(&mut self) {
        self.counts.secrets += 1;
        self.counts.ignored += 1;
    }

    /// A token whose run was not started.
    pub fn add_not_reached(&mut self, expiries: &Expiries, now: DateTime<Utc>) {
        self.counts.secrets += 1;
        self.counts.not_reached += 1;
        self.observe_expiries(expiries, now);
    }

    /// What is known of a token at the end.
    pub fn observe(&mut self, observed: &Observed, now: DateTime<Utc>) {
        self.calls += u64::from(observed.calls);
        self.observe_expiries(&Expiries::of(observed), now);
    }

    fn observe_expiries(&mut self, expiries: &Expiries, now: DateTime<Utc>) {
        let earliest = &mut self.earliest;
        keep_earlier(&mut earliest.expires_at, expiries.expires_at);
        keep_earlier(&mut earliest.refresh_token_expires_at, expiries.refresh_token_expires_at);
        keep_earlier(&mut earliest.client_secret_expires_at, expiries.client_secret_expires_at);
        self.expired += usize::from(expiries.expires_at.is_some_and(|expires_at| expires_at <= now));
    }

    /// A token of a dry run.
    pub fn list_token(&mut self, token: TokenState) {
        self.tokens.push(token);
        if self.tokens.len() >= 2 * MAX_TOKENS {
            self.keep_first_tokens();
        }
    }

    /// Sorts the tokens (failed and due first), and keeps 500.
    pub fn keep_first_tokens(&mut self) {
        self.tokens.sort_by(|a, b| a.key().cmp(&b.key()));
        self.tokens.truncate(MAX_TOKENS);
    }
}

fn keep_earlier(earliest: &mut Option<DateTime<Utc>>, time: Option<DateTime<Utc>>) {
    *earliest = match (*earliest, time) {
        (Some(earliest), Some(time)) => Some(earliest.min(time)),
        (earliest, time) => earliest.or(time),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    #[test]
    fn a_token_that_is_not_stored_is_the_first_failure_and_twenty_are_listed() {
        let mut summary = Summary::default();
        let failure = |n: usize, error_type| Failure { secret_id: format!("{n}"), error_type, message: String::new() };
        for n in 0..30 {
            summary.add_failure(failure(n, ErrorType::InvalidSecret));
        }
        summary.add_failure(failure(30, ErrorType::TokenNotStored));
        summary.add_failure(failure(31, ErrorType::TokenNotStored));
        let listed: Vec<&str> = summary.failures.iter().map(|failure| failure.secret_id.as_str()).collect();
        assert_eq!(listed[..4], ["30", "31", "0", "1"]);
        assert_eq!((listed.len(), summary.counts.failed), (MAX_FAILURES, 32));
    }

    #[test]
    fn due_and_failing_tokens_are_listed_first_and_500_at_most() {
        let mut summary = Summary::default();
        let token = |n: i64, outcome: Option<Outcome>| {
            let error_type = outcome.is_none().then_some(ErrorType::InvalidSecret);
            TokenState::new(&format!("{n:04}"), outcome, Some(at(n)), error_type, at(0))
        };
        for n in 0..2000 {
            summary.list_token(token(n, Some(Outcome::Skipped)));
        }
        summary.list_token(token(3000, Some(Outcome::WouldRefresh)));
        summary.list_token(token(4000, None));
        summary.keep_first_tokens();
        let listed: Vec<&str> = summary.tokens.iter().map(|token| token.secret_id.as_str()).collect();
        assert_eq!(listed[..4], ["4000", "3000", "0000", "0001"]);
        assert_eq!(listed.len(), MAX_TOKENS);
    }

    #[test]
    fn the_earliest_expiries_are_kept_and_expired_tokens_counted() {
        let mut summary = Summary::default();
        for (expires_in, refresh_token) in [(Some(5), None), (Some(-5), Some(90)), (None, Some(80)), (Some(0), None)] {
            let observed = Observed {
                expires_at: expires_in.map(at),
                refresh_token_expires_at: refresh_token.map(at),
                ..Observed::default()
            };
            summary.observe(&observed, at(0));
        }
        let not_reached =
            Expiries { expires_at: Some(at(-9)), client_secret_expires_at: Some(at(7)), ..Expiries::default() };
        summary.add_not_reached(&not_reached, at(0));
        let earliest = Expiries { refresh_token_expires_at: Some(at(80)), ..not_reached };
        assert_eq!((summary.earliest, summary.expired), (earliest, 3));
    }
}
