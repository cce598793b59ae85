//! What must hold at the end of a schedule: when all its runs have ended, and after later runs.

use chrono::{DateTime, TimeDelta, Utc};
use token_refresher::{
    protocol::{
        Error,
        error::ResponseLocation,
        ids::TokenKey,
        options::ClaimMode,
        outcome::{Completed, Outcome},
    },
    secret::Secret,
    store::Label,
    token_secret::TokenSecret,
};

use crate::{
    person::UserAction,
    plan::{Responses, TIMEOUT},
    promises::{BrokenPromise, ensure},
    provider::{Behaviour, TokenLocation, TokenPair},
    world::{World, stored_tokens, tokens},
};

/// The time from a run's deadline to the end of its lease.
const GRACE: TimeDelta = TimeDelta::seconds(3);

/// Checks the end of a schedule. `living_processes_first`: whether the living processes run again before a fresh one, or after it.
pub fn check_end(world: &mut World, living_processes_first: bool) -> Result<(), BrokenPromise> {
    check_issued_tokens(world)?;
    let living: Vec<usize> = (0..world.processes()).collect();
    if living_processes_first {
        for process in &living {
            world.later_run(Some(*process))?;
        }
    }
    let done = run_until_done(world)?;
    if !living_processes_first {
        for process in &living {
            world.later_run(Some(*process))?;
        }
        if done {
            run_until_done(world)?;
        }
    }
    check_issued_tokens(world)?;
    world.neighbour().check(done)?;
    let nearly_full = world.plan.other_versions > 0;
    ensure(
        nearly_full
            || !world
                .provider
                .granted_requests
                .iter()
                .any(|request| matches!(request.location, TokenLocation::InMemory { .. })),
        || "tokens remain in a process's memory".to_owned(),
    )?;
    // A nearly full secret can still be full an hour later.
    if done && check_liveness(world)? && !nearly_full {
        check_refresh_an_hour_later(world)?;
    }
    Ok(())
}

/// When the token is due again, a run alone refreshes it with the exact cost of the table in `docs/protocol.md`. The process is one
/// of the schedule's.
fn check_refresh_an_hour_later(world: &mut World) -> Result<(), BrokenPromise> {
    world.time.set(world.time.now() + TimeDelta::hours(1));
    let current = world.versions.get(None, None).expect("a current version");
    // Of a version that a person put, the run reads the tokens that were staged last, and without claims it proves that it can write.
    let is_staged = current.labels.has(Label::Staged);
    let token = TokenSecret::parse(current.body.expose()).expect("a token secret");
    let has_times = match token.tokens.refreshed_at {
        Some(refreshed_at) => world.time.now() - refreshed_at >= TimeDelta::days(1),
        None => token.expires_at.is_some_and(|time| time != DateTime::UNIX_EPOCH),
    };
    let reads_staged =
        usize::from(!is_staged && has_times && world.versions.labels().contains_key(Label::Staged.as_str()));
    let proves_writing = usize::from(!is_staged);
    let run = world.later_run(Some(0))?;
    let (calls, versions) = match world.plan.claim {
        _ if !world.provider.behaviour.issues_refresh_tokens() => (4, 1),
        ClaimMode::Never => (4 + reads_staged + proves_writing, 1 + proves_writing),
        ClaimMode::Always => (5 + reads_staged, 2),
    };
    let published = usize::from(world.plan.publishes());
    let tracked = &world.runs[run];
    let batch = usize::from(tracked.sweep.is_some());
    let calls = calls + 3 * published + batch;
    // If a token was sent again after a loss, the earlier response may be current, and this run finds the later one. The responses
    // of `RepeatAll` cannot be distinguished.
    let sent_again = match world.provider.behaviour {
        Behaviour::RepeatAll => world.faults_and_jumps() > 1,
        _ => world.sent_again_after_loss.contains(&world.expected.consent),
    };
    let found_later_response = sent_again && tracked.calls > calls;
    let outcome = tracked.outcome();
    ensure(
        outcome == Some(Outcome::Refreshed) || (found_later_response && outcome == Some(Outcome::Recovered)),
        || format!("an hour later: {:?}", tracked.progress),
    )?;
    let cost = (tracked.calls, tracked.versions_put, tracked.publications_put);
    ensure(cost == (calls, versions, published) || found_later_response, || {
        format!("an hour later, calls and versions: {cost:?}")
    })?;
    check_publication(world)?;
    check_latest_is_current(world)?;
    check_liveness(world)?;
    Ok(())
}

