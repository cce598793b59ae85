//! The decisions of a run: functions of values, with the time as an argument. No IO, no clock. Imports types only.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    options::Mode,
    outcome::Reason,
    record::{Claim, ClaimEnd},
};
use crate::{
    store::{Limits, Listed},
    token_secret::{DEFAULT_LIFETIME, TokenSecret},
};

/// The minimum time left to start a refresh.
pub const MIN_TO_START: TimeDelta = TimeDelta::seconds(2);

/// The time that two writes need. With less time left the refresh token is not sent.
pub const TWO_WRITES: TimeDelta = TimeDelta::seconds(1);

/// The same in a sweep, where they may wait for those of other runs.
pub const TWO_WRITES_IN_SWEEP: TimeDelta = TimeDelta::seconds(3);

/// The end of an invocation is kept free for its response.
pub const RESPONSE: TimeDelta = TimeDelta::milliseconds(200);

/// How long a promotion is tried.
pub const MAX_PROMOTION: TimeDelta = TimeDelta::seconds(3);

/// A lease ends this long after its holder's deadline: by then Lambda has ended the holder, although clocks differ and reads lag.
const LEASE_GRACE: TimeDelta = TimeDelta::seconds(3);

/// The longest lease, counted from when the claim was put: Lambda's longest timeout.
const MAX_LEASE: TimeDelta = TimeDelta::minutes(15);

/// The time assumed until the deadline if the given one is impossible.
const DEFAULT_TIME: TimeDelta = TimeDelta::seconds(60);

/// A schedule starts a run once a minute at most.
const MIN_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// How often a refresh token is used that expires before the next refresh is due.
const IDLE_INTERVAL: TimeDelta = TimeDelta::days(1);

/// The minimum age of tokens that a rotation refreshes. Secrets Manager may send `createSecret` again after it succeeded.
const MIN_ROTATION_AGE: TimeDelta = TimeDelta::minutes(10);

/// How long before its end a grant is reported.
const GRANT_NOTICES: [TimeDelta; 2] = [TimeDelta::days(7), TimeDelta::days(1)];

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
        Mode::Rotation if !is_too_young_to_rotate(token, now) => Decision::Refresh(Reason::Due),
        Mode::Scheduled | Mode::DryRun | Mode::Rotation => match due_at(token, default_margin) {
            Some(due_at) if now < due_at && !dies_of_idleness(token, due_at, now) => Decision::Skip(Reason::NotDue),
            _ => Decision::Refresh(Reason::Due),
        },
    }
}

fn is_too_young_to_rotate(token: &TokenSecret, now: DateTime<Utc>) -> bool {
    // Not longer in the future than clocks differ.
    token.tokens.refreshed_at.is_some_and(|refreshed_at| (now - refreshed_at).abs() < MIN_ROTATION_AGE)
}

/// Whether the refresh token expires before the access token becomes due, and was not used for a day.
fn dies_of_idleness(token: &TokenSecret, due_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let ends_before = token.refresh_token_expires_at.is_some_and(|end| end < due_at);
    ends_before && token.tokens.refreshed_at.is_none_or(|refreshed_at| now - refreshed_at >= IDLE_INTERVAL)
}

/// When the token becomes due: its expiry minus the margin, which is at most a third of its lifetime. `None`: at once.
fn due_at(token: &TokenSecret, default_margin: Duration) -> Option<DateTime<Utc>> {
    let expires_at = token.expires_at?;
    let lifetime = token.tokens.refreshed_at.map(|refreshed_at| expires_at - refreshed_at);
    expires_at.checked_sub_signed(margin(token, default_margin, lifetime)?)
}

/// The margin of a token with this lifetime. `None`: it is too long to compute with.
fn margin(token: &TokenSecret, default_margin: Duration, lifetime: Option<TimeDelta>) -> Option<TimeDelta> {
    let margin = TimeDelta::from_std(token.refresh_margin.unwrap_or(default_margin)).ok()?;
    let lifetime = lifetime.filter(|lifetime| *lifetime > TimeDelta::zero());
    Some(lifetime.map_or(margin, |lifetime| margin.min(lifetime / 3)))
}

/// The deadline to use: the invocation's, unless it is impossible (some emulators send one in 1970).
#[must_use]
pub fn deadline(given: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    if given < now || given - now > MAX_LEASE { now + DEFAULT_TIME } else { given }
}

