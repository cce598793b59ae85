//! A store that counts its calls and strikes them: errors, lost answers, stale reads, a person's hand, the process's
//! death. Knows nothing of what the calls are for.

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard},
};

use token_refresher::{
    error::Advice,
    secret::Secret,
    store::{
        Label, Limits, Listed, Operation, SecretStore, Selector, StoreError, Version, VersionId, versions::Versions,
    },
};
use tokio::sync::{Notify, oneshot};

/// What a run does to the world outside it, one step at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Get,
    PutClaim,
    PutStaged,
    Move,
    List,
    Exchange,
}

/// What strikes a step.
pub enum Strike {
    /// Not done, and the store says so.
    Fail(StoreError),
    /// Done, and the answer is lost.
    LoseAnswer,
    /// The process ends before the step.
    DieBefore,
    /// The process ends after the step.
    DieAfter,
    /// A read answers from this, whatever has been written since.
    Stale(Versions),
    /// Not before the test lets it go on.
    Hold(Arc<Hold>),
    /// This happens before the step.
    Before(Box<dyn FnOnce() + Send>),
    /// This happens after the step.
    After(Box<dyn FnOnce() + Send>),
}

/// Where a process waits for the test.
#[derive(Default)]
pub struct Hold {
    reached: Notify,
    released: Notify,
}

impl Hold {
    pub async fn until_reached(&self) {
        self.reached.notified().await;
    }

    pub fn release(&self) {
        self.released.notify_one();
    }
}

/// Lets one process at a time take one step, in an order drawn by lot; now and then a process ends, or something
/// happens in between.
pub struct Turnstile(Mutex<Queue>);

struct Queue {
    lots: fastrand::Rng,
    live: usize,
    waiting: Vec<oneshot::Sender<Fate>>,
    /// How many processes may end, at a chance of one in ten a step.
    deaths: usize,
    /// What may happen, at the same chance.
    events: Vec<Box<dyn FnOnce() + Send>>,
}

enum Fate {
    GoOn,
    Die,
}

impl Turnstile {
    pub fn new(lots: fastrand::Rng, runs: usize, deaths: usize, events: Vec<Box<dyn FnOnce() + Send>>) -> Self {
        Self(Mutex::new(Queue { lots, live: runs, waiting: Vec::new(), deaths, events }))
    }

    async fn pass(&self) -> Fate {
        let (turn, come) = oneshot::channel();
        {
            let mut queue = lock(&self.0);
            queue.waiting.push(turn);
            queue.next();
        }
        come.await.expect("a turn for everyone")
    }

    /// A run has ended of itself.
    pub fn leave(&self) {
        let mut queue = lock(&self.0);
        queue.live -= 1;
        queue.next();
    }
}

impl Queue {
    /// Whose turn it is, once all who live have come.
    fn next(&mut self) {
        while self.live > 0 && self.waiting.len() == self.live {
            if !self.events.is_empty() && self.lots.u8(..10) == 0 {
                let event = self.events.swap_remove(self.lots.usize(..self.events.len()));
                event();
            }
            let turn = self.waiting.swap_remove(self.lots.usize(..self.waiting.len()));
            let dies = self.deaths > 0 && self.lots.u8(..10) == 0;
            if dies {
                self.deaths -= 1;
                self.live -= 1;
            }
            let _ = turn.send(if dies { Fate::Die } else { Fate::GoOn });
        }
    }
}

/// The steps one process took, and what is to strike the ones to come.
#[derive(Default)]
pub struct Script {
    taken: Mutex<Vec<Step>>,
    /// Those of them that were carried out.
    done: Mutex<Vec<Step>>,
    turnstile: Mutex<Option<Arc<Turnstile>>>,
    strikes: Mutex<BTreeMap<(Step, usize), Strike>>,
    /// Steps that fail each time, from now on.
    failing: Mutex<BTreeMap<Step, StoreError>>,
    pub died: Notify,
}

impl Script {
    pub fn taken(&self) -> Vec<Step> {
        lock(&self.taken).clone()
    }

    pub fn reset(&self) {
        lock(&self.taken).clear();
    }

    /// Strikes the `nth` step of a kind, counted from 1 since the last reset.
    pub fn strike(&self, step: Step, nth: usize, strike: Strike) {
        lock(&self.strikes).insert((step, nth), strike);
    }

    pub fn fail_always(&self, step: Step, error: StoreError) {
        lock(&self.failing).insert(step, error);
    }