/// Every living token that was issued is in some version of the secret, or in a living process's memory, unless its response was
/// lost.
fn check_issued_tokens(world: &World) -> Result<(), BrokenPromise> {
    let texts: Vec<_> = world
        .versions
        .list(true)
        .iter()
        .filter_map(|listed| {
            stored_tokens(world.versions.get(Some(&listed.id), None).expect("a listed version").body.expose())
        })
        .collect();
    for request in &world.provider.granted_requests {
        let pair = &world.provider.pairs[request.pair];
        match request.location {
            TokenLocation::InRun { run } => {
                return Err(BrokenPromise(format!("run {run} has ended, but holds tokens")));
            }
            TokenLocation::Stored { .. } if world.provider.is_alive(request.pair) => {
                let stored = |pair: &TokenPair| {
                    texts.iter().any(|(refresh, access)| *refresh == pair.refresh && *access == pair.access)
                };
                // Past a day, old versions are gone: then the newest tokens of the consent count.
                let later = &world.provider.pairs[request.pair + 1..];
                let replaced = world.plan.drops_old_versions()
                    && later.iter().any(|other| other.consent == pair.consent && stored(other));
                ensure(stored(pair) || replaced, || "a living token is in no version".to_owned())?;
            }
            TokenLocation::Stored { .. } | TokenLocation::Lost | TokenLocation::InMemory { .. } => {}
        }
    }
    Ok(())
}

