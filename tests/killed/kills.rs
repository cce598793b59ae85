//! SIGKILL at every request of every path, before and after the peer has processed it; then the runs to come.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    bench::SECRET,
    paths::{Before, PATHS, Path},
    promises::{Course, LEGEND, Milestones, Phase, Second},
    support::gateway::{Observed, Strike, When},
    table,
    world::{World, end},
};

/// Most of a case is waiting; more at once would only take the processor from each other.
const AT_ONCE: usize = 8;

/// A kill, and the world in which it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kill {
    request: usize,
    /// Whether the peer has processed the request by then.
    processed: bool,
    second: Second,
    /// Whether the lease has ended before the next run.
    later: bool,
}

async fn kill(path: &'static Path, requests: &[Observed], kill: Kill) -> Course {
    let Kill { request, processed, second, later } = kill;
    let case = format!("{}: {} {kill:?}", path.name, requests[request].name);
    let world = World::new(path, second.provider()).await;
    world.gateway.strike(When::Nth(request), if processed { Strike::HoldAfter } else { Strike::HoldBefore });
    world.run_and_kill().await;
    let names = |seen: &[Observed]| seen.iter().map(|seen| seen.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&world.gateway.seen()), names(&requests[..=request]), "{case}: the run went as recorded");
    world.assert_sound(&case);
    world.gateway.mend();

    let milestones = Milestones::of(path, requests);
    let promised = milestones.promised(path, request + usize::from(processed), second, later);
    if later {
        world.age(TimeDelta::hours(1));
    }
    let mut ends = Vec::new();
    while ends.len() < promised.ends.len() {
        let (calls, versions) = (world.bench.sm.actions().len(), world.bench.sm.version_count(SECRET));
        let outcome = world.run(world.next_event()).await;
        ends.push(end(&outcome));
        let end = &ends[ends.len() - 1];
        world.assert_sound(&case);
        let cost = (world.bench.sm.actions().len() - calls, world.bench.sm.version_count(SECRET) - versions);
        let most = budget(path, end);
        assert!(cost.0 <= most.0 && cost.1 <= most.1, "{case}: {end} took {cost:?} calls and versions of {most:?}");
        if end == "in_progress" {
            world.age(TimeDelta::hours(1));
        }
    }
    let seen = Course { ends, sent: world.sent() };
    assert_eq!(seen, promised, "{case}");
    if seen.ends.last().is_some_and(|end| end == "skipped") {
        world.bench.assert_alive(SECRET);
        world.assert_told(&case);
    }
    assert_eq!(world.bench.provider.reuses() > 0, promised.sent > 1 && !path.is_refused(), "{case}");
    seen
}

/// The most that a run which ends so may take: calls to the store, new versions.
fn budget(path: &Path, end: &str) -> (usize, usize) {
    // A client in a secret of its own is one read more, and so are a look at the quota and a refresh since a copy was
    // taken. A person's edit is a version, and so is what holds both; a promotion that it overtakes costs three calls.
    let (calls, versions) = match path.before {
        Before::DueWithClientApart | Before::DueAndYoung | Before::PastedBack => (1, 0),
        Before::EditedMeanwhile => (3, 2),
        Before::StagedAndEdited => (1, 1),
        // Readers are looked after: read, put, move.
        Before::DueWithReaders => (3, 0),
        _ => (0, 0),
    };
    match end {
        // A look at what readers are told.
        "skipped" if path.before == Before::DueWithReaders => (2, 0),
        "skipped" => (1, 0),
        "in_progress" => (5 + calls, 0),
        "recovered" => (5 + calls, versions),
        // As much as a take-over takes, and with a refusal as much as its record does.
        "refreshed" if path.claims => (10 + calls, 2 + versions),
        "refreshed" => (6 + calls, 1 + versions),
        _ => (11 + calls, 2),
    }
}

