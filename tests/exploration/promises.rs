//! What must hold at every step, and when a run ends. What must hold at the end of a schedule is in `end`.

use chrono::TimeDelta;
use token_refresher::{
    error::ErrorType,
    protocol::{
        Error, Mode,
        error::ResponseLocation,
        outcome::{Completed, Outcome},
    },
    secret::Secret,
    store::{Label, Limits, VersionId},
    token_secret::TokenSecret,
};

use crate::{
    end, neighbour,
    plan::{Neighbour, Plan, Responses},
    provider::{Behaviour, TokenLocation},
    run::{End, NAME, PATTERN, Pacing, RunState, Step},
    world::{World, stored_tokens, tokens},
};

/// The minimum time left to send a refresh token: `src/protocol/decision.rs`.
const TIME_FOR_WRITES: TimeDelta = TimeDelta::seconds(1);
const TIME_FOR_WRITES_IN_SWEEP: TimeDelta = TimeDelta::seconds(3);

/// The minimum time left to begin a run of a sweep: `src/sweep.rs`.
const MIN_TO_BEGIN: TimeDelta = TimeDelta::seconds(5);

/// Why a promise is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPromise(pub String);

impl BrokenPromise {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), BrokenPromise> {
    if holds { Ok(()) } else { Err(BrokenPromise(what())) }
}

/// AWSCURRENT always holds a whole document: the members that the person last put there, and tokens that were issued together, of
/// the consent that the person last put there.
pub fn check_current_version(world: &World) -> Result<(), BrokenPromise> {
    let text = world.current_text();
    ensure(TokenSecret::parse(&text).is_ok(), || "AWSCURRENT does not hold a token secret".to_owned())?;
    let document: serde_json::Value = serde_json::from_str(&text).expect("a document");
    ensure(document["note"] == world.expected.note, || {
        format!("a person's edit is lost: the note is {}, not {}", document["note"], world.expected.note)
    })?;
    ensure(document["clientSecret"].is_string(), || "a member is lost".to_owned())?;
    let pair = tokens(&text).and_then(|(refresh, access)| world.provider.find(&refresh, &access));
    let consent = pair.map(|pair| world.provider.pairs[pair].consent);
    if let Some(pair) = pair
        && world.provider.granted_requests.iter().any(|request| request.pair == pair)
        && world.provider.behaviour != Behaviour::RepeatAll
    {
        let token = TokenSecret::parse(&text).expect("a token secret");
        let lifetime = token.expires_at.zip(token.tokens.refreshed_at).map(|(expires, obtained)| expires - obtained);
        let of_an_hour = |lifetime: TimeDelta| (lifetime - TimeDelta::hours(1)).abs() < TimeDelta::seconds(2);
        ensure(lifetime.is_some_and(of_an_hour), || {
            format!("the current tokens have the expiry of other tokens: {lifetime:?}")
        })?;
    }
    ensure(consent.is_some(), || "AWSCURRENT holds tokens that were never issued together".to_owned())?;
    ensure(consent == Some(world.expected.consent), || "a person's consent is lost".to_owned())
}

/// The published secret holds an issued access token, and only published members.
pub fn check_published_members(world: &World) -> Result<(), BrokenPromise> {
    let Some(text) = world.published_text() else { return Ok(()) };
    let publication: serde_json::Value = serde_json::from_str(&text).expect("a publication");
    let members: Vec<_> = publication.as_object().expect("a publication").keys().map(String::as_str).collect();
    ensure(members == ["accessToken", "expiresAt"], || format!("the published members are {members:?}"))?;
    let issued = world.provider.pairs.iter().any(|pair| publication["accessToken"] == pair.access.as_str());
    ensure(issued, || "the published access token was never issued".to_owned())
}

/// Without faults and without a person, the published tokens never become older.
pub fn check_publication_is_not_older(world: &World, before: Option<&str>) -> Result<(), BrokenPromise> {
    let pair = |text: &str| {
        let publication: serde_json::Value = serde_json::from_str(text).expect("a publication");
        world.provider.pairs.iter().rposition(|pair| publication["accessToken"] == pair.access.as_str())
    };
    let undisturbed = world.faults_and_jumps() == 0 && world.plan.user_actions.is_empty();
    let now = world.published_text();
    ensure(!undisturbed || now.as_deref().and_then(pair) >= before.and_then(pair), || {
        "older tokens are published than before".to_owned()
    })
}

