//! A process that is frozen in the middle of a load, as Lambda does between invocations, and a clock that is set back.

use chrono::TimeDelta;
use serde_json::json;
use token_refresher::{
    Reader,
    reader::{Reply, SecretReader, Source},
    store::StoreError,
};

use crate::world::{LIFETIME, SECRET_ID, World, at, seconds, token, token_or_error, unavailable};

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
async fn others_run() {
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
async fn a_freeze_in_a_load_costs_the_next_caller_nothing() {
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
            world.until(u64::try_from(LIFETIME).unwrap() - 12).await;
            // The connection of this read will be dead.
            world.set_read_time(seconds(1_000_000));
            assert_eq!(token_or_error(reader.access_token().await), "v1", "{case}");
            others_run().await;
            assert_eq!(world.reads(), 2, "{case}: a load started in the background");

            freeze(&world, timers, length).await;
            world.set_read_time(seconds(0));
            world.put_new("v2");
            if load_first {
                others_run().await;
            }
            let thawed = world.now();
            assert_eq!(token_or_error(reader.access_token().await), "v2", "{case}");
            assert_eq!(world.now(), thawed, "{case}: the caller waited");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_a_freeze_has_caused_is_not_the_callers() {
    for (length, timers, load_first) in freezes() {
        let case = format!("{length} s, {timers:?}, load first: {load_first}");
        let world = World::new();
        let reader = world.reader();
        reader.access_token().await.unwrap();
        world.until(u64::try_from(LIFETIME).unwrap() - 12).await;
        world.set_read_time(std::time::Duration::from_millis(200));
        reader.access_token().await.unwrap();
        others_run().await;
        world.fail_with(unavailable());
        freeze(&world, timers, length).await;
        // The read ends with an error as soon as it runs: the connection was reset meanwhile.
        if load_first {
            tokio::time::advance(std::time::Duration::from_millis(200)).await;
            others_run().await;
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
        others_run().await;
        freeze(&world, timers, 30).await;
        world.set_read_time(seconds(0));
        let thawed = world.now();
        assert_eq!(caller.await.unwrap(), "v1", "{timers:?}");
        assert!(world.now() <= thawed + TimeDelta::milliseconds(500), "{timers:?}: {}", world.now() - thawed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_was_overtaken_after_a_freeze_changes_nothing() {
    let world = World::new();
    let reader = world.reader();
    reader.access_token().await.unwrap();
    world.until(2800).await;
    // This read has its response, the old version, and is frozen before it ends.
    world.set_read_time(seconds(1));
    reader.access_token().await.unwrap();
    others_run().await;
    world.set_clock(30);
    world.set_read_time(seconds(0));
    reader.rejected(&reader.access_token().await.unwrap());
    world.put("v2", token("v2", 2830));
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    world.put("v1", token("v1", 0));
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(token_or_error(reader.access_token().await), "v2");
}

const HALF_AN_HOUR: i64 = 1800;

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_prolong_a_remembered_error() {
    let world = World::new();
    world.fail_with(unavailable());
    let reader = world.reader();
    reader.access_token().await.unwrap_err();
    world.set_clock(-HALF_AN_HOUR);
    world.fail_with(None);
    assert_eq!(token_or_error(reader.access_token().await), "v1");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_prolong_the_time_in_which_rejections_are_ignored() {
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
async fn a_clock_set_back_does_not_prolong_the_pauses_between_requests_to_the_refresher() {
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
async fn a_clock_set_back_does_not_prolong_the_use_of_a_value_without_expiry() {
    let world = World::new();
    world.put("v1", "one");
    let reader = SecretReader::builder(world.source(), SECRET_ID).clock(world.clock()).text();
    assert_eq!(reader.get().await.unwrap().expose().as_str(), "one");
    world.put("v2", "two");
    world.set_clock(-HALF_AN_HOUR);
    reader.get().await.unwrap();
    others_run().await;
    assert_eq!(reader.get().await.unwrap().expose().as_str(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_prolong_a_wait() {
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
async fn a_clock_that_is_set_again_and_again_holds_no_caller_up() {
    let world = World::new();
    world.set_read_time(seconds(1_000_000));
    let reader = world.reader();
    let clock = tokio::spawn({
        let world = world.clone();
        async move {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                world.set_clock(60);
            }
        }
    });
    let began = tokio::time::Instant::now();
    let error = token_or_error(reader.access_token().await);
    assert_eq!(
        error,
        "secret `crm/oauth` cannot be read now (no load has ended within 10 s); try again in some seconds"
    );
    assert!(began.elapsed() <= seconds(13), "{:?}", began.elapsed());
    clock.abort();
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_further_while_the_credentials_of_its_source_have_run_out() {
    let world = World::new();
    let reader = world.reader();
    reader.access_token().await.unwrap();
    world.fail_with(StoreError::NotAuthenticated { action: "read", detail: "the credentials have expired".to_owned() });
    for second in [2800, 2801, 3500] {
        world.until(second).await;
        assert_eq!(token_or_error(reader.access_token().await), "v1");
        others_run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_ten_seconds_at_most_however_often_its_load_reads() {
    // The first read returns an old version from a cache, slowly; the second does not end.
    let world = World::new();
    world.put("v0", token("v0", -5000));
    let (clock, source) = (world.clock(), world.clone());
    let source = Source::from_fn(move |query| {
        let source = source.clone();
        source.set_read_time(if source.reads() == 0 { seconds(8) } else { seconds(1_000_000) });
        async move { source.read(query).await }
    });
    let reader = Reader::builder(source, SECRET_ID).clock(clock).build();
    let error = token_or_error(reader.access_token().await);
    assert_eq!(error, "secret `crm/oauth` cannot be read now (no answer within 10 s); try again in some seconds");
    assert_eq!(world.now(), at(10));
}
