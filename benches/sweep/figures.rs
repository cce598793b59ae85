//! The figures of a simulated day: what it needed and what that costs.

use chrono::TimeDelta;

use crate::{
    Day, PERIOD, Tick, as_f64,
    service::{Calls, WRITES_PER_SECOND},
};

/// Prices in us-east-1, in dollars, as published in November 2026. <https://aws.amazon.com/secrets-manager/pricing/>
const SECRET_MONTH: f64 = 0.40;
const SECRETS_MANAGER_CALL: f64 = 0.05 / 10_000.0;
/// <https://aws.amazon.com/lambda/pricing/>: a GB-second on each architecture, and a request.
const GB_SECONDS: [(&str, f64); 2] = [("arm64", 0.000_013_333_4), ("x86-64", 0.000_016_666_7)];
const REQUEST: f64 = 0.20e-6;
/// <https://aws.amazon.com/eventbridge/pricing/>: an invocation by Scheduler.
const SCHEDULED_EVENT: f64 = 1.00e-6;
/// <https://aws.amazon.com/cloudwatch/pricing/>: a GB of log. CloudWatch adds 26 bytes to each line.
const LOG_GB: f64 = 0.50;
const LINE_OVERHEAD_BYTES: usize = 26;

const MEMORY_GB: f64 = 128.0 / 1024.0;
const MONTH_SECONDS: f64 = 30.0 * 86_400.0;

/// With more due tokens than a sweep can refresh, at least this share of the quota is used, pauses between the sweeps included.
const LEAST_SHARE: f64 = 0.95;

/// From this hour on the load is even.
const EVEN_FROM_HOUR: usize = 3;

/// The bytes of log for one refresh and for one sweep.
pub struct LogBytes {
    pub refresh: f64,
    pub sweep: f64,
}

impl LogBytes {
    pub fn of(output: &str) -> Self {
        let bytes_of = |message: &str| {
            let lines: Vec<_> = output.lines().filter(|line| line.contains(message)).collect();
            let bytes: usize = lines.iter().map(|line| line.len() + 1 + LINE_OVERHEAD_BYTES).sum();
            as_f64(bytes) / as_f64(lines.len())
        };
        Self { refresh: bytes_of("\"run ended\""), sweep: bytes_of("\"sweep ended\"") }
    }
}

/// Prints the batches of one tick with tokens far from expiry. Returns whether there is one batch for 20 secrets and no other call.
pub fn far_from_expiry(tick: impl Fn(usize) -> Day) -> bool {
    println!("one tick, all tokens far from expiry");
    let mut is_good = true;
    for (secrets, batches) in [(1, 1), (20, 1), (1_000, 50), (10_000, 500), (45_000, 2_250)] {
        let day = tick(secrets);
        let Some(Tick { calls, duration, .. }) = day.ticks.first() else { return false };
        println!("  {secrets:>6} secrets: {:>5} batches, {:>4.1} s", calls.batches, duration.as_secs_f64());
        if (calls.batches, calls.all()) != (batches, batches) {
            println!("BROKEN: {batches} batches and no other call were expected, not {calls:?}");
            is_good = false;
        }
    }
    is_good
}

/// Prints all figures. Returns whether all promises were kept.
pub fn print_day(day: &Day, log: LogBytes) -> bool {
    print_hours(day);
    let mut calls = Calls::default();
    day.ticks.iter().for_each(|tick| calls += tick.calls);
    let days = as_f64(day.ticks.len()) * PERIOD.as_secs_f64() / 86_400.0;
    let refreshes = day.service.seen(|seen| seen.refreshes);
    print_calls(day, calls, refreshes);
    println!(
        "writes           {:.1} a second, {:.1} % of the quota; the most in any second {}",
        writes_per_second(&day.ticks),
        100.0 * share_of_quota(&day.ticks),
        day.service.seen(|seen| seen.most_writes_in_a_second)
    );
    let lambda_seconds: f64 = day.ticks.iter().map(|tick| tick.duration.as_secs_f64()).sum();
    let longest = day.ticks.iter().map(|tick| tick.duration).max().unwrap_or_default();
    println!(
        "Lambda           {:.0} s in a day; the longest sweep {:.1} s",
        lambda_seconds / days,
        longest.as_secs_f64()
    );
    let least_left = day.service.seen(|seen| seen.least_left);
    let seconds = least_left.map_or(f64::NAN, TimeDelta::as_seconds_f64);
    println!("least time left  {seconds:.0} s, when a token was replaced");
    let not_reached: Vec<usize> = day.ticks.iter().map(|tick| tick.report.not_reached).collect();
    let late = not_reached.iter().filter(|count| **count > 0).count();
    println!(
        "left over        in {late} sweeps, the most {}; the next sweep begins with them",
        not_reached.iter().max().unwrap_or(&0)
    );
    let sweeps = as_f64(day.ticks.len());
    let log_bytes = count(refreshes) * log.refresh + sweeps * log.sweep;
    println!(
        "log              {:.0} bytes for a refresh, {:.0} for a sweep; {:.0} MB in a day",
        log.refresh,
        log.sweep,
        log_bytes / days / 1e6
    );
    print_cost(day, calls, lambda_seconds, log_bytes, days);
    println!("the simulation   {:.0} s", day.real_time.as_secs_f64());
    check(day, day.broken_promises.clone())
}

