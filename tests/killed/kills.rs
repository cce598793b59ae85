//! SIGKILL at every request of every path, before and after the peer has processed it, and the runs that follow.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    bench::SECRET,
    paths::{Before, PATHS, Path},
    promises::{LEGEND, LaterRuns, Milestones, Phase, SecondUse},
    support::gateway::{InjectedFault, Observed, When},
    table,
    world::{World, end},
};

/// How many cases run at the same time. With more, the processes would take the processor from each other.
const AT_ONCE: usize = 8;

/// A kill, and the conditions of its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kill {
    request: usize,
    /// Whether the peer has processed the request before the kill.
    processed: bool,
    second_use: SecondUse,
    /// Whether the next run starts after the end of the lease.
    after_lease: bool,
}

async fn kill(path: &'static Path, requests: &[Observed], kill: Kill) -> LaterRuns {
    let Kill { request, processed, second_use, after_lease } = kill;
    let case = format!("{}: {} {kill:?}", path.name, requests[request].name);
    let world = World::new(path, second_use.provider()).await;
    world
        .gateway
        .inject(When::Nth(request), if processed { InjectedFault::HoldAfter } else { InjectedFault::HoldBefore });
    world.run_and_kill().await;
    let names = |seen: &[Observed]| seen.iter().map(|seen| seen.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        names(&world.gateway.seen()),
        names(&requests[..=request]),
        "{case}: the run makes the recorded requests"
    );
    world.assert_sound(&case);
    world.gateway.reset();

    let milestones = Milestones::of(path, requests);
    let expected = milestones.expected(path, request + usize::from(processed), second_use, after_lease);
    if after_lease {
        world.age(TimeDelta::hours(1));
    }
    let mut ends = Vec::new();
    while ends.len() < expected.ends.len() {
        let (calls, versions) = (world.bench.sm.actions().len(), world.bench.sm.version_count(SECRET));
        let outcome = world.run(world.next_event()).await;
        ends.push(end(&outcome));
        let end = &ends[ends.len() - 1];
        world.assert_sound(&case);
        let cost = (world.bench.sm.actions().len() - calls, world.bench.sm.version_count(SECRET) - versions);
        let limit = max_cost(path, end);
        assert!(
            cost.0 <= limit.0 && cost.1 <= limit.1,
            "{case}: {end} took {cost:?} calls and versions, at most {limit:?} are allowed"
        );
        if end == "in_progress" {
            world.age(TimeDelta::hours(1));
        }
    }
    let observed = LaterRuns { ends, sent: world.sent() };
    assert_eq!(observed, expected, "{case}");
    if observed.ends.last().is_some_and(|end| end == "skipped") {
        world.bench.assert_alive(SECRET);
        world.assert_published(&case);
    }
    assert_eq!(world.bench.provider.reuses() > 0, expected.sent > 1 && !path.is_refused(), "{case}");
    observed
}

/// The largest numbers of calls to the store and of new versions of a run with this end.
fn max_cost(path: &Path, end: &str) -> (usize, usize) {
    // One more call: a read of a client's secret, a refresh since the old copy was taken. An edit during the
    // run is a version, and so is the merged version. It costs two calls, and the promotion that fails before it costs two.
    let (calls, versions) = match path.before {
        Before::DueWithClientSecret | Before::OldCopy => (1, 0),
        Before::EditedDuringRun => (4, 2),
        Before::StagedAndEdited => (2, 1),
        // The publication: read, put, move.
        Before::DueWithPublication => (3, 0),
        _ => (0, 0),
    };
    match end {
        // A check of the publication.
        "skipped" if path.before == Before::DueWithPublication => (3, 0),
        "skipped" => (2, 0),
        "in_progress" => (5 + calls, 0),
        "recovered" => (5 + calls, versions),
        // A take-over. A refusal costs as much with its record.
        "refreshed" if path.claims => (10 + calls, 2 + versions),
        // The first run also proves that it can write. If a killed run has proved it, the next one looks for staged tokens.
        "refreshed" => (6 + calls, 2 + versions),
        _ => (11 + calls, 2),
    }
}

