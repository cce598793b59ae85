//! The sweep: one invocation for many secrets. Does the IO; [`queue`] decides which token is next.
//!
//! Two things happen at once, in one task:
//!
//! - the scan: reads the secrets 20 at a time. Tokens that are not due need nothing more;
//! - the runs: each token that is due gets an ordinary run of the protocol, with a deadline of its own. Tokens that the last sweep did
//!   not start run at once. The others wait for the end of the scan, so that the token that expires first runs first.
//!
//! A sweep adds no step to the protocol. If it dies, each secret is as its run left it. Two sweeps at once are two runs at once for
//! each secret. What a process remembers from one sweep to the next saves time; nothing depends on it.

use std::{
    collections::{BinaryHeap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::sync::Notify;

use crate::{
    crash,
    error::ErrorType,
    oauth::response::RefusalKind,
    protocol::{
        Error, Mode, Refresher, Request, Shared, decision,
        error::History,
        observation::{Observation, Observed},
        outcome::{Completed, Outcome},
    },
    store::{SecretStore, VersionId, paced::SharedPace},
};

pub mod queue;
mod scan;
pub mod summary;
pub mod targets;

use queue::{ByTurn, ClientResult, Queue, QueuedToken};
use summary::{Expiries, Failure, Summary, TokenState};
use targets::Many;

/// A sweep ends before the next tick of a schedule of five minutes, also if the function's timeout is longer.
pub(crate) const MAX_SWEEP: TimeDelta = TimeDelta::seconds(295);

/// Time at the end of an invocation for the log, the last events and the response.
const TIME_TO_RESPOND: TimeDelta = TimeDelta::milliseconds(500);

/// The runs wait so long for the end of the scan, and a third of the sweep at most.
const MAX_WAIT_FOR_SCAN: TimeDelta = TimeDelta::seconds(20);

/// The deadline of one secret's run: after a crash, its lease ends about then.
const MAX_RUN: TimeDelta = TimeDelta::seconds(60);

/// The minimum time left to start a run, besides the time that the writes of the other runs need.
const MIN_TO_START: TimeDelta = TimeDelta::seconds(5);

/// The writes of a refresh: the claim, the new tokens, and AWSCURRENT.
const WRITES_OF_RUN: f64 = 3.0;

/// The most runs at once.
const MAX_RUNS: usize = 64;

/// A run that lasts longer waits for its provider, and needs no writes meanwhile: others may start, up to this many.
const SLOW_RUN: TimeDelta = TimeDelta::seconds(10);
const MAX_SLOW_RUNS: usize = 256;

/// Runs at once for each write per second.
const RUNS_PER_WRITE: f64 = 1.28;

/// The most due tokens in memory. Of more, those that expire last are not reached.
const MAX_DUE: usize = 10_000;

/// The most checked versions that a process remembers.
const MAX_CHECKED: usize = 100_000;

/// A check holds until the end of the hour of the clock in which it was made.
const CHECK_SECONDS: i64 = 3600;

/// Runs sweeps. A process has one.
#[derive(Debug, Default)]
pub struct Sweeper {
    pace: Option<SharedPace>,
    /// The tokens that the last sweep did not start, in their order.
    not_started: Mutex<Vec<QueuedToken>>,
    /// The prefixes whose scans had no time to end, each with the page that comes next.
    unfinished: Mutex<HashMap<String, Option<String>>>,
    /// Hashes of versions that need no check, with the hour of the check.
    checked: Mutex<HashSet<u64>>,
}

/// One sweep to do.
#[derive(Clone, Copy, Debug)]
pub struct SweepRequest<'a> {
    /// The secrets.
    pub targets: &'a Many,
    /// Whether to report only what a sweep would do.
    pub dry: bool,
    /// When the invocation ends.
    pub deadline: DateTime<Utc>,
}

/// How one secret of a sweep ended.
#[derive(Debug)]
pub struct SecretEnd<'a> {
    /// The secret, or the prefix that could not be searched.
    pub secret_id: &'a str,
    /// Its result.
    pub result: Result<&'a Completed, &'a Error>,
    /// What was observed.
    pub observed: Observed,
    /// How long it took.
    pub duration: TimeDelta,
    /// When it ended.
    pub at: DateTime<Utc>,
}

