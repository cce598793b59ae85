//! The passing of time, as a value: what time it is, and waiting. Everything that needs time gets a [`Clock`].

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells the time and waits. [`Clock::system`] is the real one; a simulation brings its own two functions.
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

    /// A clock of the caller's making.
    pub fn new<F>(
        now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
        sleep: impl Fn(Duration) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { now: Arc::new(now), sleep: Arc::new(move |duration| Box::pin(sleep(duration))) }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        (self.now)()
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        (self.sleep)(duration).await;
    }

    /// How long it is until `deadline`; zero once it has passed.
    #[must_use]
    pub fn until(&self, deadline: DateTime<Utc>) -> Duration {
        (deadline - self.now()).max(TimeDelta::zero()).to_std().unwrap_or_default()
    }

    /// Runs `work` until `deadline`; `None` when the deadline came first (`work` is then dropped where it stands).
    pub async fn before<T>(&self, deadline: DateTime<Utc>, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(self.until(deadline)) => None,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