/// All kills of a path with these requests.
fn kills(path: &Path, requests: &[Observed]) -> Vec<Kill> {
    let milestones = Milestones::of(path, requests);
    let mut kills = Vec::new();
    for (request, processed) in (0..requests.len()).flat_map(|request| [(request, false), (request, true)]) {
        let phase = milestones.phase(request + usize::from(processed));
        // `second_use` makes a difference only if there is one, and `after_lease` only if there is a lease.
        let second_uses = [SecondUse::RevokesGrant, SecondUse::Allowed];
        let second_uses =
            if phase == Phase::Window && !path.is_refused() { &second_uses[..] } else { &second_uses[..1] };
        let after_lease_values =
            if matches!(phase, Phase::Free | Phase::Current) { &[false][..] } else { &[false, true] };
        for &second_use in second_uses {
            kills.extend(after_lease_values.iter().map(|&after_lease| Kill {
                request,
                processed,
                second_use,
                after_lease,
            }));
        }
    }
    kills
}

/// Runs a path without a kill, and returns its requests.
async fn record(path: &'static Path) -> Arc<[Observed]> {
    let world = World::new(path, SecondUse::RevokesGrant.provider()).await;
    let (calls, versions) = (world.bench.sm.actions().len(), world.bench.sm.version_count(SECRET));
    let (outcome, requests) = world.record().await;
    let cost = (world.bench.sm.actions().len() - calls, world.bench.sm.version_count(SECRET) - versions);
    // The person's version does not count.
    let edits = usize::from(path.before == Before::EditedDuringRun);
    assert_eq!((end(&outcome).as_str(), cost.0, cost.1 - edits), path.end, "{}", path.name);
    world.assert_sound(path.name);
    requests.into()
}

/// A row of the table: consecutive kills of one path with the same expected and observed result.
struct Row {
    path: &'static str,
    /// The first and the last kill: number and name of the request, and whether it was processed.
    kills: [(usize, String, bool); 2],
    count: usize,
    expected: String,
    observed: String,
}

impl Row {
    fn of(path: &Path, requests: &[Observed], kill: Kill, observed: &LaterRuns) -> Self {
        let Kill { request, processed, second_use, .. } = kill;
        let name = requests[request].name.replace(&format!(" of {SECRET}"), "");
        let phase = Milestones::of(path, requests).phase(request + usize::from(processed));
        let expected = match second_use {
            SecondUse::RevokesGrant => format!("{phase:?}").to_lowercase(),
            SecondUse::Allowed => "  allowed".to_owned(),
        };
        let kill = (request + 1, name, processed);
        Self { path: path.name, kills: [kill.clone(), kill], count: 1, expected, observed: observed.to_string() }
    }

    fn continues_with(&self, next: &Self) -> bool {
        (self.path, &self.expected, &self.observed) == (next.path, &next.expected, &next.observed)
    }

    fn cells(self) -> Vec<String> {
        let [first, last] = self
            .kills
            .map(|(number, name, processed)| format!("{} {number} {name}", if processed { "after" } else { "before" }));
        let last = if first == last { String::new() } else { last };
        vec![self.path.to_owned(), first, last, self.count.to_string(), self.expected, self.observed]
    }
}

#[tokio::test]
async fn the_next_runs_finish_after_a_kill_at_any_request() {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for (nth, path) in PATHS.iter().enumerate() {
        let requests = record(path).await;
        for which in kills(path, &requests) {
            let (permits, requests) = (Arc::clone(&permits), Arc::clone(&requests));
            cases.spawn(async move {
                let _permit = permits.acquire().await;
                let observed = kill(path, &requests, which).await;
                ((nth, which), requests, observed)
            });
        }
    }
    let mut cases = cases.join_all().await;
    cases.sort_by_key(|(case, ..)| *case);

    // Kills with `after_lease` have the same rows, without the wait.
    let mut rows: Vec<Row> = Vec::new();
    for ((nth, which), requests, observed) in cases.iter().filter(|((_, which), ..)| !which.after_lease) {
        let row = Row::of(&PATHS[*nth], requests, *which, observed);
        match rows.iter_mut().rev().take(2).find(|other| other.continues_with(&row)) {
            Some(other) => {
                other.kills[1] = row.kills[1].clone();
                other.count += 1;
            }
            None => rows.push(row),
        }
    }
    table::print(
        &format!(
            "Killed at every request, before and after its peer has processed it: {} kills\n\n{LEGEND}",
            cases.len()
        ),
        &[
            "path",
            "killed from",
            "to",
            "points",
            "expected",
            "observed: the later runs, and how often the token was sent in all",
        ],
        &rows.into_iter().map(Row::cells).collect::<Vec<_>>(),
    );
}
