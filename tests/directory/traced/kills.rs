//! `kill -9` before and after each call on the store, in turn.

use chrono::TimeDelta;
use token_refresher::protocol::outcome::Outcome;

use super::{
    calls::Call,
    tracer::{Tracer, permitted},
};
use crate::{
    action::{Action, process, result},
    summary,
    world::{Shape, TestClock, World, block_on},
};

/// An action without faults: its calls on the store, and the secret before each call and at the end.
pub struct Recording {
    pub calls: Vec<Call>,
    pub shapes: Vec<Option<Shape>>,
    /// How often the refresh token was sent before each call.
    pub sent: Vec<usize>,
}

impl Recording {
    pub fn of(action: Action, before: &World) -> Self {
        let world = before.copy();
        let mut tracer = Tracer::new(world.folder());
        let process = tracer.start(process(&world, &format!("{action:?}"), 0));
        let mut recording = Self { calls: Vec::new(), shapes: Vec::new(), sent: Vec::new() };
        loop {
            let call = tracer.next(process);
            recording.shapes.push(world.shape());
            recording.sent.push(world.senders_of("refresh-1").len());
            let Some(call) = call else { break };
            recording.calls.push(call);
            tracer.make(process);
        }
        let expected = if action == Action::Refresh { "Refreshed" } else { "ok" };
        assert_eq!(result(&world, 0).as_deref(), Some(expected), "{action:?}");
        world.assert_private(false);
        recording
    }
}

/// Runs a process and kills it at its n-th call, before the call or after it. Returns the world after it.
fn run_and_kill(action: Action, before: &World, recording: &Recording, n: usize, after: bool) -> World {
    let world = before.copy();
    let mut tracer = Tracer::new(world.folder());
    let process = tracer.start(process(&world, &format!("{action:?}"), 0));
    for (at, call) in recording.calls[..=n].iter().enumerate() {
        assert_eq!(tracer.next(process).as_ref(), Some(call), "{action:?}: each run makes the same calls");
        if at < n || after {
            tracer.make(process);
        }
    }
    tracer.kill(process);
    assert_eq!(result(&world, 0), None, "{action:?}: the killed process has a result");
    world
}

#[test]
fn each_operation_replaces_the_file_atomically_after_all_of_it_is_on_the_disk() {
    if !permitted() {
        return;
    }
    for action in Action::OPERATIONS {
        let calls: Vec<String> = Recording::of(action, &action.world()).calls.iter().map(ToString::to_string).collect();
        let locked = ["create lock", "flock lock"];
        let written =
            ["open folder", "unlink tmp", "create tmp", "write tmp", "fsync tmp", "rename json", "fsync folder"];
        let read: &[&str] = if action == Action::Create { &[] } else { &["open json", "read json", "read json"] };
        assert_eq!(calls, [&["mkdir folder"], &locked[..], read, &written[..]].concat(), "{action:?}");
    }
}

#[test]
fn an_operation_killed_at_any_call_is_done_fully_or_not_at_all_and_the_next_one_works_at_once() {
    if !permitted() {
        return;
    }
    let mut kills = 0;
    for action in Action::OPERATIONS {
        let before = action.world();
        let recording = Recording::of(action, &before);
        assert_ne!(recording.shapes.first(), recording.shapes.last(), "{action:?} changes nothing");
        for (n, call) in recording.calls.iter().enumerate() {
            for after in [false, true] {
                let world = run_and_kill(action, &before, &recording, n, after);
                let case = format!("{action:?}, killed {} {n}: {call}", if after { "after" } else { "before" });
                // The state depends on the calls so far. Only the rename changes it.
                assert_eq!(world.shape(), recording.shapes[n + usize::from(after)], "{case}");
                if world.folder().exists() {
                    world.assert_private(true);
                }
                let next = if world.shape().is_some() { Action::PutValue } else { Action::Create };
                assert_eq!(block_on(next.perform(&world)), "ok", "{case}");
                world.assert_private(false);
                kills += 1;
            }
        }
    }
    summary(&format!("directory: {kills} kills at the system calls of {} operations", Action::OPERATIONS.len()));
}

#[test]
fn a_refresh_killed_at_any_call_loses_nothing_and_sends_a_token_twice_only_between_exchange_and_staging() {
    if !permitted() {
        return;
    }
    let before = Action::Refresh.world();
    let recording = Recording::of(Action::Refresh, &before);
    let renames: Vec<usize> =
        (0..recording.calls.len()).filter(|n| recording.calls[*n].to_string() == "rename json").collect();
    let [_, staged, _] = renames[..] else { panic!("a claim, a staging and a promotion: {renames:?}") };
    let (mut kills, mut sent_twice) = (0, 0);
    for (n, call) in recording.calls.iter().enumerate() {
        for after in [false, true] {
            let world = run_and_kill(Action::Refresh, &before, &recording, n, after);
            let case = format!("killed {} {n}: {call}", if after { "after" } else { "before" });
            assert_eq!(world.shape(), recording.shapes[n + usize::from(after)], "{case}");
            world.assert_private(true);
            let sent = world.senders_of("refresh-1").len();
            // After a call the process continues only if the tracer lets it.
            assert_eq!(sent, recording.sent[n], "{case}");
            let window = sent == 1 && (n < staged || n == staged && !after);

            let clock = TestClock::new();
            let at_once = block_on(world.run(&clock)).expect(&case).outcome;
            clock.advance(TimeDelta::seconds(63));
            let after_the_lease = block_on(world.run(&clock)).expect(&case).outcome;
            let claimed = world.versions().expect("a secret").list(true).len() > 3;
            assert!(claimed, "{case}");
            let expected = match n {
                _ if window => (Outcome::InProgress, Outcome::Refreshed),
                _ if recording.shapes[n + usize::from(after)] == recording.shapes[0] => {
                    (Outcome::Refreshed, Outcome::Skipped)
                }
                _ if sent == 0 => (Outcome::InProgress, Outcome::Refreshed),
                _ if recording.shapes[n + usize::from(after)] == recording.shapes[recording.calls.len()] => {
                    (Outcome::Skipped, Outcome::Skipped)
                }
                _ => (Outcome::Recovered, Outcome::Skipped),
            };
            assert_eq!((at_once, after_the_lease), expected, "{case}");
            assert_eq!(world.generation(), "refresh-2", "{case}");
            assert_eq!(world.senders_of("refresh-1").len(), 1 + usize::from(window), "{case}");
            world.assert_private(false);
            kills += 1;
            sent_twice += usize::from(window);
        }
    }
    assert!(sent_twice > 0, "no kill was in the one known window");
    summary(&format!(
        "directory: {kills} kills at the system calls of a refresh, {sent_twice} in the one known window"
    ));
}
