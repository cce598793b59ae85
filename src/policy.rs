//! The decisions of a run, as functions of values, time included. No IO, no clock.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    event::Mode,
    ledger::Claim,
    report::Reason,
    store::{Listed, UNLABELLED_KEPT, VERSION_QUOTA, Version},
    token_secret::TokenSecret,
};

/// With less time left than this a run does not begin what it may not be able to finish.
pub const MIN_TO_BEGIN: TimeDelta = TimeDelta::seconds(2);

/// What two writes need: with less time left the refresh token is not sent.
pub const TWO_WRITES: TimeDelta = TimeDelta::seconds(1);

/// The last moment of an invocation belongs to its answer.
pub const ANSWER: TimeDelta = TimeDelta::milliseconds(200);

/// How long one exchange may take.
pub const MAX_EXCHANGE: TimeDelta = TimeDelta::seconds(30);

/// For how long a promotion is tried.
pub const MAX_PROMOTION: TimeDelta = TimeDelta::seconds(3);

/// A lease ends this long after its holder's deadline: Lambda has ended the holder by then, clocks differ, reads lag.
const LEASE_GRACE: TimeDelta = TimeDelta::seconds(3);

/// No lease is longer, counted from the claim's creation: Lambda's longest timeout.
const MAX_LEASE: TimeDelta = TimeDelta::minutes(15);

/// What counts as the deadline where the one given cannot be true.
const DEFAULT_TIME: TimeDelta = TimeDelta::seconds(60);

/// The longest back-off.
const MAX_BACK_OFF: TimeDelta = TimeDelta::minutes(30);

/// What to do with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Leave it alone.
    Skip(Reason),
    /// Refresh it.
    Refresh(Reason),
}

/// Whether a token is to be refreshed now. `known_as`: whether the version that holds it is known by this id.
#[must_use]
pub fn decide(
    token: &TokenSecret,
    known_as: impl FnOnce(&str) -> bool,
    mode: &Mode,
    default_margin: Duration,
    now: DateTime<Utc>,
) -> Decision {
    match mode {
        Mode::Forced { if_version_id: Some(id) } if !known_as(id) => Decision::Skip(Reason::VersionNotCurrent),
        Mode::Forced { .. } => Decision::Refresh(Reason::Forced),
        Mode::Scheduled | Mode::DryRun => match due_at(token, default_margin) {
            Some(due_at) if now < due_at => Decision::Skip(Reason::NotDue),
            _ => Decision::Refresh(Reason::Due),
        },
    }
}

/// When the token falls due: its expiry less the margin, which is at most a third of its lifetime. `None`: at once.
fn due_at(token: &TokenSecret, default_margin: Duration) -> Option<DateTime<Utc>> {
    let expires_at = token.expires_at?;
    let margin = TimeDelta::from_std(token.refresh_margin.unwrap_or(default_margin)).ok()?;
    let lifetime = token.tokens.refreshed_at.map(|refreshed_at| expires_at - refreshed_at);
    let margin = match lifetime.filter(|lifetime| *lifetime > TimeDelta::zero()) {
        Some(lifetime) => margin.min(lifetime / 3),
        None => margin,
    };
    expires_at.checked_sub_signed(margin)
}

/// The deadline to work to: the invocation's, unless it cannot be true (some emulators send one in 1970).
#[must_use]
pub fn deadline(given: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    if given < now || given - now > MAX_LEASE { now + DEFAULT_TIME } else { given }
}

/// When the lease of a run with this deadline ends.
#[must_use]
pub fn lease_end(deadline: DateTime<Utc>) -> DateTime<Utc> {
    deadline + LEASE_GRACE
}

/// What the newest claim on a token means for a run that found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its holder may still be at work.
    Leased {
        /// When the lease ends.
        until: DateTime<Utc>,
    },
    /// Its holder is gone, and so were enough before it that it is too early to try again.
    BackingOff {
        /// When it no longer is.
        retry_at: DateTime<Utc>,
    },
    /// The next claim may be put.
    Free,
}

/// Judges the newest claim on a token. `patient`: neither forced, nor are the client settings others than the claim's.
///
/// A claim from so far in the future that no two clocks differ so much was made when this machine's clock was wrong (a
/// directory store dates by it). Its holder is hardly at work still, but only a person knows: force overrides it.
#[must_use]
pub fn standing(claim: &Claim, created: DateTime<Utc>, patient: bool, now: DateTime<Utc>) -> Standing {
    let lease_end = claim.lease_ends_at.min(created + MAX_LEASE);
    let retry_at = lease_end + back_off(claim.attempt);
    let believed = patient || created - now <= MAX_LEASE;
    if now < lease_end && believed {
        Standing::Leased { until: lease_end }
    } else if patient && now < retry_at {
        Standing::BackingOff { retry_at }
    } else {
        Standing::Free
    }
}

