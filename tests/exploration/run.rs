//! One invocation of the real code, step by step: a run, or a sweep. It stops at every call to the store, every exchange and every
//! pause, and resumes when it gets a reply. A sweep may be at several steps at once. Decides nothing, and does not know how a store or
//! a provider responds.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use chrono::{DateTime, TimeDelta, Utc};
use token_refresher::{
    clock::Clock,
    error::Advice,
    oauth::{
        exchanger::{Exchange, Exchanger},
        response::{TokenResponse, TransportError},
    },
    protocol::{Error, Mode, Options, Refresher, Request, observation::Observation, outcome::Completed},
    secret::Secret,
    store::{
        Found, Label, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version, VersionId, aws,
        paced::PacedStore,
    },
    sweep::{SecretEnd, SweepRequest, Sweeper, summary::Summary, targets::Many},
};

use crate::{
    neighbour::{self, SharedNeighbour},
    plan::Search,
};

/// The token secret of every world.
pub const NAME: &str = "crm/prod/oauth";

/// The published secret, if the world has one.
pub const PUBLISHED_NAME: &str = "crm/prod/access";

/// How a world names the secrets of its sweeps.
const PREFIX: &str = "crm/prod/o";
pub const PATTERN: &str = "crm/prod/o*";

/// Writes in a second, in worlds with a pace: the default of `WRITES_PER_SECOND`.
const WRITES_PER_SECOND: u32 = 40;

/// What an invocation waits for: a call to the store, or an exchange.
#[derive(Clone, Debug)]
pub enum Step {
    Get(Which),
    /// A sweep reads the current versions of several secrets in one call.
    GetBatch,
    /// A sweep searches for secrets.
    Find,
    Put {
        id: VersionId,
        label: Label,
        body: Secret,
    },
    Move {
        label: Label,
        from: Option<VersionId>,
        to: VersionId,
    },
    List,
    Exchange(Box<Exchange>),
    /// A call for the published secret.
    OnPublished(Box<Step>),
}

/// Which version to read.
#[derive(Clone, Debug)]
pub enum Which {
    Id(VersionId),
    Label(Label),
}

/// The result of a step.
#[derive(Debug)]
pub enum Reply {
    Version(Result<Version, StoreError>),
    /// What a batch or a search returns for the token secret. `None`: the store did not return it.
    Current(Result<Option<Version>, StoreError>),
    Done(Result<(), StoreError>),
    Listed(Result<Vec<Listed>, StoreError>),
    Response(TokenResponse),
}

/// What an invocation and the test that drives it exchange.
#[derive(Default)]
struct ChannelState {
    asked: Vec<Asked>,
    next_number: u64,
    /// The step that was polled last. Its time limit is polled next.
    polled: Option<u64>,
    /// When the first pause ends that is not the time limit of a step.
    wakes_at: Option<DateTime<Utc>>,
    /// A sweep polls a run only if its waker was called.
    wakers: Vec<Waker>,
    /// How the sweep has ended so far for each secret.
    ended: Vec<(String, Result<Completed, Error>)>,
}

struct Asked {
    number: u64,
    step: Step,
    until: Option<DateTime<Utc>>,
    reply: Option<Reply>,
}

/// The clock of a world.
#[derive(Clone, Debug)]
pub struct Time(Arc<Mutex<DateTime<Utc>>>);

