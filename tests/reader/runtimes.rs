//! Loads outside, inside and at the end of runtimes, and on runtimes that nobody drives. The tests use real threads. None waits for
//! time to pass; a time limit ends a test that hangs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use chrono::{DateTime, TimeDelta};
use serde_json::json;
use token_refresher::{
    Reader,
    clock::Clock,
    reader::{Reply, SecretReader, SecretVersion, Source},
};
use tokio::runtime::{Builder, Runtime};

use crate::world::{LIFETIME, SECRET_ID, World, seconds, token, token_or_error};

/// How often a case is repeated that depends on the order in which threads run.
const REPETITIONS: usize = 1000;

/// Runs the test in a thread of its own. A deadlock fails it.
fn with_time_limit<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(test()).unwrap());
    match result.recv_timeout(Duration::from_mins(2)) {
        Ok(result) => result,
        // The test has panicked.
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A runtime whose time passes when all tasks wait.
fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn source() -> Source {
    Source::from_fn(|_| async { Ok(SecretVersion::text("v1", r#"{"accessToken":"v1","expiresAt":4070908800000}"#)) })
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn outside_a_runtime_a_call_that_must_read_panics_and_the_reader_stays_usable() {
    with_time_limit(|| {
        let reader = Reader::new(source(), SECRET_ID);
        for _ in 0..REPETITIONS {
            let call = catch_unwind(AssertUnwindSafe(|| drop(poll_once(reader.access_token()))));
            assert!(call.is_err(), "no panic");
        }
        assert_eq!(token_or_error(current_thread().block_on(reader.access_token())), "v1");
    });
}

#[test]
fn outside_a_runtime_a_cached_token_is_returned_although_a_background_read_is_due() {
    with_time_limit(|| {
        let now = Arc::new(Mutex::new(DateTime::UNIX_EPOCH));
        let clock = Arc::clone(&now);
        let clock = Clock::new(move || *clock.lock().unwrap(), tokio::time::sleep);
        let reader = SecretReader::builder(source(), SECRET_ID).ttl(Duration::from_mins(10)).clock(clock).text();
        current_thread().block_on(async { reader.get().await.unwrap() });
        // In the last fifth of its time.
        *now.lock().unwrap() += TimeDelta::minutes(9);
        assert!(matches!(poll_once(reader.get()), Poll::Ready(Ok(_))));
    });
}

#[test]
fn in_the_context_of_a_runtime_that_has_ended_a_call_is_an_error() {
    for runtime in [current_thread, multi_thread] {
        with_time_limit(move || {
            for _ in 0..REPETITIONS {
                let ended = runtime();
                let handle = ended.handle().clone();
                drop(ended);
                let reader = Reader::new(source(), SECRET_ID);
                let _context = handle.enter();
                let Poll::Ready(result) = poll_once(reader.access_token()) else { panic!("the call waits") };
                assert_eq!(
                    token_or_error(result),
                    "secret `crm/oauth` cannot be read now (8 reads were cancelled or out of date at their end); try \
                     again in some seconds"
                );
            }
        });
    }
}

#[test]
fn a_runtime_ends_although_its_tasks_ask_for_tokens() {
    for runtime in [current_thread, multi_thread] {
        with_time_limit(move || {
            let asked = Arc::new(AtomicUsize::new(0));
            for _ in 0..REPETITIONS {
                // Nothing is cached for long: each call loads.
                let reader = SecretReader::builder(source(), SECRET_ID).ttl(Duration::ZERO).text();
                let runtime = runtime();
                for _ in 0..8 {
                    let (reader, asked) = (reader.clone(), Arc::clone(&asked));
                    runtime.spawn(async move {
                        loop {
                            asked.fetch_add(1, Relaxed);
                            drop(reader.get().await);
                            tokio::task::yield_now().await;
                        }
                    });
                }
                runtime.block_on(tokio::task::yield_now());
                drop(runtime);
                // Another runtime continues.
                current_thread().block_on(reader.get()).unwrap_or_else(|error| panic!("{error}"));
            }
            assert!(asked.load(Relaxed) > 0, "no task asked");
        });
    }
}

/// Asks for a token when it is dropped, as a destructor that logs out at the provider would.
struct AsksWhenDropped(Reader);

impl Drop for AsksWhenDropped {
    fn drop(&mut self) {
        drop(poll_once(self.0.access_token()));
    }
}

#[test]
fn a_task_that_asks_for_a_token_at_the_end_of_its_runtime_does_not_block_it() {
    for runtime in [current_thread, multi_thread] {
        with_time_limit(move || {
            for _ in 0..REPETITIONS {
                let runtime = runtime();
                let asks = AsksWhenDropped(Reader::new(source(), SECRET_ID));
                runtime.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(asks);
                });
                runtime.block_on(tokio::task::yield_now());
                drop(runtime);
            }
        });
    }
}

#[test]
fn a_load_on_a_runtime_that_nobody_drives_is_taken_over_within_three_seconds() {
    for in_background in [false, true] {
        with_time_limit(move || {
            for _ in 0..REPETITIONS {
                let (undriven, other) = (paused(), paused());
                let (world, reader) = undriven.block_on(async {
                    let world = World::new();
                    let reader = world.reader();
                    if in_background {
                        reader.access_token().await.unwrap();
                        world.set_clock(LIFETIME - 12);
                    }
                    world.set_read_time(seconds(1_000_000));
                    let reads = world.reads();
                    let call = tokio::spawn({
                        let reader = reader.clone();
                        async move { drop(reader.access_token().await) }
                    });
                    while world.reads() == reads {
                        tokio::task::yield_now().await;
                    }
                    drop(call);
                    (world, reader)
                });
                // The token ends.
                world.set_clock(if in_background { 2 } else { 0 });
                world.set_read_time(seconds(0));
                world.put("v2", token("v2", LIFETIME - 10));
                let (token, waited) = other.block_on(async {
                    let began = tokio::time::Instant::now();
                    (token_or_error(reader.access_token().await), began.elapsed())
                });
                assert_eq!(token, "v2");
                assert!(waited <= seconds(3), "waited {waited:?}");
                drop(undriven);
                assert_eq!(token_or_error(other.block_on(reader.access_token())), "v2");
            }
        });
    }
}

#[test]
fn loads_that_wait_for_their_runtime_do_nothing_once_they_are_superseded() {
    with_time_limit(|| {
        // Each call is a hit, which starts a background load and returns before the load runs.
        let runtime = paused();
        let (world, reader) = runtime.block_on(async {
            let world = World::new();
            let refresher = world.refresher(seconds(1), |_| Ok(Reply::Report(json!({"outcome": "in_progress"}))));
            let reader = world.builder().refresher(refresher).patience(seconds(5)).build();
            reader.access_token().await.unwrap();
            (world, reader)
        });
        world.set_clock(LIFETIME - 812);
        for _ in 0..40 {
            assert_eq!(token_or_error(runtime.block_on(reader.access_token())), "v1");
            world.set_clock(20);
        }
        world.set_clock(10);
        runtime.block_on(reader.access_token()).unwrap_err();
        let state = world.state();
        assert_eq!((state.events.len(), state.most_in_flight), (1, 1), "superseded loads have run");
    });
}

#[test]
fn many_threads_with_short_lived_runtimes_share_one_reader() {
    with_time_limit(|| {
        let reads = Arc::new(AtomicUsize::new(0));
        let source = Source::from_fn({
            let reads = Arc::clone(&reads);
            move |_| {
                let read = reads.fetch_add(1, Relaxed);
                async move { Ok(SecretVersion::text(format!("v{read}"), "text")) }
            }
        });
        let reader = SecretReader::builder(source, SECRET_ID).ttl(Duration::ZERO).text();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let reader = reader.clone();
                thread::spawn(move || {
                    for _ in 0..REPETITIONS / 4 {
                        // A runtime for each call: its loads end with it.
                        current_thread().block_on(async {
                            reader.get().await.unwrap_or_else(|error| panic!("{error}"));
                        });
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
