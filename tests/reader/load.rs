//! Ten thousand tasks read for a minute, while the token changes every few seconds and the store sometimes fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use token_refresher::{
    Reader,
    clock::Clock,
    reader::{SecretVersion, Source},
    store::StoreError,
};
use tokio::task::JoinSet;

use crate::world::at;

const TASKS: usize = 10_000;
/// How often there is a new token.
const ROTATION: Duration = Duration::from_secs(3);
/// The lifetime of a token. The reader reads a new one in the last two seconds.
const LIFETIME: TimeDelta = TimeDelta::seconds(6);

#[derive(Default)]
struct Counted {
    calls: AtomicUsize,
    failed: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    returned: AtomicU64,
    errors: AtomicUsize,
    last_failed: AtomicBool,
}

/// A store with a new token every few seconds. It is sometimes slow. It fails for one second in six, and otherwise at one call in
/// four.
fn store(clock: &Clock, began: DateTime<Utc>, counted: &Arc<Counted>) -> Source {
    let (clock, counted) = (clock.clone(), Arc::clone(counted));
    Source::from_fn(move |_| {
        let (clock, counted) = (clock.clone(), Arc::clone(&counted));
        async move {
            counted.calls.fetch_add(1, Relaxed);
            let in_flight = counted.in_flight.fetch_add(1, Relaxed) + 1;
            counted.most_in_flight.fetch_max(in_flight, Relaxed);
            clock.sleep(Duration::from_millis(fastrand::u64(1..400))).await;
            let now = clock.now();
            let since = now - began;
            let fails = since.num_milliseconds() % 6000 >= 5000 || fastrand::u8(..4) == 0;
            counted.last_failed.store(fails, Relaxed);
            let result = if fails {
                counted.failed.fetch_add(1, Relaxed);
                Err(StoreError::Unavailable { action: "read", detail: "on purpose".to_owned() })
            } else {
                let number = since.num_milliseconds() / i64::try_from(ROTATION.as_millis()).unwrap();
                let obtained = began + TimeDelta::from_std(ROTATION).unwrap() * i32::try_from(number).unwrap();
                let text = json!({
                    "accessToken": format!("token-{number}"),
                    "refreshedAt": obtained.timestamp_millis(),
                    "expiresAt": (obtained + LIFETIME).timestamp_millis(),
                });
                Ok(SecretVersion::text(format!("v{number}"), text.to_string()))
            };
            counted.in_flight.fetch_sub(1, Relaxed);
            result
        }
    })
}

async fn ten_thousand_tasks_read(clock: Clock, lasts: Duration) -> Arc<Counted> {
    let (began, counted) = (clock.now(), Arc::new(Counted::default()));
    let reader = Reader::builder(store(&clock, began, &counted), "crm").clock(clock.clone()).build();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (reader, clock, counted) = (reader.clone(), clock.clone(), Arc::clone(&counted));
        tasks.spawn(async move {
            while clock.now() < began + lasts {
                match reader.access_token().await {
                    Ok(token) => {
                        assert!(clock.now() < token.expires_at().unwrap(), "an expired token was returned");
                        counted.returned.fetch_add(1, Relaxed);
                    }
                    // The token in memory expired while the store failed, or there was none yet.
                    Err(error) => {
                        assert!(counted.last_failed.load(Relaxed), "an error although the store worked: {error}");
                        counted.errors.fetch_add(1, Relaxed);
                    }
                }
                clock.sleep(Duration::from_millis(fastrand::u64(100..2000))).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    counted
}

fn assert_counts(counted: &Counted, lasts: Duration) {
    let count = |counter: &AtomicUsize| counter.load(Relaxed);
    let (calls, failed, errors) = (count(&counted.calls), count(&counted.failed), count(&counted.errors));
    let returned = counted.returned.load(Relaxed);
    println!("{returned} tokens returned, {errors} errors, {calls} store calls, {failed} of them failed");
    assert_eq!(count(&counted.most_in_flight), 1);
    let seconds = usize::try_from(lasts.as_secs()).unwrap();
    assert!(returned > (TASKS * seconds / 4) as u64, "{returned} tokens");
    assert!(errors < TASKS * seconds / 10, "{errors} errors");
    assert!(failed > 0, "{failed} failures");
    // Every token is read at least once, near the expiry of the one before; some reads find no new token, and some fail.
    assert!((seconds / 12..seconds).contains(&calls), "{calls} store calls in {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn no_expired_token_is_returned_and_one_load_runs_at_a_time_in_a_simulated_minute() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in seed..seed + 2 {
        fastrand::seed(seed);
        let began = tokio::time::Instant::now();
        let clock = Clock::new(move || at(0) + began.elapsed(), tokio::time::sleep);
        let lasts = Duration::from_mins(1);
        println!("seed {seed}");
        assert_counts(&*ten_thousand_tasks_read(clock, lasts).await, lasts);
    }
}

/// The same in real time on all cores: `LOAD_SECONDS=60 cargo test --test reader real_time`.
#[tokio::test(flavor = "multi_thread")]
async fn one_load_runs_at_a_time_in_real_time_too() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2);
    let lasts = Duration::from_secs(seconds);
    let counted = ten_thousand_tasks_read(Clock::system(), lasts).await;
    if seconds >= 60 {
        assert_counts(&counted, lasts);
    }
    assert_eq!(counted.most_in_flight.load(Relaxed), 1);
}
