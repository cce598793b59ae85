//! Goes through everything that may happen in a small world, to the end of every schedule. Knows nothing of what
//! happens.
//!
//! A search of its own rather than stateright, loom or shuttle: stateright wants the protocol written again as a model
//! of states that can be copied, loom and shuttle explore threads and know neither crashes nor lost answers nor a
//! clock. What is to be explored here is the real code, which a future cannot be copied out of; so a schedule is
//! rebuilt from its beginning for every branch but the first. What makes that quick is that worlds of the same digest
//! have the same future: each is gone through once.

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

use crate::{end, member::Event, plan::Plan, promises::Broken, world::World};

/// What was gone through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Schedules from beginning to end.
    pub schedules: u128,
    /// Different worlds met on them.
    pub worlds: usize,
    /// Different worlds at their ends.
    pub ends: usize,
    pub took: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, worlds, ends, took } = self;
        write!(f, "{schedules} schedules, {worlds} worlds, {ends} ends, {:.1} s", took.as_secs_f64())
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.worlds += other.worlds;
        self.ends += other.ends;
        self.took += other.took;
    }
}

/// Set by the first that finds a broken promise: the others need not go on.
static FOUND: AtomicBool = AtomicBool::new(false);

/// One world on the way, and which of its events have been gone through.
struct Fork {
    digest: u128,
    events: Vec<Event>,
    taken: usize,
    schedules: u128,
}

/// Goes through all schedules of a plan. Panics with the schedule that breaks a promise.
pub fn explore(plan: &Plan) -> Tally {
    let (plan, start) = (Arc::new(plan.clone()), Instant::now());
    let mut tally = Tally::default();
    // How many schedules begin at each world that has been gone through.
    let mut known: HashMap<u128, u128> = HashMap::new();
    let mut forks: Vec<Fork> = Vec::new();
    let mut path: Vec<Event> = Vec::new();
    let broken = |path: &[Event], broken: Broken, living_first| -> ! { tell(&plan, path, &broken, living_first) };

    let mut world = World::new(&plan).unwrap_or_else(|it| broken(&[], it, false));
    loop {
        // At a world just come to: is it a new one?
        let digest = world.digest();
        let mut schedules = known.get(&digest).copied();
        if schedules.is_none() {
            tally.worlds += 1;
            let events = world.events();
            if events.is_empty() {
                tally.ends += 1;
                schedules = Some(1);
                known.insert(digest, 1);
                for living_first in world.orders_of_later_runs() {
                    let mut end = World::rebuilt(&plan, &path).unwrap_or_else(|it| broken(&path, it, false));
                    end::of_the_end(&mut end, living_first).unwrap_or_else(|it| broken(&path, it, living_first));
                }
            } else {
                forks.push(Fork { digest, events, taken: 0, schedules: 0 });
            }
        }
        // Back to the last fork with an event left.
        let mut on_the_way = schedules.is_none();
        if let Some(schedules) = schedules {
            match forks.last_mut() {
                Some(fork) => fork.schedules += schedules,
                None => tally.schedules = schedules,
            }
        }
        while let Some(fork) = forks.last()
            && fork.taken == fork.events.len()
        {
            let done = forks.pop().expect("a fork");
            known.insert(done.digest, done.schedules);
            match forks.last_mut() {
                Some(fork) => fork.schedules += done.schedules,
                None => tally.schedules = done.schedules,
            }
            on_the_way = false;
        }
        path.truncate(forks.len().saturating_sub(1));
        let Some(fork) = forks.last_mut() else { break };
        if FOUND.load(Ordering::Relaxed) {
            break;
        }
        let event = fork.events[fork.taken];
        fork.taken += 1;
        if !on_the_way {
            world = World::rebuilt(&plan, &path).unwrap_or_else(|it| broken(&path, it, false));
        }
        path.push(event);
        if let Err(it) = world.happen(event) {
            broken(&path, it, false);
        }
    }
    tally.took = start.elapsed();
    tally
}

/// Tells a schedule that breaks a promise, step by step.
pub fn tell(plan: &Arc<Plan>, path: &[Event], broken: &Broken, living_first: bool) -> ! {
    FOUND.store(true, Ordering::Relaxed);
    let mut world = World::new(plan).expect("a beginning");
    world.story = Some(Vec::new());
    let told = path.iter().try_for_each(|event| world.happen(*event));
    let end = world.story.as_ref().map_or(0, Vec::len);
    if told.is_ok() && world.events().is_empty() {
        let _ = end::of_the_end(&mut world, living_first);
    }
    let story: Vec<String> = (1..)
        .zip(world.story.unwrap_or_default())
        .map(|(n, line)| format!("{n:4}{} {line}", if n > end { " later" } else { "" }))
        .collect();
    // A run that tries for a minute what cannot be done would hide the rest.
    let cut = if story.len() > 80 { "\n     …" } else { "" };
    let story = &story[..story.len().min(80)];
    panic!("PROMISE BROKEN: {}\n{}{cut}\nin {plan:?}", broken.0, story.join("\n"));
}

/// Says something past the test runner's capture: these numbers are what the tests are run for.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
