//! Each call on the store fails in turn, once or from then on: a full disk, a full quota, a dying disk, a file system that
//! became read-only, permissions taken away, a signal.

use std::io;

use chrono::TimeDelta;
use nix::errno::Errno;

use super::{
    calls::Call,
    kills::Course,
    tracer::{Tracer, permitted},
};
use crate::{
    act::{Act, ended, process},
    scene::{Scene, TestClock, block_on},
    summary,
};

const ERRORS: [Errno; 6] = [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO, Errno::EROFS, Errno::EACCES, Errno::EINTR];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HowLong {
    Once,
    /// Until the process says that the disk is mended.
    FromThenOn,
}

/// A process whose n-th call on the store fails; what is left, and how it says it ended.
fn failed(act: Act, before: &Scene, n: usize, error: Errno, how_long: HowLong) -> (Scene, String) {
    let scene = before.copy();
    let mut tracer = Tracer::new(scene.folder());
    let process = tracer.start(process(&scene, &format!("{act:?}"), 0));
    let mut at = 0;
    while tracer.next(process).is_some() {
        if at == n || at > n && how_long == HowLong::FromThenOn && !tracer.mended {
            tracer.fail(process, error);
        } else {
            tracer.make(process);
        }
        at += 1;
    }
    let said = ended(&scene, 0).unwrap_or_else(|| panic!("{act:?} does not end: {error} at call {n}, {how_long:?}"));
    (scene, said)
}

/// Each error at each call: once; and from then on, but for a signal, which is over by the next try.
fn every_fault(course: &Course) -> impl Iterator<Item = (usize, Errno, HowLong)> {
    (0..course.calls.len()).flat_map(|n| {
        ERRORS.into_iter().flat_map(move |error| {
            let lasting = (error != Errno::EINTR).then_some((n, error, HowLong::FromThenOn));
            [(n, error, HowLong::Once)].into_iter().chain(lasting)
        })
    })
}

/// What an operation says of an error at this call.
fn expected(scene: &Scene, call: &Call, error: Errno) -> String {
    if error == Errno::EINTR && ["open", "create", "read", "write", "fsync"].contains(&call.name) {
        // Tried again.
        return "ok".to_owned();
    }
    let path = match call.file.as_str() {
        "lock" => scene.file("lock"),
        _ if call.name == "mkdir" => scene.folder(),
        _ => scene.file("json"),
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
fn an_operation_that_fails_says_which_file_and_why_and_the_old_state_stands() {
    if !permitted() {
        return;
    }
    let mut faults = 0;
    for act in Act::OPERATIONS {
        let before = act.scene();
        let course = Course::of(act, &before);
        for (n, error, how_long) in every_fault(&course) {
            let call = &course.calls[n];
            let case = format!("{act:?}, {error:?} at call {n}, {call}, {how_long:?}");
            let (scene, said) = failed(act, &before, n, error, how_long);
            assert_eq!(said, expected(&scene, call, error), "{case}");
            let stands = if said == "ok" { course.calls.len() } else { n };
            assert_eq!(scene.shape(), course.shapes[stands], "{case}");
            if scene.folder().exists() {
                scene.assert_private(how_long == HowLong::FromThenOn);
            }
            let next = if scene.shape().is_some() { Act::PutValue } else { Act::Create };
            assert_eq!(block_on(next.perform(&scene)), "ok", "{case}");
            scene.assert_private(false);
            faults += 1;
        }
    }
    summary(&format!("directory: {faults} failing system calls of {} operations", Act::OPERATIONS.len()));
}

#[test]
fn a_refresh_that_meets_a_failing_disk_loses_nothing_and_sends_a_token_once() {
    if !permitted() {
        return;
    }
    let before = Act::Refresh.scene();
    let course = Course::of(Act::Refresh, &before);
    let exchanged = course.sent.iter().position(|sent| *sent == 1).expect("an exchange");
    // The call after the renaming belongs to it: until the folder is synced the write may fail.
    let staged = (exchanged..)
        .take(course.calls.len())
        .find(|n| course.shapes[*n] != course.shapes[exchanged])
        .expect("a staging");
    let mut faults = 0;
    let mut not_stored = 0;
    for (n, error, how_long) in every_fault(&course) {
        let call = &course.calls[n];
        let case = format!("{error:?} at call {n}, {call}, {how_long:?}");
        let (scene, said) = failed(Act::Refresh, &before, n, error, how_long);
        let harmless = said == "Refreshed";
        let sent = scene.senders_of("refresh-1").len();
        if n < exchanged && (how_long == HowLong::FromThenOn || !harmless) {
            assert_eq!(sent, 0, "{case}: nothing is sent where the claim failed: {said}");
        }
        if (exchanged..=staged).contains(&n) {
            let lasting = how_long == HowLong::FromThenOn;
            let ended = said.split_once('\n').map(|(first, then)| (first.starts_with("TokenNotStored: "), then));
            let expected = lasting.then_some((true, "Recovered"));
            assert_eq!(ended, expected, "{case}: {said}");
            assert!(lasting || harmless, "{case}: a staging is tried again: {said}");
            not_stored += usize::from(lasting);
        } else if !harmless {
            let (kind, _) = said.split_once(": ").expect("an error");
            assert!(["AccessDenied", "Unavailable", "StoreUnavailable"].contains(&kind), "{case}: {said}");
            assert!(said.contains(scene.folder().to_str().expect("UTF-8")), "{case}: it names the file: {said}");
        }
        let clock = TestClock::new();
        clock.advance(TimeDelta::seconds(63));
        block_on(scene.run(&clock)).expect(&case);
        assert_eq!(scene.generation(), "refresh-2", "{case}");
        assert_eq!(scene.senders_of("refresh-1").len(), 1, "{case}");
        scene.assert_private(false);
        faults += 1;
    }
    assert!(not_stored > 0, "there were tokens that could not be stored");
    summary(&format!(
        "directory: {faults} failing system calls of a refresh, {not_stored} of them left the tokens in memory alone"
    ));
}
