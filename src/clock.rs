//! The clock: the current time, and waiting. All code that needs the time gets a [`Clock`].

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Returns the time and waits. [`Clock::system`] is the real clock; a simulation provides its own two functions.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    sleep: Arc<dyn Fn(Duration) -> Sleep + Send + Sync>,
}

impl Clock {
    /// The machine's clock and Tokio's timer.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Utc::now, tokio::time::sleep)
    }

    /// A clock that the caller provides, as two functions.
    pub fn new<F>(
        now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
        sleep: impl Fn(Duration) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { now: Arc::new(now), sleep: Arc::new(move |duration| Box::pin(sleep(duration))) }
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        (self.now)()
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        (self.sleep)(duration).await;
    }

    /// The time left until `deadline`; zero if it has passed.
    #[must_use]
    pub fn until(&self, deadline: DateTime<Utc>) -> Duration {
        (deadline - self.now()).max(TimeDelta::zero()).to_std().unwrap_or_default()
    }

    /// Runs `work` until `deadline`. `None`: the deadline came first, and `work` was dropped unfinished.
    pub async fn before<T>(&self, deadline: DateTime<Utc>, work: impl Future<Output = T>) -> Option<T> {
        self.within(self.until(deadline), work).await
    }

    /// Runs `work` for this long at most. `None`: the time was over first, and `work` was dropped unfinished.
    pub async fn within<T>(&self, duration: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(duration) => None,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
