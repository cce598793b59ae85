//! Several processes at once with one folder. A seed determines the order of their calls, one call at a time, and where one of them
//! is killed. A failure prints its seed. `SEED=<seed> cargo test --test directory concurrency` repeats it.

use std::{collections::BTreeMap, fs::OpenOptions, io::Write};

use chrono::TimeDelta;
use nix::errno::Errno;
use token_refresher::store::{Label, SecretStore, Selector, StoreError, VersionId, versions::Versions};

use super::tracer::{Process, Tracer, permitted};
use crate::{
    action::{process, result},
    summary,
    world::{NAME, TestClock, World, block_on, id},
};

const PROCESSES: usize = 3;
const ROUNDS: usize = 3;

/// The error of a write that could not get the lock.
const LOCK_HELD: &str = "another process holds the lock";

/// The action of each process: it puts ids that all processes put, and moves AWSCURRENT to its own versions. It records each change
/// that the store reported as made.
pub async fn race(world: &World, number: u64) -> String {
    let store = world.store(&TestClock::new());
    let file = OpenOptions::new().create(true).append(true).open(world.path(&format!("changes {number}")));
    let mut file = file.expect("a file");
    let mut record = |change: String| file.write_all(format!("{change}\n").as_bytes()).expect("an entry");
    let number = usize::try_from(number).expect("a small number");
    for round in 1..=ROUNDS {
        let shared = id(100 + round);
        let text = format!("process {number}").into();
        match retry_while_locked(async || store.put(NAME, &shared, Label::Claim, &text).await).await {
            Ok(()) => record(format!("put {shared}")),
            error => assert_eq!(error, Err(StoreError::Exists)),
        }
        let own = id(1000 * (number + 1) + round);
        let staged = "staged".into();
        retry_while_locked(async || store.put(NAME, &own, Label::Staged, &staged).await).await.expect("a version");
        record(format!("put {own}"));
        loop {
            let from = store.get(NAME, Selector::Label(Label::Current)).await.expect("a current version").id;
            match retry_while_locked(async || store.move_current(NAME, &from, &own).await).await {
                Ok(()) => break record(format!("moved from {from} to {own}")),
                error => assert!(matches!(error, Err(StoreError::Moved { .. })), "{error:?}"),
            }
        }
    }
    "ok".to_owned()
}

/// Repeats an operation while it fails because of the lock, as it can on a busy machine. Such a failure changes nothing.
async fn retry_while_locked(operation: impl AsyncFn() -> Result<(), StoreError>) -> Result<(), StoreError> {
    loop {
        match operation().await {
            Err(StoreError::Unavailable { detail, .. }) if detail.contains(LOCK_HELD) => {}
            result => return result,
        }
    }
}

/// The change of the secret by one replacement of the state file. `None` if nothing changed.
fn change(before: &Versions, after: &Versions) -> Option<String> {
    let listed = |versions: &Versions| -> Vec<VersionId> { versions.list(true).into_iter().map(|it| it.id).collect() };
    let (old, new) = (listed(before), listed(after));
    for id in &old {
        assert_eq!(
            before.get(Some(id), None).unwrap().body,
            after.get(Some(id), None).expect("no version is lost").body
        );
    }
    let current = |versions: &Versions| versions.get(None, None).expect("a current version").id;
    match &new[old.len()..] {
        [] if current(before) == current(after) => {
            assert_eq!(before, after);
            None
        }
        [] => Some(format!("moved from {} to {}", current(before), current(after))),
        [put] => {
            assert_eq!(current(before), current(after), "a put moves only its own label");
            Some(format!("put {put}"))
        }
        more => panic!("{} versions in one write", more.len()),
    }
}

/// Runs processes at the same time, and kills one of them. Returns the killed one, if it was killed before its end, and the change
/// of each replacement of the file.
fn run_concurrently(
    world: &World,
    what: &str,
    seed: u64,
    max_steps: usize,
) -> (Tracer, Option<Process>, Vec<(Process, String)>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut tracer = Tracer::new(world.folder());
    let mut running = BTreeMap::new();
    for number in 0..PROCESSES {
        let started = tracer.start(process(world, what, number as u64));
        running.insert(started, tracer.next(started).expect("a first call"));
    }
    let victim = Process(rng.usize(..PROCESSES));
    let mut steps_to_live = rng.usize(1..max_steps);
    let mut killed = None;
    let mut changes = Vec::new();
    let mut waits = running.keys().map(|process| (*process, false)).collect::<BTreeMap<_, _>>();
    while !running.is_empty() {
        let chosen = *rng.choice(running.keys()).expect("a running process");
        // A process that waits for the lock gets fewer turns, because it would only retry.
        if waits[&chosen] && running.len() > 1 && rng.u8(..64) > 0 {
            continue;
        }
        let before = world.versions().expect("a secret");
        let last = chosen == victim && {
            steps_to_live -= 1;
            steps_to_live == 0
        };
        if last && rng.bool() {
            tracer.kill(chosen);
            running.remove(&chosen);
            killed = Some(chosen);
            continue;
        }
        let call_result = tracer.make(chosen);
        waits.insert(chosen, running[&chosen].name == "flock" && call_result == -i64::from(Errno::EAGAIN as i32));
        let after = world.versions().expect("a secret");
        if let Some(change) = change(&before, &after) {
            assert_eq!(running[&chosen].to_string(), "rename json");
            changes.push((chosen, change));
        }
        if last {
            tracer.kill(chosen);
            running.remove(&chosen);
            killed = Some(chosen);
            continue;
        }
        match tracer.next(chosen) {
            Some(call) => running.insert(chosen, call),
            None => running.remove(&chosen),
        };
    }
    (tracer, killed, changes)
}

