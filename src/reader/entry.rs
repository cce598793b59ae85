//! One version in memory: until when it is fresh, and whether the provider has rejected it. Knows neither clock nor source.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};

use super::policy::Times;
use crate::store::VersionId;

/// A look in the background that has not ended after this long counts as lost: its runtime has ended.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(60);

/// A version in memory. Times are milliseconds since the epoch.
pub(super) struct Entry<V> {
    pub value: V,
    pub version_id: VersionId,
    look_from: AtomicI64,
    fresh_until: AtomicI64,
    usable_until: i64,
    rejected: AtomicBool,
    /// Rejections before this time are not heeded: one was answered for just now.
    heeds_rejections_from: AtomicI64,
}

impl<V> Entry<V> {
    pub fn new(value: V, version_id: VersionId, times: Times) -> Self {
        Self {
            value,
            version_id,
            look_from: AtomicI64::new(times.look_from.timestamp_millis()),
            fresh_until: AtomicI64::new(times.fresh_until.timestamp_millis()),
            usable_until: times.usable_until.map_or(i64::MAX, |until| until.timestamp_millis()),
            rejected: AtomicBool::new(false),
            heeds_rejections_from: AtomicI64::new(i64::MIN),
        }
    }

    /// It was read again, or could not be and has to do a while longer.
    pub fn renew(&self, times: Times) {
        self.look_from.store(times.look_from.timestamp_millis(), Relaxed);
        self.fresh_until.store(times.fresh_until.timestamp_millis(), Relaxed);
    }

    /// When it is no longer to be handed out; `None`: nothing is known against it.
    pub fn usable_until(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.usable_until).filter(|_| self.usable_until != i64::MAX)
    }

    /// The provider has rejected it; heeded from a time on.
    pub fn reject(&self, now: DateTime<Utc>) {
        if now.timestamp_millis() >= self.heeds_rejections_from.load(Relaxed) {
            self.rejected.store(true, Relaxed);
        }
    }

    pub fn is_rejected(&self) -> bool {
        self.rejected.load(Relaxed)
    }

    /// Takes a rejection as answered for; for a while others are not heeded.
    pub fn settle_rejection(&self, heeded_from: DateTime<Utc>) {
        self.heeds_rejections_from.store(heeded_from.timestamp_millis(), Relaxed);
        self.rejected.store(false, Relaxed);
    }

    pub fn is_usable(&self, now: DateTime<Utc>) -> bool {
        now.timestamp_millis() < self.usable_until && !self.is_rejected()
    }

    pub fn is_fresh(&self, now: i64) -> bool {
        now < self.fresh_until.load(Relaxed).min(self.usable_until) && !self.is_rejected()
    }

    /// Whether a look in the background is due; true for one caller only.
    pub fn takes_look(&self, now: i64) -> bool {
        let from = self.look_from.load(Relaxed);
        let lost = now.saturating_add(LOST_AFTER.num_milliseconds());
        now >= from && self.look_from.compare_exchange(from, lost, Relaxed, Relaxed).is_ok()
    }
}
