//! Long schedules drawn by lot: many runs of several processes over many hours, people among them, and one fault after
//! the other. Each is told by its seed: `SEED=n cargo test --test exploration drawn_by_lot` draws that one alone,
//! `SCHEDULES=n` so many.

use std::{ops::Range, sync::Arc, time::Instant};

use chrono::TimeDelta;
use token_refresher::protocol::Mode;

use crate::{
    end,
    explorer::{say, tell},
    member::Event,
    person::Deed,
    plan::{NEARLY_OVER, PAST_THE_LEASE, Plan, Readers},
    provider::Manners,
    world::World,
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, unlike {text}")))
}

fn seeds() -> Range<u64> {
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SCHEDULES").unwrap_or(2_000),
    }
}

fn draw_plan(lots: &mut fastrand::Rng) -> Plan {
    let processes = lots.usize(1..=3);
    let runs = lots.usize(4..=12);
    let mode = |lots: &mut fastrand::Rng| {
        if lots.u8(..5) == 0 { Mode::Forced { if_version_id: None } } else { Mode::Scheduled }
    };
    Plan {
        consent_ends_others: lots.bool(),
        runs: (0..runs).map(|_| (mode(lots), lots.usize(..processes))).collect(),
        deeds: (0..lots.usize(0..=4)).map(|_| Deed::ALL[lots.usize(..4)]).collect(),
        faults: lots.usize(0..=6),
        leaps: lots.usize(0..=12),
        leap_lengths: vec![NEARLY_OVER, PAST_THE_LEASE, TimeDelta::minutes(5), TimeDelta::hours(1)],
        lagging_reads: lots.bool(),
        age: TimeDelta::minutes(lots.i64(1..=90)),
        refreshed_before: lots.bool(),
        readers: if lots.bool() { Readers::Told } else { Readers::OfTheSecret },
        ..Plan::of_runs(processes, Manners::ALL[lots.usize(..Manners::ALL.len())])
    }
}

/// Draws what happens next: steps mostly, now and then a fault or a leap of the clock.
fn draw_event(lots: &mut fastrand::Rng, events: &[Event]) -> Event {
    let weight = |event: &Event| match event {
        Event::Begins(_) | Event::PersonActs => 4,
        Event::Goes(_) | Event::Wakes(_) | Event::TimesOut { .. } => 24,
        Event::Fails(..) => 1,
        Event::Leaps(_) => 2,
    };
    let mut lot = lots.u32(..events.iter().map(weight).sum::<u32>());
    *events
        .iter()
        .find(|event| {
            let found = lot < weight(event);
            lot = lot.saturating_sub(weight(event));
            found
        })
        .expect("the lot is under the sum")
}

#[test]
fn in_long_schedules_drawn_by_lot_nothing_is_lost() {
    let (start, mut steps) = (Instant::now(), 0);
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut lots = fastrand::Rng::with_seed(seed);
        let plan = Arc::new(draw_plan(&mut lots));
        let mut path = Vec::new();
        let broken = |path: &[Event], broken, living_first| -> ! {
            say(&format!("seed {seed}; again: SEED={seed} cargo test --test exploration drawn_by_lot"));
            tell(&plan, path, &broken, living_first)
        };
        let mut world = World::new(&plan).unwrap_or_else(|it| broken(&path, it, false));
        loop {
            let events = world.events();
            if events.is_empty() {
                break;
            }
            let event = draw_event(&mut lots, &events);
            path.push(event);
            world.happen(event).unwrap_or_else(|it| broken(&path, it, false));
        }
        let living_first = lots.bool() && world.orders_of_later_runs().contains(&true);
        end::of_the_end(&mut world, living_first).unwrap_or_else(|it| broken(&path, it, living_first));
        steps += path.len();
    }
    say(&format!("drawn by lot: {count} long schedules, {steps} steps, {:.1} s", start.elapsed().as_secs_f64()));
}
