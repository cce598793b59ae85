//! Each call on the store fails in turn, once or from then on: a full disk, a full quota, a failing disk, a file system that
//! became read-only, missing permissions, a signal.

use std::io;

use chrono::TimeDelta;
use nix::errno::Errno;

use super::{
    calls::Call,
    kills::Recording,
    tracer::{Tracer, permitted},
};
use crate::{
    action::{Action, process, result},
    summary,
    world::{TestClock, World, block_on},
};

const ERRORS: [Errno; 6] = [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO, Errno::EROFS, Errno::EACCES, Errno::EINTR];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    Once,
    /// Until the process creates the file `repaired`.
    FromThenOn,
}

/// Runs a process whose n-th call on the store fails. Returns the world after it, and its result.
fn run_with_fault(action: Action, before: &World, n: usize, error: Errno, lasts: Lasts) -> (World, String) {
    let world = before.copy();
    let mut tracer = Tracer::new(world.folder());
    let process = tracer.start(process(&world, &format!("{action:?}"), 0));
    let mut at = 0;
    while tracer.next(process).is_some() {
        if at == n || at > n && lasts == Lasts::FromThenOn && !tracer.repaired {
            tracer.fail(process, error);
        } else {
            tracer.make(process);
        }
        at += 1;
    }
    let result = result(&world, 0).unwrap_or_else(|| panic!("{action:?} does not end: {error} at call {n}, {lasts:?}"));
    (world, result)
}

/// Each error at each call, once and from then on. A signal occurs only once.
fn every_fault(recording: &Recording) -> impl Iterator<Item = (usize, Errno, Lasts)> {
    (0..recording.calls.len()).flat_map(|n| {
        ERRORS.into_iter().flat_map(move |error| {
            let from_then_on = (error != Errno::EINTR).then_some((n, error, Lasts::FromThenOn));
            [(n, error, Lasts::Once)].into_iter().chain(from_then_on)
        })
    })
}

/// The result of an operation after an error at this call.
fn expected(world: &World, call: &Call, error: Errno) -> String {
    if error == Errno::EINTR && ["open", "create", "read", "write", "fsync"].contains(&call.name) {
        // These calls are repeated.
        return "ok".to_owned();
    }
    let path = match call.file.as_str() {
        "lock" => world.file("lock"),
        _ if call.name == "mkdir" => world.folder(),
        _ => world.file("json"),
    };
    let path = path.display();
    let system = io::Error::from_raw_os_error(error as i32);
    let action = if call.file == "json" && call.name != "rename" { "read" } else { "write" };
    if call.to_string() == "fsync folder" {
        return format!("Unavailable: write: {path}: written, but not safe from a power cut: {system}");
    }
    match error {
        Errno::EROFS | Errno::EACCES => format!("AccessDenied: not allowed to {action}: {path}: {system}"),
        _ => format!("Unavailable: {action}: {path}: {system}"),
    }
}

#[test]
fn a_failed_operation_names_the_file_and_the_error_and_leaves_the_old_state() {
    if !permitted() {
        return;
    }
    let mut faults = 0;
    for action in Action::OPERATIONS {
        let before = action.world();
        let recording = Recording::of(action, &before);
        for (n, error, lasts) in every_fault(&recording) {
            let call = &recording.calls[n];
            let case = format!("{action:?}, {error:?} at call {n}, {call}, {lasts:?}");
            let (world, result) = run_with_fault(action, &before, n, error, lasts);
            assert_eq!(result, expected(&world, call, error), "{case}");
            let expected_state = if result == "ok" { recording.calls.len() } else { n };
            assert_eq!(world.shape(), recording.shapes[expected_state], "{case}");
            if world.folder().exists() {
                world.assert_private(lasts == Lasts::FromThenOn);
            }
            let next = if world.shape().is_some() { Action::PutValue } else { Action::Create };
            assert_eq!(block_on(next.perform(&world)), "ok", "{case}");
            world.assert_private(false);
            faults += 1;
        }
    }
    summary(&format!("directory: {faults} failing system calls of {} operations", Action::OPERATIONS.len()));
}

#[test]
fn a_refresh_with_a_failing_disk_loses_nothing_and_sends_each_token_once() {
    if !permitted() {
        return;
    }
    let before = Action::Refresh.world();
    let recording = Recording::of(Action::Refresh, &before);
    let exchanged = recording.sent.iter().position(|sent| *sent == 1).expect("an exchange");
    // The write is complete only after the call that follows the rename, the `fsync` of the folder.
    let staged = (exchanged..)
        .take(recording.calls.len())
        .find(|n| recording.shapes[*n] != recording.shapes[exchanged])
        .expect("a staging");
    let mut faults = 0;
    let mut not_stored = 0;
    for (n, error, lasts) in every_fault(&recording) {
        let call = &recording.calls[n];
        let case = format!("{error:?} at call {n}, {call}, {lasts:?}");
        let (world, result) = run_with_fault(Action::Refresh, &before, n, error, lasts);
        let harmless = result == "Refreshed";
        let sent = world.senders_of("refresh-1").len();
        if n < exchanged && (lasts == Lasts::FromThenOn || !harmless) {
            assert_eq!(sent, 0, "{case}: nothing is sent if the claim failed: {result}");
        }
        if (exchanged..=staged).contains(&n) {
            let lasting = lasts == Lasts::FromThenOn;
            let runs = result.split_once('\n').map(|(first, next)| (first.starts_with("TokenNotStored: "), next));
            let expected = lasting.then_some((true, "Recovered"));
            assert_eq!(runs, expected, "{case}: {result}");
            assert!(lasting || harmless, "{case}: the staging is retried: {result}");
            not_stored += usize::from(lasting);
        } else if !harmless {
            let (kind, _) = result.split_once(": ").expect("an error");
            assert!(["AccessDenied", "Unavailable", "StoreUnavailable"].contains(&kind), "{case}: {result}");
            assert!(
                result.contains(world.folder().to_str().expect("UTF-8")),
                "{case}: the error does not name the file: {result}"
            );
        }
        let clock = TestClock::new();
        clock.advance(TimeDelta::seconds(63));
        block_on(world.run(&clock)).expect(&case);
        assert_eq!(world.generation(), "refresh-2", "{case}");
        assert_eq!(world.senders_of("refresh-1").len(), 1, "{case}");
        world.assert_private(false);
        faults += 1;
    }
    assert!(not_stored > 0, "no case had unstored tokens");
    summary(&format!(
        "directory: {faults} failing system calls of a refresh, {not_stored} of them left unstored tokens"
    ));
}
