//! A store that records its calls and injects faults: errors, lost responses, stale reads, changes by a person, crashes. Does not
//! know what the calls are for.

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

/// A call to the store, or an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Get,
    PutClaim,
    PutStaged,
    PutKept,
    Move,
    EndClaim,
    List,
    Exchange,
}

/// What happens to a step.
pub enum InjectedFault {
    /// It is not done, and returns this error.
    Fail(StoreError),
    /// It is done, and the response is lost.
    LoseResponse,
    /// The process ends before the step.
    CrashBefore,
    /// The process ends after the step.
    CrashAfter,
    /// A read returns from this state, without later writes.
    StaleRead(Versions),
    /// It waits until the test releases it.
    Hold(Arc<Hold>),
    /// This runs before the step.
    Before(Box<dyn FnOnce() + Send>),
    /// This runs after the step.
    After(Box<dyn FnOnce() + Send>),
}

/// A point where a process waits for the test.
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

/// Lets one process at a time do one step, in a random order. Sometimes a process crashes, or an event happens in between.
pub struct RandomStepOrder(Mutex<StepQueue>);

struct StepQueue {
    rng: fastrand::Rng,
    running: usize,
    waiting: Vec<oneshot::Sender<Turn>>,
    /// How many processes may still crash. The chance is one in ten for each step.
    crashes: usize,
    /// The events that may still happen, with the same chance.
    events: Vec<Box<dyn FnOnce() + Send>>,
}

enum Turn {
    Continue,
    Crash,
}

impl RandomStepOrder {
    pub fn new(rng: fastrand::Rng, runs: usize, crashes: usize, events: Vec<Box<dyn FnOnce() + Send>>) -> Self {
        Self(Mutex::new(StepQueue { rng, running: runs, waiting: Vec::new(), crashes, events }))
    }

    async fn wait_for_turn(&self) -> Turn {
        let (sender, turn) = oneshot::channel();
        {
            let mut queue = lock(&self.0);
            queue.waiting.push(sender);
            queue.give_turns();
        }
        turn.await.expect("a turn for each process")
    }

    /// A run has ended without a crash.
    pub fn run_ended(&self) {
        let mut queue = lock(&self.0);
        queue.running -= 1;
        queue.give_turns();
    }
}

impl StepQueue {
    /// Gives a turn to one process, when all running processes wait.
    fn give_turns(&mut self) {
        while self.running > 0 && self.waiting.len() == self.running {
            if !self.events.is_empty() && self.rng.u8(..10) == 0 {
                let event = self.events.swap_remove(self.rng.usize(..self.events.len()));
                event();
            }
            let sender = self.waiting.swap_remove(self.rng.usize(..self.waiting.len()));
            let crashes = self.crashes > 0 && self.rng.u8(..10) == 0;
            if crashes {
                self.crashes -= 1;
                self.running -= 1;
            }
            let _ = sender.send(if crashes { Turn::Crash } else { Turn::Continue });
        }
    }
}

/// The steps of one process so far, and the faults to inject into later ones.
#[derive(Default)]
pub struct Script {
    taken: Mutex<Vec<Step>>,
    /// Those of them that were done.
    done: Mutex<Vec<Step>>,
    step_order: Mutex<Option<Arc<RandomStepOrder>>>,
    injected: Mutex<BTreeMap<(Step, usize), InjectedFault>>,
    /// The steps that always fail from now on.
    failing: Mutex<BTreeMap<Step, StoreError>>,
    pub crashed: Notify,
}

impl Script {
    pub fn taken(&self) -> Vec<Step> {
        lock(&self.taken).clone()
    }

    pub fn reset(&self) {
        lock(&self.taken).clear();
    }

    /// Injects a fault into the `nth` step of a kind, counted from 1 since the last reset.
    pub fn inject(&self, step: Step, nth: usize, fault: InjectedFault) {
        lock(&self.injected).insert((step, nth), fault);
    }

    pub fn fail_always(&self, step: Step, error: StoreError) {
        lock(&self.failing).insert(step, error);
    }

    pub fn stop_failing(&self) {
        lock(&self.failing).clear();
    }

