//! Several processes at once over one folder: the tracer lets one of them make one call at a time, as a seed has it, and
//! ends one of them anywhere. A failing schedule is named by its seed, and runs again the same with
//! `SEED=<seed> cargo test --test directory together`.

use std::{collections::BTreeMap, fs::OpenOptions, io::Write};

use chrono::TimeDelta;
use nix::errno::Errno;
use token_refresher::store::{Label, SecretStore, Selector, StoreError, VersionId, versions::Versions};

use super::tracer::{Process, Tracer, permitted};
use crate::{
    act::{ended, process},
    scene::{NAME, Scene, TestClock, block_on, id},
    summary,
};

const PROCESSES: usize = 3;
const ROUNDS: usize = 3;

/// What a write says that has waited for the lock in vain.
const HELD: &str = "another process holds the lock";

/// What one process does against the others: puts the ids that all put, and moves AWSCURRENT to versions of its own. It
/// writes down each change it was told it made.
pub async fn race(scene: &Scene, part: u64) -> String {
    let store = scene.store(&TestClock::new());
    let book = OpenOptions::new().create(true).append(true).open(scene.beside(&format!("won {part}")));
    let mut book = book.expect("a book");
    let mut won = |what: String| book.write_all(format!("{what}\n").as_bytes()).expect("an entry");
    let part = usize::try_from(part).expect("a small number");
    for round in 1..=ROUNDS {
        let shared = id(100 + round);
        let text = format!("process {part}").into();
        match patiently(async || store.put(NAME, &shared, Label::Claim, &text).await).await {
            Ok(()) => won(format!("put {shared}")),
            lost => assert_eq!(lost, Err(StoreError::Exists)),
        }
        let own = id(1000 * (part + 1) + round);
        let staged = "staged".into();
        patiently(async || store.put(NAME, &own, Label::Staged, &staged).await).await.expect("a version");
        won(format!("put {own}"));
        loop {
            let from = store.get(NAME, Selector::Label(Label::Current)).await.expect("a current version").id;
            match patiently(async || store.move_current(NAME, &from, &own).await).await {
                Ok(()) => break won(format!("moved from {from} to {own}")),
                lost => assert_eq!(lost, Err(StoreError::Moved)),
            }
        }
    }
    "ok".to_owned()
}

/// Again where the lock was not free for seconds, as on a busy machine it may be: nothing was changed then.
async fn patiently(operation: impl AsyncFn() -> Result<(), StoreError>) -> Result<(), StoreError> {
    loop {
        match operation().await {
            Err(StoreError::Unavailable { detail, .. }) if detail.contains(HELD) => {}
            ended => return ended,
        }
    }
}

/// How one replacement of the state file changed the secret; `None`: in no way.
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
            assert_eq!(current(before), current(after), "a put moves its own label alone");
            Some(format!("put {put}"))
        }
        more => panic!("{} versions at one stroke", more.len()),
    }
}

/// Runs processes side by side, and kills one of them. Tells who was killed, if the seed had it before its end, and what
/// each replacement of the file changed.
fn side_by_side(
    scene: &Scene,
    what: &str,
    seed: u64,
    most_steps: usize,
) -> (Tracer, Option<Process>, Vec<(Process, String)>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut tracer = Tracer::new(scene.folder());
    let mut running = BTreeMap::new();
    for part in 0..PROCESSES {
        let started = tracer.start(process(scene, what, part as u64));
        running.insert(started, tracer.next(started).expect("a first call"));
    }
    let victim = Process(rng.usize(..PROCESSES));
    let mut steps_to_live = rng.usize(1..most_steps);
    let mut killed = None;
    let mut changes = Vec::new();
    let mut waits = running.keys().map(|process| (*process, false)).collect::<BTreeMap<_, _>>();
    while !running.is_empty() {
        let chosen = *rng.choice(running.keys()).expect("one that runs");
        // One that waits for the lock has its turn less often: it would try again and again.
        if waits[&chosen] && running.len() > 1 && rng.u8(..64) > 0 {
            continue;
        }
        let before = scene.versions().expect("a secret");
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
        let answer = tracer.make(chosen);
        waits.insert(chosen, running[&chosen].name == "flock" && answer == -i64::from(Errno::EAGAIN as i32));
        let after = scene.versions().expect("a secret");
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

/// The seeds to run: so many, or the one in `SEED`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}

/// Says which seed it was where a test fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            summary(&format!("directory: SEED={} failed", self.0));
        }
    }
}

