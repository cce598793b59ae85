//! One cached version: how long it is fresh, and whether the provider has rejected it. Knows neither clock nor source.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};

use super::policy::Times;
use crate::store::VersionId;

/// After this long a background refresh counts as lost, because its runtime has ended. Then another one may start.
const REFRESH_LOST_AFTER: TimeDelta = TimeDelta::seconds(60);

/// A cached version. Times are milliseconds since the epoch; [`Times`] explains them.
pub(super) struct Entry<V> {
    pub value: V,
    pub version_id: VersionId,
    refresh_from: AtomicI64,
    fresh_until: AtomicI64,
    usable_until: i64,
    rejected: AtomicBool,
    rejections_ignored_until: AtomicI64,
}

impl<V> Entry<V> {
    pub fn new(value: V, version_id: VersionId, times: Times) -> Self {
        Self {
            value,
            version_id,
            refresh_from: AtomicI64::new(times.refresh_from.timestamp_millis()),
            fresh_until: AtomicI64::new(times.fresh_until.timestamp_millis()),
            usable_until: times.usable_until.map_or(i64::MAX, |until| until.timestamp_millis()),
            rejected: AtomicBool::new(false),
            rejections_ignored_until: AtomicI64::new(i64::MIN),
        }
    }

    /// Sets new times: after the same version was read again, or when a failed read makes it necessary to use it longer.
    pub fn renew(&self, times: Times) {
        self.refresh_from.store(times.refresh_from.timestamp_millis(), Relaxed);
        self.fresh_until.store(times.fresh_until.timestamp_millis(), Relaxed);
    }

    /// When the value must no longer be used. `None`: it does not expire.
    pub fn usable_until(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.usable_until).filter(|_| self.usable_until != i64::MAX)
    }

    /// Marks the version as rejected by the provider, unless rejections are ignored now.
    pub fn reject(&self, now: DateTime<Utc>) {
        if now.timestamp_millis() >= self.rejections_ignored_until.load(Relaxed) {
            self.rejected.store(true, Relaxed);
        }
    }

    pub fn is_rejected(&self) -> bool {
        self.rejected.load(Relaxed)
    }

    /// Removes the rejection mark, and ignores further rejections until then.
    pub fn clear_rejection(&self, ignore_until: DateTime<Utc>) {
        self.rejections_ignored_until.store(ignore_until.timestamp_millis(), Relaxed);
        self.rejected.store(false, Relaxed);
    }

    pub fn is_usable(&self, now: DateTime<Utc>) -> bool {
        now.timestamp_millis() < self.usable_until && !self.is_rejected()
    }

    pub fn is_fresh(&self, now: i64) -> bool {
        now < self.fresh_until.load(Relaxed).min(self.usable_until) && !self.is_rejected()
    }

    /// Whether a background refresh is due. Returns true to one caller only, which must start it.
    pub fn try_start_refresh(&self, now: i64) -> bool {
        let from = self.refresh_from.load(Relaxed);
        let lost = now.saturating_add(REFRESH_LOST_AFTER.num_milliseconds());
        now >= from && self.refresh_from.compare_exchange(from, lost, Relaxed, Relaxed).is_ok()
    }
}
