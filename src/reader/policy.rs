//! Decides how long a value may be used, and when to read the secret again. The functions get the time as an argument: no IO, no
//! clock. A background refresh is a read of the secret while the cached value is still used.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The refresher's default margin (`REFRESH_MARGIN_SECONDS`), for a secret without its own margin.
const DEFAULT_MARGIN: TimeDelta = TimeDelta::seconds(900);

/// A token is not used in the last part of its lifetime, because a request takes time to arrive and clocks differ: this long, or
/// a tenth of the lifetime if that is less.
const MAX_LEEWAY: TimeDelta = TimeDelta::seconds(10);

/// How long a token without `expiresAt` is used before the secret is read again.
const UNKNOWN_EXPIRY_TTL: Duration = Duration::from_mins(1);

/// The shortest time between two background refreshes.
const MIN_INTERVAL: TimeDelta = TimeDelta::milliseconds(250);

/// The longest time between a failed read and the next one.
const MAX_RETRY_INTERVAL: TimeDelta = TimeDelta::seconds(15);

/// Until when a value may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// From this time on a background refresh is due.
    pub refresh_from: DateTime<Utc>,
    /// From this time on a caller waits for a load.
    pub fresh_until: DateTime<Utc>,
    /// From this time on the value is not used, even if the source is unavailable. `None`: it does not expire.
    pub usable_until: Option<DateTime<Utc>>,
}

/// The times of a token. `None`: it has expired, or expires within the leeway. `jitter`: from 0 to 1, so that not all readers read
/// at the same time.
///
/// The refresher should write new tokens one margin before expiry, or a third of the lifetime before expiry if that is less. From
/// then on a reader reads ten times in that margin, and more often at the end.
pub(super) fn token_times(
    expires_at: Option<DateTime<Utc>>,
    refreshed_at: Option<DateTime<Utc>>,
    own_margin: Option<Duration>,
    now: DateTime<Utc>,
    jitter: f64,
) -> Option<Times> {
    let Some(expires_at) = expires_at else { return Some(secret_times(UNKNOWN_EXPIRY_TTL, now, jitter)) };
    let lifetime = refreshed_at.map(|from| expires_at - from).filter(|lifetime| *lifetime > TimeDelta::zero());
    let usable_until = expires_at - lifetime.map_or(MAX_LEEWAY, |lifetime| (lifetime / 10).min(MAX_LEEWAY));
    if now >= usable_until {
        return None;
    }
    let margin = own_margin.and_then(|margin| TimeDelta::from_std(margin).ok()).unwrap_or(DEFAULT_MARGIN);
    let margin = lifetime.map_or(margin, |lifetime| margin.min(lifetime / 3));
    let due_at = expires_at - margin;
    let interval = margin / 10;
    let refresh_from = if now < due_at {
        due_at + scale(interval, jitter)
    } else {
        now + scale(interval, 0.75 + jitter / 2.0).min((usable_until - now) / 2).max(MIN_INTERVAL)
    };
    Some(Times { refresh_from, fresh_until: usable_until, usable_until: Some(usable_until) })
}

/// The times of a secret without an expiry: its background refresh is due in the last fifth of `ttl`.
pub(super) fn secret_times(ttl: Duration, now: DateTime<Utc>, jitter: f64) -> Times {
    let ttl = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::days(1)).min(TimeDelta::days(1));
    let refresh_from = now + scale(ttl, 0.8 + jitter / 10.0);
    Times { refresh_from, fresh_until: now + ttl, usable_until: None }
}

/// How long to wait after a failed read.
pub(super) fn retry_interval(usable_until: Option<DateTime<Utc>>, now: DateTime<Utc>, jitter: f64) -> TimeDelta {
    let left = usable_until.map_or(MAX_RETRY_INTERVAL * 2, |until| until - now);
    scale((left / 2).min(MAX_RETRY_INTERVAL), 0.5 + jitter / 2.0).max(MIN_INTERVAL)
}

