//! Eight processes at the same time, with scheduled, forced and readers' events. One of them is killed.
//!
//! `ROUNDS` is the number of rounds (20). `SEED` repeats a round that failed: the message has its seed.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Process, SECRET},
    promises::SecondUse,
    store::{self, NOTE},
    support::{
        gateway::{Gateway, InjectedFault, Upstreams, When},
        provider::Response,
        runtime_api::Outcome,
    },
    table,
    world::{end, process_behind},
};

const PROCESSES: usize = 8;

/// The process that is killed, and at which request.
#[derive(Debug)]
enum Victim {
    /// This process, at its request with this number.
    ByNumber(usize, usize),
    /// The process that makes this request. At most one may make it.
    ByRequest(&'static str),
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// One run of a process, which is killed when its gateway injects a fault.
async fn run(gateway: Gateway, process: Process, event: String) -> (Gateway, Outcome) {
    let outcome = tokio::select! {
        biased;
        () = gateway.until_faulted() => Outcome::Gone,
        outcome = process.invoke(&event) => outcome,
    };
    process.function.kill().await;
    (gateway, outcome)
}

/// Whether the provider has processed an exchange of this gateway's process, but the staged version was not put.
fn is_in_window(gateway: &Gateway) -> bool {
    let has_processed = |name: &str| gateway.seen().iter().any(|seen| seen.processed && seen.name.starts_with(name));
    has_processed("POST") && !has_processed("PutSecretValue OAUTH_STAGED")
}

/// How many exchanges the provider has received, and how many of them with a token that had been sent before.
fn sent_and_repeated(bench: &Bench) -> (usize, usize) {
    let mut tokens: Vec<_> = bench.provider.requests().into_iter().map(|request| request.form).collect();
    let sent = tokens.len();
    tokens.sort();
    tokens.dedup();
    (sent, sent - tokens.len())
}

async fn round(seed: u64) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let second_use = if rng.bool() { SecondUse::RevokesGrant } else { SecondUse::Allowed };
    let fault = if rng.bool() { InjectedFault::HoldAfter } else { InjectedFault::HoldBefore };
    let victim = match rng.u8(..4) {
        0 => Victim::ByRequest("POST"),
        1 => Victim::ByRequest("PutSecretValue OAUTH_STAGED"),
        _ => Victim::ByNumber(rng.usize(..PROCESSES), rng.usize(1..8)),
    };
    let case = format!("SEED={seed} ROUNDS=1: {second_use:?}, {victim:?}, {fault:?}");
    // Shown only if the test fails.
    println!("{case}");

    let bench = Bench::with(second_use.provider()).await;
    for _ in 0..PROCESSES {
        // The other runs come during the exchange, or after it.
        let delay = Duration::from_millis(rng.u64(..50));
        bench.provider.respond_next(Response::Delay(delay, Box::new(Response::Exchange)));
    }
    let version = bench.secret(SECRET, bench.due_token_but(&json!({"tokenEndpoint": null, "note": NOTE})));
    let mut ready = Vec::new();
    for number in 0..PROCESSES {
        let (secrets_manager, provider) = (bench.sm.url().to_owned(), bench.provider.url());
        let gateway = Gateway::start(Upstreams { secrets_manager, provider }).await;
        match &victim {
            Victim::ByNumber(which, request) if *which == number => gateway.inject(When::Nth(*request), fault),
            Victim::ByNumber(..) => {}
            Victim::ByRequest(name) => gateway.inject(When::Named((*name).to_owned(), 1), fault),
        }
        // The client settings differ in this address, as those of two deployments may. That does not override a lease.
        let process = process_behind(&gateway, &bench, &[("TOKEN_ENDPOINT", &gateway.token_endpoint())]).await;
        gateway.until_seen("next", 1).await;
        ready.push((gateway, process));
    }

    let mut forced = 0;
    let mut runs = JoinSet::new();
    for (gateway, process) in ready {
        let event = match (rng.u8(..3), &victim) {
            (0, _) => json!({"force": true, "ifVersionId": version.as_str()}),
            // It may come late, and refresh a token that another run has just refreshed.
            (1, Victim::ByNumber(..)) => {
                forced += 1;
                json!({"force": true})
            }
            _ => json!({}),
        };
        runs.spawn(run(gateway, process, event.to_string()));
    }
    let runs = runs.join_all().await;

    let killed = runs.iter().filter(|(gateway, _)| gateway.faulted() > 0);
    let killed: Vec<_> = killed.map(|(gateway, _)| gateway.seen().pop().expect("a request").name).collect();
    let window = runs.iter().any(|(gateway, _)| gateway.faulted() > 0 && is_in_window(gateway));
    let mut ends = BTreeMap::<String, usize>::new();
    for (gateway, outcome) in &runs {
        let end = end(outcome);
        let known = ["refreshed", "recovered", "in_progress", "skipped", "superseded"].contains(&end.as_str());
        assert!(known || gateway.faulted() > 0, "{case}: {outcome:?}");
        *ends.entry(end).or_default() += 1;
    }
    store::assert_sound(&bench, &case);
    assert!(killed.len() <= 1, "{case}: {killed:?}");
    let (exchanges, repeated) = sent_and_repeated(&bench);
    assert_eq!(repeated, 0, "{case}: during the lease a token is not sent again");
    assert!(exchanges <= 1 + forced, "{case}: {exchanges} exchanges");
    assert!(exchanges > 0 || !killed.is_empty(), "{case}: one run exchanges, or one is killed");

    store::age(&bench, TimeDelta::hours(1));
    let mut after = Vec::new();
    while after.len() < 3 && after.last().is_none_or(|end| end != "skipped") {
        let process = bench.process_with(&[("TOKEN_ENDPOINT", &bench.provider.url())]).await;
        after.push(end(&process.invoke("{}").await));
        store::assert_sound(&bench, &case);
    }
    let (exchanges, repeated) = sent_and_repeated(&bench);
    assert_eq!(repeated, usize::from(window), "{case}: a token is sent twice only in the window");
    assert!((1 + repeated..=1 + repeated + forced).contains(&exchanges), "{case}: {exchanges} exchanges");
    if window && second_use == SecondUse::RevokesGrant {
        assert_eq!(after, ["ReauthorizationRequired"; 3], "{case}");
    } else {
        assert_eq!(after.last().map(String::as_str), Some("skipped"), "{case}: {after:?}");
        bench.assert_alive(SECRET);
    }

    let ends: Vec<_> = ends.into_iter().map(|(end, times)| format!("{times} {end}")).collect();
    let at = killed.first().map_or("not reached".to_owned(), |name| {
        let when = if fault == InjectedFault::HoldAfter { "after" } else { "before" };
        format!("{when} {}", name.replace(&format!(" of {SECRET}"), ""))
    });
    let expected = match (window, second_use) {
        (false, _) => "once",
        (true, SecondUse::RevokesGrant) => "twice: window",
        (true, SecondUse::Allowed) => "twice: allowed",
    };
    let after = after.join(", ").replace("ReauthorizationRequired", "reauthorize");
    vec![seed.to_string(), at, ends.join(", "), after, expected.to_owned(), exchanges.to_string(), forced.to_string()]
}

#[tokio::test]
async fn eight_processes_of_which_one_is_killed_send_no_token_twice_outside_the_window() {
    let first = setting("SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut rows = Vec::new();
    for seed in first..first + setting("ROUNDS").unwrap_or(20) {
        rows.push(round(seed).await);
    }
    table::print(
        "Eight processes at the same time, one of them killed",
        &[
            "seed",
            "killed",
            "the eight runs",
            "the runs after the lease",
            "expected: each token sent",
            "exchanges",
            "forced",
        ],
        &rows,
    );
}
