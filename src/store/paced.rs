//! Limits the rate of calls to a store, because an account has quotas. Writes that store tokens go before claims. A call that the SDK
//! tries again counts once.
//!
//! The quotas of Secrets Manager ("AWS Secrets Manager quotas", User Guide): `PutSecretValue` and `UpdateSecretVersionStage` 50 a second
//! together, `BatchGetSecretValue` 100 a second.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Content, Label, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version, VersionId};
use crate::{clock::Clock, error::Advice, secret::Secret};

/// How many batches are read in a second: less than the quota, since others read, too.
const BATCHES_PER_SECOND: u32 = 80;

/// How far calls may catch up after a pause. They come at once then, and at full load again in each second after.
const CATCH_UP: TimeDelta = TimeDelta::milliseconds(100);

/// How long no call is sent after the service has asked for fewer.
const PAUSE: TimeDelta = TimeDelta::seconds(1);

/// The rate grows from zero to the limit in this time.
const SECONDS_TO_RECOVER: f64 = 20.0;

/// The time when the next call may be sent. No IO.
#[derive(Debug)]
pub struct Pace {
    /// The most calls in any second.
    limit: u32,
    /// When the newest calls were sent, at most as many as the limit.
    sent: VecDeque<DateTime<Utc>>,
    /// When the next call is due, if calls are spread evenly.
    next_at: DateTime<Utc>,
    /// The rate after the service asked for fewer calls, and when that was.
    slowed: Option<(f64, DateTime<Utc>)>,
    /// How many urgent calls wait.
    urgent: usize,
}

/// Which calls go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It stores what was issued, or makes it current.
    Urgent,
    /// Nothing is lost if it waits.
    CanWait,
}

impl Pace {
    /// At most `limit` calls in a second.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit: limit.max(1), sent: VecDeque::new(), next_at: DateTime::<Utc>::MIN_UTC, slowed: None, urgent: 0 }
    }

    /// How many calls are sent in a second at present.
    #[must_use]
    pub fn rate(&self, now: DateTime<Utc>) -> f64 {
        let limit = f64::from(self.limit);
        let Some((rate, since)) = self.slowed else { return limit };
        let seconds = (now - since).as_seconds_f64().abs();
        (rate + limit * seconds / SECONDS_TO_RECOVER).min(limit)
    }

    /// Counts a call that is sent now.
    ///
    /// # Errors
    ///
    /// When to ask again.
    pub fn take(&mut self, urgency: Urgency, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        let spacing = TimeDelta::microseconds(micros(1.0 / self.rate(now)));
        if urgency == Urgency::CanWait && self.urgent > 0 {
            return Err(now + spacing);
        }
        // The clock was set back.
        if self.next_at - now > PAUSE * 2 {
            self.next_at = now;
            self.sent.clear();
        }
        let limit = self.limit as usize;
        let a_second_ago = self.sent.len().checked_sub(limit).map(|index| self.sent[index] + TimeDelta::seconds(1));
        let ready_at = a_second_ago.map_or(self.next_at, |at| at.max(self.next_at));
        if now < ready_at {
            return Err(ready_at);
        }
        self.next_at = self.next_at.max(now - CATCH_UP) + spacing;
        self.sent.push_back(now);
        if self.sent.len() > limit {
            self.sent.pop_front();
        }
        Ok(())
    }

    /// The service has asked for fewer calls.
    pub fn throttled(&mut self, now: DateTime<Utc>) {
        // Calls that were in flight count as one. The clock may have been set back.
        if self.slowed.is_some_and(|(_, since)| (now - since).abs() < PAUSE) {
            return;
        }
        self.slowed = Some(((self.rate(now) / 2.0).max(1.0), now));
        self.next_at = now + PAUSE;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most a second")]
fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).ceil() as i64
}

/// A pace that all users of a store share.
#[derive(Clone, Debug)]
pub struct SharedPace {
    pace: Arc<Mutex<Pace>>,
    clock: Clock,
}

/// Counts an urgent call while it waits.
struct Waiting<'a>(&'a SharedPace);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().urgent -= 1;
    }
}

impl SharedPace {
    /// At most `limit` calls in a second.
    #[must_use]
    pub fn new(limit: u32, clock: Clock) -> Self {
        Self { pace: Arc::new(Mutex::new(Pace::new(limit))), clock }
    }