#[test]
fn every_change_is_made_once_and_none_is_lost_whoever_is_killed() {
    if !permitted() {
        return;
    }
    let before = block_on(Scene::new());
    let (mut kills, mut calls) = (0, 0);
    for seed in seeds(60) {
        let _named = Named(seed);
        let scene = before.copy();
        let (_, killed, changes) = side_by_side(&scene, "Race", seed, 150);
        for part in 0..PROCESSES {
            let made: Vec<&str> =
                changes.iter().filter(|(by, _)| by.0 == part).map(|(_, change)| change.as_str()).collect();
            let told = std::fs::read_to_string(scene.beside(&format!("won {part}"))).unwrap_or_default();
            let told: Vec<&str> = told.lines().collect();
            if killed == Some(Process(part)) {
                // It may not have come to write down its last change.
                assert!(made == told || made[..made.len().saturating_sub(1)] == told[..], "seed {seed}, {part} killed");
            } else {
                assert_eq!(ended(&scene, part as u64).as_deref(), Some("ok"), "seed {seed}, process {part}");
                assert_eq!(made, told, "seed {seed}, process {part}");
            }
        }
        let shared = changes.iter().filter(|(_, change)| change.starts_with("put 00000000-0000-4000-8000-0000000001"));
        assert_eq!(shared.count(), ROUNDS, "seed {seed}: each shared id was put once");
        let store = scene.store(&TestClock::new());
        block_on(store.put_value(NAME, &"next".into())).expect("the next write");
        scene.assert_private(false);
        kills += usize::from(killed.is_some());
        calls += changes.len();
    }
    summary(&format!("directory: {calls} changes by {PROCESSES} processes at once, {kills} of them killed"));
}

#[test]
fn of_several_refreshes_at_once_one_exchanges_and_its_death_costs_one_exchange_at_most() {
    if !permitted() {
        return;
    }
    let before = block_on(Scene::new());
    let (mut kills, mut sent_twice) = (0, 0);
    for seed in seeds(120) {
        let _named = Named(seed);
        let scene = before.copy();
        let (tracer, killed, changes) = side_by_side(&scene, "Refresh", seed, 60);
        let senders = scene.senders_of("refresh-1");
        assert!(senders.len() <= 1, "seed {seed}: sent {} times", senders.len());
        for part in (0..PROCESSES).filter(|part| killed != Some(Process(*part))) {
            let ended = ended(&scene, part as u64).unwrap_or_else(|| panic!("seed {seed}: {part} does not end"));
            let well = ["Refreshed", "Recovered", "InProgress", "Skipped"];
            assert!(well.contains(&ended.as_str()) || ended.contains(HELD), "seed {seed}: {ended}");
        }
        let by_the_killed = killed.is_some_and(|killed| senders.contains(&tracer.id(killed)));
        // A claim and a staging are puts.
        let staged = changes.iter().filter(|(_, change)| change.starts_with("put ")).count() > 1;
        let window = by_the_killed && !staged;
        let clock = TestClock::new();
        clock.advance(TimeDelta::seconds(63));
        block_on(scene.run(&clock)).expect("the next run");
        assert_eq!(scene.generation(), "refresh-2", "seed {seed}");
        assert_eq!(scene.senders_of("refresh-1").len(), 1 + usize::from(window), "seed {seed}");
        scene.assert_private(false);
        kills += usize::from(killed.is_some());
        sent_twice += usize::from(window);
    }
    summary(&format!(
        "directory: {PROCESSES} refreshes at once, {kills} killed, {sent_twice} of them between exchange and staging"
    ));
}
