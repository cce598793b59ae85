//! A process that Lambda freezes in the middle of a load, and a clock that is set back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::TimeDelta;
use serde_json::json;
use token_refresher::{
    Reader,
    reader::{Reply, SecretReader, Source},
};

use crate::world::{LIFETIME, SECRET_ID, World, seconds, token, token_or_error, unavailable};

/// In seconds after the start: the token is due, and expires two seconds later.
const DUE: u64 = LIFETIME.unsigned_abs() - 12;

/// What the monotonic clock does in a freeze.
#[derive(Clone, Copy, Debug)]
enum Timers {
    Run,
    StandStill,
}

async fn freeze(world: &World, timers: Timers, for_seconds: u64) {
    match timers {
        Timers::Run => tokio::time::advance(seconds(for_seconds)).await,
        Timers::StandStill => world.set_clock(i64::try_from(for_seconds).unwrap()),
    }
}

/// Lets all other tasks run until they wait.
async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Every freeze, and who runs first after it: the load or the caller.
fn freezes() -> impl Iterator<Item = (u64, Timers, bool)> {
    [3, 11, 30, 60, 3600].into_iter().flat_map(|length| {
        [Timers::Run, Timers::StandStill]
            .into_iter()
            .flat_map(move |timers| [true, false].map(|load_first| (length, timers, load_first)))
    })
}