impl Time {
    pub fn starting_at(time: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(time)))
    }

    pub fn now(&self) -> DateTime<Utc> {
        *lock(&self.0)
    }

    pub fn set(&self, time: DateTime<Utc>) {
        *lock(&self.0) = time;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process's connection to the test that drives it.
#[derive(Clone)]
struct Channel(Arc<Mutex<ChannelState>>);

impl Channel {
    async fn ask(&self, step: Step) -> Reply {
        struct Forget<'a>(&'a Channel, u64);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                lock(&self.0.0).asked.retain(|asked| asked.number != self.1);
            }
        }
        let number = {
            let mut state = lock(&self.0);
            let number = state.next_number;
            state.next_number += 1;
            state.asked.push(Asked { number, step, until: None, reply: None });
            number
        };
        let _forget = Forget(self, number);
        poll_fn(|context| {
            let mut state = lock(&self.0);
            let asked = state.asked.iter_mut().find(|asked| asked.number == number).expect("a step that is not done");
            if let Some(reply) = asked.reply.take() {
                return Poll::Ready(reply);
            }
            asked.until = None;
            state.polled = Some(number);
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn clock(&self, time: &Time) -> Clock {
        let (reader, sleeper, channel) = (time.clone(), time.clone(), self.clone());
        Clock::new(
            move || reader.now(),
            move |duration| {
                let (time, channel) = (sleeper.clone(), channel.clone());
                let wakes_at = time.now() + TimeDelta::from_std(duration).expect("a short time");
                poll_fn(move |context| {
                    let mut state = lock(&channel.0);
                    let polled = state.polled.take();
                    if time.now() >= wakes_at {
                        return Poll::Ready(());
                    }
                    // A call and its time limit are polled one after the other: `Clock::within`.
                    match state.asked.iter_mut().find(|asked| Some(asked.number) == polled) {
                        Some(asked) => asked.until = Some(wakes_at),
                        None => state.wakes_at = Some(state.wakes_at.map_or(wakes_at, |first| first.min(wakes_at))),
                    }
                    state.wakers.push(context.waker().clone());
                    Poll::Pending
                })
            },
        )
    }
}

/// The store of a process. Calls for the neighbour are done at once: the secrets have nothing in common.
struct Store {
    channel: Channel,
    neighbour: SharedNeighbour,
    time: Time,
}

impl Store {
    async fn ask(&self, secret_id: &str, step: Step) -> Reply {
        if secret_id == neighbour::NAME {
            return lock(&self.neighbour).reply(&step, self.time.now());
        }
        self.channel.ask(if secret_id == PUBLISHED_NAME { Step::OnPublished(Box::new(step)) } else { step }).await
    }
}

impl SecretStore for Store {
    fn limits(&self) -> Limits {
        Limits::SECRETS_MANAGER
    }

    fn action(&self, operation: Operation) -> &'static str {
        aws::action(operation)
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        aws::advice(error, secret_id, "eu-west-1")
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        let which = match which {
            Selector::Id(id) => Which::Id(id.clone()),
            Selector::Label(label) => Which::Label(label),
        };
        match self.ask(secret_id, Step::Get(which)).await {
            Reply::Version(version) => version,
            other => unreachable!("{other:?}"),
        }
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        match self.ask(secret_id, Step::Put { id: id.clone(), label, body: body.clone() }).await {
            Reply::Done(done) => done,
            other => unreachable!("{other:?}"),
        }
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        match self.ask(secret_id, Step::Move { label, from: from.cloned(), to: to.clone() }).await {
            Reply::Done(done) => done,
            other => unreachable!("{other:?}"),
        }
    }

    async fn remove_label(&self, _: &str, label: Label, _: &VersionId) -> Result<(), StoreError> {
        unreachable!("a run takes no label off: {label:?}")
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        match self.ask(secret_id, Step::List).await {
            Reply::Listed(listed) => listed,
            other => unreachable!("{other:?}"),
        }
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        let asked_for = if secret_ids == [PUBLISHED_NAME] { PUBLISHED_NAME } else { NAME };
        let current = match self.ask(asked_for, Step::GetBatch).await {
            Reply::Current(current) => current?,
            other => unreachable!("{other:?}"),
        };
        let version_of = |secret_id: &&str| match *secret_id {
            neighbour::NAME => lock(&self.neighbour).current(),
            _ => current.clone(),
        };
        Ok(secret_ids.iter().map(version_of).collect())
    }

    async fn find(&self, prefix: &str, page: Option<&str>) -> Result<Page, StoreError> {
        assert_eq!((prefix, page), (PREFIX, None), "the only search");
        let version = match self.ask(NAME, Step::Find).await {
            Reply::Current(current) => current?,
            other => unreachable!("{other:?}"),
        };
        let mut found = vec![Found { secret_id: NAME.to_owned(), version }];
        let neighbour = lock(&self.neighbour);
        if neighbour.exists() {
            found.push(Found { secret_id: neighbour::NAME.to_owned(), version: neighbour.current() });
        }
        Ok(Page { found, next: None })
    }
}