fn scale(duration: TimeDelta, factor: f64) -> TimeDelta {
    duration.to_std().map_or(TimeDelta::zero(), |duration| {
        TimeDelta::from_std(duration.mul_f64(factor)).unwrap_or(TimeDelta::zero())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    /// In seconds since the token was issued: when a refresh is due, and until when the token is used.
    fn token(lifetime: i64, now: i64, own_margin: Option<u64>, jitter: f64) -> Option<(i64, i64)> {
        let own_margin = own_margin.map(Duration::from_secs);
        let times = token_times(Some(at(lifetime)), Some(at(0)), own_margin, at(now), jitter)?;
        assert_eq!(times.usable_until, Some(times.fresh_until));
        Some(((times.refresh_from - at(0)).num_seconds(), (times.fresh_until - at(0)).num_seconds()))
    }

    #[test]
    fn a_token_is_used_until_shortly_before_expiry_and_refreshed_from_its_margin_on() {
        for (lifetime, now, own_margin, jitter, expected) in [
            // 900 s before expiry, and up to a tenth of that later.
            (HOUR, 0, None, 0.0, Some((2700, 3590))),
            (HOUR, 0, None, 1.0, Some((2790, 3590))),
            (HOUR, 2699, None, 0.0, Some((2700, 3590))),
            // No new token yet: about every 90 s.
            (HOUR, 2700, None, 0.0, Some((2767, 3590))),
            (HOUR, 2700, None, 1.0, Some((2812, 3590))),
            // Near the end: half of the remaining time.
            (HOUR, 3550, None, 0.5, Some((3570, 3590))),
            (HOUR, 3589, None, 0.5, Some((3589, 3590))),
            (HOUR, 3590, None, 0.5, None),
            // A margin of a third of the lifetime, and a leeway of a tenth.
            (60, 0, None, 0.0, Some((40, 54))),
            (60, 53, None, 0.0, Some((53, 54))),
            (60, 54, None, 0.0, None),
            // The secret's own margin.
            (HOUR, 0, Some(60), 0.0, Some((3540, 3590))),
            (HOUR, 0, Some(86_400), 0.0, Some((2400, 3590))),
            (-1, 0, None, 0.0, None),
        ] {
            assert_eq!(token(lifetime, now, own_margin, jitter), expected, "{lifetime} {now} {own_margin:?} {jitter}");
        }
    }

    #[test]
    fn a_token_without_refreshed_at_has_the_whole_margin_and_one_without_expires_at_a_minute() {
        let times = token_times(Some(at(60)), None, None, at(0), 0.0).unwrap();
        assert_eq!((times.refresh_from, times.fresh_until), (at(25), at(50)));
        let times = token_times(None, Some(at(-1)), None, at(0), 0.0).unwrap();
        assert_eq!(times, Times { refresh_from: at(48), fresh_until: at(60), usable_until: None });
    }

    #[test]
    fn a_secret_without_expiry_is_refreshed_in_the_last_fifth_of_its_ttl() {
        for (ttl, jitter, refresh_from, fresh_until) in [(300, 0.0, 240, 300), (300, 1.0, 270, 300), (0, 0.5, 0, 0)] {
            let times = secret_times(Duration::from_secs(ttl), at(0), jitter);
            assert_eq!(
                times,
                Times { refresh_from: at(refresh_from), fresh_until: at(fresh_until), usable_until: None }
            );
        }
        assert_eq!(secret_times(Duration::MAX, at(0), 0.0).fresh_until, at(86_400));
    }

    #[test]
    fn a_failed_read_is_retried_within_fifteen_seconds_and_sooner_near_the_end() {
        for (left, jitter, seconds) in [
            (None, 0.0, 7.5),
            (None, 1.0, 15.0),
            (Some(100), 1.0, 15.0),
            (Some(10), 1.0, 5.0),
            (Some(1), 0.0, 0.25),
            (Some(0), 1.0, 0.25),
        ] {
            let interval = retry_interval(left.map(at), at(0), jitter);
            assert!((interval.as_seconds_f64() - seconds).abs() < 1e-6, "{left:?} {jitter}: {interval}");
        }
    }
}
