//! What must hold when all runs of a schedule have ended, and after later runs have gone on.

use chrono::{DateTime, TimeDelta, Utc};
use token_refresher::{
    protocol::{
        Error,
        options::ClaimMode,
        outcome::{Completed, Outcome},
    },
    secret::Secret,
    token_secret::TokenSecret,
};

use crate::{
    member::Stage,
    plan::TIMEOUT,
    promises::{Broken, keep},
    provider::{Fate, Manners},
    world::{World, tokens},
};

/// For how long after its holder's deadline a lease holds.
const GRACE: TimeDelta = TimeDelta::seconds(3);

/// What must hold in the end: when all runs have ended, and after later runs have gone on. `living_first`: whether the
/// processes that are alive run before a fresh one does.
pub fn of_the_end(world: &mut World, living_first: bool) -> Result<(), Broken> {
    of_what_was_issued(world)?;
    let living: Vec<usize> = (0..world.processes()).collect();
    if living_first {
        for process in &living {
            world.later_run(Some(*process))?;
        }
    }
    let settled = settle(world)?;
    if !living_first {
        for process in &living {
            world.later_run(Some(*process))?;
        }
        if settled {
            settle(world)?;
        }
    }
    of_what_was_issued(world)?;
    let full = world.plan.other_versions > 0;
    keep(full || !world.provider.sendings.iter().any(|sending| matches!(sending.fate, Fate::InMemory { .. })), || {
        "tokens stay in a process's memory".to_owned()
    })?;
    // In a secret that was full at first it may still be, an hour later.
    if settled && of_liveness(world)? && world.plan.other_versions == 0 {
        an_hour_later(world)?;
    }
    Ok(())
}

/// When the token is due again, a run all alone refreshes it, by the table of the README: one of a process that has seen it all.
fn an_hour_later(world: &mut World) -> Result<(), Broken> {
    world.time.set(world.time.now() + TimeDelta::hours(1));
    let run = world.later_run(Some(0))?;
    let (calls, versions) = if world.plan.claim == ClaimMode::Never { (5, 1) } else { (4, 2) };
    let published = usize::from(world.plan.tells_readers());
    let calls = calls + 3 * published;
    let member = &world.members[run];
    // The earlier of two answers may be current, and the later one be met only now. (Where a provider repeats itself
    // altogether, two answers are not told from one.)
    let gambled = match world.provider.manners {
        Manners::RepeatAll => world.mishaps() > 1,
        _ => world.gambled.contains(&world.wanted.consent),
    };
    let met_another = gambled && member.calls > calls;
    let outcome = member.outcome();
    keep(outcome == Some(Outcome::Refreshed) || (met_another && outcome == Some(Outcome::Recovered)), || {
        format!("an hour later: {:?}", member.standing)
    })?;
    let cost = (member.calls, member.versions_put, member.published);
    keep(cost == (calls, versions, published) || met_another, || {
        format!("an hour later, calls and versions: {cost:?}")
    })?;
    of_what_readers_are_told(world)?;
    of_liveness(world)?;
    Ok(())
}

/// Whatever was issued to us and lives stands in some version of the secret, or in a living process's memory, unless
/// its answer was lost.
fn of_what_was_issued(world: &World) -> Result<(), Broken> {
    let texts: Vec<_> = world
        .versions
        .list(true)
        .iter()
        .filter_map(|listed| tokens(world.versions.get(Some(&listed.id), None).expect("it is there").body.expose()))
        .collect();
    for sending in &world.provider.sendings {
        let issue = &world.provider.issues[sending.issue];
        match sending.fate {
            Fate::Held { run } => return Err(Broken(format!("run {run} has ended, and holds tokens"))),
            Fate::Stored { .. } if world.provider.is_alive(sending.issue) => {
                let stands = texts.iter().any(|(refresh, access)| *refresh == issue.refresh && *access == issue.access);
                keep(stands, || "a living token stands in no version".to_owned())?;
            }
            Fate::Stored { .. } | Fate::Lost | Fate::InMemory { .. } => {}
        }
    }
    Ok(())
}

