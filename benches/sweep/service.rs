//! Secrets Manager in memory: the versions of many secrets, with the service's quotas and with latencies. Records what the promises and
//! the figures need.

use std::{
    collections::VecDeque,
    ops::{AddAssign, Sub},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use token_refresher::{
    clock::Clock,
    error::Advice,
    secret::Secret,
    store::{
        BATCH, Found, Label, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version, VersionId,
        versions::{LIMITS, Versions},
    },
    token_secret::TokenSecret,
};

use crate::tokens;

/// "AWS Secrets Manager quotas" (User Guide): `PutSecretValue` and `UpdateSecretVersionStage` together, and `BatchGetSecretValue`.
pub const WRITES_PER_SECOND: u32 = 50;
const BATCHES_PER_SECOND: u32 = 100;

/// A call takes half of this to one and a half times as long.
const READ: Duration = Duration::from_millis(15);
const WRITE: Duration = Duration::from_millis(25);
pub const READ_BATCH_MILLISECONDS: usize = 40;

/// Calls by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    pub batches: u64,
    pub gets: u64,
    pub lists: u64,
    pub puts: u64,
    pub moves: u64,
}

impl Calls {
    pub const fn writes(self) -> u64 {
        self.puts + self.moves
    }

    pub const fn all(self) -> u64 {
        self.batches + self.gets + self.lists + self.writes()
    }
}

impl Sub for Calls {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            batches: self.batches - before.batches,
            gets: self.gets - before.gets,
            lists: self.lists - before.lists,
            puts: self.puts - before.puts,
            moves: self.moves - before.moves,
        }
    }
}

impl AddAssign for Calls {
    fn add_assign(&mut self, other: Self) {
        self.batches += other.batches;
        self.gets += other.gets;
        self.lists += other.lists;
        self.puts += other.puts;
        self.moves += other.moves;
    }
}

/// What the service has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub calls: Calls,
    pub throttled_writes: u64,
    pub throttled_batches: u64,
    /// The writes of the last second, and the most there were in any.
    newest_writes: VecDeque<DateTime<Utc>>,
    pub most_writes_in_a_second: usize,
    /// How often AWSCURRENT moved, and how often the token before had expired then.
    pub refreshes: u64,
    pub expired: u64,
    /// The least time that a token had left when it was replaced: at all, and since [`Service::begin_tick`].
    pub least_left: Option<TimeDelta>,
    pub least_left_in_tick: Option<TimeDelta>,
}

impl Seen {
    fn wrote(&mut self, now: DateTime<Utc>) {
        self.newest_writes.push_back(now);
        while self.newest_writes.front().is_some_and(|at| now - *at >= TimeDelta::seconds(1)) {
            self.newest_writes.pop_front();
        }
        self.most_writes_in_a_second = self.most_writes_in_a_second.max(self.newest_writes.len());
    }

    fn replaced(&mut self, left: TimeDelta) {
        self.refreshes += 1;
        self.expired += u64::from(left <= TimeDelta::zero());
        for least in [&mut self.least_left, &mut self.least_left_in_tick] {
            *least = Some(least.map_or(left, |least| least.min(left)));
        }
    }
}

/// A quota: as many calls as are allowed in a second may come at once.
struct Quota {
    per_second: f64,
    left: f64,
    at: DateTime<Utc>,
}

impl Quota {
    fn new(per_second: u32, at: DateTime<Utc>) -> Self {
        Self { per_second: per_second.into(), left: per_second.into(), at }
    }

    fn take(&mut self, now: DateTime<Utc>) -> bool {
        let earned = (now - self.at).as_seconds_f64() * self.per_second;
        (self.left, self.at) = ((self.left + earned).min(self.per_second), now);
        let is_allowed = self.left >= 1.0;
        self.left -= f64::from(u8::from(is_allowed));
        is_allowed
    }
}

struct State {
    secrets: Vec<Versions>,
    /// For each secret, the newest tokens that were staged.
    staged: Vec<u32>,
    writes: Quota,
    batches: Quota,
    seen: Seen,
    random: u64,
}

/// The service. A clone is the same.
#[derive(Clone)]
pub struct Service {
    state: Arc<Mutex<State>>,
    clock: Clock,
    read_batch: Duration,
}

impl Service {
    /// Secrets whose first tokens expire at these times. `read_batch`: how long it takes on average to read 20 of them.
    pub fn new(clock: Clock, read_batch: Duration, expiries: impl Iterator<Item = DateTime<Utc>>) -> Self {
        let now = clock.now();
        let secrets: Vec<Versions> = expiries
            .enumerate()
            .map(|(index, expires_at)| {
                let id = format!("00000000-0000-4000-8000-{index:012}").into();
                let arn =
                    format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-AbCdEf", tokens::name(index));
                Versions::create(arn, &id, &tokens::first(index, expires_at), now).expect("a new secret has room")
            })
            .collect();
        let state = State {
            staged: vec![0; secrets.len()],
            secrets,
            writes: Quota::new(WRITES_PER_SECOND, now),
            batches: Quota::new(BATCHES_PER_SECOND, now),
            seen: Seen::default(),
            random: 0x9E37_79B9_7F4A_7C15,
        };
        Self { state: Arc::new(Mutex::new(state)), clock, read_batch }
    }