impl Sweeper {
    /// A sweeper whose runs write at this pace.
    #[must_use]
    pub fn new(pace: SharedPace) -> Self {
        Self { pace: Some(pace), ..Self::default() }
    }

    /// Sweeps once. `on_end` is called for each token secret that was skipped or whose run ended, and for each prefix that could not
    /// be searched.
    ///
    /// # Errors
    ///
    /// The first error, if no secret could be read and no run succeeded.
    pub async fn sweep<S: SecretStore>(
        &self,
        refresher: &Refresher<S>,
        request: SweepRequest<'_>,
        on_end: &(dyn Fn(&SecretEnd<'_>) + Sync),
    ) -> Result<Summary, Error> {
        let started_at = refresher.clock().now();
        let invocation_ends_at = decision::deadline(request.deadline, started_at) - TIME_TO_RESPOND;
        let ends_at = invocation_ends_at.min(started_at + MAX_SWEEP);
        let sweep = Sweep {
            sweeper: self,
            refresher,
            request,
            ends_at,
            opens_at: started_at + MAX_WAIT_FOR_SCAN.min((ends_at - started_at) / 3),
            shared: Shared::default(),
            state: Mutex::default(),
            queue_opened: Notify::new(),
            on_end,
        };
        sweep.resume();
        // Boxed: each contains the futures of many calls.
        tokio::join!(sweep.scan_all().boxed(), sweep.run_all().boxed());
        sweep.finish(started_at)
    }

    fn not_started(&self) -> MutexGuard<'_, Vec<QueuedToken>> {
        self.not_started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unfinished(&self) -> MutexGuard<'_, HashMap<String, Option<String>>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no later tokens are staged for a version, as far as this process knows. Every hour a run checks it again. The first
    /// tokens of a secret count as checked when they are seen for the first time: nothing but `force` exchanges them before they are due.
    fn is_checked(&self, secret_id: &str, version: &VersionId, is_first_document: bool, now: DateTime<Utc>) -> bool {
        let hour = now.timestamp().div_euclid(CHECK_SECONDS);
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.contains(&hash_of(secret_id, version, hour)) {
            return true;
        }
        let is_new = !checked.contains(&hash_of(secret_id, version, hour - 1));
        drop(checked);
        if is_first_document && is_new {
            self.remember_checked(secret_id, version, now);
        }
        is_first_document && is_new
    }

    fn remember_checked(&self, secret_id: &str, version: &VersionId, now: DateTime<Utc>) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        checked.insert(hash_of(secret_id, version, now.timestamp().div_euclid(CHECK_SECONDS)));
    }

    fn max_runs(&self) -> usize {
        let Some(pace) = &self.pace else { return MAX_RUNS };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "64 at most, and not negative")]
        let runs = (pace.rate() * RUNS_PER_WRITE) as usize;
        runs.clamp(1, MAX_RUNS)
    }

    /// How long the writes of so many runs take.
    fn time_for_writes_of(&self, runs: usize) -> TimeDelta {
        let Some(pace) = &self.pace else { return TimeDelta::zero() };
        #[expect(clippy::cast_precision_loss, reason = "64 at most")]
        let seconds = runs as f64 * WRITES_OF_RUN / pace.rate();
        #[expect(clippy::cast_possible_truncation, reason = "a few minutes")]
        TimeDelta::milliseconds((seconds * 1000.0) as i64)
    }
}

