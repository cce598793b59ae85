//! Long random schedules: many runs and sweeps of several processes over many hours, with a person and many faults.
//!
//! A schedule is determined by its seed. `SEED=n cargo test --test exploration random` repeats one, and `SCHEDULES=n` sets the
//! number of schedules (2,000).

use std::{ops::Range, sync::Arc, time::Instant};

use chrono::TimeDelta;
use token_refresher::protocol::Mode;

use crate::{
    end,
    explorer::{fail_with_schedule, print_line},
    person::UserAction,
    plan::{NEARLY_OVER, Neighbour, PAST_THE_LEASE, Plan, Readers, Search},
    provider::Behaviour,
    run::Pacing,
    tracked_run::Event,
    world::World,
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn seeds() -> Range<u64> {
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SCHEDULES").unwrap_or(2_000),
    }
}

fn random_plan(rng: &mut fastrand::Rng) -> Plan {
    let processes = rng.usize(1..=3);
    let runs = rng.usize(4..=12);
    let sweepers: Vec<_> = if rng.bool() { (0..processes).filter(|_| rng.bool()).collect() } else { Vec::new() };
    let neighbour = if rng.bool() { Neighbour::Due } else { Neighbour::None };
    let mode = |rng: &mut fastrand::Rng| match rng.u8(..10) {
        0 | 1 => Mode::Forced { if_version_id: None },
        2 => Mode::Rotation,
        _ => Mode::Scheduled,
    };
    let behaviours = [&Behaviour::ALL[..], &[Behaviour::ClientCredentials]].concat();
    let behaviour = behaviours[rng.usize(..behaviours.len())];
    let actions: &[_] = if behaviour.issues_refresh_tokens() { &UserAction::ALL } else { &UserAction::WITHOUT_CONSENT };
    Plan {
        consent_ends_others: rng.bool(),
        runs: (0..runs).map(|_| (mode(rng), rng.usize(..processes))).collect(),
        user_actions: (0..rng.usize(0..=4)).map(|_| actions[rng.usize(..actions.len())]).collect(),
        faults: rng.usize(0..=6),
        jumps: rng.usize(0..=12),
        jump_lengths: vec![NEARLY_OVER, PAST_THE_LEASE, TimeDelta::minutes(5), TimeDelta::hours(1)],
        stale_reads: rng.bool(),
        age: TimeDelta::minutes(rng.i64(1..=90)),
        refreshed_before: rng.bool(),
        readers: if rng.bool() { Readers::OfPublishedSecret } else { Readers::OfTokenSecret },
        search: if rng.bool() { Search::Names } else { Search::Prefix },
        neighbour: if sweepers.is_empty() { Neighbour::None } else { neighbour },
        // The neighbour's writes are done at once.
        pacing: if neighbour == Neighbour::None && rng.bool() { Pacing::ByStore } else { Pacing::None },
        sweepers,
        ..Plan::of_runs(processes, behaviour)
    }
}

/// Mostly steps, sometimes a fault or a clock jump.
fn random_event(rng: &mut fastrand::Rng, events: &[Event]) -> Event {
    let weight = |event: &Event| match event {
        Event::Starts(_) | Event::PersonActs => 4,
        Event::StepSucceeds(..) | Event::Wakes(_) | Event::TimesOut { .. } => 24,
        Event::StepFails(..) => 1,
        Event::ClockJumps(_) => 2,
    };
    let mut pick = rng.u32(..events.iter().map(weight).sum::<u32>());
    *events
        .iter()
        .find(|event| {
            let found = pick < weight(event);
            pick = pick.saturating_sub(weight(event));
            found
        })
        .expect("the pick is below the sum of the weights")
}

#[test]
fn long_random_schedules_lose_nothing() {
    let (start, mut steps) = (Instant::now(), 0);
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Arc::new(random_plan(&mut rng));
        let mut path = Vec::new();
        let fail = |path: &[Event], broken, living_processes_first| -> ! {
            print_line(&format!("seed {seed}; to repeat: SEED={seed} cargo test --test exploration random"));
            fail_with_schedule(&plan, path, &broken, living_processes_first)
        };
        let mut world = World::new(&plan).unwrap_or_else(|broken| fail(&path, broken, false));
        loop {
            let events = world.events();
            if events.is_empty() {
                break;
            }
            let event = random_event(&mut rng, &events);
            path.push(event);
            world.apply(event).unwrap_or_else(|broken| fail(&path, broken, false));
        }
        let living_processes_first = rng.bool() && world.later_run_orders().contains(&true);
        end::check_end(&mut world, living_processes_first)
            .unwrap_or_else(|broken| fail(&path, broken, living_processes_first));
        steps += path.len();
    }
    print_line(&format!(
        "explored {count} long random schedules, {steps} steps, {:.1} s",
        start.elapsed().as_secs_f64()
    ));
}