    pub fn mend(&self) {
        lock(&self.failing).clear();
    }

    pub fn take_turns(&self, turnstile: &Arc<Turnstile>) {
        *lock(&self.turnstile) = Some(Arc::clone(turnstile));
    }

    /// Whether the process, were it to end now, would take an answer of the provider with it.
    pub fn holds_an_answer(&self) -> bool {
        let done = lock(&self.done);
        done.contains(&Step::Exchange) && !done.contains(&Step::PutStaged)
    }

    /// How many strikes have found no step.
    pub fn strikes_left(&self) -> usize {
        lock(&self.strikes).len()
    }

    pub fn unavailable() -> StoreError {
        StoreError::Unavailable { action: "the step", detail: "struck".to_owned() }
    }

    /// Ends the process here: the run's future never gets further, and the test drops it.
    async fn die<T>(&self) -> T {
        self.died.notify_one();
        pending().await
    }

    async fn turn(&self) {
        let turnstile = lock(&self.turnstile).clone();
        if let Some(turnstile) = turnstile
            && let Fate::Die = turnstile.pass().await
        {
            self.die::<()>().await;
        }
    }

    /// Takes a step. `failed` makes its result of an error.
    pub async fn step<T>(&self, step: Step, work: impl Future<Output = T>, failed: impl FnOnce(StoreError) -> T) -> T {
        self.turn().await;
        // Boxed: a debug build copies a future, as large as the SDK makes it, at each level of a nest.
        let done = self.struck(step, Box::pin(work), failed).await;
        lock(&self.done).push(step);
        self.turn().await;
        done
    }

    async fn struck<T>(&self, step: Step, work: impl Future<Output = T>, failed: impl FnOnce(StoreError) -> T) -> T {
        let nth = {
            let mut taken = lock(&self.taken);
            taken.push(step);
            taken.iter().filter(|&&other| other == step).count()
        };
        if let Some(error) = lock(&self.failing).get(&step) {
            return failed(error.clone());
        }
        let strike = lock(&self.strikes).remove(&(step, nth));
        match strike {
            None | Some(Strike::Stale(_)) => work.await,
            Some(Strike::Fail(error)) => failed(error),
            Some(Strike::LoseAnswer) => {
                work.await;
                failed(Self::unavailable())
            }
            Some(Strike::DieBefore) => self.die().await,
            Some(Strike::DieAfter) => {
                work.await;
                self.die().await
            }
            Some(Strike::Hold(hold)) => {
                hold.reached.notify_one();
                hold.released.notified().await;
                work.await
            }
            Some(Strike::Before(event)) => {
                event();
                work.await
            }
            Some(Strike::After(event)) => {
                let done = work.await;
                event();
                done
            }
        }
    }

    /// What a read is to answer from, where it is stale.
    fn stale(&self, step: Step) -> Option<Versions> {
        let nth = lock(&self.taken).iter().filter(|&&other| other == step).count() + 1;
        let mut strikes = lock(&self.strikes);
        match strikes.remove(&(step, nth)) {
            Some(Strike::Stale(versions)) => Some(versions),
            Some(other) => {
                strikes.insert((step, nth), other);
                None
            }
            None => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no step panicked")
}

/// A store with a script.
pub struct Counting<S> {
    pub store: S,
    pub script: Arc<Script>,
}

impl<S: SecretStore> SecretStore for Counting<S> {
    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn action(&self, operation: Operation) -> &'static str {
        self.store.action(operation)
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        self.store.advice(error, secret_id)
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        if let Some(versions) = self.script.stale(Step::Get) {
            let read = async {
                match which {
                    Selector::Id(id) => versions.get(Some(id), None),
                    Selector::Label(label) => versions.get(None, Some(label.as_str())),
                }
            };
            return self.script.step(Step::Get, read, Err).await;
        }
        self.script.step(Step::Get, self.store.get(secret_id, which), Err).await
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        let step = if label == Label::Claim { Step::PutClaim } else { Step::PutStaged };
        self.script.step(step, self.store.put(secret_id, id, label, body), Err).await
    }

    async fn move_current(&self, secret_id: &str, from: &VersionId, to: &VersionId) -> Result<(), StoreError> {
        self.script.step(Step::Move, self.store.move_current(secret_id, from, to), Err).await
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        if let Some(versions) = self.script.stale(Step::List) {
            return self.script.step(Step::List, async { Ok(versions.list(true)) }, Err).await;
        }
        self.script.step(Step::List, self.store.list(secret_id), Err).await
    }
}