/// 2^n − 1 minutes after the n-th attempt (counted from 0), at most 30.
fn back_off(attempt: u32) -> TimeDelta {
    let minutes = 2_i64.saturating_pow(attempt) - 1;
    TimeDelta::minutes(minutes.min(MAX_BACK_OFF.num_minutes()))
}

/// How far apart refreshes must be for the quota not to be met: two versions a refresh, evenly spread, fill it in
/// 24 hours only when they come closer together.
const QUOTA_SPACING: TimeDelta = TimeDelta::minutes(30);

/// The same for `CLAIM=never`: one version a refresh.
const QUOTA_SPACING_WITHOUT_CLAIMS: TimeDelta = TimeDelta::minutes(15);

/// Whether the quota must be looked at before claiming: refreshes come close together, just now or because the token's
/// life is that short. Where it is, a pause proves nothing: the secret may have been full since the last look.
#[must_use]
pub fn crowded(token: &TokenSecret, created: DateTime<Utc>, default_margin: Duration, now: DateTime<Utc>) -> bool {
    now - created < QUOTA_SPACING || falls_due_within(QUOTA_SPACING, token, default_margin)
}

/// The same for `CLAIM=never`.
#[must_use]
pub fn crowded_without_claims(token: &TokenSecret, default_margin: Duration, now: DateTime<Utc>) -> bool {
    token.tokens.refreshed_at.is_some_and(|refreshed_at| now - refreshed_at < QUOTA_SPACING_WITHOUT_CLAIMS)
        || falls_due_within(QUOTA_SPACING_WITHOUT_CLAIMS, token, default_margin)
}

/// Whether the token falls due so soon after it was obtained.
fn falls_due_within(spacing: TimeDelta, token: &TokenSecret, default_margin: Duration) -> bool {
    let due_at = due_at(token, default_margin);
    // Before it was obtained: a person has set the expiry to have it refreshed, which says nothing of its life.
    due_at
        .zip(token.tokens.refreshed_at)
        .is_some_and(|(due_at, refreshed_at)| refreshed_at < due_at && due_at - refreshed_at < spacing)
}

/// How many versions can still be put: of those there, the labelled and the young ones do not make room.
#[must_use]
pub fn room(versions: &[Listed], now: DateTime<Utc>) -> usize {
    let kept = versions.iter().filter(|version| version.labelled || now - version.created < UNLABELLED_KEPT);
    VERSION_QUOTA.saturating_sub(kept.count())
}