/// Starts later runs, one after the other, until one has nothing to do. Returns false if they cannot get there: the secret is full,
/// or the token is dead.
fn run_until_done(world: &mut World) -> Result<bool, BrokenPromise> {
    let (mut waited_for_lease, mut backed_off, mut waited_until_due) = (false, false, false);
    for _ in 0..12 {
        let (started, staged) = (world.time.now(), has_staged_tokens(world));
        let run = world.later_run(None)?;
        let tracked = &world.runs[run];
        let Some(result) = tracked.result() else {
            return Err(BrokenPromise::new("a later run does not end, or does not begin"));
        };
        // A recovery, a take-over, a merge, and one call for every refresh since an old copy was taken.
        let max_calls_to_recover =
            5 + 5 + 2 + world.provider.granted_requests.len() + if world.plan.publishes() { 4 } else { 0 };
        let max_calls_to_recover = max_calls_to_recover + usize::from(tracked.sweep.is_some());
        match result {
            Ok(Completed { outcome: Outcome::Skipped, .. }) => {
                // A sweep does not look for staged tokens beside the first ones before they are due. No run looks for the second of two
                // responses to one token if its run ended between its two puts.
                let is_known_limit = (tracked.sweep.is_some() && has_first_tokens(world))
                    || world.sent_again_after_loss.contains(&world.expected.consent);
                ensure(!staged || is_known_limit, || "skipped, although living tokens are staged".to_owned())?;
                // A forced run whose response was lost leaves a claim on tokens that are not due. Nothing is done before they are.
                if is_claimed(world) && !waited_until_due {
                    waited_until_due = true;
                    world.time.set(world.time.now() + TimeDelta::hours(1));
                    continue;
                }
                check_publication(world)?;
                check_latest_is_current(world)?;
                check_liveness(world)?;
                return Ok(true);
            }
            Ok(Completed { outcome: Outcome::Recovered, .. }) if tracked.calls > max_calls_to_recover => {
                return Err(BrokenPromise(format!("a later run took {} calls to recover", tracked.calls)));
            }
            Ok(Completed { outcome: Outcome::Refreshed | Outcome::Recovered | Outcome::Superseded, .. }) => {}
            Ok(Completed { outcome: outcome @ (Outcome::InProgress | Outcome::BackingOff), retry_at, .. }) => {
                let waited = if *outcome == Outcome::InProgress { &mut waited_for_lease } else { &mut backed_off };
                ensure(!*waited, || format!("{outcome:?} a second time, although no other run is at work"))?;
                ensure(!staged, || format!("{outcome:?}, although living tokens are staged"))?;
                *waited = true;
                let longest = if *outcome == Outcome::InProgress { TIMEOUT + GRACE } else { TimeDelta::minutes(31) };
                wait(world, *retry_at, started, longest)?;
            }
            Ok(other) => return Err(BrokenPromise(format!("a later run ends {:?}", other.outcome))),
            Err(Error::VersionQuota { .. }) if world.plan.other_versions > 0 => {
                let lost = |location| matches!(location, TokenLocation::Lost | TokenLocation::InMemory { .. });
                if !world.provider.granted_requests.iter().any(|request| lost(request.location)) {
                    check_liveness(world)?;
                }
                return Ok(false);
            }
            Err(Error::InvalidSecret { .. }) if is_old_copy(world) => return Ok(false),
            Err(error @ Error::Unusable { .. }) => return check_is_kept(world, error).map(|()| false),
            Err(Error::Refused { .. }) => {
                ensure(!check_liveness(world)?, || "a living token is reported as refused".to_owned())?;
                return Ok(false);
            }
            Err(error) => {
                return Err(BrokenPromise(format!("a later run fails: {}: {error}", error.error_type().as_str())));
            }
        }
    }
    Err(BrokenPromise::new("later runs do not end with `skipped`"))
}

/// The error names a version that contains a response, in a world where responses are not understood.
pub fn check_is_kept(world: &World, error: &Error) -> Result<(), BrokenPromise> {
    let kept = match error {
        Error::Unusable { response: ResponseLocation::Version(id), .. } => world.versions.get(Some(id), None).ok(),
        _ => None,
    };
    let response = kept.and_then(|version| stored_tokens(version.body.expose()));
    ensure(world.plan.responses == Responses::Kept && response.is_some(), || {
        format!("no response is kept, although a run says so: {error}")
    })
}

/// Whether no run has written the current version.
fn has_first_tokens(world: &World) -> bool {
    let token = TokenSecret::parse(&world.current_text()).expect("a token secret");
    token.tokens.refreshed_at.is_none()
}

/// Whether a run has claimed the current tokens.
fn is_claimed(world: &World) -> bool {
    let current = world.versions.get(None, None).expect("a current version");
    let token = TokenSecret::parse(current.body.expose()).expect("a token secret");
    let key = TokenKey::of(&current.arn, &token.tokens, &token.client);
    world.versions.get(Some(&key.claim(0)), None).is_ok()
}

/// Whether a person put tokens that are older than others that a run has stored: of the same consent, or of an earlier one.
pub fn is_old_copy(world: &World) -> bool {
    let (refresh, access) = tokens(&world.current_text()).expect("tokens");
    let provider = &world.provider;
    let current = provider.find(&refresh, &access).expect("tokens that were issued");
    let mut granted_requests = provider.granted_requests.iter();
    let put_old_copies = |action: &UserAction| matches!(action, UserAction::SaveOldCopy | UserAction::RollBack);
    world.plan.user_actions.iter().any(put_old_copies)
        && granted_requests
            .any(|request| matches!(request.location, TokenLocation::Stored { .. }) && request.pair > current)
}