/// Without faults and without a person, tokens are published before they are current.
pub fn check_published_before_current(world: &World, to: &VersionId) -> Result<(), BrokenPromise> {
    if !world.plan.publishes() || world.faults_and_jumps() > 0 || !world.plan.user_actions.is_empty() {
        return Ok(());
    }
    let next = world.versions.get(Some(to), None).expect("a version to move to");
    let publication = TokenSecret::parse(next.body.expose()).expect("a token secret").publication();
    let published = world.published_text();
    ensure(published.as_deref() == publication.as_ref().map(Secret::expose), || {
        "tokens become current before they are published".to_owned()
    })
}

/// A run that receives tokens stages them next, or keeps the response if it does not understand it. Where writes keep to a pace, it may
/// have to wait for its turn, but makes no call before.
pub fn check_tokens_are_put_next(run: usize, next: &RunState, pacing: Pacing) -> Result<(), BrokenPromise> {
    let puts = |step: &Step| matches!(step, Step::Put { body, .. } if stored_tokens(body.expose()).is_some());
    let is_of_look = |step: &Step| matches!(step, Step::GetBatch | Step::Find);
    let puts_next = match next {
        RunState::Waits { steps, pause_ends_at, .. } => {
            let waits_for_turn = pacing == Pacing::ByStore && pause_ends_at.is_some();
            steps.iter().any(|step| puts(&step.step))
                || waits_for_turn && steps.iter().all(|step| is_of_look(&step.step))
        }
        RunState::Ended(_) => false,
    };
    ensure(puts_next, || format!("run {run} does not stage the tokens that it has received"))
}

/// A run sends at most one request. A refresh token is sent again only if the response to the first request is lost, and no run
/// can still store it.
pub fn check_exchange(world: &mut World, run: usize, refresh: &str, access: Option<&str>) -> Result<(), BrokenPromise> {
    let now = world.time.now();
    let tracked = &mut world.runs[run];
    ensure(!std::mem::replace(&mut tracked.has_sent, true), || format!("run {run} sends twice"))?;
    let time_for_writes = if tracked.sweep.is_some() { TIME_FOR_WRITES_IN_SWEEP } else { TIME_FOR_WRITES };
    let left = tracked.deadline - now;
    ensure(left >= time_for_writes, || format!("run {run} sends a refresh token with {left} left for two writes"))?;
    let own = tracked.process;
    // Only a person sends the token again whose response is kept.
    let overrides = world.plan.responses == Responses::Kept && tracked.mode == Mode::Forced { if_version_id: None };
    // Days later, that an old copy has the same refresh token is all that a run can know, and all that it needs to.
    let is_reusable = world.plan.drops_old_versions() && !world.provider.behaviour.rotates();
    for location in world.provider.locations_of(refresh, access) {
        match location {
            TokenLocation::Stored { too_late_for } if too_late_for & (1 << run) == 0 && !is_reusable && !overrides => {
                return Err(BrokenPromise(format!("run {run} sends a refresh token whose new tokens are stored")));
            }
            TokenLocation::InMemory { process } if process == own => {
                return Err(BrokenPromise(format!(
                    "run {run} sends a refresh token whose new tokens are in its own process's memory"
                )));
            }
            TokenLocation::InRun { run: other } if now < world.runs[other].deadline => {
                return Err(BrokenPromise(format!(
                    "run {run} sends a refresh token while run {other} holds the new tokens"
                )));
            }
            _ => {
                let pair = world.provider.pairs.iter().find(|pair| pair.refresh == refresh);
                let consent = pair.expect("it was issued").consent;
                world.sent_again_after_loss.insert(consent);
            }
        }
    }
    Ok(())
}

/// Without a refresh token no run puts a claim, nor a refusal: the provider refuses nothing.
pub fn check_put(world: &World, run: usize, label: Label) -> Result<(), BrokenPromise> {
    ensure(world.provider.behaviour.issues_refresh_tokens() || label == Label::Staged, || {
        format!("run {run} puts a version under {}, although nothing has to be claimed", label.as_str())
    })
}

/// A run never replaces tokens by others that were asked for earlier, where all stay valid.
pub fn check_tokens_are_not_older(
    world: &World,
    run: usize,
    from: Option<&VersionId>,
    to: &VersionId,
) -> Result<(), BrokenPromise> {
    let asked_at = |id: &VersionId| {
        let version = world.versions.get(Some(id), None).ok()?;
        let (refresh, access) = tokens(version.body.expose())?;
        world.provider.asked_at(world.provider.find(&refresh, &access)?)
    };
    ensure(asked_at(to) >= from.and_then(asked_at), || {
        format!("run {run} replaces the current tokens by others that were asked for earlier")
    })
}