/// The claim to go by where a version in a claim's place cannot be read as one: a full lease.
#[must_use]
pub fn claim_of_last_resort(attempt: u32, version: &Version) -> Claim {
    Claim { attempt, lease_ends_at: version.created + MAX_LEASE, client_settings: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap()
    }

    fn seconds(seconds: i64) -> TimeDelta {
        TimeDelta::seconds(seconds)
    }

    fn token(members: &str) -> TokenSecret {
        TokenSecret::parse(&format!(r#"{{"refreshToken":"r"{members}}}"#)).unwrap()
    }

    fn at(offset_seconds: i64) -> i64 {
        (now() + seconds(offset_seconds)).timestamp_millis()
    }

    fn is_due(members: &str) -> bool {
        let decision = decide(&token(members), |_| true, &Mode::Scheduled, Duration::from_mins(15), now());
        match decision {
            Decision::Refresh(reason) => {
                assert_eq!(reason, Reason::Due);
                true
            }
            Decision::Skip(reason) => {
                assert_eq!(reason, Reason::NotDue);
                false
            }
        }
    }

    #[test]
    fn a_token_is_due_from_its_margin_on() {
        for (seconds_left, due) in [(901, false), (900, true), (899, true), (0, true), (-5, true)] {
            assert_eq!(is_due(&format!(r#","expiresAt":{}"#, at(seconds_left))), due, "{seconds_left} s left");
        }
    }

    #[test]
    fn the_margin_is_at_most_a_third_of_the_lifetime() {
        for (lifetime, seconds_left, due) in [
            (2700, 901, false),
            (2700, 900, true),
            (1800, 601, false),
            (1800, 600, true),
            (3, 1, true),
            (3, 2, false),
            (-10, 901, false),
            (-10, 900, true),
        ] {
            let members = format!(r#","expiresAt":{},"refreshedAt":{}"#, at(seconds_left), at(seconds_left - lifetime));
            assert_eq!(is_due(&members), due, "lifetime {lifetime} s, {seconds_left} s left");
        }
    }

    #[test]
    fn the_secrets_own_margin_wins_over_the_setting() {
        for (margin, seconds_left, due) in [(100, 101, false), (100, 100, true), (5000, 5000, true), (0, 1, false)] {
            let members = format!(r#","expiresAt":{},"refreshMarginSeconds":{margin}"#, at(seconds_left));
            assert_eq!(is_due(&members), due, "margin {margin} s, {seconds_left} s left");
        }
    }

    #[test]
    fn a_token_without_expiry_is_due() {
        for members in ["", r#","expiresAt":null"#, r#","expiresAt":0"#] {
            assert!(is_due(members), "{members}");
        }
    }

    #[test]
    fn force_refreshes_what_is_not_due_unless_it_names_another_version() {
        let token = token(&format!(r#","expiresAt":{}"#, at(100_000)));
        for (if_version_id, decision) in [
            (None, Decision::Refresh(Reason::Forced)),
            (Some("v1"), Decision::Refresh(Reason::Forced)),
            (Some("v0"), Decision::Skip(Reason::VersionNotCurrent)),
        ] {
            let mode = Mode::Forced { if_version_id: if_version_id.map(str::to_owned) };
            assert_eq!(decide(&token, |id| id == "v1", &mode, Duration::from_mins(15), now()), decision);
        }
    }

    #[test]
    fn a_deadline_that_cannot_be_true_counts_as_a_minute_from_now() {
        for (given, expected) in [(-1, 60), (0, 0), (3, 3), (900, 900), (901, 60), (-1_767_225_000, 60)] {
            assert_eq!(deadline(now() + seconds(given), now()), now() + seconds(expected), "{given} s from now");
        }
    }

    #[test]
    fn a_claim_is_leased_then_backs_off_then_is_free() {
        let created = now();
        for (attempt, lease_ends_in, after, patient, expected) in [
            (0, 63, 62, true, Standing::Leased { until: now() + seconds(63) }),
            (0, 63, 63, true, Standing::Free),
            (0, 63, 62, false, Standing::Leased { until: now() + seconds(63) }),
            (1, 63, 63, true, Standing::BackingOff { retry_at: now() + seconds(63 + 60) }),
            (1, 63, 63 + 59, true, Standing::BackingOff { retry_at: now() + seconds(63 + 60) }),
            (1, 63, 63 + 60, true, Standing::Free),
            (1, 63, 63, false, Standing::Free),
            (2, 63, 63, true, Standing::BackingOff { retry_at: now() + seconds(63 + 180) }),
            (5, 63, 63, true, Standing::BackingOff { retry_at: now() + seconds(63 + 1800) }),
            (500, 63, 63, true, Standing::BackingOff { retry_at: now() + seconds(63 + 1800) }),
            // A holder's clock that is wrong: no lease is longer than 15 minutes.
            (0, 90_000, 899, true, Standing::Leased { until: now() + seconds(900) }),
            (0, 90_000, 900, true, Standing::Free),
            // Claims from the future.
            (0, 63, -900, true, Standing::Leased { until: now() + seconds(63) }),
            (0, 63, -900, false, Standing::Leased { until: now() + seconds(63) }),
            (0, 63, -901, true, Standing::Leased { until: now() + seconds(63) }),
            (0, 63, -901, false, Standing::Free),
        ] {
            let claim = Claim { attempt, lease_ends_at: created + seconds(lease_ends_in), client_settings: None };
            let standing = standing(&claim, created, patient, created + seconds(after));
            assert_eq!(standing, expected, "attempt {attempt}, {after} s after, patient: {patient}");
        }
    }

    #[test]
    fn room_counts_labelled_and_young_versions_only() {
        let listed = |labelled, age_seconds| Listed { id: "v".into(), created: now() - seconds(age_seconds), labelled };
        let day = 86_400;
        for (version, counts) in [
            (listed(true, 10 * day), true),
            (listed(false, day - 1), true),
            (listed(false, day), false),
            (listed(false, day + 1), false),
        ] {
            assert_eq!(room(std::slice::from_ref(&version), now()), 100 - usize::from(counts), "{version:?}");
        }
        assert_eq!(room(&vec![listed(true, 0); 150], now()), 0);
    }

    #[test]
    fn the_quota_is_looked_at_where_refreshes_come_close_together() {
        let margin = Duration::from_mins(15);
        for (age, lifetime, crowded_with, crowded_without) in [
            (899, 3600, true, true),
            (900, 3600, true, false),
            (1799, 3600, true, false),
            (1800, 3600, false, false),
            // Due 30 and 15 minutes after they were obtained, and just before.
            (1800, 2700, false, false),
            (1800, 2698, true, false),
            (1800, 1350, true, false),
            (1800, 1348, true, true),
        ] {
            let obtained = |lifetime: i64| format!(r#","expiresAt":{},"refreshedAt":{}"#, at(lifetime - age), at(-age));
            let token = token(&obtained(lifetime));
            let found =
                (crowded(&token, now() - seconds(age), margin, now()), crowded_without_claims(&token, margin, now()));
            assert_eq!(found, (crowded_with, crowded_without), "{age} s old, lifetime {lifetime} s");
        }
        let by_hand = token(&format!(r#","expiresAt":0,"refreshedAt":{}"#, at(-1800)));
        assert!(!crowded(&by_hand, now() - seconds(1800), margin, now()));
        let unknown = token("");
        assert!(!crowded(&unknown, now() - seconds(1800), margin, now()));
        assert!(!crowded_without_claims(&unknown, margin, now()));
    }
}
