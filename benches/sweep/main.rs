//! The sweep under load: a day of 45,000 hourly tokens, in virtual time. The handler is the real one. Secrets Manager and the providers
//! are in memory, with the quotas of the service and with latencies. Exits with 1 if a promise is broken.
//!
//! ```sh
//! cargo bench --manifest-path benches/Cargo.toml --bench sweep
//! SECRETS=450 HOURS=6 cargo bench --manifest-path benches/Cargo.toml --bench sweep
//! ```
//!
//! `BATCH_MILLISECONDS`: how long it takes to read 20 secrets, 40 by default.

use std::{
    env,
    process::{Command, ExitCode},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use token_refresher::{
    clock::Clock,
    lambda::{
        handler::Handler,
        log::{self, Sink},
        report::{Response, SweepReport},
        settings::Settings,
    },
};
use tokio::{runtime, time::Instant};

mod figures;
mod service;
mod tokens;

use figures::LogBytes;
use service::{Calls, READ_BATCH_MILLISECONDS, Service};
use tokens::Provider;

/// The schedule, and the timeout of the function.
pub const PERIOD: Duration = Duration::from_mins(5);

/// `REFRESH_MARGIN_SECONDS`, by default.
const MARGIN_SECONDS: u32 = 900;

const DAY_SECRETS: usize = 45_000;

/// More tokens than one sweep can refresh when they are due: these need the whole quota.
const FULL_LOAD_SECRETS: usize = 50_000;
const FULL_LOAD_HOURS: usize = 6;

/// Set in the process that only writes a log.
const LOG_ONLY: &str = "SWEEP_LOG_ONLY";

/// What happened in one tick.
#[derive(Debug)]
pub struct Tick {
    pub report: SweepReport,
    pub duration: Duration,
    pub calls: Calls,
    /// The least time that a token had left when it was replaced.
    pub least_left: Option<TimeDelta>,
}

/// What happened in all ticks.
pub struct Day {
    pub secrets: usize,
    pub ticks: Vec<Tick>,
    pub provider: Provider,
    pub service: Service,
    /// How long the simulation took.
    pub real_time: Duration,
    pub broken_promises: Vec<String>,
}

fn main() -> ExitCode {
    if env::var_os(LOG_ONLY).is_some() {
        log::start(|name| (name == "AWS_LAMBDA_LOG_FORMAT").then(|| "JSON".to_owned()), Sink::Stdout)
            .expect("settings");
        run(20, 0, 1);
        return ExitCode::SUCCESS;
    }
    let secrets = number("SECRETS", DAY_SECRETS);
    let hours = number("HOURS", 24);
    let mut is_good = figures::far_from_expiry(|secrets| run(secrets, 2 * MARGIN_SECONDS, 1));
    is_good &= figures::print_day(&run(secrets, MARGIN_SECONDS, hours * 12), log_bytes());
    if secrets >= DAY_SECRETS {
        is_good &= figures::print_full_load(&run(FULL_LOAD_SECRETS, MARGIN_SECONDS, FULL_LOAD_HOURS * 12));
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Runs so many ticks for secrets whose first tokens have between `least_seconds` and an hour left.
fn run(secrets: usize, least_seconds: u32, ticks: usize) -> Day {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(simulate(secrets, least_seconds, ticks))
}

async fn simulate(secrets: usize, least_seconds: u32, ticks: usize) -> Day {
    let real_begin = std::time::Instant::now();
    let begin = Instant::now();
    let clock = virtual_clock(begin);
    let read_batch = Duration::from_millis(as_u64(number("BATCH_MILLISECONDS", READ_BATCH_MILLISECONDS)));
    let expiries = first_expiries(secrets, least_seconds, clock.now());
    let service = Service::new(clock.clone(), read_batch, expiries);
    let provider = Provider::new(secrets);
    let settings = Settings::from_vars(|name| match name {
        "SECRET_ID" => Some(format!("{}*", tokens::PREFIX)),
        "WRITES_PER_SECOND" => Some(service::WRITES_PER_SECOND.to_string()),
        _ => None,
    });
    let handler = Handler::new(
        service.clone(),
        provider.exchanger(clock.clone()),
        clock.clone(),
        settings.expect("valid settings"),
    );
    let mut broken_promises = Vec::new();
    let mut done = Vec::new();
    for tick in 0..ticks {
        let started = begin + PERIOD * u32::try_from(tick).expect("not so many ticks");
        tokio::time::sleep_until(started).await;
        service.begin_tick();
        let before = service.seen(|seen| seen.calls);
        let report = match handler.handle(&json!({}), clock.now() + PERIOD).await {
            Ok(Response::Sweep(report)) => *report,
            other => {
                broken_promises.push(format!("tick {tick} has no report: {other:?}"));
                continue;
            }
        };
        done.push(service.seen(|seen| Tick {
            report,
            duration: started.elapsed(),
            calls: seen.calls - before,
            least_left: seen.least_left_in_tick,
        }));
    }
    check_tokens(&service, &provider, clock.now(), &mut broken_promises);
    Day { secrets, ticks: done, provider, service, real_time: real_begin.elapsed(), broken_promises }
}

fn virtual_clock(begin: Instant) -> Clock {
    let epoch = DateTime::from_timestamp(1_767_225_600, 0).expect("a time");
    let now = move || epoch + TimeDelta::from_std(begin.elapsed()).expect("a few days");
    Clock::new(now, tokio::time::sleep)
}

/// Spread evenly, but not in the order of the names.
fn first_expiries(secrets: usize, least_seconds: u32, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    const STRIDE: usize = 7919;
    let span = f64::from(tokens::LIFETIME_SECONDS - least_seconds) / as_f64(secrets);
    let seconds_left = move |index| f64::from(least_seconds) + span * as_f64(index * STRIDE % secrets);
    (0..secrets)
        .map(move |index| now + TimeDelta::from_std(Duration::from_secs_f64(seconds_left(index))).expect("an hour"))
}

/// Checks that no token was lost, sent twice or left to expire.
fn check_tokens(service: &Service, provider: &Provider, now: DateTime<Utc>, broken: &mut Vec<String>) {
    let (mut not_written, mut not_newest, mut expired) = (0, 0, service.seen(|seen| seen.expired));
    for (index, (valid, (staged, current))) in provider.valid().into_iter().zip(service.current()).enumerate() {
        not_written += usize::from(staged != valid);
        let access_token = current.tokens.access_token.expect("each has an access token");
        not_newest += usize::from(access_token.expose() != tokens::access_token(index, valid));
        expired += u64::from(current.expires_at.is_none_or(|expires_at| expires_at <= now));
    }
    let (throttled_writes, throttled_batches) = service.seen(|seen| (seen.throttled_writes, seen.throttled_batches));
    for (count, what) in [
        (expired, "tokens expired before they were replaced"),
        (provider.double_exchanges(), "refresh tokens were sent twice"),
        (as_u64(not_written), "responses were not written"),
        (as_u64(not_newest), "secrets do not have the newest access token"),
        (throttled_writes, "writes were throttled"),
        (throttled_batches, "batches were throttled"),
    ] {
        if count > 0 {
            broken.push(format!("{count} {what}"));
        }
    }
}

/// The bytes that the real log has for one refresh and for one sweep: a process of its own writes it.
fn log_bytes() -> LogBytes {
    let this = env::current_exe().expect("this program's path");
    let output = Command::new(this).env(LOG_ONLY, "1").output().expect("this program starts");
    LogBytes::of(&String::from_utf8(output.stdout).expect("JSON"))
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
pub const fn as_f64(number: usize) -> f64 {
    number as f64
}

pub const fn as_u64(number: usize) -> u64 {
    number as u64
}