/// A run never moves a label to the version that has it.
pub fn check_move(run: usize, from: Option<&VersionId>, to: &VersionId) -> Result<(), BrokenPromise> {
    ensure(from != Some(to), || format!("run {run} moves a label to the version that has it"))
}

/// The largest numbers of calls and of new versions of a run with this outcome, whatever other runs do.
/// `end::check_refresh_an_hour_later` checks the exact numbers of a run alone.
fn max_cost(outcome: Outcome, plan: &Plan, is_alone: bool) -> (usize, usize) {
    // The published secret: read, put, move; twice if other tokens have become current. A skipped token: once, and before the put a
    // read of the staged version and one of AWSCURRENT.
    let publication = match outcome {
        _ if !plan.publishes() => 0,
        Outcome::Skipped => 5,
        Outcome::Refreshed | Outcome::Recovered | Outcome::Superseded => 7,
        _ => 0,
    };
    let others = if is_alone { 0 } else { plan.runs.len() - 1 + plan.user_actions.len() };
    let (calls, versions) = if plan.behaviour.issues_refresh_tokens() {
        max_cost_without_publication(outcome)
    } else {
        max_cost_without_claims(outcome, others)
    };
    (calls + publication, versions)
}

fn max_cost_without_publication(outcome: Outcome) -> (usize, usize) {
    // 7 to take over: staged version, refusal, newest claim, the claim before it, the refusal of an ended claim, claim, staged
    // version. 3 for a failed promotion: move, read, move. 3 if another run has staged a response to the same token: put, read, read.
    match outcome {
        Outcome::Skipped | Outcome::WouldRefresh | Outcome::WouldRecover => (2, 0),
        Outcome::Refreshed => (5 + 7 + 3 + 3, 3),
        Outcome::Recovered | Outcome::Superseded => (6 + 7 + 3 + 3, 4),
        // Read, list, claim, staged version, refusal, newest claim, the refusal of an ended claim, and a put of the next claim that
        // fails.
        Outcome::InProgress | Outcome::BackingOff => (9, 0),
    }
}

/// The same without a refresh token: no claim is put or read. `others`: how many runs and actions of a person are at the same time.
fn max_cost_without_claims(outcome: Outcome, others: usize) -> (usize, usize) {
    match outcome {
        // Read, list, put, move. For each other run, 3 for a failed promotion, and 3 if it has staged a response to the same tokens.
        // For each failed promotion, a merged version, and a look for later tokens.
        Outcome::Refreshed => (4 + 7 * others, 1 + others),
        Outcome::Recovered | Outcome::Superseded => (6 + 6 + 7 * others, 2 + others),
        outcome => max_cost_without_publication(outcome),
    }
}