/// One sweep.
struct Sweep<'a, S> {
    sweeper: &'a Sweeper,
    refresher: &'a Refresher<S>,
    request: SweepRequest<'a>,
    ends_at: DateTime<Utc>,
    /// From then on the tokens found so far run, also if the scan has not ended.
    opens_at: DateTime<Utc>,
    shared: Shared,
    state: Mutex<State>,
    queue_opened: Notify,
    on_end: &'a (dyn Fn(&SecretEnd<'_>) + Sync),
}

#[derive(Default)]
struct State {
    summary: Summary,
    first_error: Option<Error>,
    /// Whether any secret was read.
    has_read: bool,
    /// The tokens whose runs may start.
    queue: Queue,
    /// The tokens that the scan has found and whose runs may not start yet; the last one in order is on top.
    found: BinaryHeap<ByTurn>,
    /// The ARNs of the secrets that were named, that need a run, or that were in the queue from the start.
    known: HashSet<String>,
    /// The names or ARNs, as given, of the secrets that were named or were in the queue from the start.
    known_ids: HashSet<String>,
    scan_has_ended: bool,
    /// When the runs started that have not ended.
    started: HashMap<String, DateTime<Utc>>,
}

impl<S: SecretStore> Sweep<'_, S> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> DateTime<Utc> {
        self.refresher.clock().now()
    }

    fn time_is_over(&self) -> bool {
        self.now() >= self.ends_at
    }

    /// Queues what the process remembers: tokens that could not be stored, and tokens that the last sweep did not start.
    fn resume(&self) {
        if self.request.dry {
            return;
        }
        let mut state = self.state();
        let unstored = self.refresher.unstored_secrets().into_iter().map(|(secret_id, arn)| QueuedToken {
            secret_id,
            arn: Some(arn),
            expiries: Expiries::default(),
            is_named: true,
            was_not_started: true,
            client: None,
        });
        let not_started: Vec<_> = self.sweeper.not_started().extract_if(.., |token| self.covers(token)).collect();
        let not_started = not_started.into_iter().map(|token| QueuedToken { was_not_started: true, ..token });
        for token in unstored.chain(not_started) {
            let is_new = match &token.arn {
                Some(arn) => state.known.insert(arn.clone()),
                None => !state.known_ids.contains(&token.secret_id),
            };
            if is_new {
                state.known_ids.insert(token.secret_id.clone());
                state.queue.push(token);
            }
        }
    }

    fn covers(&self, token: &QueuedToken) -> bool {
        let Many { names, prefixes } = self.request.targets;
        let name = scan::name_of(&token.secret_id);
        names.contains(&token.secret_id) || prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    fn skipped(&self, secret_id: &str, completed: &Completed, observed: &Observed) {
        self.ended(secret_id, Ok(completed), observed, TimeDelta::zero());
    }

    fn failed(&self, secret_id: &str, error: Error, observed: &Observed) {
        self.ended(secret_id, Err(&error), observed, TimeDelta::zero());
        self.state().first_error.get_or_insert(error);
    }

    /// Counts how a secret ended.
    fn ended(&self, secret_id: &str, result: Result<&Completed, &Error>, observed: &Observed, duration: TimeDelta) {
        let now = self.now();
        {
            let summary = &mut self.state().summary;
            summary.observe(observed, now);
            match result {
                Ok(completed) => summary.add_outcome(completed.outcome),
                Err(error) => summary.add_failure(Failure {
                    secret_id: secret_id.to_owned(),
                    error_type: error.error_type(),
                    message: error.to_string(),
                }),
            }
            if self.request.dry {
                let outcome = result.ok().map(|completed| completed.outcome);
                let error_type = result.err().map(Error::error_type);
                summary.list_token(TokenState::new(secret_id, outcome, observed.expires_at, error_type, now));
            }
        }
        (self.on_end)(&SecretEnd { secret_id, result, observed: observed.clone(), duration, at: now });
    }

    async fn run_all(&self) {
        let mut running = FuturesUnordered::new();
        loop {
            let now = self.now();
            let paused = self.pauses(now);
            let (wakes_at, scan_has_ended) = {
                let mut state = self.state();
                while self.may_start(now, &state)
                    && let Some(token) = state.queue.start_next(now, &paused)
                {
                    state.started.insert(token.secret_id.clone(), now);
                    // Boxed, because `FuturesUnordered` moves its futures.
                    running.push(Box::pin(self.run(token)));
                }
                let pause_end = state.queue.first_pause_end(now, &paused);
                let is_slow_at =
                    state.started.values().map(|started_at| *started_at + SLOW_RUN).filter(|at| *at > now).min();
                let is_slow_at = is_slow_at.filter(|_| state.queue.waiting() > 0);
                let wakes_at = pause_end.into_iter().chain(is_slow_at).min();
                (wakes_at.filter(|at| self.has_time(*at, 0)), state.scan_has_ended)
            };
            if running.is_empty() && scan_has_ended && wakes_at.is_none() {
                return;
            }
            let pause = wakes_at.map_or(MAX_RUN, |at| at - now).to_std().unwrap_or_default();
            tokio::select! {
                biased;
                Some(()) = running.next() => {}
                () = self.queue_opened.notified(), if !scan_has_ended => {}
                () = self.refresher.clock().sleep(pause), if wakes_at.is_some() => {}
            }
        }
    }

    /// A dry run sends nothing, so no endpoint has to be spared.
    fn pauses(&self, now: DateTime<Utc>) -> HashMap<String, DateTime<Utc>> {
        if self.request.dry { HashMap::new() } else { self.refresher.exchanger().pauses(now) }
    }

    /// Whether another run may start.
    fn may_start(&self, now: DateTime<Utc>, state: &State) -> bool {
        let writing = state.started.values().filter(|started_at| now - **started_at < SLOW_RUN).count();
        writing < self.sweeper.max_runs() && state.started.len() < MAX_SLOW_RUNS && self.has_time(now, writing)
    }

    /// Whether there is time for another run. Its writes wait for those of the runs before it, and a claim that comes too late for the
    /// exchange costs two writes for nothing.
    fn has_time(&self, now: DateTime<Utc>, running: usize) -> bool {
        self.ends_at - now >= MIN_TO_START + self.sweeper.time_for_writes_of(running)
    }

    /// The run of one token. If new tokens could not be stored, it is repeated while there is time.
    async fn run(&self, token: QueuedToken) {
        let started_at = self.now();
        let observation = Observation::default();
        let mut result = self.run_once(&token, &observation).await;
        // A run that gave up soon met an error that will not pass.
        while let Err(error) = &result
            && error.error_type() == ErrorType::TokenNotStored
            && self.now() - started_at >= SLOW_RUN
            && self.has_time(self.now(), 0)
        {
            result = self.run_once(&token, &observation).await;
        }
        let mut observed = observation.observed();
        let seen = token.expiries;
        observed.expires_at = observed.expires_at.or(seen.expires_at);
        observed.refresh_token_expires_at = observed.refresh_token_expires_at.or(seen.refresh_token_expires_at);
        {
            let mut state = self.state();
            state.started.remove(&token.secret_id);
            state.queue.ended(&token, observed.client.take(), client_result(&result));
        }
        match &result {
            Ok(completed) if completed.outcome == Outcome::Skipped => {
                self.sweeper.remember_checked(&token.secret_id, &completed.version_id, self.now());
            }
            // It was deleted after the scan.
            Err(Error::SecretNotFound { secret_id, .. }) if !token.is_named && *secret_id == token.secret_id => {
                let mut state = self.state();
                state.summary.calls += u64::from(observed.calls);
                state.summary.add_ignored();
                return;
            }
            _ => {}
        }
        self.ended(&token.secret_id, result.as_ref(), &observed, self.now() - started_at);
        if let Err(error) = result {
            self.state().first_error.get_or_insert(error);
        }
    }

    async fn run_once(&self, token: &QueuedToken, observation: &Observation) -> Result<Completed, Error> {
        let mode = if self.request.dry { Mode::DryRun } else { Mode::Scheduled };
        let deadline = self.ends_at.min(self.now() + MAX_RUN);
        let request = Request { secret_id: &token.secret_id, mode: &mode, deadline };
        let result = crash::catch(self.refresher.run_in_sweep(&self.shared, request, observation)).await;
        result.unwrap_or_else(|| Err(Error::Panicked { secret_id: token.secret_id.clone() }))
    }

    fn finish(self, started_at: DateTime<Utc>) -> Result<Summary, Error> {
        let now = self.now();
        let had_time = self.ends_at - started_at >= MIN_TO_START;
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let paused = self.refresher.exchanger().pauses(now);
        state.summary.warnings.extend(state.queue.reasons(now, &paused));
        let mut waiting: Vec<ByTurn> = state.queue.into_waiting().map(ByTurn).collect();
        waiting.sort();
        for ByTurn(token) in &waiting {
            state.summary.add_not_reached(&token.expiries, now);
        }
        if !had_time && !waiting.is_empty() {
            let needed = (MIN_TO_START + TIME_TO_RESPOND).as_seconds_f64();
            state.summary.warnings.push(format!(
                "the invocation was too short to start a refresh ({needed} s are needed): raise the function's timeout, for example to \
                 60 seconds"
            ));
        }
        if !self.request.dry {
            let mut not_started = self.sweeper.not_started();
            not_started.splice(0..0, waiting.into_iter().map(|ByTurn(token)| token));
            not_started.truncate(MAX_DUE);
        }
        state.summary.keep_first_tokens();
        let counts = state.summary.counts;
        // The scan may fail after the run of a token that the process remembered.
        let none_succeeded = counts.failed + counts.not_reached == counts.secrets;
        match state.first_error {
            Some(error) if !state.has_read && none_succeeded => Err(error),
            _ => Ok(state.summary),
        }
    }
}

