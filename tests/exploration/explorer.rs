//! A depth-first search through every schedule of a small world. Does not know what the events mean.
//!
//! Why not stateright, loom or shuttle:
//!
//! - stateright needs the protocol rewritten as a model with states that can be copied;
//! - loom and shuttle explore threads, without crashes, lost responses and a clock.
//!
//! This search runs the real code. Its futures cannot be copied, so every branch but the first replays its schedule from the start.
//! Worlds with the same digest have the same future, so each is explored once. That makes the search fast.

use std::{
    collections::HashMap,
    fmt,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{end, plan::Plan, promises::BrokenPromise, tracked_run::Event, world::World};

/// How much was explored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Complete schedules.
    pub schedules: u128,
    /// Different worlds in them.
    pub worlds: usize,
    /// Different worlds at the ends of schedules.
    pub ends: usize,
    pub took: Duration,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, worlds, ends, took } = self;
        write!(f, "{schedules} schedules, {worlds} worlds, {ends} ends, {:.1} s", took.as_secs_f64())
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.worlds += other.worlds;
        self.ends += other.ends;
        self.took += other.took;
    }
}

/// Set when a search finds a broken promise. It stops the other searches.
static BROKEN_PROMISE_FOUND: AtomicBool = AtomicBool::new(false);

/// A world of the current schedule, and how many of its events have been explored.
struct BranchPoint {
    digest: u128,
    events: Vec<Event>,
    explored: usize,
    schedules: u128,
}

/// Explores all schedules of a plan. Panics with the schedule that breaks a promise.
pub fn explore(plan: &Plan) -> Counts {
    let (plan, start) = (Arc::new(plan.clone()), Instant::now());
    let mut counts = Counts::default();
    // The number of schedules from each explored world to the end.
    let mut known: HashMap<u128, u128> = HashMap::new();
    let mut branches: Vec<BranchPoint> = Vec::new();
    let mut path: Vec<Event> = Vec::new();
    let fail = |path: &[Event], broken: BrokenPromise, living_processes_first| -> ! {
        fail_with_schedule(&plan, path, &broken, living_processes_first)
    };

    let mut world = World::new(&plan).unwrap_or_else(|broken| fail(&[], broken, false));
    loop {
        let digest = world.digest();
        let mut schedules = known.get(&digest).copied();
        if schedules.is_none() {
            counts.worlds += 1;
            let events = world.events();
            if events.is_empty() {
                counts.ends += 1;
                schedules = Some(1);
                known.insert(digest, 1);
                for living_processes_first in world.later_run_orders() {
                    let mut end = World::replayed(&plan, &path).unwrap_or_else(|broken| fail(&path, broken, false));
                    end::check_end(&mut end, living_processes_first)
                        .unwrap_or_else(|broken| fail(&path, broken, living_processes_first));
                }
            } else {
                branches.push(BranchPoint { digest, events, explored: 0, schedules: 0 });
            }
        }
        // Return to the last branch point with an unexplored event.
        let mut going_deeper = schedules.is_none();
        if let Some(schedules) = schedules {
            match branches.last_mut() {
                Some(branch) => branch.schedules += schedules,
                None => counts.schedules = schedules,
            }
        }
        while let Some(branch) = branches.last()
            && branch.explored == branch.events.len()
        {
            let done = branches.pop().expect("a branch");
            known.insert(done.digest, done.schedules);
            match branches.last_mut() {
                Some(branch) => branch.schedules += done.schedules,
                None => counts.schedules = done.schedules,
            }
            going_deeper = false;
        }
        path.truncate(branches.len().saturating_sub(1));
        let Some(branch) = branches.last_mut() else { break };
        if BROKEN_PROMISE_FOUND.load(Ordering::Relaxed) {
            break;
        }
        let event = branch.events[branch.explored];
        branch.explored += 1;
        if !going_deeper {
            world = World::replayed(&plan, &path).unwrap_or_else(|broken| fail(&path, broken, false));
        }
        path.push(event);
        if let Err(broken) = world.apply(event) {
            fail(&path, broken, false);
        }
    }
    counts.took = start.elapsed();
    counts
}

/// Panics with the steps of a schedule that breaks a promise.
pub fn fail_with_schedule(plan: &Arc<Plan>, path: &[Event], broken: &BrokenPromise, living_processes_first: bool) -> ! {
    BROKEN_PROMISE_FOUND.store(true, Ordering::Relaxed);
    let Ok(mut world) = World::new(plan) else {
        panic!("PROMISE BROKEN: {}\nbefore the first step\nin {plan:?}", broken.0)
    };
    world.log = Some(Vec::new());
    let replay = path.iter().try_for_each(|event| world.apply(*event));
    let end = world.log.as_ref().map_or(0, Vec::len);
    if replay.is_ok() && world.events().is_empty() {
        let _ = end::check_end(&mut world, living_processes_first);
    }
    let log: Vec<String> = (1..)
        .zip(world.log.unwrap_or_default())
        .map(|(n, line)| format!("{n:4}{} {line}", if n > end { " later" } else { "" }))
        .collect();
    // A run that retries for a minute would hide the message.
    let cut = if log.len() > 400 { "\n     …" } else { "" };
    let log = &log[..log.len().min(400)];
    panic!("PROMISE BROKEN: {}\n{}{cut}\nin {plan:?}", broken.0, log.join("\n"));
}

/// Prints a line although the test runner captures output: `docs/proof.md` uses these numbers.
pub fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