/// When a grant ends, if this refresh is the first one within a week of the end, or within a day of it. Not if refreshes move the end:
/// then the grant does not end.
#[must_use]
pub fn grant_ends_soon(old: &TokenSecret, new: &TokenSecret, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let end = new.refresh_token_expires_at?;
    let left = end - now;
    let Some(old_end) = old.refresh_token_expires_at else {
        // The first end that is known: a refresh token of less than a day gets a new end with each refresh.
        return (left <= GRANT_NOTICES[0] && left > GRANT_NOTICES[1]).then_some(end);
    };
    let moves = end - old_end > TimeDelta::minutes(1);
    let left_before = old.tokens.refreshed_at.map_or(TimeDelta::MAX, |refreshed_at| old_end - refreshed_at);
    let is_first = GRANT_NOTICES.iter().any(|notice| left <= *notice && left_before > *notice);
    (!moves && is_first).then_some(end)
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

/// The state of the newest claim on a token. `overrides`: the run does not wait for the back-off.
///
/// A claim dated further in the future than clocks can differ was put when this machine's clock was wrong (a directory store dates
/// by it). Its holder has probably ended, but only a person can know: force overrides it.
#[must_use]
pub fn claim_state(
    claim: &Claim,
    created: DateTime<Utc>,
    end: ClaimEnd,
    overrides: bool,
    now: DateTime<Utc>,
) -> ClaimState {
    let lease_end = match end {
        ClaimEnd::Unknown => claim.lease_ends_at.clamp(created, created + MAX_LEASE),
        ClaimEnd::WithoutTokens | ClaimEnd::Refused => created,
    };
    let retry_at = lease_end + back_off(claim.attempt);
    let believed = !overrides || created - now <= MAX_LEASE;
    if end == ClaimEnd::Unknown && now < lease_end && believed {
        ClaimState::Leased { until: lease_end }
    } else if !overrides && now < retry_at {
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

/// Whether a token is so old, or of unknown age, that its unlabelled records may have been removed.
#[must_use]
pub fn records_may_be_removed(token: &TokenSecret, limits: Limits, now: DateTime<Utc>) -> bool {
    token.tokens.refreshed_at.is_none_or(|refreshed_at| now - refreshed_at >= limits.unlabelled_kept)
}

/// Whether a reader's request leaves enough room: every scheduled refresh of the next 24 hours must find room for `per_refresh`
/// versions. If a day of refreshes does not fit even without requests, only the next scheduled refresh counts.
#[must_use]
pub fn admits_request(
    versions: &[Listed],
    limits: Limits,
    per_refresh: usize,
    interval: TimeDelta,
    now: DateTime<Utc>,
) -> bool {
    let labelled = versions.iter().filter(|version| version.labels.any()).count();
    let mut unlabelled: Vec<DateTime<Utc>> =
        versions.iter().filter(|version| !version.labels.any()).map(|version| version.created).collect();
    let interval = interval.max(MIN_INTERVAL);
    let day = limits.unlabelled_kept.min(TimeDelta::days(1));
    let of_a_day = usize::try_from(day.num_milliseconds() / interval.num_milliseconds()).unwrap_or(usize::MAX);
    let end = if of_a_day.saturating_mul(per_refresh).saturating_add(per_refresh) > limits.versions {
        now + interval
    } else {
        now + day
    };
    let mut at = now;
    while at <= end {
        let young = unlabelled.iter().filter(|created| at - **created < limits.unlabelled_kept).count();
        if labelled + young + per_refresh > limits.versions {
            return false;
        }
        unlabelled.extend(std::iter::repeat_n(at, per_refresh));
        at += interval;
    }
    true
}

/// How far apart the scheduled refreshes of a token are.
#[must_use]
pub fn refresh_interval(token: &TokenSecret, default_margin: Duration) -> TimeDelta {
    let obtained = token.tokens.refreshed_at;
    let interval = due_at(token, default_margin).zip(obtained).map(|(due_at, obtained)| due_at - obtained);
    interval.filter(|interval| *interval > TimeDelta::zero()).unwrap_or_else(|| {
        let lifetime = TimeDelta::from_std(DEFAULT_LIFETIME).unwrap_or_default();
        lifetime - margin(token, default_margin, Some(lifetime)).unwrap_or(lifetime / 3)
    })
}

/// Whether a document that a person put is older than the tokens that were staged last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyAge {
    /// Its tokens are new, or its times do not show that they are old.
    NotOlder,
    /// It is a copy of earlier tokens.
    Older,
    /// Its times do not decide it.
    Unclear,
}

/// Judges a document by its `refreshedAt` and `expiresAt`, beside those of the tokens that were staged last.
#[must_use]
pub fn age_of_copy(
    refreshed_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    staged_at: DateTime<Utc>,
    staged_expires_at: Option<DateTime<Utc>>,
) -> CopyAge {
    match (refreshed_at, expires_at) {
        (Some(refreshed_at), _) if refreshed_at >= staged_at => CopyAge::NotOlder,
        (Some(_), Some(expires_at)) => match staged_expires_at {
            Some(staged) if expires_at < staged => CopyAge::Older,
            Some(_) => CopyAge::NotOlder,
            None => CopyAge::Unclear,
        },
        (Some(_), None) => CopyAge::Unclear,
        // Expired before the newest tokens were obtained.
        (None, Some(expires_at)) if expires_at <= staged_at => CopyAge::Unclear,
        (None, _) => CopyAge::NotOlder,
    }
}

/// How many versions can still be put. Labelled and young versions make no room.
#[must_use]
pub fn room(versions: &[Listed], limits: Limits, now: DateTime<Utc>) -> usize {
    let kept = versions.iter().filter(|version| version.labels.any() || now - version.created < limits.unlabelled_kept);
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
    use crate::store::{Label, Labels};

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
    fn a_rotation_refreshes_tokens_that_are_ten_minutes_old_or_due() {
        for (age, seconds_left, refreshes) in [
            (599, 3000, false),
            (600, 3000, true),
            (-5, 3000, false),
            (-86_400, 3000, true),
            (300, 100, true),
            (599, 300, false),
            (599, 299, true),
        ] {
            let members = format!(r#","refreshedAt":{},"expiresAt":{}"#, at(-age), at(seconds_left));
            let decision = decide(&token(&members), |_| true, &Mode::Rotation, Duration::from_mins(15), now());
            let expected = if refreshes { Decision::Refresh(Reason::Due) } else { Decision::Skip(Reason::NotDue) };
            assert_eq!(decision, expected, "{age} s old, {seconds_left} s left");
        }
        // A person put it: its age is unknown.
        let put_by_a_person = token(&format!(r#","expiresAt":{}"#, at(3000)));
        let decision = decide(&put_by_a_person, |_| true, &Mode::Rotation, Duration::from_mins(15), now());
        assert_eq!(decision, Decision::Refresh(Reason::Due));
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
        use ClaimEnd::{Refused, Unknown, WithoutTokens};
        let created = now();
        let leased = |until| ClaimState::Leased { until: now() + seconds(until) };
        let backing_off = |retry_at| ClaimState::BackingOff { retry_at: now() + seconds(retry_at) };
        for (attempt, lease_ends_in, end, after, overrides, expected) in [
            (0, 63, Unknown, 62, false, leased(63)),
            (0, 63, Unknown, 63, false, ClaimState::Free),
            (0, 63, Unknown, 62, true, leased(63)),
            (1, 63, Unknown, 63, false, backing_off(63 + 60)),
            (1, 63, Unknown, 63 + 59, false, backing_off(63 + 60)),
            (1, 63, Unknown, 63 + 60, false, ClaimState::Free),
            (1, 63, Unknown, 63, true, ClaimState::Free),
            (2, 63, Unknown, 63, false, backing_off(63 + 180)),
            (5, 63, Unknown, 63, false, backing_off(63 + 1800)),
            (500, 63, Unknown, 63, false, backing_off(63 + 1800)),
            // A claim that ended has no lease; its back-off counts from when it was put.
            (0, 63, WithoutTokens, 0, false, ClaimState::Free),
            (0, 63, Refused, 0, false, ClaimState::Free),
            (1, 63, WithoutTokens, 59, false, backing_off(60)),
            (1, 63, WithoutTokens, 59, true, ClaimState::Free),
            (1, 63, Refused, 60, false, ClaimState::Free),
            // A holder's clock that is wrong: no lease is longer than 15 minutes.
            (0, 90_000, Unknown, 899, false, leased(900)),
            (0, 90_000, Unknown, 900, false, ClaimState::Free),
            // Claims from the future.
            (0, 63, Unknown, -900, false, leased(63)),
            (0, 63, Unknown, -900, true, leased(63)),
            (0, 63, Unknown, -901, false, leased(63)),
            (0, 63, Unknown, -901, true, ClaimState::Free),
        ] {
            let claim = Claim { attempt, lease_ends_at: created + seconds(lease_ends_in), client_settings: None };
            let state = claim_state(&claim, created, end, overrides, created + seconds(after));
            assert_eq!(state, expected, "attempt {attempt}, {end:?}, {after} s after, overrides: {overrides}");
        }
    }

    fn listed(labels: Labels, age_seconds: i64) -> Listed {
        Listed { id: "v".into(), created: now() - seconds(age_seconds), labels }
    }

    #[test]
    fn room_counts_labelled_and_young_versions_only() {
        let listed =
            |labelled: bool, age| listed(if labelled { Labels::from([Label::Claim]) } else { Labels::default() }, age);
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
    fn a_readers_request_leaves_two_versions_for_every_scheduled_refresh_of_a_day() {
        let day = 86_400;
        // Versions that a refresh every 45 minutes has left, the newest just now.
        let steady = |interval: i64| -> Vec<Listed> {
            let refreshes = (0..day / interval).map(|n| n * interval);
            refreshes.flat_map(|age| [listed(Labels::default(), age), listed(Labels::default(), age)]).collect()
        };
        let more = |versions: Vec<Listed>, count: usize, age: i64| {
            let mut all = versions;
            all.extend(std::iter::repeat_n(listed(Labels::default(), age), count));
            all
        };
        let labelled = |versions| {
            more(versions, 0, 0)
                .into_iter()
                .chain([listed(Labels::from([Label::Current]), 0), listed(Labels::from([Label::Claim]), 0)])
                .collect::<Vec<_>>()
        };
        let one = vec![listed(Labels::from([Label::Current]), 0)];
        for (what, versions, interval, admitted) in [
            ("one version", one.clone(), 2700, true),
            ("an hourly token", labelled(steady(2700)), 2700, true),
            ("an hourly token and 30 more versions", more(labelled(steady(2700)), 30, 0), 2700, true),
            ("an hourly token and 33 more versions", more(labelled(steady(2700)), 33, 0), 2700, false),
            ("the same, when they are about to make room", more(labelled(steady(2700)), 33, day - 1), 2700, false),
            ("a token of half an hour, which fills the quota", labelled(steady(1200)), 1200, false),
            // A day of its refreshes does not fit: the next one must.
            ("a token of a minute and 95 more versions", more(one.clone(), 95, 0), 60, true),
            ("a token of a minute and 96 more versions", more(one.clone(), 96, 0), 60, false),
            ("a daily token and 90 versions", more(labelled(Vec::new()), 90, 0), day, true),
            ("a daily token and 97 versions", more(labelled(Vec::new()), 97, 0), day, false),
        ] {
            let found = admits_request(&versions, Limits::SECRETS_MANAGER, 2, seconds(interval), now());
            assert_eq!(found, admitted, "{what}: {} versions", versions.len());
        }
    }

    #[test]
    fn a_refresh_token_that_ends_before_the_next_refresh_is_used_once_a_day() {
        let day = 86_400;
        for (obtained, refresh_token_ends, due) in [
            (-day + 1, 30 * day, false),
            (-day, 30 * day, true),
            // It ends after the token is due: nothing to do before.
            (-day, 61 * day, false),
        ] {
            let members = format!(
                r#","expiresAt":{},"refreshedAt":{},"refreshTokenExpiresAt":{}"#,
                at(60 * day),
                at(obtained),
                at(refresh_token_ends)
            );
            assert_eq!(is_due(&members), due, "{members}");
        }
        assert!(is_due(&format!(r#","expiresAt":{},"refreshTokenExpiresAt":{}"#, at(60 * day), at(day))));
    }

    #[test]
    fn refreshes_are_as_far_apart_as_the_token_becomes_due() {
        let margin = Duration::from_mins(15);
        for (members, expected) in [
            (format!(r#","expiresAt":{},"refreshedAt":{}"#, at(3600), at(0)), 2700),
            (format!(r#","expiresAt":{},"refreshedAt":{}"#, at(900), at(0)), 600),
            // Set by a person, to have it refreshed; and not known.
            (format!(r#","expiresAt":0,"refreshedAt":{}"#, at(0)), 2700),
            (String::new(), 2700),
        ] {
            assert_eq!(refresh_interval(&token(&members), margin), seconds(expected), "{members}");
        }
    }

    #[test]
    fn an_old_copy_has_an_earlier_refreshed_at_and_no_later_expiry() {
        let time = |offset: Option<i64>| offset.map(|offset| now() + seconds(offset));
        // The staged tokens: obtained at 0, good for an hour.
        for (refreshed_at, expires_at, expected) in [
            (Some(-86_400), Some(-82_800), CopyAge::Older),
            (Some(-1), Some(3599), CopyAge::Older),
            (Some(-1), Some(3600), CopyAge::NotOlder),
            (Some(0), Some(3600), CopyAge::NotOlder),
            // New tokens, and a `refreshedAt` that a person left as it was.
            (Some(-86_400), Some(3601), CopyAge::NotOlder),
            (Some(-86_400), None, CopyAge::Unclear),
            (None, Some(0), CopyAge::Unclear),
            (None, Some(1), CopyAge::NotOlder),
            (None, None, CopyAge::NotOlder),
        ] {
            let age = age_of_copy(time(refreshed_at), time(expires_at), now(), time(Some(3600)));
            assert_eq!(age, expected, "{refreshed_at:?} {expires_at:?}");
        }
        assert_eq!(age_of_copy(time(Some(-1)), time(Some(5)), now(), None), CopyAge::Unclear);
    }
}
