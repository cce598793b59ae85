//! One run of the real protocol, moved by hand: it stops at every call to the store, every exchange and every pause,
//! and goes on when it is given the reply. Decides nothing, and knows nothing of what a store or a provider does.

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

/// The secret of every world.
pub const NAME: &str = "crm/prod/oauth";

/// The secret that readers read, where there is one.
pub const READERS: &str = "crm/prod/access";

/// What a run waits for.
#[derive(Clone, Debug)]
pub enum Step {
    Get(Which),
    Put {
        id: VersionId,
        label: Label,
        body: Secret,
    },
    Move {
        from: VersionId,
        to: VersionId,
    },
    List,
    Exchange(Box<Exchange>),
    /// The same, of the secret that readers read.
    OfReaders(Box<Step>),
}

/// Which version to read.
#[derive(Clone, Debug)]
pub enum Which {
    Id(VersionId),
    Label(Label),
}

/// What it gets.
#[derive(Debug)]
pub enum Reply {
    Version(Result<Version, StoreError>),
    Done(Result<(), StoreError>),
    Listed(Result<Vec<Listed>, StoreError>),
    Answer(TokenResponse),
}

/// Where a run and the one who moves it meet.
#[derive(Debug, Default)]
struct Desk {
    step: Option<Step>,
    reply: Option<Reply>,
    /// When the first of the run's timers goes off.
    wakes_at: Option<DateTime<Utc>>,
}

/// The time of a world, shared by all in it.
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

/// A process's side of its desk.
#[derive(Clone, Debug)]
struct Seat(Arc<Mutex<Desk>>);

impl Seat {
    async fn ask(&self, step: Step) -> Reply {
        struct Leave<'a>(&'a Seat);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                lock(&self.0.0).step = None;
            }
        }
        lock(&self.0).step = Some(step);
        let _leave = Leave(self);
        poll_fn(|_| lock(&self.0).reply.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    fn clock(&self, time: &Time) -> Clock {
        let (reader, sleeper, seat) = (time.clone(), time.clone(), self.clone());
        Clock::new(
            move || reader.now(),
            move |duration| {
                let (time, seat) = (sleeper.clone(), seat.clone());
                let wakes_at = time.now() + TimeDelta::from_std(duration).expect("a short time");
                poll_fn(move |_| {
                    if time.now() >= wakes_at {
                        return Poll::Ready(());
                    }
                    let mut desk = lock(&seat.0);
                    desk.wakes_at = Some(desk.wakes_at.map_or(wakes_at, |first| first.min(wakes_at)));
                    Poll::Pending
                })
            },
        )
    }
}

/// The store, as a process reaches it.
#[derive(Debug)]
struct Store(Seat);

impl Store {
    async fn ask(&self, secret_id: &str, step: Step) -> Reply {
        self.0.ask(if secret_id == READERS { Step::OfReaders(Box::new(step)) } else { step }).await
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
        aws::advice(error, secret_id)
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

    async fn move_current(&self, secret_id: &str, from: &VersionId, to: &VersionId) -> Result<(), StoreError> {
        match self.ask(secret_id, Step::Move { from: from.clone(), to: to.clone() }).await {
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

/// A process: what it holds in memory lives as long as this.
#[derive(Clone)]
pub struct Process {
    refresher: Arc<Refresher<Store>>,
    seat: Seat,
}

impl Process {
    pub fn new(time: &Time, options: &Options) -> Self {
        let seat = Seat(Arc::default());
        let clock = seat.clock(time);
        let exchanger = {
            let (seat, clock) = (seat.clone(), clock.clone());
            Exchanger::from_fn(move |exchange| {
                let (seat, clock) = (seat.clone(), clock.clone());
                async move {
                    let deadline = exchange.deadline;
                    match clock.before(deadline, seat.ask(Step::Exchange(Box::new(exchange)))).await {
                        None => TokenResponse::Failed(TransportError::MaybeSpent("did not answer in time".to_owned())),
                        Some(Reply::Answer(response)) => response,
                        Some(other) => unreachable!("{other:?}"),
                    }
                }
            })
        };
        let refresher = Refresher::new(Store(seat.clone()), exchanger, clock, options.clone());
        Self { refresher: Arc::new(refresher), seat }
    }
}

/// Where a run stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It asks for something, and waits for the answer until then.
    Asks(Step, Option<DateTime<Utc>>),
    /// It pauses until then.
    Sleeps(DateTime<Utc>),
    /// It has ended.
    Ended(Box<Result<Completed, Error>>),
}

/// A run on its way. Dropped, it has crashed.
pub struct Run {
    running: Pin<Box<dyn Future<Output = Result<Completed, Error>> + Send>>,
    seat: Seat,
}

impl Run {
    /// Begins a run and goes to its first step.
    pub fn begin(process: &Process, mode: Mode, deadline: DateTime<Utc>) -> (Self, Standing) {
        let refresher = Arc::clone(&process.refresher);
        let running = async move {
            refresher.run(Request { secret_id: NAME, mode: &mode, deadline }, &Observation::default()).await
        };
        let mut run = Self { running: Box::pin(running), seat: process.seat.clone() };
        let standing = run.go_on(None);
        (run, standing)
    }

    /// Gives the run a reply, or (`None`) lets it see what time it is.
    pub fn go_on(&mut self, reply: Option<Reply>) -> Standing {
        {
            let mut desk = lock(&self.seat.0);
            desk.reply = reply;
            desk.wakes_at = None;
        }
        match self.running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Standing::Ended(Box::new(result)),
            Poll::Pending => {
                let desk = lock(&self.seat.0);
                match (&desk.step, desk.wakes_at) {
                    (Some(step), until) => Standing::Asks(step.clone(), until),
                    (None, Some(wakes_at)) => Standing::Sleeps(wakes_at),
                    (None, None) => panic!("a run waits for nothing at all"),
                }
            }
        }
    }
}
