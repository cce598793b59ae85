//! One cached version: how long it is fresh, and whether the provider has rejected it. Knows neither clock nor source.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};

use super::{pause::Pause, policy::Times};
use crate::store::VersionId;

/// The shortest time between the starts of two background refreshes. If the first one still runs then, it is joined.
const BACKGROUND_REFRESH: TimeDelta = TimeDelta::seconds(15);

/// A cached version. Times are milliseconds since the epoch; [`Times`] explains them.
pub(super) struct Entry<V> {
    pub value: V,
    pub version_id: VersionId,
    until_refresh: Pause,
    fresh_until: AtomicI64,
    usable_until: i64,
    rejected: AtomicBool,
    ignoring_rejections: Pause,
}

impl<V> Entry<V> {
    pub fn new(value: V, version_id: VersionId, times: Times, now: DateTime<Utc>) -> Self {
        Self {
            value,
            version_id,
            until_refresh: Pause::of(times.refresh_from - now, now),
            fresh_until: AtomicI64::new(times.fresh_until.timestamp_millis()),
            usable_until: times.usable_until.map_or(i64::MAX, |until| until.timestamp_millis()),
            rejected: AtomicBool::new(false),
            ignoring_rejections: Pause::over(),
        }
    }

    /// Sets new times: after the same version was read again, or when a failed read makes it necessary to use it longer. When the value
    /// expires does not change.
    pub fn renew(&self, times: Times, now: DateTime<Utc>) {
        self.until_refresh.start(times.refresh_from - now, now);
        self.fresh_until.store(times.fresh_until.timestamp_millis(), Relaxed);
    }

    /// When the value must no longer be used. `None`: it does not expire.
    pub fn usable_until(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.usable_until).filter(|_| self.usable_until != i64::MAX)
    }

    /// Marks the version as rejected by the provider, unless rejections are ignored now.
    pub fn reject(&self, now: DateTime<Utc>) {
        if self.ignoring_rejections.is_over(now) {
            self.rejected.store(true, Relaxed);
        }
    }

    pub fn is_rejected(&self) -> bool {
        self.rejected.load(Relaxed)
    }

    /// Removes the rejection mark, and ignores further rejections for this long.
    pub fn clear_rejection(&self, ignored_for: TimeDelta, now: DateTime<Utc>) {
        self.ignoring_rejections.start(ignored_for, now);
        self.rejected.store(false, Relaxed);
    }

    pub fn is_usable(&self, now: DateTime<Utc>) -> bool {
        now.timestamp_millis() < self.usable_until && !self.is_rejected()
    }

    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now.timestamp_millis() < self.fresh_until.load(Relaxed).min(self.usable_until) && !self.is_rejected()
    }

    /// Whether a background refresh is due. Returns true to one caller, which must start it.
    pub fn try_start_refresh(&self, now: DateTime<Utc>) -> bool {
        self.until_refresh.restart_if_over(BACKGROUND_REFRESH, now)
    }
}
