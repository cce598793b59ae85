//! The decisions of a run: functions of values, with the time as an argument. No IO, no clock. Imports types only.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{options::Mode, outcome::Reason, record::Claim};
use crate::{
    store::{Limits, Listed},
    token_secret::TokenSecret,
};

/// The minimum time left to start a refresh.
pub const MIN_TO_START: TimeDelta = TimeDelta::seconds(2);

/// The time that two writes need. With less time left the refresh token is not sent.
pub const TWO_WRITES: TimeDelta = TimeDelta::seconds(1);

/// The end of an invocation is kept free for its response.
pub const RESPONSE: TimeDelta = TimeDelta::milliseconds(200);

/// How long one exchange may take.
pub const MAX_EXCHANGE: TimeDelta = TimeDelta::seconds(30);

/// How long a promotion is tried.
pub const MAX_PROMOTION: TimeDelta = TimeDelta::seconds(3);

/// A lease ends this long after its holder's deadline: by then Lambda has ended the holder, although clocks differ and reads lag.
const LEASE_GRACE: TimeDelta = TimeDelta::seconds(3);

/// The longest lease, counted from when the claim was put: Lambda's longest timeout.
const MAX_LEASE: TimeDelta = TimeDelta::minutes(15);

/// The time assumed until the deadline if the given one is impossible.
const DEFAULT_TIME: TimeDelta = TimeDelta::seconds(60);

/// The longest back-off.
const MAX_BACK_OFF: TimeDelta = TimeDelta::minutes(30);

/// What to do with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do nothing.
    Skip(Reason),
    /// Refresh it.
    Refresh(Reason),
}

/// Whether a token is refreshed now. `known_as`: whether the version that holds it is known by this id.
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

/// When the token becomes due: its expiry minus the margin, which is at most a third of its lifetime. `None`: at once.
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

/// The deadline to use: the invocation's, unless it is impossible (some emulators send one in 1970).
#[must_use]
pub fn deadline(given: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    if given < now || given - now > MAX_LEASE { now + DEFAULT_TIME } else { given }
}

/// When the lease of a run with this deadline ends.
#[must_use]
pub fn lease_end(deadline: DateTime<Utc>) -> DateTime<Utc> {
    deadline + LEASE_GRACE
}

/// The state of the newest claim on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Its holder may still be running.
    Leased {
        /// When the lease ends.
        until: DateTime<Utc>,
    },
    /// Its holder has ended, and after that many failed attempts it is too early for the next.
    BackingOff {
        /// When the next attempt may start.
        retry_at: DateTime<Utc>,
    },
    /// The next claim may be put.
    Free,
}

/// The state of the newest claim on a token. `patient`: the run is not forced, and its client is the claim's.
///
/// A claim dated further in the future than clocks can differ was put when this machine's clock was wrong (a directory store dates
/// by it). Its holder has probably ended, but only a person can know: force overrides it.
#[must_use]
pub fn claim_state(claim: &Claim, created: DateTime<Utc>, patient: bool, now: DateTime<Utc>) -> ClaimState {
    let lease_end = claim.lease_ends_at.min(created + MAX_LEASE);
    let retry_at = lease_end + back_off(claim.attempt);
    let believed = patient || created - now <= MAX_LEASE;
    if now < lease_end && believed {
        ClaimState::Leased { until: lease_end }
    } else if patient && now < retry_at {
        ClaimState::BackingOff { retry_at }
    } else {
        ClaimState::Free
    }
}

/// 2^n − 1 minutes after the n-th attempt (counted from 0), at most 30.
fn back_off(attempt: u32) -> TimeDelta {
    let minutes = 2_i64.saturating_pow(attempt) - 1;
    TimeDelta::minutes(minutes.min(MAX_BACK_OFF.num_minutes()))
}

/// Refreshes further apart than this cannot fill the quota: each puts two versions, and 24 hours have 48 of these.
const QUOTA_SPACING: TimeDelta = TimeDelta::minutes(30);

/// The same for `CLAIM=never`: one version for each refresh.
const QUOTA_SPACING_WITHOUT_CLAIMS: TimeDelta = TimeDelta::minutes(15);

/// Whether the quota must be checked before claiming: refreshes come close together, just now or because the token's lifetime is
/// that short. With a short lifetime a pause proves nothing: the secret may have been full since the last check.
#[must_use]
pub fn must_check_quota(
    token: &TokenSecret,
    created: DateTime<Utc>,
    default_margin: Duration,
    now: DateTime<Utc>,
) -> bool {
    now - created < QUOTA_SPACING || becomes_due_within(QUOTA_SPACING, token, default_margin)
}