/// Lets later runs go on, one after the other, until there is nothing to do. Whether the token is alive then; it may be
/// dead only where it was sent again after an answer had been lost.
fn settle(world: &mut World) -> Result<bool, Broken> {
    let (mut waited_for_lease, mut backed_off, mut waited_until_due) = (false, false, false);
    for _ in 0..12 {
        let (began, staged) = (world.time.now(), has_staged_tokens(world));
        let run = world.later_run(None)?;
        let member = &world.members[run];
        let Stage::Ended(result) = &member.standing else { return Err(Broken::new("a later run does not end")) };
        // A claim that was taken over, a merge, and one call for each refresh that led on from an old copy.
        let most_to_recover =
            5 + 5 + 2 + world.provider.sendings.len() + if world.plan.tells_readers() { 4 } else { 0 };
        match &**result {
            Ok(Completed { outcome: Outcome::Skipped, .. }) => {
                // What a forced run has staged, and did not put in place, waits until the token falls due.
                if world.was_forced() && !waited_until_due {
                    waited_until_due = true;
                    world.time.set(world.time.now() + TimeDelta::hours(1));
                    continue;
                }
                of_what_readers_are_told(world)?;
                of_liveness(world)?;
                return Ok(true);
            }
            Ok(Completed { outcome: Outcome::Recovered, .. }) if member.calls > most_to_recover => {
                return Err(Broken(format!("a later run took {} calls to recover", member.calls)));
            }
            Ok(Completed { outcome: Outcome::Refreshed | Outcome::Recovered | Outcome::Superseded, .. }) => {}
            Ok(Completed { outcome: outcome @ (Outcome::InProgress | Outcome::BackingOff), retry_at, .. }) => {
                let waited = if *outcome == Outcome::InProgress { &mut waited_for_lease } else { &mut backed_off };
                keep(!*waited, || format!("{outcome:?} a second time, with no one at work"))?;
                keep(!staged, || format!("{outcome:?}, with living tokens staged"))?;
                *waited = true;
                let longest = if *outcome == Outcome::InProgress { TIMEOUT + GRACE } else { TimeDelta::minutes(31) };
                wait(world, *retry_at, began, longest)?;
            }
            Ok(other) => return Err(Broken(format!("a later run ends {:?}", other.outcome))),
            Err(Error::VersionQuota { .. }) if world.plan.other_versions > 0 => {
                let lost = |fate| matches!(fate, Fate::Lost | Fate::InMemory { .. });
                if !world.provider.sendings.iter().any(|sending| lost(sending.fate)) {
                    of_liveness(world)?;
                }
                return Ok(false);
            }
            Err(Error::Refused { .. }) => {
                keep(!of_liveness(world)?, || "a living token is said to be refused".to_owned())?;
                return Ok(false);
            }
            Err(error) => return Err(Broken(format!("a later run fails: {}: {error}", error.error_type().as_str()))),
        }
    }
    Err(Broken::new("later runs find no end"))
}

/// Whether there are living tokens in the store, and dead ones are current.
fn has_staged_tokens(world: &World) -> bool {
    let provider = &world.provider;
    let (refresh, access) = tokens(&world.current_text()).expect("tokens");
    let current = provider.find(&refresh, &access).expect("tokens that were issued");
    let replaces =
        |issue: usize| provider.issues[issue].consent == provider.issues[current].consent && provider.is_alive(issue);
    let mut sendings = provider.sendings.iter();
    !provider.is_alive(current)
        && sendings.any(|sending| matches!(sending.fate, Fate::Stored { .. }) && replaces(sending.issue))
}

/// Readers are told of the tokens that are current, and of nothing else.
fn of_what_readers_are_told(world: &World) -> Result<(), Broken> {
    let current = TokenSecret::parse(&world.current_text()).expect("a token secret");
    let publication = if world.plan.tells_readers() { current.publication() } else { None };
    keep(world.told_readers().as_deref() == publication.as_ref().map(Secret::expose), || {
        "readers are told of other tokens than are current".to_owned()
    })
}

fn wait(
    world: &World,
    retry_at: Option<DateTime<Utc>>,
    began: DateTime<Utc>,
    longest: TimeDelta,
) -> Result<(), Broken> {
    let retry_at = retry_at.ok_or_else(|| Broken::new("no one is at work, and a run cannot tell when to try again"))?;
    keep(retry_at - began <= longest, || format!("a wait from {began} until {retry_at}"))?;
    world.time.set(retry_at);
    Ok(())
}

/// The current version holds the newest tokens, alive: unless one was sent again after an answer had been lost; whether
/// they are.
fn of_liveness(world: &World) -> Result<bool, Broken> {
    let (refresh, access) = tokens(&world.current_text()).expect("tokens");
    let provider = &world.provider;
    let issue = provider.find(&refresh, &access).expect("tokens that were issued");
    let consent = provider.issues[issue].consent;
    let may_be_dead = match provider.manners {
        // Reuse ends the grant; that is what gambling with an old token may cost.
        Manners::ReuseEndsGrant => world.gambled.contains(&consent),
        // The later of two answers may be lost, find no room, or lie unfound where a run ended between its two puts.
        Manners::EndsOldAccess | Manners::GraceReplaces => {
            let newest = provider.issues.iter().rposition(|other| other.consent == consent);
            let mut sendings = provider.sendings.iter();
            let lost = sendings.any(|sent| Some(sent.issue) == newest && !matches!(sent.fate, Fate::Stored { .. }));
            let cut_off = world.leaps() > 1 || world.members.iter().any(|member| member.answered && member.faults > 0);
            world.gambled.contains(&consent) && (lost || cut_off || world.plan.other_versions > 0)
        }
        _ => false,
    } || world.ended_by_people(consent);
    let alive = provider.is_alive(issue);
    keep(alive || may_be_dead, || format!("AWSCURRENT holds dead tokens: {refresh}, {access}"))?;
    Ok(alive)
}