/// Every kill of a path whose run makes these requests.
fn kills(path: &Path, requests: &[Observed]) -> Vec<Kill> {
    let milestones = Milestones::of(path, requests);
    let mut kills = Vec::new();
    for (request, processed) in (0..requests.len()).flat_map(|request| [(request, false), (request, true)]) {
        let phase = milestones.phase(request + usize::from(processed));
        // What the provider makes of a second use shows only where there is one, and a lease only where it was left.
        let seconds = [Second::KillsFamily, Second::Forgiven];
        let seconds = if phase == Phase::Window && !path.is_refused() { &seconds[..] } else { &seconds[..1] };
        let laters = if matches!(phase, Phase::Free | Phase::Current) { &[false][..] } else { &[false, true] };
        for &second in seconds {
            kills.extend(laters.iter().map(|&later| Kill { request, processed, second, later }));
        }
    }
    kills
}

/// Runs a path undisturbed: its requests.
async fn record(path: &'static Path) -> Arc<[Observed]> {
    let world = World::new(path, Second::KillsFamily.provider()).await;
    let (calls, versions) = (world.bench.sm.actions().len(), world.bench.sm.version_count(SECRET));
    let (outcome, requests) = world.record().await;
    let cost = (world.bench.sm.actions().len() - calls, world.bench.sm.version_count(SECRET) - versions);
    // A person's version is not the run's.
    let edits = usize::from(path.before == Before::EditedMeanwhile);
    assert_eq!((end(&outcome).as_str(), cost.0, cost.1 - edits), path.ends, "{}", path.name);
    world.assert_sound(path.name);
    requests.into()
}

/// A line of the table: kills of one path one after the other, of which the same is promised and the same was seen.
struct Line {
    path: &'static str,
    /// The first and the last, each with its request's number and name, and whether that was processed.
    kills: [(usize, String, bool); 2],
    count: usize,
    promised: String,
    seen: String,
}

impl Line {
    fn of(path: &Path, requests: &[Observed], kill: Kill, seen: &Course) -> Self {
        let Kill { request, processed, second, .. } = kill;
        let name = requests[request].name.replace(&format!(" of {SECRET}"), "");
        let phase = Milestones::of(path, requests).phase(request + usize::from(processed));
        let promised = match second {
            Second::KillsFamily => format!("{phase:?}").to_lowercase(),
            Second::Forgiven => "  forgiven".to_owned(),
        };
        let kill = (request + 1, name, processed);
        Self { path: path.name, kills: [kill.clone(), kill], count: 1, promised, seen: seen.to_string() }
    }

    fn goes_on_with(&self, next: &Self) -> bool {
        (self.path, &self.promised, &self.seen) == (next.path, &next.promised, &next.seen)
    }

    fn cells(self) -> Vec<String> {
        let [first, last] = self
            .kills
            .map(|(number, name, processed)| format!("{} {number} {name}", if processed { "after" } else { "before" }));
        let last = if first == last { String::new() } else { last };
        vec![self.path.to_owned(), first, last, self.count.to_string(), self.promised, self.seen]
    }
}

#[tokio::test]
async fn killed_at_whichever_request_a_run_leaves_what_the_next_ones_bring_to_a_good_end() {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for (nth, path) in PATHS.iter().enumerate() {
        let requests = record(path).await;
        for which in kills(path, &requests) {
            let (turns, requests) = (Arc::clone(&turns), Arc::clone(&requests));
            cases.spawn(async move {
                let _turn = turns.acquire().await;
                let seen = kill(path, &requests, which).await;
                ((nth, which), requests, seen)
            });
        }
    }
    let mut cases = cases.join_all().await;
    cases.sort_by_key(|(case, ..)| *case);

    // Where the next run came after the lease, the same was promised and seen, but for the wait.
    let mut lines: Vec<Line> = Vec::new();
    for ((nth, which), requests, seen) in cases.iter().filter(|((_, which), ..)| !which.later) {
        let line = Line::of(&PATHS[*nth], requests, *which, seen);
        match lines.iter_mut().rev().take(2).find(|other| other.goes_on_with(&line)) {
            Some(other) => {
                other.kills[1] = line.kills[1].clone();
                other.count += 1;
            }
            None => lines.push(line),
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
            "promised",
            "seen: the runs after it, and how often the token was sent in all",
        ],
        &lines.into_iter().map(Line::cells).collect::<Vec<_>>(),
    );
}