/// The seeds to run: this many, or the one in `SEED`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}

/// Prints the seed if the test fails.
struct SeedPrinter(u64);

impl Drop for SeedPrinter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            summary(&format!("directory: SEED={} failed", self.0));
        }
    }
}

#[test]
fn every_change_is_made_once_and_none_is_lost_if_a_process_is_killed() {
    if !permitted() {
        return;
    }
    let before = block_on(World::new());
    let (mut kills, mut calls) = (0, 0);
    for seed in seeds(60) {
        let _printer = SeedPrinter(seed);
        let world = before.copy();
        let (_, killed, changes) = run_concurrently(&world, "Race", seed, 150);
        for number in 0..PROCESSES {
            let made: Vec<&str> =
                changes.iter().filter(|(by, _)| by.0 == number).map(|(_, change)| change.as_str()).collect();
            let recorded = std::fs::read_to_string(world.path(&format!("changes {number}"))).unwrap_or_default();
            let recorded: Vec<&str> = recorded.lines().collect();
            if killed == Some(Process(number)) {
                // It may have been killed before it recorded its last change.
                let all_but_last = &made[..made.len().saturating_sub(1)];
                assert!(made == recorded || *all_but_last == recorded[..], "seed {seed}, {number} killed");
            } else {
                assert_eq!(result(&world, number as u64).as_deref(), Some("ok"), "seed {seed}, process {number}");
                assert_eq!(made, recorded, "seed {seed}, process {number}");
            }
        }
        let shared = changes.iter().filter(|(_, change)| change.starts_with("put 00000000-0000-4000-8000-0000000001"));
        assert_eq!(shared.count(), ROUNDS, "seed {seed}: each shared id was put once");
        let store = world.store(&TestClock::new());
        block_on(store.put_value(NAME, &"next".into())).expect("the next write");
        world.assert_private(false);
        kills += usize::from(killed.is_some());
        calls += changes.len();
    }
    summary(&format!("directory: {calls} changes by {PROCESSES} processes at once, {kills} of them killed"));
}

#[test]
fn one_of_several_refreshes_at_once_exchanges_and_its_death_causes_at_most_one_more_exchange() {
    if !permitted() {
        return;
    }
    let before = block_on(World::new());
    let (mut kills, mut sent_twice) = (0, 0);
    for seed in seeds(120) {
        let _printer = SeedPrinter(seed);
        let world = before.copy();
        let (tracer, killed, changes) = run_concurrently(&world, "Refresh", seed, 60);
        let senders = world.senders_of("refresh-1");
        assert!(senders.len() <= 1, "seed {seed}: sent {} times", senders.len());
        for number in (0..PROCESSES).filter(|number| killed != Some(Process(*number))) {
            let result = result(&world, number as u64).unwrap_or_else(|| panic!("seed {seed}: {number} does not end"));
            let expected = ["Refreshed", "Recovered", "InProgress", "Skipped"];
            assert!(expected.contains(&result.as_str()) || result.contains(LOCK_HELD), "seed {seed}: {result}");
        }
        let by_the_killed = killed.is_some_and(|killed| senders.contains(&tracer.id(killed)));
        // The first put is a claim, the second one a staged version.
        let staged = changes.iter().filter(|(_, change)| change.starts_with("put ")).count() > 1;
        let window = by_the_killed && !staged;
        let clock = TestClock::new();
        clock.advance(TimeDelta::seconds(63));
        block_on(world.run(&clock)).expect("the next run");
        assert_eq!(world.generation(), "refresh-2", "seed {seed}");
        assert_eq!(world.senders_of("refresh-1").len(), 1 + usize::from(window), "seed {seed}");
        world.assert_private(false);
        kills += usize::from(killed.is_some());
        sent_twice += usize::from(window);
    }
    summary(&format!(
        "directory: {PROCESSES} refreshes at once, {kills} killed, {sent_twice} of them between exchange and staging"
    ));
}
