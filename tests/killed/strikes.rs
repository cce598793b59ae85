//! Calls to the store and the provider that are lost, refused, left hanging or answered with garbage, once and for ever;
//! then the runs to come, of the same process and of a fresh one.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    bench::SECRET,
    paths::{PATHS, Path},
    promises::{Phase, Second},
    support::{
        gateway::{Peer, Strike, When},
        runtime_api::{Deadline, Outcome},
    },
    table,
    world::{World, end},
};

/// Most of a case is waiting for answers that do not come; but all at once would starve the processes of their time.
const AT_ONCE: usize = 24;

/// A refresh's calls, in their order. The first request of a run is its look for an event.
const CALLS: [Call; 5] = [Call::Read, Call::Claim, Call::Exchange, Call::Stage, Call::Promote];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Read,
    Claim,
    Exchange,
    Stage,
    Promote,
}

const STRIKES: [(&str, Strike); 13] = [
    ("closed before", Strike::CloseBefore),
    ("closed after", Strike::CloseAfter),
    ("hangs before", Strike::HoldBefore),
    ("hangs after", Strike::HoldAfter),
    ("truncated", Strike::Truncate),
    ("not JSON", Strike::Html),
    ("over-long", Strike::Flood),
    ("throttled", Strike::Refuse(400, "ThrottlingException")),
    ("429", Strike::Refuse(429, "slow_down")),
    ("500", Strike::Refuse(500, "InternalServiceError")),
    ("503", Strike::Refuse(503, "ServiceUnavailable")),
    ("denied", DENIED),
    ("quota met", QUOTA),
];

const DENIED: Strike = Strike::Refuse(400, "AccessDeniedException");
const QUOTA: Strike = Strike::Refuse(400, "LimitExceededException");

/// What the struck run ends with, and how far things then are. `InMemory`: new tokens are in the process's memory alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    Through,
    Failed(&'static str, Phase),
    InMemory(&'static str),
}

fn promised(call: Call, strike: Strike, forever: bool) -> Got {
    use Got::{Failed, InMemory, Through};
    let named = match strike {
        DENIED => "AccessDenied",
        QUOTA => "VersionQuota",
        _ => "StoreUnavailable",
    };
    // The SDK asks three times after all but a denial and an answer that it cannot read.
    let asks_again = strike != DENIED && strike != Strike::Html;
    match (call, strike.is_before()) {
        // A refresh token is sent once a run: no one knows what became of it.
        (Call::Exchange, true) => Failed("ProviderUnavailable", Phase::Claimed),
        (Call::Exchange, false) => Failed("ProviderUnavailable", Phase::Window),
        (Call::Read | Call::Claim, _) if asks_again && !forever => Through,
        (Call::Read, _) | (Call::Claim, true) => Failed(named, Phase::Free),
        (Call::Claim, false) => Failed(named, Phase::Claimed),
        // Issued tokens are worth more than one denial: tried until the deadline.
        (Call::Stage, _) if !forever => Through,
        (Call::Stage, true) => InMemory("TokenNotStored"),
        (Call::Stage, false) => Failed("TokenNotStored", Phase::Staged),
        (Call::Promote, _) if !forever && strike != DENIED => Through,
        (Call::Promote, true) => Failed(named, Phase::Staged),
        (Call::Promote, false) => Failed(named, Phase::Current),
    }
}

/// The store and the provider throttle each in their own way, and only puts meet the quota.
fn applies(call: Call, strike: Strike) -> bool {
    match strike {
        QUOTA => matches!(call, Call::Claim | Call::Stage),
        Strike::Refuse(400, _) => call != Call::Exchange,
        Strike::Refuse(429, _) => call == Call::Exchange,
        _ => true,
    }
}

async fn strike(path: &'static Path, nth: usize, strike: Strike, forever: bool, same_process: bool) {
    let call = CALLS[nth];
    let case = format!("{call:?} {strike:?}, for ever: {forever}, same process: {same_process}");
    let world = World::new(path, Second::KillsFamily.provider()).await;
    let request = nth + 1;
    let alike = if strike == QUOTA { "PutSecretValue" } else { "" };
    world.gateway.strike(if forever { When::From(request, alike) } else { When::Nth(request) }, strike);
    let process = world.process().await;
    let patience = if forever || call == Call::Exchange { 3_500 } else { 60_000 };
    let outcome = world.run_in(&process, Deadline::InMs(patience)).await;
    assert!(world.gateway.struck() > 0, "{case}: nothing was struck");
    world.gateway.mend();
    world.assert_sound(&case);

    let promised = promised(call, strike, forever);
    let (named, phase) = match promised {
        Got::Through => ("refreshed", Phase::Current),
        Got::Failed(named, phase) => (named, phase),
        Got::InMemory(named) => (named, Phase::Window),
    };
    assert_eq!(end(&outcome), named, "{case}: {outcome:?}");
    if let Outcome::Error { message, .. } = &outcome
        && call != Call::Exchange
    {
        assert!(message.starts_with(&format!("secret `{SECRET}`")), "{case}: {message}");
        let safe = message.contains("the new tokens are safe in the secret as version ");
        assert_eq!(safe, call == Call::Promote, "{case}: {message}");
        assert_eq!(message.contains("NEW TOKENS WERE ISSUED"), named == "TokenNotStored", "{case}: {message}");
        let unreadable = strike == Strike::Html && message.contains("an answer of status 200 that could not be read");
        assert_eq!(unreadable, strike == Strike::Html, "{case}: {message}");
    }
    let reached = matches!(phase, Phase::Window | Phase::Staged | Phase::Current);
    assert_eq!(world.bench.provider.granted(), usize::from(reached), "{case}");
    world.age(TimeDelta::hours(1));

    let issued = matches!(call, Call::Stage | Call::Promote) && promised != Got::Through;
    // A process remembers what it could not see in its place.
    let remembers = issued && same_process;
    let ends = match phase {
        _ if remembers => vec!["recovered", "skipped"],
        phase => phase.ends(path, Second::KillsFamily, true),
    };
    let mut seen = Vec::new();
    for _ in &ends {
        let outcome = if same_process { process.invoke("{}").await } else { world.run("{}").await };
        seen.push(end(&outcome));
        world.assert_sound(&case);
    }
    assert_eq!(seen, ends, "{case}");
    let again = phase.sends() && !remembers;
    assert_eq!(world.bench.provider.granted(), usize::from(reached || again), "{case}");
    assert_eq!(world.bench.provider.reuses(), usize::from(phase == Phase::Window && !remembers), "{case}");
    if ends.ends_with(&["skipped"]) {
        world.bench.assert_alive(SECRET);
    }
}

fn named(name: &str) -> &'static Path {
    PATHS.iter().find(|path| path.name == name).expect("a path of this name")
}