/// How an invocation ended.
#[derive(Clone, Debug)]
pub struct End {
    /// The result for the token secret. `None`: a sweep did not begin its run.
    pub result: Option<Result<Completed, Error>>,
    /// The result of the sweep, if it was one.
    pub sweep: Option<Result<Summary, Error>>,
    /// How the sweep ended for each other secret, and for a search that failed.
    pub others: Vec<(String, Result<Completed, Error>)>,
}

/// What an invocation is for.
#[derive(Clone, Debug)]
pub enum Task {
    /// The token secret.
    Run(Mode),
    /// All secrets.
    Sweep(Search),
}

type Running = Pin<Box<dyn Future<Output = End> + Send>>;

/// A process, with its memory.
#[derive(Clone)]
pub struct Process {
    invoke: Arc<dyn Fn(Task, DateTime<Utc>) -> Running + Send + Sync>,
    channel: Channel,
}

/// Whether the writes of a process keep to a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    None,
    ByStore,
}

impl Process {
    pub fn new(time: &Time, options: &Options, neighbour: &SharedNeighbour, pacing: Pacing) -> Self {
        let channel = Channel(Arc::default());
        let clock = channel.clock(time);
        let exchanger = {
            let (channel, clock, neighbour, time) = (channel.clone(), clock.clone(), neighbour.clone(), time.clone());
            Exchanger::from_fn(move |exchange| {
                let (channel, clock, neighbour, time) =
                    (channel.clone(), clock.clone(), neighbour.clone(), time.clone());
                async move {
                    if exchange.client.endpoint_without_query() == neighbour::ENDPOINT {
                        return lock(&neighbour).exchange(&exchange, time.now());
                    }
                    let deadline = exchange.deadline;
                    match clock.before(deadline, channel.ask(Step::Exchange(Box::new(exchange)))).await {
                        None => TokenResponse::Failed(TransportError::MaybeSpent {
                            what: "no response in time".to_owned(),
                            responded: false,
                        }),
                        Some(Reply::Response(response)) => response,
                        Some(other) => unreachable!("{other:?}"),
                    }
                }
            })
        };
        let store = Store { channel: channel.clone(), neighbour: neighbour.clone(), time: time.clone() };
        let invoke = match pacing {
            Pacing::None => {
                let refresher = Refresher::new(store, exchanger, clock, options.clone());
                invocations(refresher, Sweeper::default(), neighbour, &channel)
            }
            Pacing::ByStore => {
                let store = PacedStore::new(store, WRITES_PER_SECOND, clock.clone());
                let sweeper = Sweeper::new(store.writes().clone());
                let refresher = Refresher::new(store, exchanger, clock, options.clone());
                invocations(refresher, sweeper, neighbour, &channel)
            }
        };
        Self { invoke, channel }
    }
}