/// Whether living tokens are staged while the current ones are dead.
fn has_staged_tokens(world: &World) -> bool {
    let provider = &world.provider;
    let (refresh, access) = tokens(&world.current_text()).expect("tokens");
    let current = provider.find(&refresh, &access).expect("tokens that were issued");
    let replaces =
        |pair: usize| provider.pairs[pair].consent == provider.pairs[current].consent && provider.is_alive(pair);
    let mut granted_requests = provider.granted_requests.iter();
    !provider.is_alive(current)
        && granted_requests
            .any(|request| matches!(request.location, TokenLocation::Stored { .. }) && replaces(request.pair))
}

/// The current tokens are published.
fn check_publication(world: &World) -> Result<(), BrokenPromise> {
    let current = TokenSecret::parse(&world.current_text()).expect("a token secret");
    let publication = if world.plan.publishes() { current.publication() } else { None };
    ensure(world.published_text().as_deref() == publication.as_ref().map(Secret::expose), || {
        "the published tokens are not the current ones".to_owned()
    })
}

/// Where all tokens stay valid, those of all stored ones are current that were asked for last.
fn check_latest_is_current(world: &World) -> Result<(), BrokenPromise> {
    let asked_at = |text: &str| {
        let (refresh, access) = tokens(text)?;
        world.provider.asked_at(world.provider.find(&refresh, &access)?)
    };
    let listed = world.versions.list(true);
    let versions = listed.iter().map(|listed| world.versions.get(Some(&listed.id), None).expect("a listed version"));
    let stored = versions.filter(|version| stored_tokens(version.body.expose()).is_some());
    let latest = stored.filter_map(|version| asked_at(version.body.expose())).max();
    ensure(asked_at(&world.current_text()) >= latest, || {
        "AWSCURRENT does not hold the stored tokens that were asked for last".to_owned()
    })
}

fn wait(
    world: &World,
    retry_at: Option<DateTime<Utc>>,
    started: DateTime<Utc>,
    longest: TimeDelta,
) -> Result<(), BrokenPromise> {
    let retry_at = retry_at
        .ok_or_else(|| BrokenPromise::new("no other run is at work, but a run does not return when to retry"))?;
    ensure(retry_at - started <= longest, || format!("a wait from {started} until {retry_at}"))?;
    world.time.set(retry_at);
    Ok(())
}

/// The current tokens are alive, unless a token was sent again after a loss, a later consent ended the grant, or the new tokens are in
/// a response that is kept. Returns whether they are alive.
fn check_liveness(world: &World) -> Result<bool, BrokenPromise> {
    let (refresh, access) = tokens(&world.current_text()).expect("tokens");
    let provider = &world.provider;
    let pair = provider.find(&refresh, &access).expect("tokens that were issued");
    let consent = provider.pairs[pair].consent;
    let may_be_dead = match provider.behaviour {
        // The reuse revokes the grant.
        Behaviour::ReuseEndsGrant => world.sent_again_after_loss.contains(&consent),
        // The later of two responses may be lost or find no room. Or its run ended between its two puts, and no run finds it.
        Behaviour::EndsOldAccess | Behaviour::GraceReplaces => {
            let newest = provider.pairs.iter().rposition(|other| other.consent == consent);
            let mut granted_requests = provider.granted_requests.iter();
            let lost = granted_requests.any(|request| {
                Some(request.pair) == newest && !matches!(request.location, TokenLocation::Stored { .. })
            });
            world.sent_again_after_loss.contains(&consent)
                && (lost || world.may_be_interrupted() || world.plan.other_versions > 0)
        }
        _ => false,
    } || world.grant_ended_by_person(consent)
        || world.plan.responses == Responses::Kept;
    let alive = provider.is_alive(pair);
    ensure(alive || may_be_dead, || format!("AWSCURRENT holds dead tokens: {refresh}, {access}"))?;
    Ok(alive)
}
