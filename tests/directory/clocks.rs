//! A clock that is set while a refresh runs: back or forward, between any two reads of it.

use chrono::TimeDelta;
use token_refresher::protocol::{Mode, Request, observation::Observation, outcome::Outcome};

use crate::{
    summary,
    world::{NAME, TestClock, World, block_on, run},
};

/// By how much a clock is set.
fn steps() -> [TimeDelta; 6] {
    let steps = [TimeDelta::minutes(1), TimeDelta::hours(1), TimeDelta::days(1)];
    [-steps[0], -steps[1], -steps[2], steps[0], steps[1], steps[2]]
}

/// How often a refresh without faults reads the clock.
fn reads() -> usize {
    let (world, clock) = (block_on(World::new()), TestClock::new());
    assert_eq!(block_on(world.run(&clock)).expect("a report").outcome, Outcome::Refreshed);
    clock.reads()
}

#[test]
fn a_clock_change_during_a_refresh_loses_no_token_and_sends_none_twice() {
    let mut cases = 0;
    let before = block_on(World::new());
    for read in 0..reads() {
        for by in steps() {
            for same_process in [true, false] {
                let case = format!("set by {by} at read {read}, then the same process: {same_process}");
                cases += 1;
                let (world, clock) = (before.copy(), TestClock::new().jumping(read, by));
                let refresher = world.refresher(world.store(&clock), &clock);
                let first = block_on(run(&refresher, &clock));
                let sent = world.senders_of("refresh-1").len();
                match &first {
                    Ok(report) if report.outcome == Outcome::Skipped => assert!(by < TimeDelta::zero(), "{case}"),
                    Ok(report) => assert_eq!(report.outcome, Outcome::Refreshed, "{case}"),
                    // The deadline has passed at once: nothing is sent, or the new tokens are in memory.
                    Err(error) => {
                        assert!(by > TimeDelta::zero(), "{case}: {error}");
                        let kind = error.error_type().as_str();
                        let expected: &[&str] = match sent {
                            0 => &["InvalidConfiguration", "StoreUnavailable"],
                            _ => &["TokenNotStored", "StoreUnavailable"],
                        };
                        assert!(expected.contains(&kind), "{case}: {error}");
                    }
                }
                if !same_process && first.is_err_and(|error| error.error_type().as_str() == "TokenNotStored") {
                    // The new tokens were only in the memory of the old process. Its error reported that; they are lost.
                    continue;
                }
                // Every lease ends.
                clock.advance(TimeDelta::minutes(16));
                let refresher = if same_process { refresher } else { world.refresher(world.store(&clock), &clock) };
                let second = block_on(run(&refresher, &clock)).expect(&case).outcome;
                let sent = ["refresh-1", "refresh-2"].map(|token| world.senders_of(token).len());
                assert!(sent.iter().all(|times| *times <= 1), "{case}: sent {sent:?} times");
                assert_eq!(world.generation(), format!("refresh-{}", 1 + sent[0] + sent[1]), "{case}: {second:?}");
            }
        }
    }
    summary(&format!("directory: a clock set at {cases} points of a refresh"));
}

#[test]
fn the_time_of_a_refresh_is_later_than_the_one_before_even_if_the_clock_was_set_back() {
    for by in steps() {
        let (world, clock) = (block_on(World::new()), TestClock::new());
        block_on(world.run(&clock)).expect("a report");
        let before = world.current().tokens.refreshed_at.expect("the time of the refresh");
        clock.advance(by);
        let mode = Mode::Forced { if_version_id: None };
        let deadline = clock.now() + TimeDelta::minutes(1);
        let refresher = world.refresher(world.store(&clock), &clock);
        let report =
            block_on(refresher.run(Request { secret_id: NAME, mode: &mode, deadline }, &Observation::default()))
                .expect("a report");
        assert_eq!(report.outcome, Outcome::Refreshed, "set by {by}");
        assert!(world.current().tokens.refreshed_at.expect("the time of the refresh") > before, "set by {by}");
        assert_eq!(world.generation(), "refresh-3", "set by {by}");
    }
}