/// A sweep returns a summary that counts each secret once, and a secret that fails does not fail it. It begins the run of every due
/// token, unless its time is over.
pub fn check_sweep_end(world: &World, run: usize, end: &End) -> Result<(), BrokenPromise> {
    let Some(sweep) = &end.sweep else { return Ok(()) };
    ensure(!end.others.iter().any(|(secret_id, _)| secret_id == NAME), || {
        format!("sweep {run} ends more than once for a secret: {end:?}")
    })?;
    let neighbour = world.plan.neighbour;
    let summary = match sweep {
        Ok(summary) => summary,
        Err(error) => {
            ensure(world.faults_and_jumps() > 0, || format!("sweep {run} fails without a fault: {error}"))?;
            let all_failed = end.others.iter().map(|(_, result)| result).chain(&end.result).all(Result::is_err);
            return ensure(all_failed, || format!("sweep {run} fails, although one of its secrets does not: {error}"));
        }
    };
    let counts = summary.counts;
    let parts = [
        counts.skipped,
        counts.refreshed,
        counts.recovered,
        counts.in_progress,
        counts.backing_off,
        counts.superseded,
        counts.ignored,
        counts.failed,
        counts.not_reached,
    ];
    // A search that fails counts as a secret; it may hide the others.
    let search_failed = end.others.iter().any(|(secret_id, _)| secret_id == PATTERN);
    let secrets = if search_failed { counts.secrets } else { 1 + usize::from(neighbour != Neighbour::None) };
    ensure(counts.secrets == secrets && parts.iter().sum::<usize>() == secrets, || {
        format!("sweep {run} counts {counts:?}, and there are {secrets} secrets")
    })?;
    let outcome = match &end.result {
        None if search_failed => counts.failed,
        None => counts.not_reached,
        Some(Err(_)) => counts.failed,
        Some(Ok(report)) => match report.outcome {
            Outcome::Skipped => counts.skipped,
            Outcome::Refreshed => counts.refreshed,
            Outcome::Recovered => counts.recovered,
            Outcome::InProgress => counts.in_progress,
            Outcome::BackingOff => counts.backing_off,
            Outcome::Superseded => counts.superseded,
            outcome => return Err(BrokenPromise(format!("sweep {run} ends {outcome:?}"))),
        },
    };
    ensure(outcome > 0, || format!("sweep {run} does not count its own end: {counts:?}"))?;
    let reached = usize::from(end.result.is_some()) + end.others.len();
    ensure(counts.not_reached == secrets - reached, || format!("sweep {run} ended {reached} secrets: {counts:?}"))?;
    let left = world.runs[run].deadline - world.time.now();
    ensure(counts.not_reached == 0 || left < MIN_TO_BEGIN, || {
        format!("sweep {run} does not begin a run, although {left} are left")
    })?;
    for (secret_id, result) in &end.others {
        let error = result.as_ref().err().map(|error| error.error_type().as_str());
        ensure(world.faults_and_jumps() > 0 || error == neighbour::expected_error(neighbour), || {
            format!("sweep {run} ends for {secret_id}: {result:?}")
        })?;
    }
    Ok(())
}

/// The outcome of a run fits the store, its cost is within the limits, and it fails only if there was a reason.
pub fn check_run_end(world: &World, run: usize, result: &Result<Completed, Error>) -> Result<(), BrokenPromise> {
    let tracked = &world.runs[run];
    match result {
        Ok(report) => {
            let is_alone = run >= world.plan.runs.len();
            let (calls, versions) = max_cost(report.outcome, &world.plan, is_alone);
            // The batch, and one for the published secrets.
            let calls = if tracked.sweep.is_some() { calls + 2 } else { calls };
            let promoted = matches!(report.outcome, Outcome::Refreshed | Outcome::Recovered);
            let current = world.versions.get(None, None).expect("a current version").id;
            ensure(!promoted || world.plan.stale_reads || current == report.version_id, || {
                format!("run {run} ends {:?}, and another version is current", report.outcome)
            })?;
            let edits = world.versions_by_person;
            // For each edit: a failed move, a read, a merged version, and a look for later tokens.
            ensure(tracked.calls <= calls + 4 * edits + 2 * tracked.faults, || {
                format!("run {run} took {} calls to end {:?}", tracked.calls, report.outcome)
            })?;
            ensure(tracked.versions_put <= versions + edits, || {
                format!("run {run} made {} versions to end {:?}", tracked.versions_put, report.outcome)
            })?;
            Ok(())
        }
        Err(Error::Refused { .. }) => Ok(()),
        Err(Error::VersionQuota { is_readers_request, .. }) => {
            let count = world.versions.list(true).len();
            // For a reader's request, the last of 31 refreshes in 23 hours finds room: then the versions of the first hour are old.
            let count = if *is_readers_request { count + 30 * 2 } else { count };
            ensure(count > Limits::SECRETS_MANAGER.versions - 2, || {
                format!("run {run} finds no room beside {count} versions")
            })
        }
        Err(Error::InvalidSecret { .. }) if end::is_old_copy(world) => Ok(()),
        Err(error @ Error::Unusable { response: ResponseLocation::Version(_), .. }) => end::check_is_kept(world, error),
        Err(error) => {
            ensure(world.faults_and_jumps() > 0, || {
                format!("run {run} fails without a fault: {}: {error}", error.error_type().as_str())
            })?;
            // A run gets over one fault or clock jump, unless the store fails until the deadline.
            let not_stored = error.error_type() == ErrorType::TokenNotStored;
            let left = tracked.deadline - world.time.now();
            let jumped_once = world.faults_and_jumps() == 1 && left < TimeDelta::zero();
            let until_deadline = left < TimeDelta::seconds(1) && !jumped_once;
            ensure(!not_stored || until_deadline || world.plan.other_versions > 0, || {
                format!("run {run} gives up storing tokens")
            })
        }
    }
}
