//! What must hold at every step, and at the end of every run. What must hold in the end is in `end`.

use chrono::TimeDelta;
use token_refresher::{
    protocol::{
        Error,
        outcome::{Completed, Outcome},
    },
    secret::Secret,
    store::{Label, Limits, VersionId},
    token_secret::TokenSecret,
};

use crate::{
    provider::{Fate, Manners},
    run::{Standing, Step},
    world::{World, tokens},
};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

impl Broken {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

pub fn keep(holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what())) }
}

/// AWSCURRENT holds a whole document at every moment: the members that people last put there, and tokens that were
/// issued together, of the consent that people last put there.
pub fn of_the_current_version(world: &World) -> Result<(), Broken> {
    let text = world.current_text();
    keep(TokenSecret::parse(&text).is_ok(), || "AWSCURRENT holds no token document".to_owned())?;
    let document: serde_json::Value = serde_json::from_str(&text).expect("a document");
    keep(document["note"] == world.wanted.note, || {
        format!("a person's edit is lost: the note is {}, not {}", document["note"], world.wanted.note)
    })?;
    keep(document["clientSecret"].is_string(), || "a member is lost".to_owned())?;
    let issue = tokens(&text).and_then(|(refresh, access)| world.provider.find(&refresh, &access));
    let consent = issue.map(|issue| world.provider.issues[issue].consent);
    if let Some(issue) = issue
        && world.provider.sendings.iter().any(|sent| sent.issue == issue)
        && world.provider.manners != Manners::RepeatAll
    {
        let token = TokenSecret::parse(&text).expect("a token secret");
        let lifetime = token.expires_at.zip(token.tokens.refreshed_at).map(|(expires, obtained)| expires - obtained);
        let of_an_hour = |lifetime: TimeDelta| (lifetime - TimeDelta::hours(1)).abs() < TimeDelta::seconds(2);
        keep(lifetime.is_some_and(of_an_hour), || {
            format!("tokens are current with the expiry of others: {lifetime:?}")
        })?;
    }
    keep(consent.is_some(), || "AWSCURRENT holds tokens that were never issued together".to_owned())?;
    keep(consent == Some(world.wanted.consent), || "a person's consent is lost".to_owned())
}

/// Readers get what was issued, and nothing that is only the refresher's.
pub fn of_the_readers(world: &World) -> Result<(), Broken> {
    let Some(told) = world.told_readers() else { return Ok(()) };
    let told: serde_json::Value = serde_json::from_str(&told).expect("a publication");
    let members: Vec<_> = told.as_object().expect("a publication").keys().map(String::as_str).collect();
    keep(members == ["accessToken", "expiresAt"], || format!("readers are told {members:?}"))?;
    let issued = world.provider.issues.iter().any(|issue| told["accessToken"] == issue.access.as_str());
    keep(issued, || "readers are told an access token that was never issued".to_owned())
}

/// Readers are not told of older tokens than before, where nothing goes wrong and no one else is there.
pub fn of_readers_who_were_told(world: &World, before: Option<&str>) -> Result<(), Broken> {
    let issue = |told: &str| {
        let told: serde_json::Value = serde_json::from_str(told).expect("a publication");
        world.provider.issues.iter().rposition(|issue| told["accessToken"] == issue.access.as_str())
    };
    let calm = world.mishaps() == 0 && world.plan.deeds.is_empty();
    let now = world.told_readers();
    keep(!calm || now.as_deref().and_then(issue) >= before.and_then(issue), || {
        "readers are told of older tokens than before".to_owned()
    })
}

/// Readers are told of tokens before those are current, where nothing goes wrong and no one else is there.
pub fn of_telling_first(world: &World, to: &VersionId) -> Result<(), Broken> {
    if !world.plan.tells_readers() || world.mishaps() > 0 || !world.plan.deeds.is_empty() {
        return Ok(());
    }
    let next = world.versions.get(Some(to), None).expect("a version to move to");
    let publication = TokenSecret::parse(next.body.expose()).expect("a token secret").publication();
    let told = world.told_readers();
    keep(told.as_deref() == publication.as_ref().map(Secret::expose), || {
        "tokens become current that readers were not told of".to_owned()
    })
}

/// Nothing comes between an answer and its staging.
pub fn of_an_answer(run: usize, next: &Standing) -> Result<(), Broken> {
    let stages = matches!(next, Standing::Asks(Step::Put { label: Label::Staged, .. }, _));
    keep(stages, || format!("run {run} does something else with an answer than stage it"))
}

