//! One run of the real protocol, step by step. It stops at every call to the store, every exchange and every pause, and resumes
//! when it gets the reply. Decides nothing, and does not know how a store or a provider responds.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
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
    store::{Label, Limits, Listed, Operation, SecretStore, Selector, StoreError, Version, VersionId, aws},
};

/// The token secret of every world.
pub const NAME: &str = "crm/prod/oauth";

/// The published secret, if the world has one.
pub const PUBLISHED_NAME: &str = "crm/prod/access";

/// What a run waits for: a call to the store, or an exchange.
#[derive(Clone, Debug)]
pub enum Step {
    Get(Which),
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
    Done(Result<(), StoreError>),
    Listed(Result<Vec<Listed>, StoreError>),
    Response(TokenResponse),
}

/// What a run and the test that drives it exchange.
#[derive(Debug, Default)]
struct ChannelState {
    step: Option<Step>,
    reply: Option<Reply>,
    /// When the first of the run's timers ends.
    wakes_at: Option<DateTime<Utc>>,
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
#[derive(Clone, Debug)]
struct Channel(Arc<Mutex<ChannelState>>);

impl Channel {
    async fn ask(&self, step: Step) -> Reply {
        struct ClearStep<'a>(&'a Channel);
        impl Drop for ClearStep<'_> {
            fn drop(&mut self) {
                lock(&self.0.0).step = None;
            }
        }
        lock(&self.0).step = Some(step);
        let _clear_step = ClearStep(self);
        poll_fn(|_| lock(&self.0).reply.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    fn clock(&self, time: &Time) -> Clock {
        let (reader, sleeper, channel) = (time.clone(), time.clone(), self.clone());
        Clock::new(
            move || reader.now(),
            move |duration| {
                let (time, channel) = (sleeper.clone(), channel.clone());
                let wakes_at = time.now() + TimeDelta::from_std(duration).expect("a short time");
                poll_fn(move |_| {
                    if time.now() >= wakes_at {
                        return Poll::Ready(());
                    }
                    let mut shared = lock(&channel.0);
                    shared.wakes_at = Some(shared.wakes_at.map_or(wakes_at, |first| first.min(wakes_at)));
                    Poll::Pending
                })
            },
        )
    }
}

/// The store of a process.
#[derive(Debug)]
struct Store(Channel);

impl Store {
    async fn ask(&self, secret_id: &str, step: Step) -> Reply {
        self.0.ask(if secret_id == PUBLISHED_NAME { Step::OnPublished(Box::new(step)) } else { step }).await
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

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        match self.ask(secret_id, Step::List).await {
            Reply::Listed(listed) => listed,
            other => unreachable!("{other:?}"),
        }
    }
}

/// A process, with its memory.
#[derive(Clone)]
pub struct Process {
    refresher: Arc<Refresher<Store>>,
    channel: Channel,
}

impl Process {
    pub fn new(time: &Time, options: &Options) -> Self {
        let channel = Channel(Arc::default());
        let clock = channel.clock(time);
        let exchanger = {
            let (channel, clock) = (channel.clone(), clock.clone());
            Exchanger::from_fn(move |exchange| {
                let (channel, clock) = (channel.clone(), clock.clone());
                async move {
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
        let refresher = Refresher::new(Store(channel.clone()), exchanger, clock, options.clone());
        Self { refresher: Arc::new(refresher), channel }
    }
}

#[derive(Clone, Debug)]
pub enum RunState {
    /// It waits for the reply to a step, until this time if there is a limit.
    AtStep(Step, Option<DateTime<Utc>>),
    /// It pauses until this time.
    Sleeps(DateTime<Utc>),
    Ended(Box<Result<Completed, Error>>),
}

/// A run that has not ended. Dropping it is a crash.
pub struct Run {
    running: Pin<Box<dyn Future<Output = Result<Completed, Error>> + Send>>,
    channel: Channel,
}

impl Run {
    /// Starts a run and lets it reach its first step.
    pub fn start(process: &Process, mode: Mode, deadline: DateTime<Utc>) -> (Self, RunState) {
        let refresher = Arc::clone(&process.refresher);
        let running = async move {
            refresher.run(Request { secret_id: NAME, mode: &mode, deadline }, &Observation::default()).await
        };
        let mut run = Self { running: Box::pin(running), channel: process.channel.clone() };
        let state = run.resume(None);
        (run, state)
    }

    /// Resumes the run with a reply, or, with `None`, so that it reads the clock.
    pub fn resume(&mut self, reply: Option<Reply>) -> RunState {
        {
            let mut channel = lock(&self.channel.0);
            channel.reply = reply;
            channel.wakes_at = None;
        }
        match self.running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => RunState::Ended(Box::new(result)),
            Poll::Pending => {
                let channel = lock(&self.channel.0);
                match (&channel.step, channel.wakes_at) {
                    (Some(step), until) => RunState::AtStep(step.clone(), until),
                    (None, Some(wakes_at)) => RunState::Sleeps(wakes_at),
                    (None, None) => panic!("a run waits for neither a reply nor a timer"),
                }
            }
        }
    }
}