    pub fn begin_tick(&self) {
        self.lock().seen.least_left_in_tick = None;
    }

    pub fn seen<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.lock().seen)
    }

    /// For each secret: the newest staged tokens, and its current version.
    pub fn current(&self) -> Vec<(u32, TokenSecret)> {
        let state = self.lock();
        let current = state.secrets.iter().map(|secret| secret.get(None, None).expect("each has a current version"));
        state.staged.iter().copied().zip(current.map(|version| token_of(&version))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no call panics")
    }

    /// A call: its effect is in the middle of its time.
    async fn call<T>(
        &self,
        latency: Duration,
        effect: impl FnOnce(&mut State, DateTime<Utc>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let half = latency.mul_f64(self.lock().random_half());
        self.clock.sleep(half).await;
        let result = effect(&mut self.lock(), self.clock.now());
        self.clock.sleep(half).await;
        result
    }
}

fn token_of(version: &Version) -> TokenSecret {
    TokenSecret::parse(version.body.expose()).expect("a token secret")
}

impl State {
    /// Between 1/4 and 3/4 (xorshift).
    #[expect(clippy::cast_precision_loss, reason = "32 bits")]
    fn random_half(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        0.25 + (self.random >> 32) as f64 / f64::from(u32::MAX) / 2.0
    }

    fn secret(&mut self, secret_id: &str) -> Result<(usize, &mut Versions), StoreError> {
        let index = tokens::index_of(secret_id).filter(|index| *index < self.secrets.len());
        let index = index.ok_or_else(|| StoreError::NotFound { detail: format!("there is no secret {secret_id}") })?;
        Ok((index, &mut self.secrets[index]))
    }

    fn take_write(&mut self, action: &'static str, now: DateTime<Utc>) -> Result<(), StoreError> {
        if !self.writes.take(now) {
            self.seen.throttled_writes += 1;
            return Err(throttled(action));
        }
        self.seen.wrote(now);
        Ok(())
    }

    fn take_batch(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.seen.calls.batches += 1;
        if !self.batches.take(now) {
            self.seen.throttled_batches += 1;
            return Err(throttled("BatchGetSecretValue"));
        }
        Ok(())
    }
}

fn throttled(action: &'static str) -> StoreError {
    StoreError::Throttled { action, detail: "Rate exceeded".to_owned() }
}

impl SecretStore for Service {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn action(&self, operation: Operation) -> &'static str {
        match operation {
            Operation::Get => "GetSecretValue",
            Operation::Put => "PutSecretValue",
            Operation::MoveLabel => "UpdateSecretVersionStage",
            Operation::List => "ListSecretVersionIds",
            Operation::GetBatch => "BatchGetSecretValue",
        }
    }

    fn advice(&self, _: &StoreError, _: &str) -> Advice {
        Advice::new("nothing: this is a benchmark")
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        let (id, label) = match which {
            Selector::Id(id) => (Some(id), None),
            Selector::Label(label) => (None, Some(label.as_str())),
        };
        self.call(READ, |state, _| {
            state.seen.calls.gets += 1;
            state.secret(secret_id)?.1.get(id, label)
        })
        .await
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        self.call(WRITE, |state, now| {
            state.seen.calls.puts += 1;
            state.take_write("PutSecretValue", now)?;
            let (index, secret) = state.secret(secret_id)?;
            secret.put(id, body, Some(&[label.as_str().to_owned()]), now)?;
            if label == Label::Staged {
                let token = TokenSecret::parse(body.expose()).expect("a token secret");
                state.staged[index] = tokens::number_of(token.tokens.refresh_token().expect("a refresh token").expose());
            }
            Ok(())
        })
        .await
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        self.call(WRITE, |state, now| {
            state.seen.calls.moves += 1;
            state.take_write("UpdateSecretVersionStage", now)?;
            let (_, secret) = state.secret(secret_id)?;
            let before = secret.get(None, None)?;
            secret.move_label(label.as_str(), from, to)?;
            if label == Label::Current {
                let expired_at = token_of(&before).expires_at.expect("each token expires");
                state.seen.replaced(expired_at - now);
            }
            Ok(())
        })
        .await
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        self.call(WRITE, |state, _| state.secret(secret_id)?.1.remove_label(label.as_str(), from)).await
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        self.call(READ, |state, _| {
            state.seen.calls.lists += 1;
            Ok(state.secret(secret_id)?.1.list(true))
        })
        .await
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        self.call(self.read_batch, |state, now| {
            state.take_batch(now)?;
            Ok(secret_ids.iter().map(|id| state.secret(id).ok()?.1.get(None, None).ok()).collect())
        })
        .await
    }

    async fn find(&self, prefix: &str, page: Option<&str>) -> Result<Page, StoreError> {
        assert_eq!(prefix, tokens::PREFIX);
        self.call(self.read_batch, |state, now| {
            state.take_batch(now)?;
            let first: usize = page.map_or(0, |page| page.parse().expect("the number of a secret"));
            let end = state.secrets.len().min(first + BATCH);
            let found = (first..end).map(|index| Found {
                secret_id: tokens::name(index),
                version: state.secrets[index].get(None, None).ok(),
            });
            Ok(Page { found: found.collect(), next: (end < state.secrets.len()).then(|| end.to_string()) })
        })
        .await
    }
}
