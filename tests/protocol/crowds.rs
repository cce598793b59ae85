//! Many runs at once: side by side over real sockets, and step by step in orders drawn by lot, with processes that end
//! and people who edit in between.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;
use token_refresher::{
    lambda::report::Report,
    protocol::{Error, outcome::Outcome},
};
use tokio::task::JoinSet;

use crate::{
    counting::{
        Script,
        Step::{Move, PutClaim, PutStaged},
        Strike, Turnstile,
    },
    over_both_stores,
    support::provider::{Provider, World as Manners},
    world::{LONG_AGO, Over, World, seconds},
};

const ALL_MANNERS: [Manners; 5] =
    [Manners::ReuseKillsFamily, Manners::Grace, Manners::NoReuseDetection, Manners::Echo, Manners::RepeatAll];

async fn of_runs_side_by_side_one_exchanges(over: Over) {
    for manners in ALL_MANNERS {
        for runs in [2, 3, 8] {
            // Young, so that the quota is looked at, or old.
            for age in [seconds(60), LONG_AGO] {
                let world = World::with(over, Provider::rotating().in_world(manners)).await;
                world.seed(seconds(0), age);
                let mut crowd = JoinSet::new();
                for _ in 0..runs {
                    let process = world.process();
                    crowd.spawn(async move { process.outcome().await });
                }
                let outcomes = crowd.join_all().await;
                let refreshed = outcomes.iter().filter(|&&outcome| outcome == Outcome::Refreshed).count();
                assert!(refreshed <= 1, "{outcomes:?}");
                let harmless = [Outcome::Refreshed, Outcome::Recovered, Outcome::InProgress, Outcome::Skipped];
                assert!(outcomes.iter().all(|outcome| harmless.contains(outcome)), "{outcomes:?}");
                assert_eq!((world.provider.exchanges(), world.vault.count()), (1, 3), "{manners:?}, {runs} runs");
                assert_eq!(world.outcome().await, Outcome::Skipped);
                world.assert_sound();
            }
        }
    }
}

async fn of_runs_that_take_a_dead_claim_over_one_exchanges(over: Over) {
    for runs in [2, 8] {
        let world = World::due(over).await;
        world.process().strike(PutClaim, 1, Strike::DieAfter).die().await;
        world.clock.advance(seconds(63));
        let mut crowd = JoinSet::new();
        for _ in 0..runs {
            let process = world.process();
            crowd.spawn(async move { process.outcome().await });
        }
        let outcomes = crowd.join_all().await;
        assert_eq!(world.provider.exchanges(), 1, "{outcomes:?}");
        assert_eq!(world.outcome().await, Outcome::Skipped);
        world.assert_sound();
    }
}

async fn of_many_readers_that_force_one_refresh_of_a_version_one_exchanges(over: Over) {
    let world = World::new(over).await;
    let id = world.seed(seconds(3600), LONG_AGO);
    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        let (process, event) = (world.process(), json!({"force": true, "ifVersionId": id.as_str()}));
        crowd.spawn(async move { process.invoke(event).await.unwrap().outcome });
    }
    let outcomes = crowd.join_all().await;
    assert_eq!(world.provider.exchanges(), 1, "{outcomes:?}");
    world.assert_sound();
}

