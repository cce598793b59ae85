//! What the runs of one sweep share: the secrets of clients, each read once. Decides nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::OnceCell;

use crate::{
    clock::Clock,
    store::{StoreError, Version},
};

/// The most clients' secrets in memory. Further ones are read for each token.
const MAX_CLIENTS: usize = 256;

/// How long a client's secret is not read again after a read failed.
const PAUSE: TimeDelta = TimeDelta::seconds(30);

type Reading = Arc<OnceCell<Result<Version, StoreError>>>;

/// What the runs of one sweep share.
#[derive(Debug, Default)]
pub struct Shared {
    clients: Mutex<HashMap<String, Reading>>,
    /// The clients' secrets that could not be read, and when that was.
    failed: Mutex<HashMap<String, DateTime<Utc>>>,
}

impl Shared {
    /// The current version of a client's secret. Calls `read` once for all runs. After `Throttled` and `Unavailable` no run reads it for
    /// a moment, so that a secret that hangs does not take the time of all its tokens.
    pub(super) async fn client_secret(
        &self,
        secret_id: &str,
        clock: &Clock,
        read: impl Future<Output = Result<Version, StoreError>>,
    ) -> Result<Version, StoreError> {
        let Some(reading) = self.reading(secret_id) else { return read.await };
        // If the run that reads it ends before its deadline, another one reads it.
        let kept = reading.get_or_try_init(|| async {
            let failed_at = self.failed().get(secret_id).copied();
            if failed_at.is_some_and(|failed_at| (clock.now() - failed_at).abs() < PAUSE) {
                let detail = "it could not be read a moment ago".to_owned();
                return Err(StoreError::Unavailable { action: "read the client's secret", detail });
            }
            match read.await {
                Err(error @ (StoreError::Throttled { .. } | StoreError::Unavailable { .. })) => {
                    let mut failed = self.failed();
                    if failed.len() < MAX_CLIENTS {
                        failed.insert(secret_id.to_owned(), clock.now());
                    }
                    Err(error)
                }
                result => Ok(result),
            }
        });
        kept.await?.clone()
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<String, DateTime<Utc>>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self, secret_id: &str) -> Option<Reading> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = clients.get(secret_id) {
            return Some(Arc::clone(reading));
        }
        if clients.len() == MAX_CLIENTS {
            return None;
        }
        Some(Arc::clone(clients.entry(secret_id.to_owned()).or_default()))
    }
}