    pub fn follow(&self, step_order: &Arc<RandomStepOrder>) {
        *lock(&self.step_order) = Some(Arc::clone(step_order));
    }

    /// Whether a crash now would lose a response of the provider.
    pub fn holds_a_response(&self) -> bool {
        let done = lock(&self.done);
        done.contains(&Step::Exchange) && !done.contains(&Step::PutStaged)
    }

    /// How many injected faults have not happened.
    pub fn faults_left(&self) -> usize {
        lock(&self.injected).len()
    }

    pub fn unavailable() -> StoreError {
        StoreError::Unavailable { action: "the step", detail: "an injected fault".to_owned() }
    }

    /// Ends the process: the run's future does not continue, and the test drops it.
    async fn crash<T>(&self) -> T {
        self.crashed.notify_one();
        pending().await
    }

    async fn wait_for_turn(&self) {
        let step_order = lock(&self.step_order).clone();
        if let Some(step_order) = step_order
            && let Turn::Crash = step_order.wait_for_turn().await
        {
            self.crash::<()>().await;
        }
    }

    /// Does a step. `failed` converts an error to the step's result.
    pub async fn step<T>(&self, step: Step, work: impl Future<Output = T>, failed: impl FnOnce(StoreError) -> T) -> T {
        self.wait_for_turn().await;
        // Boxed, because a debug build copies the SDK's large future at each level of nesting.
        let done = self.with_fault(step, Box::pin(work), failed).await;
        lock(&self.done).push(step);
        self.wait_for_turn().await;
        done
    }

    async fn with_fault<T>(
        &self,
        step: Step,
        work: impl Future<Output = T>,
        failed: impl FnOnce(StoreError) -> T,
    ) -> T {
        let nth = {
            let mut taken = lock(&self.taken);
            taken.push(step);
            taken.iter().filter(|&&other| other == step).count()
        };
        if let Some(error) = lock(&self.failing).get(&step) {
            return failed(error.clone());
        }
        let fault = lock(&self.injected).remove(&(step, nth));
        match fault {
            None | Some(InjectedFault::StaleRead(_)) => work.await,
            Some(InjectedFault::Fail(error)) => failed(error),
            Some(InjectedFault::LoseResponse) => {
                work.await;
                failed(Self::unavailable())
            }
            Some(InjectedFault::CrashBefore) => self.crash().await,
            Some(InjectedFault::CrashAfter) => {
                work.await;
                self.crash().await
            }
            Some(InjectedFault::Hold(hold)) => {
                hold.reached.notify_one();
                hold.released.notified().await;
                work.await
            }
            Some(InjectedFault::Before(event)) => {
                event();
                work.await
            }
            Some(InjectedFault::After(event)) => {
                let done = work.await;
                event();
                done
            }
        }
    }

    /// The state that the next read returns from, if it is a stale read.
    fn stale(&self, step: Step) -> Option<Versions> {
        let nth = lock(&self.taken).iter().filter(|&&other| other == step).count() + 1;
        let mut injected = lock(&self.injected);
        match injected.remove(&(step, nth)) {
            Some(InjectedFault::StaleRead(versions)) => Some(versions),
            Some(other) => {
                injected.insert((step, nth), other);
                None
            }
            None => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no step panicked")
}

/// A store with a script of faults.
pub struct CountingStore<S> {
    pub store: S,
    pub script: Arc<Script>,
}

impl<S: SecretStore> SecretStore for CountingStore<S> {
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
        let step = match label {
            Label::Claim => Step::PutClaim,
            Label::Kept => Step::PutKept,
            _ => Step::PutStaged,
        };
        self.script.step(step, self.store.put(secret_id, id, label, body), Err).await
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        let step = if label == Label::Current { Step::Move } else { Step::EndClaim };
        self.script.step(step, self.store.move_label(secret_id, label, from, to), Err).await
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        self.script.step(Step::EndClaim, self.store.remove_label(secret_id, label, from), Err).await
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        if let Some(versions) = self.script.stale(Step::List) {
            return self.script.step(Step::List, async { Ok(versions.list(true)) }, Err).await;
        }
        self.script.step(Step::List, self.store.list(secret_id), Err).await
    }
}
