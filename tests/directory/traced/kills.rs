//! `kill -9` before and after each call on the store, in turn.

use chrono::TimeDelta;
use token_refresher::protocol::outcome::Outcome;

use super::{
    calls::Call,
    tracer::{Tracer, permitted},
};
use crate::{
    act::{Act, ended, process},
    scene::{Scene, Shape, TestClock, block_on},
    summary,
};

/// Every operation of the store, undisturbed: its calls on the store, and the secret before each and at the end.
pub struct Course {
    pub calls: Vec<Call>,
    pub shapes: Vec<Option<Shape>>,
    /// How often the refresh token was sent before each.
    pub sent: Vec<usize>,
}

impl Course {
    pub fn of(act: Act, before: &Scene) -> Self {
        let scene = before.copy();
        let mut tracer = Tracer::new(scene.folder());
        let process = tracer.start(process(&scene, &format!("{act:?}"), 0));
        let mut course = Self { calls: Vec::new(), shapes: Vec::new(), sent: Vec::new() };
        loop {
            let call = tracer.next(process);
            course.shapes.push(scene.shape());
            course.sent.push(scene.senders_of("refresh-1").len());
            let Some(call) = call else { break };
            course.calls.push(call);
            tracer.make(process);
        }
        let well = if act == Act::Refresh { "Refreshed" } else { "ok" };
        assert_eq!(ended(&scene, 0).as_deref(), Some(well), "{act:?}");
        scene.assert_private(false);
        course
    }
}

/// A process that is killed at its n-th call, before the call or after it; what is left.
fn killed(act: Act, before: &Scene, course: &Course, n: usize, after: bool) -> Scene {
    let scene = before.copy();
    let mut tracer = Tracer::new(scene.folder());
    let process = tracer.start(process(&scene, &format!("{act:?}"), 0));
    for (at, call) in course.calls[..=n].iter().enumerate() {
        assert_eq!(tracer.next(process).as_ref(), Some(call), "{act:?}: each run makes the same calls");
        if at < n || after {
            tracer.make(process);
        }
    }
    tracer.kill(process);
    assert_eq!(ended(&scene, 0), None, "{act:?}: it was killed");
    scene
}

#[test]
fn each_operation_replaces_the_file_at_one_stroke_and_only_when_all_of_it_is_on_the_disk() {
    if !permitted() {
        return;
    }
    for act in Act::OPERATIONS {
        let calls: Vec<String> = Course::of(act, &act.scene()).calls.iter().map(ToString::to_string).collect();
        let locked = ["create lock", "flock lock"];
        let written =
            ["open folder", "unlink tmp", "create tmp", "write tmp", "fsync tmp", "rename json", "fsync folder"];
        let read: &[&str] = if act == Act::Create { &[] } else { &["open json", "read json", "read json"] };
        assert_eq!(calls, [&["mkdir folder"], &locked[..], read, &written[..]].concat(), "{act:?}");
    }
}

#[test]
fn an_operation_killed_at_any_call_was_done_or_was_not_and_the_next_one_works_at_once() {
    if !permitted() {
        return;
    }
    let mut kills = 0;
    for act in Act::OPERATIONS {
        let before = act.scene();
        let course = Course::of(act, &before);
        assert_ne!(course.shapes.first(), course.shapes.last(), "{act:?} does something");
        for (n, call) in course.calls.iter().enumerate() {
            for after in [false, true] {
                let scene = killed(act, &before, &course, n, after);
                let case = format!("{act:?}, killed {} {n}: {call}", if after { "after" } else { "before" });
                // The calls made so far decide, and the renaming alone changes anything.
                assert_eq!(scene.shape(), course.shapes[n + usize::from(after)], "{case}");
                if scene.folder().exists() {
                    scene.assert_private(true);
                }
                let next = if scene.shape().is_some() { Act::PutValue } else { Act::Create };
                assert_eq!(block_on(next.perform(&scene)), "ok", "{case}");
                scene.assert_private(false);
                kills += 1;
            }
        }
    }
    summary(&format!("directory: {kills} kills at the system calls of {} operations", Act::OPERATIONS.len()));
}

#[test]
fn a_refresh_killed_at_any_call_loses_nothing_and_sends_a_token_twice_only_between_exchange_and_staging() {
    if !permitted() {
        return;
    }
    let before = Act::Refresh.scene();
    let course = Course::of(Act::Refresh, &before);
    let renames: Vec<usize> =
        (0..course.calls.len()).filter(|n| course.calls[*n].to_string() == "rename json").collect();
    let [_, staged, _] = renames[..] else { panic!("a claim, a staging and a promotion: {renames:?}") };
    let (mut kills, mut sent_twice) = (0, 0);
    for (n, call) in course.calls.iter().enumerate() {
        for after in [false, true] {
            let scene = killed(Act::Refresh, &before, &course, n, after);
            let case = format!("killed {} {n}: {call}", if after { "after" } else { "before" });
            assert_eq!(scene.shape(), course.shapes[n + usize::from(after)], "{case}");
            scene.assert_private(true);
            let sent = scene.senders_of("refresh-1").len();
            // The process runs on, after a call, only when the tracer lets it.
            assert_eq!(sent, course.sent[n], "{case}");
            let window = sent == 1 && (n < staged || n == staged && !after);

            let clock = TestClock::new();
            let at_once = block_on(scene.run(&clock)).expect(&case).outcome;
            clock.advance(TimeDelta::seconds(63));
            let after_the_lease = block_on(scene.run(&clock)).expect(&case).outcome;
            let claimed = scene.versions().expect("a secret").list(true).len() > 3;
            assert!(claimed, "{case}");
            let expected = match n {
                _ if window => (Outcome::InProgress, Outcome::Refreshed),
                _ if course.shapes[n + usize::from(after)] == course.shapes[0] => {
                    (Outcome::Refreshed, Outcome::Skipped)
                }
                _ if sent == 0 => (Outcome::InProgress, Outcome::Refreshed),
                _ if course.shapes[n + usize::from(after)] == course.shapes[course.calls.len()] => {
                    (Outcome::Skipped, Outcome::Skipped)
                }
                _ => (Outcome::Recovered, Outcome::Skipped),
            };
            assert_eq!((at_once, after_the_lease), expected, "{case}");
            assert_eq!(scene.generation(), "refresh-2", "{case}");
            assert_eq!(scene.senders_of("refresh-1").len(), 1 + usize::from(window), "{case}");
            scene.assert_private(false);
            kills += 1;
            sent_twice += usize::from(window);
        }
    }
    assert!(sent_twice > 0, "the one window that remains was hit");
    summary(&format!("directory: {kills} kills at the system calls of a refresh, {sent_twice} in the one window"));
}