/// How many orders are drawn in each test: `SCHEDULES`, 10 unless it is set. Each is told by its seed.
fn schedules() -> u64 {
    std::env::var("SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(10)
}

/// Runs side by side, one step at a time. Answers how they ended; `None` is a process that did.
async fn wave(world: &World, runs: usize, turnstile: Turnstile) -> (Vec<Option<Result<Report, Error>>>, usize) {
    let turnstile = Arc::new(turnstile);
    let mut crowd = JoinSet::new();
    for _ in 0..runs {
        let (process, turnstile) = (world.process(), Arc::clone(&turnstile));
        process.script.take_turns(&turnstile);
        crowd.spawn(async move {
            tokio::select! {
                result = process.run() => {
                    turnstile.leave();
                    (Some(result), false)
                }
                () = process.script.died.notified() => (None, process.script.holds_an_answer()),
            }
        });
    }
    let ends = crowd.join_all().await;
    let lost = ends.iter().filter(|(_, lost)| *lost).count();
    (ends.into_iter().map(|(result, _)| result).collect(), lost)
}

/// Runs one after the other until there is nothing to do.
async fn settle(world: &World, seed: u64) {
    for _ in 0..20 {
        let report = world.process().run().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        match (report.outcome, report.retry_at) {
            (Outcome::Skipped, _) => return,
            (_, Some(retry_at)) => world.clock.set(retry_at),
            (_, None) => {}
        }
    }
    panic!("seed {seed}: no end");
}

async fn in_any_order_of_steps_one_run_exchanges(over: Over) {
    for seed in 0..schedules() {
        let mut lots = fastrand::Rng::with_seed(seed);
        let world = World::new(over).await;
        world.seed(seconds(0), if lots.bool() { LONG_AGO } else { seconds(60) });
        let runs = lots.usize(2..=4);
        let (ends, _) = wave(&world, runs, Turnstile::new(lots, runs, 0, Vec::new())).await;
        assert!(ends.iter().all(|end| matches!(end, Some(Ok(_)))), "seed {seed}: {ends:?}");
        assert_eq!(world.provider.exchanges(), 1, "seed {seed}: {ends:?}");
        assert_eq!(world.vault.count(), 3, "seed {seed}");
        assert_eq!(world.outcome().await, Outcome::Skipped, "seed {seed}");
        world.assert_sound();
    }
}

/// No token is sent more often than once and once more for each answer that died with a process; nothing a person did
/// is undone; and the newest tokens come to readers in the end.
async fn in_any_order_of_steps_ends_and_edits_nothing_is_lost(over: Over) {
    for seed in 0..schedules() {
        let mut lots = fastrand::Rng::with_seed(seed);
        let world = World::due_with(over, Provider::rotating().in_world(Manners::Grace)).await;
        let mut lost = 0;
        let mut copies = vec![world.vault.text()];
        for round in 0..4 {
            let runs = lots.usize(1..=4);
            let mut events: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            for nth in 0..2 {
                let vault = world.vault.clone();
                events.push(Box::new(move || drop(vault.set("note", format!("round {round}, edit {nth}")))));
            }
            if round > 0 {
                let (vault, copy) = (world.vault.clone(), copies[lots.usize(..copies.len())].clone());
                events.push(Box::new(move || drop(vault.put(&copy))));
            }
            let deaths = lots.usize(0..=runs);
            let turnstile = Turnstile::new(lots.fork(), runs, deaths, events);
            let (ends, answers_lost) = wave(&world, runs, turnstile).await;
            lost += answers_lost;
            for error in ends.iter().flatten().filter_map(|end| end.as_ref().err()) {
                // A person's edits may outlast a promotion's patience; tokens are safe then.
                assert!(error.to_string().contains("tokens are safe"), "seed {seed}: {error}");
            }
            assert!(world.provider.reuses() <= lost, "seed {seed}, round {round}: {ends:?}");
            world.current();
            let note = world.vault.json()["note"].clone();
            world.clock.advance(seconds(63));
            if lots.bool() {
                settle(&world, seed).await;
                world.assert_current_is_alive();
                copies.push(world.vault.text());
            }
            assert_eq!(world.vault.json()["note"], note, "seed {seed}, round {round}: the edit is kept");
            world.clock.advance(seconds(3600));
        }
        settle(&world, seed).await;
        world.assert_current_is_alive();
        assert!(world.provider.reuses() <= lost, "seed {seed}: {} reuses, {lost} lost", world.provider.reuses());
    }
}

/// The consent is given at another provider, so that a token of the old one in its document could not be overlooked.
async fn in_any_order_of_steps_a_new_consent_stands(over: Over) {
    for seed in 0..schedules() {
        let mut lots = fastrand::Rng::with_seed(seed);
        let world = World::due_with(over, Provider::rotating().in_world(Manners::Grace)).await;
        let other = Provider::rotating();
        let (access, refresh) = other.issue();
        let mut consent = world.vault.json();
        consent["accessToken"] = json!(access);
        consent["refreshToken"] = json!(refresh);
        consent["tokenEndpoint"] = json!(other.url());
        let given = Arc::new(AtomicBool::new(false));
        for round in 0..2 {
            let runs = lots.usize(1..=3);
            let (vault, consent) = (world.vault.clone(), consent.clone());
            let mut events: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            if round == 0 {
                let given = Arc::clone(&given);
                events.push(Box::new(move || {
                    vault.put(&consent);
                    given.store(true, Ordering::Relaxed);
                }));
            }
            let deaths = lots.usize(0..2);
            wave(&world, runs, Turnstile::new(lots.fork(), runs, deaths, events)).await;
            world.clock.advance(seconds(3600));
        }
        let consented = world.vault.json()["tokenEndpoint"] == json!(other.url());
        let theirs = other.every_token_issued().contains(&world.refresh_token());
        assert_eq!(theirs, consented, "seed {seed}: the document holds its own provider's tokens");
        assert!(consented || !given.load(Ordering::Relaxed), "seed {seed}: the consent stands");
    }
}

/// Three processes that live on, one invocation at a time: what one could not write it holds in memory, while others
/// take over and people edit.
async fn in_any_order_of_invocations_what_is_held_in_memory_finds_its_place(over: Over) {
    for seed in 0..schedules() {
        let mut lots = fastrand::Rng::with_seed(seed);
        let world = World::due_with(over, Provider::rotating().in_world(Manners::Grace)).await;
        let mut processes = [world.process(), world.process(), world.process()];
        let (mut not_stored, mut copies) = (0, vec![world.vault.text()]);
        for action in 0..25 {
            let process = &mut processes[lots.usize(..3)];
            let exchanges = world.provider.exchanges();
            match lots.u8(..12) {
                0..3 => drop(process.run().await),
                3..5 => {
                    process.script.fail_always(PutStaged, Script::unavailable());
                    drop(process.run().await);
                    not_stored += world.provider.exchanges() - exchanges;
                }
                5 => {
                    process.script.fail_always(Move, Script::unavailable());
                    drop(process.run().await);
                }
                6 => drop(process.invoke(json!({"force": true})).await),
                7 => *process = world.process(),
                8 => drop(world.vault.set("note", action)),
                9 => drop(world.vault.put(&copies[lots.usize(..copies.len())])),
                10 => world.clock.advance(seconds(64)),
                _ => world.clock.advance(seconds(3600)),
            }
            for process in &processes {
                process.script.mend();
            }
            copies.push(world.vault.text());
            world.current();
            assert!(world.provider.reuses() <= not_stored, "seed {seed}, action {action}");
        }
        let note = world.vault.json()["note"].clone();
        for process in &processes {
            drop(process.run().await);
        }
        world.clock.advance(seconds(3600));
        settle(&world, seed).await;
        world.assert_current_is_alive();
        assert_eq!(world.vault.json()["note"], note, "seed {seed}: the edit is kept");
        for process in &processes {
            let outcome = process.outcome().await;
            assert!(matches!(outcome, Outcome::Skipped | Outcome::Recovered | Outcome::Superseded), "{outcome:?}");
        }
        world.assert_current_is_alive();
    }
}

over_both_stores!(
    of_runs_side_by_side_one_exchanges,
    of_runs_that_take_a_dead_claim_over_one_exchanges,
    of_many_readers_that_force_one_refresh_of_a_version_one_exchanges,
    in_any_order_of_steps_one_run_exchanges,
    in_any_order_of_steps_ends_and_edits_nothing_is_lost,
    in_any_order_of_steps_a_new_consent_stands,
    in_any_order_of_invocations_what_is_held_in_memory_finds_its_place,
);
