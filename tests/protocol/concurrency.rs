//! Many runs at the same time: over real sockets, and step by step in random orders, with crashes and edits in between.

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
        InjectedFault, RandomStepOrder, Script,
        Step::{Move, PutClaim, PutStaged},
    },
    over_both_stores,
    support::provider::{Provider, World as Behaviour},
    world::{LONG_AGO, StoreKind, World, seconds},
};

const ALL_BEHAVIOURS: [Behaviour; 5] =
    [Behaviour::ReuseKillsFamily, Behaviour::Grace, Behaviour::NoReuseDetection, Behaviour::Echo, Behaviour::RepeatAll];

async fn one_of_several_runs_exchanges(store: StoreKind) {
    for behaviour in ALL_BEHAVIOURS {
        for runs in [2, 3, 8] {
            // The quota is checked for the young version only.
            for age in [seconds(60), LONG_AGO] {
                let world = World::with(store, Provider::rotating().in_world(behaviour)).await;
                world.seed(seconds(0), age);
                let mut tasks = JoinSet::new();
                for _ in 0..runs {
                    let process = world.process();
                    tasks.spawn(async move { process.outcome().await });
                }
                let outcomes = tasks.join_all().await;
                let refreshed = outcomes.iter().filter(|&&outcome| outcome == Outcome::Refreshed).count();
                assert!(refreshed <= 1, "{outcomes:?}");
                let expected = [Outcome::Refreshed, Outcome::Recovered, Outcome::InProgress, Outcome::Skipped];
                assert!(outcomes.iter().all(|outcome| expected.contains(outcome)), "{outcomes:?}");
                assert_eq!((world.provider.exchanges(), world.vault.count()), (1, 3), "{behaviour:?}, {runs} runs");
                assert_eq!(world.outcome().await, Outcome::Skipped);
                world.assert_sound();
            }
        }
    }
}

async fn one_of_several_runs_that_take_over_exchanges(store: StoreKind) {
    for runs in [2, 8] {
        let world = World::due(store).await;
        world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
        world.clock.advance(seconds(63));
        let mut tasks = JoinSet::new();
        for _ in 0..runs {
            let process = world.process();
            tasks.spawn(async move { process.outcome().await });
        }
        let outcomes = tasks.join_all().await;
        assert_eq!(world.provider.exchanges(), 1, "{outcomes:?}");
        assert_eq!(world.outcome().await, Outcome::Skipped);
        world.assert_sound();
    }
}

async fn one_of_several_readers_that_force_the_same_version_exchanges(store: StoreKind) {
    let world = World::new(store).await;
    let id = world.seed(seconds(3600), LONG_AGO);
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (process, event) = (world.process(), json!({"force": true, "ifVersionId": id.as_str()}));
        tasks.spawn(async move { process.invoke(event).await.unwrap().outcome });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(world.provider.exchanges(), 1, "{outcomes:?}");
    world.assert_sound();
}

/// The number of random orders in each test: `SCHEDULES`, 10 by default. The seed determines the order.
fn schedule_count() -> u64 {
    std::env::var("SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(10)
}

/// Starts runs at the same time, and lets them do one step at a time. Returns their results (`None`: the process crashed), and how
/// many responses were lost in crashes.
async fn run_concurrently(
    world: &World,
    runs: usize,
    step_order: RandomStepOrder,
) -> (Vec<Option<Result<Report, Error>>>, usize) {
    let step_order = Arc::new(step_order);
    let mut tasks = JoinSet::new();
    for _ in 0..runs {
        let (process, step_order) = (world.process(), Arc::clone(&step_order));
        process.script.follow(&step_order);
        tasks.spawn(async move {
            tokio::select! {
                result = process.run() => {
                    step_order.run_ended();
                    (Some(result), false)
                }
                () = process.script.crashed.notified() => (None, process.script.holds_a_response()),
            }
        });
    }
    let ends = tasks.join_all().await;
    let lost = ends.iter().filter(|(_, lost)| *lost).count();
    (ends.into_iter().map(|(result, _)| result).collect(), lost)
}

/// Starts runs, one after the other, until one is skipped.
async fn run_until_skipped(world: &World, seed: u64) {
    for _ in 0..20 {
        let report = world.process().run().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        match (report.outcome, report.retry_at) {
            (Outcome::Skipped, _) => return,
            (_, Some(retry_at)) => world.clock.set(retry_at),
            (_, None) => {}
        }
    }
    panic!("seed {seed}: no run is skipped");
}

async fn one_run_exchanges_in_random_orders_of_steps(store: StoreKind) {
    for seed in 0..schedule_count() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new(store).await;
        world.seed(seconds(0), if rng.bool() { LONG_AGO } else { seconds(60) });
        let runs = rng.usize(2..=4);
        let (ends, _) = run_concurrently(&world, runs, RandomStepOrder::new(rng, runs, 0, Vec::new())).await;
        assert!(ends.iter().all(|end| matches!(end, Some(Ok(_)))), "seed {seed}: {ends:?}");
        assert_eq!(world.provider.exchanges(), 1, "seed {seed}: {ends:?}");
        assert_eq!(world.vault.count(), 3, "seed {seed}");
        assert_eq!(world.outcome().await, Outcome::Skipped, "seed {seed}");
        world.assert_sound();
    }
}