#[tokio::test]
async fn whatever_strikes_whichever_call_the_run_says_so_and_the_next_ones_bring_it_to_a_good_end() {
    let path = named("scheduled");
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    let mut rows = Vec::new();
    for (strike_name, which) in STRIKES {
        for forever in [true, false] {
            let mut row = vec![strike_name.to_owned(), if forever { "for ever" } else { "once" }.to_owned()];
            for (nth, call) in CALLS.into_iter().enumerate() {
                // The provider is asked once.
                if !applies(call, which) || (call == Call::Exchange && !forever) {
                    row.push("-".to_owned());
                    continue;
                }
                row.push(match promised(call, which, forever) {
                    Got::Through => "refreshed".to_owned(),
                    Got::Failed(named, phase) => format!("{named}, {phase:?}"),
                    Got::InMemory(named) => format!("{named}, in memory"),
                });
                for same_process in [true, false] {
                    let turns = Arc::clone(&turns);
                    cases.spawn(async move {
                        let _turn = turns.acquire().await;
                        strike(path, nth, which, forever, same_process).await;
                    });
                }
            }
            if row[2..].iter().any(|cell| cell != "-") {
                rows.push(row);
            }
        }
    }
    let count = cases.join_all().await.len();
    table::print(
        &format!(
            "Struck at every call of a scheduled refresh, in {count} cases: what the run ended with, and how far things were,\n\
             as promised and seen; after each, runs of the same process and of a fresh one, until nothing was left to do"
        ),
        &["answer", "", "read", "claim", "exchange", "stage", "promote"],
        &rows,
    );
}

#[tokio::test]
async fn a_call_that_is_struck_once_on_whichever_path_is_made_again_and_nothing_else_changes() {
    let strikes =
        [Strike::CloseBefore, Strike::CloseAfter, Strike::Truncate, Strike::Refuse(503, "ServiceUnavailable")];
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for path in &PATHS {
        let world = World::new(path, Second::KillsFamily.provider()).await;
        let (_, requests) = world.record().await;
        let calls = (0..requests.len()).filter(|&nth| requests[nth].peer == Peer::SecretsManager);
        for (request, strike) in calls.flat_map(|request| strikes.map(|strike| (request, strike))) {
            let (turns, name) = (Arc::clone(&turns), requests[request].name.clone());
            cases.spawn(async move {
                let _turn = turns.acquire().await;
                let case = format!("{}: {} {name}, {strike:?}", path.name, request + 1);
                let world = World::new(path, Second::KillsFamily.provider()).await;
                world.gateway.strike(When::Nth(request), strike);
                let outcome = world.run_in(&world.process().await, Deadline::InMs(60_000)).await;
                assert_eq!(world.gateway.struck(), 1, "{case}");
                assert_eq!(end(&outcome), path.ends.0, "{case}: {outcome:?}");
                world.assert_sound(&case);
                assert_eq!(world.bench.provider.reuses(), 0, "{case}");
                if !path.is_refused() {
                    world.bench.assert_alive(SECRET);
                }
            });
        }
    }
    assert!(cases.join_all().await.len() > 200);
}