    /// How many calls are sent in a second at present.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.lock().rate(self.clock.now())
    }

    async fn turn(&self, urgency: Urgency) {
        let mut waiting = None;
        loop {
            let now = self.clock.now();
            let Err(again_at) = self.lock().take(urgency, now) else { return };
            if urgency == Urgency::Urgent && waiting.is_none() {
                self.lock().urgent += 1;
                waiting = Some(Waiting(self));
            }
            let pause = (again_at - now).to_std().unwrap_or_default();
            self.clock.sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// Notes whether the service asks for fewer calls.
    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Throttled { .. }) = result {
            self.lock().throttled(self.clock.now());
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store whose calls keep to a rate.
#[derive(Clone, Debug)]
pub struct PacedStore<S> {
    store: S,
    writes: SharedPace,
    batches: SharedPace,
}

impl<S> PacedStore<S> {
    /// At most `writes_per_second` writes in a second.
    pub fn new(store: S, writes_per_second: u32, clock: Clock) -> Self {
        let batches = SharedPace::new(BATCHES_PER_SECOND, clock.clone());
        Self { store, writes: SharedPace::new(writes_per_second, clock), batches }
    }

    /// The pace of the writes.
    #[must_use]
    pub const fn writes(&self) -> &SharedPace {
        &self.writes
    }
}

impl<S: SecretStore> SecretStore for PacedStore<S> {
    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn action(&self, operation: Operation) -> &'static str {
        self.store.action(operation)
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        self.store.advice(error, secret_id)
    }

    fn place(&self) -> String {
        self.store.place()
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        self.writes.note(self.store.get(secret_id, which).await)
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        self.writes.turn(urgency(label)).await;
        self.writes.note(self.store.put(secret_id, id, label, body).await)
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        self.writes.turn(urgency(label)).await;
        self.writes.note(self.store.move_label(secret_id, label, from, to).await)
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        self.writes.turn(urgency(label)).await;
        self.writes.note(self.store.remove_label(secret_id, label, from).await)
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        self.writes.note(self.store.list(secret_id).await)
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        self.batches.turn(Urgency::CanWait).await;
        self.batches.note(self.store.get_batch(secret_ids).await)
    }

    async fn find(&self, prefix: &str, page: Option<&str>) -> Result<Page, StoreError> {
        self.batches.turn(Urgency::CanWait).await;
        self.batches.note(self.store.find(prefix, page).await)
    }

    async fn read(&self, secret_id: &str, which: Selector<'_>) -> Result<(VersionId, Content), StoreError> {
        self.store.read(secret_id, which).await
    }
}

/// A claim, and the end of one, can wait; what carries tokens cannot.
const fn urgency(label: Label) -> Urgency {
    match label {
        Label::Current | Label::Staged | Label::Kept | Label::Entered => Urgency::Urgent,
        Label::Claim | Label::Ended | Label::Previous | Label::Pending => Urgency::CanWait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_767_225_600_000 + milliseconds).unwrap()
    }

    /// When calls are sent that are always ready, within so many milliseconds.
    fn sent(pace: &mut Pace, urgency: Urgency, from: i64, until: i64) -> Vec<i64> {
        (from..until)
            .flat_map(|ms| std::iter::from_fn(|| pace.take(urgency, at(ms)).ok().map(|()| ms)).collect::<Vec<_>>())
            .collect()
    }

    fn most_in_a_second(sent: &[i64]) -> usize {
        sent.iter()
            .map(|start| sent.iter().filter(|ms| (*start..*start + 1000).contains(*ms)).count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn no_second_has_more_calls_than_the_limit_and_no_turn_is_lost() {
        for limit in [1, 3, 40, 50] {
            let mut pace = Pace::new(limit);
            let sent = sent(&mut pace, Urgency::CanWait, 0, 20_000);
            assert_eq!(most_in_a_second(&sent), limit as usize);
            let at_least = limit as usize * 20 - 1;
            assert!(sent.len() >= at_least, "{} of {at_least} at {limit}", sent.len());
        }
    }

    #[test]
    fn a_caller_that_wakes_late_catches_up() {
        let mut pace = Pace::new(50);
        let mut count = 0;
        // It looks only every 30 ms, and one call is due every 20 ms.
        for ms in (0..30_000).step_by(30) {
            while pace.take(Urgency::CanWait, at(ms)).is_ok() {
                count += 1;
            }
        }
        // The limit of a second holds, too, so a late call makes the one 50 calls after it late.
        assert!((1450..=1550).contains(&count), "{count}");
    }

    #[test]
    fn few_calls_are_sent_at_once_also_after_a_long_pause() {
        let mut pace = Pace::new(50);
        let sent = sent(&mut pace, Urgency::CanWait, 0, 20_000);
        let at_once = sent.iter().map(|ms| sent.iter().filter(|other| (*ms..ms + 20).contains(other)).count()).max();
        assert_eq!(at_once, Some(6));
    }

    #[test]
    fn what_stores_tokens_goes_before_claims() {
        let mut pace = Pace::new(1);
        pace.take(Urgency::CanWait, at(0)).unwrap();
        pace.urgent = 1;
        assert!(pace.take(Urgency::CanWait, at(1000)).is_err());
        assert!(pace.take(Urgency::Urgent, at(1000)).is_ok());
        pace.urgent = 0;
        assert_eq!(pace.take(Urgency::CanWait, at(1001)), Err(at(2000)));
        assert!(pace.take(Urgency::CanWait, at(2000)).is_ok());
    }

    #[test]
    fn throttling_pauses_then_halves_the_rate_and_it_recovers() {
        let mut pace = Pace::new(40);
        pace.throttled(at(0));
        // The second one is about the same calls.
        pace.throttled(at(900));
        for (ms, rate) in [(0, 20.0), (5_000, 30.0), (10_000, 40.0), (60_000, 40.0)] {
            assert!((pace.rate(at(ms)) - rate).abs() < 1e-9, "{ms}");
        }
        assert_eq!(pace.take(Urgency::Urgent, at(999)), Err(at(1000)));
        assert!(pace.take(Urgency::Urgent, at(1000)).is_ok());
        for n in 1..20 {
            pace.throttled(at(n * 1000));
        }
        assert!((1.0..4.0).contains(&pace.rate(at(19_000))), "{}", pace.rate(at(19_000)));
    }

    #[test]
    fn after_the_clock_is_set_back_calls_are_sent() {
        let mut pace = Pace::new(2);
        for _ in 0..2 {
            while pace.take(Urgency::CanWait, at(3_600_000)).is_ok() {}
        }
        assert!(pace.take(Urgency::CanWait, at(0)).is_ok());
    }
}