/// A refresh token is sent again only when the answer to the first request is nowhere, and no one who may still store
/// it is alive.
pub fn of_a_sending(world: &mut World, run: usize, refresh: &str, access: Option<&str>) -> Result<(), Broken> {
    let now = world.time.now();
    let member = &mut world.members[run];
    keep(!std::mem::replace(&mut member.sent, true), || format!("run {run} sends twice"))?;
    let own = member.process;
    for fate in world.provider.fates_of(refresh, access) {
        match fate {
            Fate::Stored { too_late_for } if too_late_for & (1 << run) == 0 => {
                return Err(Broken(format!("run {run} sends a refresh token again whose successor is stored")));
            }
            Fate::InMemory { process } if process == own => {
                return Err(Broken(format!("run {run} sends a refresh token whose successor its own process holds")));
            }
            Fate::Held { run: other } if now < world.members[other].deadline => {
                return Err(Broken(format!("run {run} sends a refresh token while run {other} holds its successor")));
            }
            _ => {
                let issue = world.provider.issues.iter().find(|issue| issue.refresh == refresh);
                let consent = issue.expect("it was issued").consent;
                world.gambled.insert(consent);
            }
        }
    }
    Ok(())
}

/// AWSCURRENT is moved to another version, or not at all.
pub fn of_a_move(run: usize, from: &VersionId, to: &VersionId) -> Result<(), Broken> {
    keep(from != to, || format!("run {run} moves AWSCURRENT to where it is"))
}

/// The most Secrets Manager calls, and the most versions, that a run may make to end so, whatever others do meanwhile;
/// what one all alone makes is counted in `an_hour_later`.
fn most(outcome: Outcome, publishes: bool) -> (usize, usize) {
    // Of the readers' secret: read, put, move; once more where other tokens turned out to be current. A token that is left
    // alone: that, and before the put a look for a successor and at what is current.
    let readers = match outcome {
        _ if !publishes => 0,
        Outcome::Skipped => 5,
        Outcome::Refreshed | Outcome::Recovered | Outcome::Superseded => 7,
        _ => 0,
    };
    let (calls, versions) = most_alone(outcome);
    (calls + readers, versions)
}

fn most_alone(outcome: Outcome) -> (usize, usize) {
    // To take a claim over: list, successor, refusal, newest claim, list, claim, successor. To lose a promotion: move,
    // read, move. To meet another's answer to the same token: put, read, read.
    match outcome {
        Outcome::Skipped | Outcome::WouldRefresh => (1, 0),
        Outcome::Refreshed => (4 + 7 + 3 + 3, 3),
        Outcome::Recovered | Outcome::Superseded => (5 + 7 + 3 + 3, 4),
        // List, claim, successor, refusal, newest claim, list, the next claim: lost.
        Outcome::InProgress | Outcome::BackingOff => (8, 0),
    }
}

/// How a run may end, and what it may cost.
pub fn of_a_run(world: &World, run: usize, result: &Result<Completed, Error>) -> Result<(), Broken> {
    let member = &world.members[run];
    match result {
        Ok(report) => {
            let (calls, versions) = most(report.outcome, world.plan.tells_readers());
            let placed = matches!(report.outcome, Outcome::Refreshed | Outcome::Recovered);
            let current = world.versions.get(None, None).expect("a current version").id;
            keep(!placed || world.plan.lagging_reads || current == report.version_id, || {
                format!("run {run} ends {:?}, and another version is current", report.outcome)
            })?;
            let person = world.versions_of_people;
            keep(member.calls <= calls + 3 * person + 2 * member.faults, || {
                format!("run {run} took {} calls to end {:?}", member.calls, report.outcome)
            })?;
            keep(member.versions_put <= versions + person, || {
                format!("run {run} made {} versions to end {:?}", member.versions_put, report.outcome)
            })?;
            Ok(())
        }
        Err(Error::Refused { .. }) => Ok(()),
        Err(Error::VersionQuota { .. }) => {
            let count = world.versions.list(true).len();
            keep(count > Limits::SECRETS_MANAGER.versions - 2, || {
                format!("run {run} finds no room beside {count} versions")
            })
        }
        Err(error) => {
            keep(world.mishaps() > 0, || {
                format!("run {run} fails without a fault: {}: {error}", error.error_type().as_str())
            })?;
            // One mishap is overcome, unless the store fails until the very end.
            let not_stored = matches!(error, Error::TokenNotStored { .. });
            let left = member.deadline - world.time.now();
            let leapt_once = world.mishaps() == 1 && left < TimeDelta::zero();
            let to_the_end = left < TimeDelta::seconds(1) && !leapt_once;
            keep(!not_stored || to_the_end || world.plan.other_versions > 0, || {
                format!("run {run} gives up storing tokens")
            })
        }
    }
}