/// Prints how much of the quota is used when all of it is needed. Returns whether that is enough and all promises were kept.
pub fn print_full_load(day: &Day) -> bool {
    print_hours(day);
    let even = &day.ticks[(EVEN_FROM_HOUR - 1) * 12..];
    let share = share_of_quota(even);
    println!(
        "from hour {EVEN_FROM_HOUR} on   {:.1} writes a second, {:.1} % of the quota",
        writes_per_second(even),
        100.0 * share
    );
    let mut broken = day.broken_promises.clone();
    if share < LEAST_SHARE {
        broken.push(format!("less than {:.0} % of the quota is used", 100.0 * LEAST_SHARE));
    }
    check(day, broken)
}

fn print_hours(day: &Day) {
    let hours = as_f64(day.ticks.len()) / 12.0;
    println!("\n{} hourly tokens, {hours:.1} hours, a tick every {} s", day.secrets, PERIOD.as_secs());
    println!("  hour  refreshes  writes/s  of the quota  left over  least time left");
    for (hour, ticks) in day.ticks.chunks(12).enumerate() {
        let refreshes: usize = ticks.iter().filter_map(|tick| tick.report.refreshed).sum();
        let left_over = ticks.iter().map(|tick| tick.report.not_reached).max().unwrap_or_default();
        let least_left = ticks.iter().filter_map(|tick| tick.least_left).min();
        println!(
            "  {:>4}  {refreshes:>9}  {:>8.1}  {:>10.1} %  {left_over:>9}  {:>13} s",
            hour + 1,
            writes_per_second(ticks),
            100.0 * share_of_quota(ticks),
            least_left.map_or_else(|| "-".to_owned(), |left| left.num_seconds().to_string()),
        );
    }
}

fn writes_per_second(ticks: &[Tick]) -> f64 {
    let writes: u64 = ticks.iter().map(|tick| tick.calls.writes()).sum();
    count(writes) / (as_f64(ticks.len()) * PERIOD.as_secs_f64())
}

fn share_of_quota(ticks: &[Tick]) -> f64 {
    writes_per_second(ticks) / f64::from(WRITES_PER_SECOND)
}

fn print_calls(day: &Day, calls: Calls, refreshes: u64) {
    let ticks = as_f64(day.ticks.len());
    println!(
        "refreshes        {refreshes}, {:.1} for each token; ticks {ticks}",
        count(refreshes) / as_f64(day.secrets)
    );
    for (name, total) in [
        ("batches", calls.batches),
        ("gets", calls.gets),
        ("lists", calls.lists),
        ("puts", calls.puts),
        ("label moves", calls.moves),
        ("calls", calls.all()),
    ] {
        println!("{name:<16} {total}, {:.0} in a tick", count(total) / ticks);
    }
}

fn print_cost(day: &Day, calls: Calls, lambda_seconds: f64, log_bytes: f64, days: f64) {
    let of_a_token = |dollars: f64| dollars * 30.0 / days / as_f64(day.secrets);
    let calls_of_a_token = of_a_token(count(calls.all()));
    let calls = calls_of_a_token * SECRETS_MANAGER_CALL;
    let log = of_a_token(log_bytes / 1e9 * LOG_GB);
    let runs = MONTH_SECONDS / PERIOD.as_secs_f64() * (REQUEST + SCHEDULED_EVENT) / as_f64(day.secrets);
    println!("one token, one month ({calls_of_a_token:.0} calls)");
    for (architecture, price) in GB_SECONDS {
        let lambda = of_a_token(lambda_seconds * MEMORY_GB * price);
        println!(
            "  {architecture:<7} secret ${SECRET_MONTH:.2}, calls ${calls:.4}, Lambda ${lambda:.6}, schedule ${runs:.6}, log ${log:.6}: ${:.4}",
            SECRET_MONTH + calls + lambda + runs + log
        );
    }
}

/// Prints which promises were broken. Returns whether none was.
fn check(day: &Day, mut broken: Vec<String>) -> bool {
    let failed: usize = day.ticks.iter().map(|tick| tick.report.failed).sum();
    if failed > 0 {
        broken.push(format!("{failed} runs failed"));
        let failures = day.ticks.iter().flat_map(|tick| &tick.report.failures);
        broken.extend(failures.take(5).map(|failure| failure.message.clone()));
    }
    let refreshes = day.service.seen(|seen| seen.refreshes);
    if day.provider.exchanges() != refreshes {
        broken.push(format!("{} exchanges, but {refreshes} refreshes", day.provider.exchanges()));
    }
    for promise in &broken {
        println!("BROKEN: {promise}");
    }
    if broken.is_empty() {
        println!(
            "all promises kept: no token expired, no refresh token sent twice, no response lost, no write throttled"
        );
    }
    broken.is_empty()
}

#[expect(clippy::cast_precision_loss, reason = "less than 2^52")]
const fn count(number: u64) -> f64 {
    number as f64
}