/// A token is sent again only for each response that was lost in a crash. No edit is lost. In the end the newest tokens are
/// current.
async fn nothing_is_lost_in_random_orders_of_steps_crashes_and_edits(store: StoreKind) {
    for seed in 0..schedule_count() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::due_with(store, Provider::rotating().in_world(Behaviour::Grace)).await;
        let mut lost = 0;
        let mut copies = vec![world.vault.text()];
        for round in 0..4 {
            let runs = rng.usize(1..=4);
            let mut events: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            for nth in 0..2 {
                let vault = world.vault.clone();
                events.push(Box::new(move || drop(vault.set("note", format!("round {round}, edit {nth}")))));
            }
            if round > 0 {
                let (vault, copy) = (world.vault.clone(), copies[rng.usize(..copies.len())].clone());
                events.push(Box::new(move || drop(vault.put(&copy))));
            }
            let crashes = rng.usize(0..=runs);
            let step_order = RandomStepOrder::new(rng.fork(), runs, crashes, events);
            let (ends, responses_lost) = run_concurrently(&world, runs, step_order).await;
            lost += responses_lost;
            for error in ends.iter().flatten().filter_map(|end| end.as_ref().err()) {
                // The promotion may give up because of the edits. The tokens stay staged.
                assert!(error.to_string().contains("tokens are safe"), "seed {seed}: {error}");
            }
            assert!(world.provider.reuses() <= lost, "seed {seed}, round {round}: {ends:?}");
            world.current();
            let note = world.vault.json()["note"].clone();
            world.clock.advance(seconds(63));
            if rng.bool() {
                run_until_skipped(&world, seed).await;
                world.assert_current_is_alive();
                copies.push(world.vault.text());
            }
            assert_eq!(world.vault.json()["note"], note, "seed {seed}, round {round}: the edit is kept");
            world.clock.advance(seconds(3600));
        }
        run_until_skipped(&world, seed).await;
        world.assert_current_is_alive();
        assert!(world.provider.reuses() <= lost, "seed {seed}: {} reuses, {lost} lost", world.provider.reuses());
    }
}

/// The consent is given at another provider, so that a token of the old provider in the document is noticed.
async fn a_new_consent_survives_random_orders_of_steps(store: StoreKind) {
    for seed in 0..schedule_count() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::due_with(store, Provider::rotating().in_world(Behaviour::Grace)).await;
        let other = Provider::rotating();
        let (access, refresh) = other.issue();
        let mut consent = world.vault.json();
        consent["accessToken"] = json!(access);
        consent["refreshToken"] = json!(refresh);
        consent["tokenEndpoint"] = json!(other.url());
        let given = Arc::new(AtomicBool::new(false));
        for round in 0..2 {
            let runs = rng.usize(1..=3);
            let (vault, consent) = (world.vault.clone(), consent.clone());
            let mut events: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            if round == 0 {
                let given = Arc::clone(&given);
                events.push(Box::new(move || {
                    vault.put(&consent);
                    given.store(true, Ordering::Relaxed);
                }));
            }
            let crashes = rng.usize(0..2);
            run_concurrently(&world, runs, RandomStepOrder::new(rng.fork(), runs, crashes, events)).await;
            world.clock.advance(seconds(3600));
        }
        let consented = world.vault.json()["tokenEndpoint"] == json!(other.url());
        let theirs = other.every_token_issued().contains(&world.refresh_token());
        assert_eq!(theirs, consented, "seed {seed}: the document holds its own provider's tokens");
        assert!(consented || !given.load(Ordering::Relaxed), "seed {seed}: the consent is kept");
    }
}

/// Three processes get many invocations, one at a time. One has unstored tokens in memory while others take over and a person
/// edits.
async fn unstored_tokens_are_stored_in_random_orders_of_invocations(store: StoreKind) {
    for seed in 0..schedule_count() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::due_with(store, Provider::rotating().in_world(Behaviour::Grace)).await;
        let mut processes = [world.process(), world.process(), world.process()];
        let (mut not_stored, mut copies) = (0, vec![world.vault.text()]);
        for action in 0..25 {
            let process = &mut processes[rng.usize(..3)];
            let exchanges = world.provider.exchanges();
            match rng.u8(..12) {
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
                9 => drop(world.vault.put(&copies[rng.usize(..copies.len())])),
                10 => world.clock.advance(seconds(64)),
                _ => world.clock.advance(seconds(3600)),
            }
            for process in &processes {
                process.script.stop_failing();
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
        run_until_skipped(&world, seed).await;
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
    one_of_several_runs_exchanges,
    one_of_several_runs_that_take_over_exchanges,
    one_of_several_readers_that_force_the_same_version_exchanges,
    one_run_exchanges_in_random_orders_of_steps,
    nothing_is_lost_in_random_orders_of_steps_crashes_and_edits,
    a_new_consent_survives_random_orders_of_steps,
    unstored_tokens_are_stored_in_random_orders_of_invocations,
);