/// The invocations of a process with this memory.
fn invocations<S: SecretStore + 'static>(
    refresher: Refresher<S>,
    sweeper: Sweeper,
    neighbour: &SharedNeighbour,
    channel: &Channel,
) -> Arc<dyn Fn(Task, DateTime<Utc>) -> Running + Send + Sync> {
    let (refresher, sweeper, channel) = (Arc::new(refresher), Arc::new(sweeper), channel.clone());
    let has_neighbour = lock(neighbour).exists();
    Arc::new(move |task, deadline| {
        let (refresher, sweeper, channel) = (Arc::clone(&refresher), Arc::clone(&sweeper), channel.clone());
        Box::pin(async move {
            match task {
                Task::Run(mode) => {
                    let request = Request { secret_id: NAME, mode: &mode, deadline };
                    let result = refresher.run(request, &Observation::default()).await;
                    End { result: Some(result), sweep: None, others: Vec::new() }
                }
                Task::Sweep(search) => {
                    let mut targets = Many::default();
                    match search {
                        Search::Prefix => targets.prefixes.push(PREFIX.to_owned()),
                        Search::Names => targets.names.push(NAME.to_owned()),
                    }
                    if search == Search::Names && has_neighbour {
                        targets.names.push(neighbour::NAME.to_owned());
                    }
                    lock(&channel.0).ended.clear();
                    let on_end = |end: &SecretEnd<'_>| {
                        let result = end.result.cloned().map_err(Clone::clone);
                        lock(&channel.0).ended.push((end.secret_id.to_owned(), result));
                    };
                    let request = SweepRequest { targets: &targets, dry: false, deadline };
                    let summary = sweeper.sweep(&refresher, request, &on_end).await;
                    let ended = mem::take(&mut lock(&channel.0).ended);
                    let mut others = ended;
                    let mut result = None;
                    if let Some(own) = others.iter().position(|(secret_id, _)| secret_id == NAME) {
                        result = Some(others.remove(own).1);
                    }
                    End { result, sweep: Some(summary), others }
                }
            }
        })
    })
}

#[derive(Clone, Debug)]
pub enum RunState {
    /// It waits for the reply to one of these steps, or for the end of a pause.
    Waits {
        steps: Vec<WaitingStep>,
        pause_ends_at: Option<DateTime<Utc>>,
        /// How a sweep has ended for the token secret, if it has.
        result: Option<Box<Result<Completed, Error>>>,
    },
    Ended(Box<End>),
}

/// A step that waits for its reply.
#[derive(Clone, Debug)]
pub struct WaitingStep {
    number: u64,
    pub step: Step,
    /// The time limit.
    pub until: Option<DateTime<Utc>>,
}

impl WaitingStep {
    /// Counts the steps of a process.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

/// An invocation that has not ended. Dropping it is a crash.
pub struct Run {
    running: Running,
    channel: Channel,
}

/// Notes that a future is to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Run {
    /// Starts an invocation and lets it reach its first step.
    pub fn start(process: &Process, task: Task, deadline: DateTime<Utc>) -> (Self, RunState) {
        let mut run = Self { running: (process.invoke)(task, deadline), channel: process.channel.clone() };
        let state = run.resume(None);
        (run, state)
    }

    /// Resumes the invocation with the reply to a step, or, with `None`, so that it reads the clock.
    pub fn resume(&mut self, reply: Option<(&WaitingStep, Reply)>) -> RunState {
        let wakers = {
            let mut state = lock(&self.channel.0);
            if let Some((to, reply)) = reply {
                let asked = state.asked.iter_mut().find(|asked| asked.number == to.number);
                asked.expect("a step that waits").reply = Some(reply);
            }
            state.wakes_at = None;
            mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(end) = self.running.as_mut().poll(&mut Context::from_waker(&waker)) {
                return RunState::Ended(Box::new(end));
            }
            if !woken.0.load(Ordering::Relaxed) {
                break;
            }
        }
        let state = lock(&self.channel.0);
        let steps = state.asked.iter().map(|asked| WaitingStep {
            number: asked.number,
            step: asked.step.clone(),
            until: asked.until,
        });
        let (steps, pause_ends_at): (Vec<_>, _) = (steps.collect(), state.wakes_at);
        assert!(!steps.is_empty() || pause_ends_at.is_some(), "a run waits for neither a reply nor a timer");
        let own = state.ended.iter().find(|(secret_id, _)| secret_id == NAME);
        RunState::Waits { steps, pause_ends_at, result: own.map(|(_, result)| Box::new(result.clone())) }
    }
}
