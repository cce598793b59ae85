//! Ten thousand tasks that read while tokens change every few seconds and the store fails now and then, for a minute.

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
/// A new token that often, and how long each lives: it is looked for in its last two seconds.
const ROTATION: Duration = Duration::from_secs(3);
const LIFETIME: TimeDelta = TimeDelta::seconds(6);

#[derive(Default)]
struct Counted {
    calls: AtomicUsize,
    failed: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    handed_out: AtomicU64,
    errors: AtomicUsize,
    last_failed: AtomicBool,
}

/// A store that has a new token every few seconds, is slow at times, fails for one second in six, and at one call
/// in four besides.
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
            let answer = if fails {
                counted.failed.fetch_add(1, Relaxed);
                Err(StoreError::Unavailable { action: "read", detail: "as it was told to".to_owned() })
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
            answer
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
                        assert!(clock.now() < token.expires_at().unwrap(), "an expired token was handed out");
                        counted.handed_out.fetch_add(1, Relaxed);
                    }
                    // The token in memory has come to its end while the store failed, or there was none yet.
                    Err(error) => {
                        assert!(counted.last_failed.load(Relaxed), "an error for no reason: {error}");
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

fn assert_kept(counted: &Counted, lasts: Duration) {
    let count = |counter: &AtomicUsize| counter.load(Relaxed);
    let (calls, failed, errors) = (count(&counted.calls), count(&counted.failed), count(&counted.errors));
    let handed_out = counted.handed_out.load(Relaxed);
    println!("{handed_out} tokens handed out, {errors} errors told, {calls} store calls, {failed} of them failed");
    assert_eq!(count(&counted.most_in_flight), 1);
    let seconds = usize::try_from(lasts.as_secs()).unwrap();
    assert!(handed_out > (TASKS * seconds / 4) as u64, "{handed_out} tokens");
    assert!(errors < TASKS * seconds / 10, "{errors} errors");
    assert!(failed > 0, "{failed} failures");
    // Every token is read once, at the latest near its end, and looked for a few times; and some tries fail.
    assert!((seconds / 12..seconds).contains(&calls), "{calls} store calls in {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn in_a_simulated_minute_no_expired_token_is_handed_out_and_one_load_runs() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in seed..seed + 2 {
        fastrand::seed(seed);
        let began = tokio::time::Instant::now();
        let clock = Clock::new(move || at(0) + began.elapsed(), tokio::time::sleep);
        let lasts = Duration::from_mins(1);
        println!("seed {seed}");
        assert_kept(&*ten_thousand_tasks_read(clock, lasts).await, lasts);
    }
}

/// The same on the machine's clock and all its cores: `LOAD_SECONDS=60 cargo test --test reader on_the_machines_clock`.
#[tokio::test(flavor = "multi_thread")]
async fn on_the_machines_clock_too_for_as_long_as_one_asks_for() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2);
    let lasts = Duration::from_secs(seconds);
    let counted = ten_thousand_tasks_read(Clock::system(), lasts).await;
    if seconds >= 60 {
        assert_kept(&counted, lasts);
    }
    assert_eq!(counted.most_in_flight.load(Relaxed), 1);
}