/// The same for `CLAIM=never`.
#[must_use]
pub fn must_check_quota_without_claims(token: &TokenSecret, default_margin: Duration, now: DateTime<Utc>) -> bool {
    token.tokens.refreshed_at.is_some_and(|refreshed_at| now - refreshed_at < QUOTA_SPACING_WITHOUT_CLAIMS)
        || becomes_due_within(QUOTA_SPACING_WITHOUT_CLAIMS, token, default_margin)
}

/// Whether the token becomes due so soon after it was obtained.
fn becomes_due_within(spacing: TimeDelta, token: &TokenSecret, default_margin: Duration) -> bool {
    let due_at = due_at(token, default_margin);
    // Before it was obtained: a person has set the expiry to have it refreshed. That says nothing about its lifetime.
    due_at
        .zip(token.tokens.refreshed_at)
        .is_some_and(|(due_at, refreshed_at)| refreshed_at < due_at && due_at - refreshed_at < spacing)
}

/// How many versions can still be put. Labelled and young versions make no room.
#[must_use]
pub fn room(versions: &[Listed], limits: Limits, now: DateTime<Utc>) -> usize {
    let kept = versions.iter().filter(|version| version.labelled || now - version.created < limits.unlabelled_kept);
    limits.versions.saturating_sub(kept.count())
}

/// The claim to assume if the version at a claim's id cannot be read as one: it has the longest lease.
#[must_use]
pub fn claim_of_unknown_content(attempt: u32, created: DateTime<Utc>) -> Claim {
    Claim { attempt, lease_ends_at: created + MAX_LEASE, client_settings: None }
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
    fn an_impossible_deadline_counts_as_a_minute_from_now() {
        for (given, expected) in [(-1, 60), (0, 0), (3, 3), (900, 900), (901, 60), (-1_767_225_000, 60)] {
            assert_eq!(deadline(now() + seconds(given), now()), now() + seconds(expected), "{given} s from now");
        }
    }

    #[test]
    fn a_claim_is_leased_then_backs_off_then_is_free() {
        let created = now();
        for (attempt, lease_ends_in, after, patient, expected) in [
            (0, 63, 62, true, ClaimState::Leased { until: now() + seconds(63) }),
            (0, 63, 63, true, ClaimState::Free),
            (0, 63, 62, false, ClaimState::Leased { until: now() + seconds(63) }),
            (1, 63, 63, true, ClaimState::BackingOff { retry_at: now() + seconds(63 + 60) }),
            (1, 63, 63 + 59, true, ClaimState::BackingOff { retry_at: now() + seconds(63 + 60) }),
            (1, 63, 63 + 60, true, ClaimState::Free),
            (1, 63, 63, false, ClaimState::Free),
            (2, 63, 63, true, ClaimState::BackingOff { retry_at: now() + seconds(63 + 180) }),
            (5, 63, 63, true, ClaimState::BackingOff { retry_at: now() + seconds(63 + 1800) }),
            (500, 63, 63, true, ClaimState::BackingOff { retry_at: now() + seconds(63 + 1800) }),
            // A holder's clock that is wrong: no lease is longer than 15 minutes.
            (0, 90_000, 899, true, ClaimState::Leased { until: now() + seconds(900) }),
            (0, 90_000, 900, true, ClaimState::Free),
            // Claims from the future.
            (0, 63, -900, true, ClaimState::Leased { until: now() + seconds(63) }),
            (0, 63, -900, false, ClaimState::Leased { until: now() + seconds(63) }),
            (0, 63, -901, true, ClaimState::Leased { until: now() + seconds(63) }),
            (0, 63, -901, false, ClaimState::Free),
        ] {
            let claim = Claim { attempt, lease_ends_at: created + seconds(lease_ends_in), client_settings: None };
            let state = claim_state(&claim, created, patient, created + seconds(after));
            assert_eq!(state, expected, "attempt {attempt}, {after} s after, patient: {patient}");
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
            assert_eq!(
                room(std::slice::from_ref(&version), Limits::SECRETS_MANAGER, now()),
                100 - usize::from(counts),
                "{version:?}"
            );
        }
        assert_eq!(room(&vec![listed(true, 0); 150], Limits::SECRETS_MANAGER, now()), 0);
    }

    #[test]
    fn the_quota_is_checked_if_refreshes_come_close_together() {
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
            let found = (
                must_check_quota(&token, now() - seconds(age), margin, now()),
                must_check_quota_without_claims(&token, margin, now()),
            );
            assert_eq!(found, (crowded_with, crowded_without), "{age} s old, lifetime {lifetime} s");
        }
        let by_hand = token(&format!(r#","expiresAt":0,"refreshedAt":{}"#, at(-1800)));
        assert!(!must_check_quota(&by_hand, now() - seconds(1800), margin, now()));
        let unknown = token("");
        assert!(!must_check_quota(&unknown, now() - seconds(1800), margin, now()));
        assert!(!must_check_quota_without_claims(&unknown, margin, now()));
    }
}
