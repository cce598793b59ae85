//! Eight processes at once, asked by the schedule, by force and by readers, one of them killed on its way; repeated.
//!
//! `ROUNDS` says how often (20); `SEED` repeats a round that failed: its number is in the message.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Process, SECRET},
    promises::Second,
    store::{self, NOTE},
    support::{
        gateway::{Gateway, Strike, Upstreams, When},
        provider::Answer,
        runtime_api::Outcome,
    },
    table,
    world::{end, process_by_way_of},
};

const PROCESSES: usize = 8;

/// Who is killed, and where.
#[derive(Debug)]
enum Victim {
    /// This one, at the request with this number.
    Any(usize, usize),
    /// Whoever makes this request: only one may.
    TheOneThat(&'static str),
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// One run of one of the eight, killed where its gateway strikes.
async fn run(gateway: Gateway, process: Process, event: String) -> (Gateway, Outcome) {
    let outcome = tokio::select! {
        biased;
        () = gateway.until_struck() => Outcome::Gone,
        outcome = process.invoke(&event) => outcome,
    };
    process.function.kill().await;
    (gateway, outcome)
}

/// Whether the provider has processed an exchange that came this way, and the store has not heard of it.
fn is_in_window(gateway: &Gateway) -> bool {
    let has_processed = |name: &str| gateway.seen().iter().any(|seen| seen.processed && seen.name.starts_with(name));
    has_processed("POST") && !has_processed("PutSecretValue OAUTH_STAGED")
}

/// How many requests have come to the provider, and how many of them with a token that had been sent before.
fn sent(bench: &Bench) -> (usize, usize) {
    let mut tokens: Vec<_> = bench.provider.requests().into_iter().map(|request| request.form).collect();
    let sent = tokens.len();
    tokens.sort();
    tokens.dedup();
    (sent, sent - tokens.len())
}

async fn round(seed: u64) -> Vec<String> {
    let mut lots = fastrand::Rng::with_seed(seed);
    let second = if lots.bool() { Second::KillsFamily } else { Second::Forgiven };
    let strike = if lots.bool() { Strike::HoldAfter } else { Strike::HoldBefore };
    let victim = match lots.u8(..4) {
        0 => Victim::TheOneThat("POST"),
        1 => Victim::TheOneThat("PutSecretValue OAUTH_STAGED"),
        _ => Victim::Any(lots.usize(..PROCESSES), lots.usize(1..8)),
    };
    let case = format!("SEED={seed} ROUNDS=1: {second:?}, {victim:?}, {strike:?}");
    // Observed where the test fails: it is captured otherwise.
    println!("{case}");

    let bench = Bench::with(second.provider()).await;
    for _ in 0..PROCESSES {
        // The others come meanwhile, or after it.
        let delay = Duration::from_millis(lots.u64(..50));
        bench.provider.answer_next(Answer::Delay(delay, Box::new(Answer::Exchange)));
    }
    let version = bench.secret(SECRET, bench.due_token_but(&json!({"tokenEndpoint": null, "note": NOTE})));
    let mut ready = Vec::new();
    for number in 0..PROCESSES {
        let (secrets_manager, provider) = (bench.sm.url().to_owned(), bench.provider.url());
        let gateway = Gateway::start(Upstreams { secrets_manager, provider }).await;
        match &victim {
            Victim::Any(which, request) if *which == number => gateway.strike(When::Nth(*request), strike),
            Victim::Any(..) => {}
            Victim::TheOneThat(name) => gateway.strike(When::Named((*name).to_owned(), 1), strike),
        }
        // Their client settings differ by this address, as those of two deployments do: that overrides no lease.
        let process = process_by_way_of(&gateway, &bench, &[("TOKEN_ENDPOINT", &gateway.token_endpoint())]).await;
        gateway.until_seen("next", 1).await;
        ready.push((gateway, process));
    }

    let mut forced = 0;
    let mut runs = JoinSet::new();
    for (gateway, process) in ready {
        let event = match (lots.u8(..3), &victim) {
            (0, _) => json!({"force": true, "ifVersionId": version.as_str()}),
            // It may come late and refresh what another has just refreshed, as it is asked to.
            (1, Victim::Any(..)) => {
                forced += 1;
                json!({"force": true})
            }
            _ => json!({}),
        };
        runs.spawn(run(gateway, process, event.to_string()));
    }
    let runs = runs.join_all().await;

    let struck = runs.iter().filter(|(gateway, _)| gateway.struck() > 0);
    let struck: Vec<_> = struck.map(|(gateway, _)| gateway.seen().pop().expect("a request").name).collect();
    let window = runs.iter().any(|(gateway, _)| gateway.struck() > 0 && is_in_window(gateway));
    let mut ends = BTreeMap::<String, usize>::new();
    for (gateway, outcome) in &runs {
        let end = end(outcome);
        let known = ["refreshed", "recovered", "in_progress", "skipped", "superseded"].contains(&end.as_str());
        assert!(known || gateway.struck() > 0, "{case}: {outcome:?}");
        *ends.entry(end).or_default() += 1;
    }
    store::assert_sound(&bench, &case);
    assert!(struck.len() <= 1, "{case}: {struck:?}");
    let (exchanges, again) = sent(&bench);
    assert_eq!(again, 0, "{case}: within the lease a token is not sent again");
    assert!(exchanges <= 1 + forced, "{case}: {exchanges} exchanges");
    assert!(exchanges > 0 || !struck.is_empty(), "{case}: someone exchanges it");

    store::age(&bench, TimeDelta::hours(1));
    let mut after = Vec::new();
    while after.len() < 3 && after.last().is_none_or(|end| end != "skipped") {
        let process = bench.process_with(&[("TOKEN_ENDPOINT", &bench.provider.url())]).await;
        after.push(end(&process.invoke("{}").await));
        store::assert_sound(&bench, &case);
    }
    let (exchanges, again) = sent(&bench);
    assert_eq!(again, usize::from(window), "{case}: a token is sent twice in the window only");
    assert!((1 + again..=1 + again + forced).contains(&exchanges), "{case}: {exchanges} exchanges");
    if window && second == Second::KillsFamily {
        assert_eq!(after, ["ReauthorizationRequired"; 3], "{case}");
    } else {
        assert_eq!(after.last().map(String::as_str), Some("skipped"), "{case}: {after:?}");
        bench.assert_alive(SECRET);
    }

    let ends: Vec<_> = ends.into_iter().map(|(end, times)| format!("{times} {end}")).collect();
    let at = struck.first().map_or("not reached".to_owned(), |name| {
        let when = if strike == Strike::HoldAfter { "after" } else { "before" };
        format!("{when} {}", name.replace(&format!(" of {SECRET}"), ""))
    });
    let promised = match (window, second) {
        (false, _) => "once",
        (true, Second::KillsFamily) => "twice: window",
        (true, Second::Forgiven) => "twice: forgiven",
    };
    let after = after.join(", ").replace("ReauthorizationRequired", "reauthorize");
    vec![seed.to_string(), at, ends.join(", "), after, promised.to_owned(), exchanges.to_string(), forced.to_string()]
}

#[tokio::test]
async fn of_eight_at_once_one_of_them_killed_none_sends_a_token_again_but_in_the_window() {
    let first = setting("SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut rows = Vec::new();
    for seed in first..first + setting("ROUNDS").unwrap_or(20) {
        rows.push(round(seed).await);
    }
    table::print(
        "Eight processes at once, one of them killed",
        &[
            "seed",
            "killed",
            "the eight",
            "the runs after the lease",
            "promised: each token sent",
            "exchanges",
            "forced",
        ],
        &rows,
    );
}