#[tokio::test(start_paused = true)]
async fn after_a_freeze_in_a_load_the_next_caller_does_not_wait() {
    for (length, timers, load_first) in freezes() {
        for refresher in [false, true] {
            let case = format!("{length} s, {timers:?}, load first: {load_first}, refresher: {refresher}");
            let world = World::new();
            let mut reader = world.builder();
            if refresher {
                reader = reader.refresher(world.refresher(seconds(1), |_| panic!("the refresher is not needed")));
            }
            let reader = reader.build();
            reader.access_token().await.unwrap();
            world.until(DUE).await;
            // The connection of this read will be dead.
            world.set_read_time(seconds(1_000_000));
            assert_eq!(token_or_error(reader.access_token().await), "v1", "{case}");
            let_others_run().await;
            assert_eq!(world.reads(), 2, "{case}: a load started in the background");

            freeze(&world, timers, length).await;
            world.set_read_time(seconds(0));
            world.put_new("v2");
            if load_first {
                let_others_run().await;
            }
            let thawed = world.now();
            assert_eq!(token_or_error(reader.access_token().await), "v2", "{case}");
            assert_eq!(world.now(), thawed, "{case}: the caller waited");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_does_not_get_an_error_that_a_freeze_has_caused() {
    for (length, timers, load_first) in freezes() {
        let case = format!("{length} s, {timers:?}, load first: {load_first}");
        let world = World::new();
        let reader = world.reader();
        reader.access_token().await.unwrap();
        world.until(DUE).await;
        world.set_read_time(Duration::from_millis(200));
        reader.access_token().await.unwrap();
        let_others_run().await;
        world.fail_with(unavailable());
        freeze(&world, timers, length).await;
        // The read ends with an error as soon as it runs: the connection was reset meanwhile.
        if load_first {
            tokio::time::advance(Duration::from_millis(200)).await;
            let_others_run().await;
        }
        world.fail_with(None);
        world.put_new("v2");
        assert_eq!(token_or_error(reader.access_token().await), "v2", "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_freeze_while_a_caller_waits_starts_the_load_again() {
    for timers in [Timers::Run, Timers::StandStill] {
        let world = World::new();
        world.set_read_time(seconds(1_000_000));
        let reader = world.reader();
        let caller = tokio::spawn({
            let reader = reader.clone();
            async move { token_or_error(reader.access_token().await) }
        });
        let_others_run().await;
        freeze(&world, timers, 30).await;
        world.set_read_time(seconds(0));
        let thawed = world.now();
        assert_eq!(caller.await.unwrap(), "v1", "{timers:?}");
        assert!(world.now() <= thawed + TimeDelta::milliseconds(500), "{timers:?}: {}", world.now() - thawed);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_freeze_the_response_from_before_it_is_not_used() {
    for fails in [true, false] {
        let world = World::new();
        world.put("v1", "one");
        let source = Source::from_fn({
            let world = world.clone();
            move |query| {
                let world = world.clone();
                async move {
                    let is_second = world.reads() == 1;
                    let response = world.read(query).await;
                    if is_second {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    if is_second && fails { Err(unavailable()) } else { response }
                }
            }
        });
        let reader = SecretReader::builder(source, SECRET_ID).clock(world.clock()).text();
        reader.get().await.unwrap();
        // In the last fifth of the five minutes.
        world.until(275).await;
        reader.get().await.unwrap();
        let_others_run().await;
        world.set_clock(3600);
        world.put("v2", "two");
        tokio::time::advance(Duration::from_millis(250)).await;
        let_others_run().await;
        assert_eq!(reader.get().await.unwrap().expose().as_str(), "two", "fails: {fails}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_is_used_although_its_thread_was_blocked_for_three_seconds() {
    let world = World::new();
    let source = Source::from_fn({
        let world = world.clone();
        move |query| {
            let world = world.clone();
            async move {
                tokio::time::sleep(seconds(1)).await;
                world.set_clock(3);
                world.read(query).await
            }
        }
    });
    let reader = Reader::builder(source, SECRET_ID).clock(world.clock()).build();
    assert_eq!(token_or_error(reader.access_token().await), "v1");
    assert_eq!(world.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_superseded_load_changes_nothing() {
    let world = World::new();
    let reads = Arc::new(AtomicUsize::new(0));
    let source = Source::from_fn({
        let world = world.clone();
        move |query| {
            let (world, number) = (world.clone(), reads.fetch_add(1, Relaxed));
            async move {
                let version = world.read(query).await;
                // The second read has its response, and is frozen before its load ends.
                if number == 1 {
                    tokio::time::sleep(seconds(5)).await;
                }
                version
            }
        }
    });
    let reader = Reader::builder(source, SECRET_ID).clock(world.clock()).build();
    reader.access_token().await.unwrap();
    world.until(DUE).await;
    world.put_new("late");
    reader.access_token().await.unwrap();
    let_others_run().await;
    // Frozen until the token has expired. The timer of the second read stands still.
    world.set_clock(30);
    world.put_new("v2");
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    for _ in 0..20 {
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(token_or_error(reader.access_token().await), "v2");
    }
}

const HALF_AN_HOUR: i64 = 1800;

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_ends_a_remembered_error() {
    let world = World::new();
    world.fail_with(unavailable());
    let reader = world.reader();
    reader.access_token().await.unwrap_err();
    world.set_clock(-HALF_AN_HOUR);
    world.fail_with(None);
    assert_eq!(token_or_error(reader.access_token().await), "v1");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_ends_the_time_in_which_rejections_are_ignored() {
    let world = World::new();
    let reader = world.reader();
    let token_1 = reader.access_token().await.unwrap();
    reader.rejected(&token_1);
    reader.access_token().await.unwrap();
    world.set_clock(-HALF_AN_HOUR);
    world.put("v2", token("v2", 1));
    reader.rejected(&token_1);
    assert_eq!(token_or_error(reader.access_token().await), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_ends_the_pauses_between_requests_to_the_refresher() {
    let report = |world: &World| {
        let id = format!("v{}", 1 + world.state().events.len());
        world.put(&id, token(&id, -HALF_AN_HOUR));
        Ok(Reply::Report(json!({"outcome": "refreshed", "versionId": id})))
    };
    let world = World::new();
    let reader = world.builder().refresher(world.refresher(seconds(0), report)).build();
    reader.rejected(&reader.access_token().await.unwrap());
    let token_2 = reader.access_token().await.unwrap();
    assert_eq!(token_2.expose(), "v2");
    world.set_clock(-HALF_AN_HOUR);
    reader.rejected(&token_2);
    assert_eq!(token_or_error(reader.access_token().await), "v3");

    let world = World::new();
    world.put("v0", r#"{"refreshToken":"r"}"#);
    let failed = || Reply::Error { error_type: "ProviderUnavailable".to_owned(), message: "m".to_owned() };
    let reader = world.builder().refresher(world.refresher(seconds(0), move |_| Ok(failed()))).build();
    reader.access_token().await.unwrap_err();
    world.set_clock(-HALF_AN_HOUR);
    reader.access_token().await.unwrap_err();
    assert_eq!(world.state().events.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_causes_a_read_of_a_value_without_expiry() {
    let world = World::new();
    world.put("v1", "one");
    let reader = SecretReader::builder(world.source(), SECRET_ID).clock(world.clock()).text();
    assert_eq!(reader.get().await.unwrap().expose().as_str(), "one");
    world.put("v2", "two");
    world.set_clock(-HALF_AN_HOUR);
    reader.get().await.unwrap();
    let_others_run().await;
    assert_eq!(reader.get().await.unwrap().expose().as_str(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_restarts_a_wait() {
    // For the source, and for a new version.
    for waits_for_version in [false, true] {
        let world = World::new();
        let reply = Reply::Report(json!({"outcome": "in_progress", "versionId": "v1"}));
        let refresher = world.refresher(seconds(0), move |_| Ok(reply.clone()));
        let reader = world.builder().refresher(refresher).patience(seconds(20)).build();
        if waits_for_version {
            reader.rejected(&reader.access_token().await.unwrap());
        } else {
            world.set_read_time(seconds(1_000_000));
        }
        let began = tokio::time::Instant::now();
        let (result, ()) = tokio::join!(reader.access_token(), async {
            tokio::time::sleep(seconds(5)).await;
            world.set_clock(-HALF_AN_HOUR);
        });
        result.unwrap_err();
        assert!(began.elapsed() <= seconds(33), "{waits_for_version}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_gives_up_although_the_clock_keeps_jumping() {
    let world = World::new();
    world.set_read_time(seconds(1_000_000));
    let reader = world.reader();
    let clock = tokio::spawn({
        let world = world.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                world.set_clock(60);
            }
        }
    });
    let began = tokio::time::Instant::now();
    let error = token_or_error(reader.access_token().await);
    assert_eq!(error, "secret `crm/oauth` cannot be read now (no read ended in time); try again in some seconds");
    assert!(began.elapsed() <= seconds(13), "{:?}", began.elapsed());
    clock.abort();
}
