//! A clock that is set while a refresh runs: back or forward, between any two looks at it.

use chrono::TimeDelta;
use token_refresher::protocol::{Mode, Request, observation::Observation, outcome::Outcome};

use crate::{
    scene::{NAME, Scene, TestClock, block_on, run},
    summary,
};

/// By how much a clock is set.
fn steps() -> [TimeDelta; 6] {
    let steps = [TimeDelta::minutes(1), TimeDelta::hours(1), TimeDelta::days(1)];
    [-steps[0], -steps[1], -steps[2], steps[0], steps[1], steps[2]]
}

/// How often a refresh that nothing disturbs looks at the clock.
fn looks() -> usize {
    let (scene, clock) = (block_on(Scene::new()), TestClock::new());
    assert_eq!(block_on(scene.run(&clock)).expect("a report").outcome, Outcome::Refreshed);
    clock.looks()
}

#[test]
fn a_clock_that_is_set_during_a_refresh_costs_no_token_and_sends_none_twice() {
    let mut cases = 0;
    let before = block_on(Scene::new());
    for look in 0..looks() {
        for by in steps() {
            for same_process in [true, false] {
                let case = format!("set by {by} at look {look}, then the same process: {same_process}");
                cases += 1;
                let (scene, clock) = (before.copy(), TestClock::new().jumping(look, by));
                let refresher = scene.refresher(scene.store(&clock), &clock);
                let first = block_on(run(&refresher, &clock));
                let sent = scene.senders_of("refresh-1").len();
                match &first {
                    Ok(report) if report.outcome == Outcome::Skipped => assert!(by < TimeDelta::zero(), "{case}"),
                    Ok(report) => assert_eq!(report.outcome, Outcome::Refreshed, "{case}"),
                    // The deadline passed at one stroke: nothing is sent, or nothing of it lost.
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
                    // They are in the memory of a process that is gone, as the error detail: loud, and not to be mended.
                    continue;
                }
                // The clock goes on from there, until every lease is over.
                clock.advance(TimeDelta::minutes(16));
                let refresher = if same_process { refresher } else { scene.refresher(scene.store(&clock), &clock) };
                let second = block_on(run(&refresher, &clock)).expect(&case).outcome;
                let sent = ["refresh-1", "refresh-2"].map(|token| scene.senders_of(token).len());
                assert!(sent.iter().all(|times| *times <= 1), "{case}: sent {sent:?} times");
                assert_eq!(scene.generation(), format!("refresh-{}", 1 + sent[0] + sent[1]), "{case}: {second:?}");
            }
        }
    }
    summary(&format!("directory: a clock set at {cases} moments of a refresh"));
}

#[test]
fn the_time_of_a_refresh_is_later_than_the_one_before_by_whatever_clock() {
    for by in steps() {
        let (scene, clock) = (block_on(Scene::new()), TestClock::new());
        block_on(scene.run(&clock)).expect("a report");
        let before = scene.current().tokens.refreshed_at.expect("the time of the refresh");
        clock.advance(by);
        let mode = Mode::Forced { if_version_id: None };
        let deadline = clock.now() + TimeDelta::minutes(1);
        let refresher = scene.refresher(scene.store(&clock), &clock);
        let report =
            block_on(refresher.run(Request { secret_id: NAME, mode: &mode, deadline }, &Observation::default()))
                .expect("a report");
        assert_eq!(report.outcome, Outcome::Refreshed, "set by {by}");
        assert!(scene.current().tokens.refreshed_at.expect("the time of the refresh") > before, "set by {by}");
        assert_eq!(scene.generation(), "refresh-3", "set by {by}");
    }
}