fn hash_of(secret_id: &str, version: &VersionId, hour: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (secret_id, version, hour).hash(&mut hasher);
    hasher.finish()
}

/// What a run showed about its client.
fn client_result(result: &Result<Completed, Error>) -> ClientResult {
    match result {
        Ok(completed) if completed.outcome == Outcome::Refreshed => ClientResult::Accepted,
        // The provider was not asked.
        Err(Error::Refused { history: History::Recorded, .. }) => ClientResult::Unknown,
        Err(Error::Refused { refusal, .. }) => match refusal.kind {
            RefusalKind::ClientRejected => ClientResult::Rejected,
            RefusalKind::ReauthorizationRequired => ClientResult::Accepted,
            RefusalKind::ProviderRejected => ClientResult::Unknown,
        },
        _ => ClientResult::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + minutes * 60, 0).unwrap()
    }

    #[test]
    fn a_checked_version_is_checked_again_in_the_next_hour() {
        let (sweeper, version) = (Sweeper::default(), VersionId::from("v1"));
        assert!(!sweeper.is_checked("crm", &version, false, at(0)));
        sweeper.remember_checked("crm", &version, at(0));
        for (minutes, is_checked) in [(0, true), (59, true), (60, false), (600, false)] {
            assert_eq!(sweeper.is_checked("crm", &version, false, at(minutes)), is_checked, "{minutes}");
        }
        assert!(!sweeper.is_checked("other", &version, false, at(0)), "another secret");
        assert!(!sweeper.is_checked("crm", &"v2".into(), false, at(0)), "another version");
    }

    #[test]
    fn the_first_document_is_checked_an_hour_after_it_was_seen() {
        let (sweeper, version) = (Sweeper::default(), VersionId::from("v1"));
        for (minutes, is_checked) in [(5, true), (59, true), (60, false), (65, false)] {
            assert_eq!(sweeper.is_checked("crm", &version, true, at(minutes)), is_checked, "{minutes}");
        }
        sweeper.remember_checked("crm", &version, at(65));
        assert!(sweeper.is_checked("crm", &version, true, at(70)));
    }
}
