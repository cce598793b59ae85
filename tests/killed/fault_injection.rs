//! Calls to the store and the provider that are lost, rejected, never end or return garbage, once or always. Then the later runs,
//! of the same process and of a new one.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    bench::SECRET,
    paths::{PATHS, Path},
    promises::{Phase, SecondUse},
    support::{
        gateway::{InjectedFault, Peer, When},
        runtime_api::{Deadline, Outcome},
    },
    table,
    world::{World, end},
};

/// How many cases run at the same time. Most of them wait for responses, but with more the processes would miss their deadlines.
const AT_ONCE: usize = 24;

/// The calls of a refresh, in order. The first request of a run asks for an event.
const CALLS: [Call; 6] = [Call::Read, Call::List, Call::Claim, Call::Exchange, Call::Stage, Call::Promote];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Read,
    List,
    Claim,
    Exchange,
    Stage,
    Promote,
}

const FAULTS: [(&str, InjectedFault); 13] = [
    ("closed before", InjectedFault::CloseBefore),
    ("closed after", InjectedFault::CloseAfter),
    ("hangs before", InjectedFault::HoldBefore),
    ("hangs after", InjectedFault::HoldAfter),
    ("truncated", InjectedFault::Truncate),
    ("not JSON", InjectedFault::Html),
    ("over-long", InjectedFault::Flood),
    ("throttled", InjectedFault::Refuse(400, "ThrottlingException")),
    ("429", InjectedFault::Refuse(429, "slow_down")),
    ("500", InjectedFault::Refuse(500, "InternalServiceError")),
    ("503", InjectedFault::Refuse(503, "ServiceUnavailable")),
    ("denied", DENIED),
    ("quota met", QUOTA),
];

const DENIED: InjectedFault = InjectedFault::Refuse(400, "AccessDeniedException");
const QUOTA: InjectedFault = InjectedFault::Refuse(400, "LimitExceededException");

/// The end of the run with the fault, and the phase that it has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunEnd {
    Refreshed,
    Failed(&'static str, Phase),
    /// It failed, and the new tokens are only in the process's memory.
    InMemory(&'static str),
}

fn expected_end(call: Call, fault: InjectedFault, always: bool) -> RunEnd {
    use RunEnd::{Failed, InMemory, Refreshed};
    let error_type = match fault {
        DENIED => "AccessDenied",
        QUOTA => "VersionQuota",
        _ => "StoreUnavailable",
    };
    // The SDK tries three times, except after a denial or a response that it cannot read.
    let is_retried = fault != DENIED && fault != InjectedFault::Html;
    match (call, fault.is_before()) {
        // A run sends a refresh token only once, because the first request may have been processed.
        (Call::Exchange, true) => Failed("ProviderUnavailable", Phase::Claimed),
        (Call::Exchange, false) => Failed("ProviderUnavailable", Phase::Window),
        (Call::Read | Call::List | Call::Claim, _) if is_retried && !always => Refreshed,
        (Call::Read | Call::List, _) | (Call::Claim, true) => Failed(error_type, Phase::Free),
        (Call::Claim, false) => Failed(error_type, Phase::Claimed),
        // The put of issued tokens is retried until the deadline, even after a denial.
        (Call::Stage, _) if !always => Refreshed,
        (Call::Stage, true) => InMemory("TokenNotStored"),
        (Call::Stage, false) => Failed("TokenNotStored", Phase::Staged),
        (Call::Promote, _) if !always && fault != DENIED => Refreshed,
        (Call::Promote, true) => Failed(error_type, Phase::Staged),
        (Call::Promote, false) => Failed(error_type, Phase::Current),
    }
}

/// The store and the provider have different throttling errors, and only a put can meet the quota.
fn applies(call: Call, fault: InjectedFault) -> bool {
    match fault {
        QUOTA => matches!(call, Call::Claim | Call::Stage),
        InjectedFault::Refuse(400, _) => call != Call::Exchange,
        InjectedFault::Refuse(429, _) => call == Call::Exchange,
        _ => true,
    }
}

async fn inject_fault(path: &'static Path, nth: usize, fault: InjectedFault, always: bool, same_process: bool) {
    let call = CALLS[nth];
    let case = format!("{call:?} {fault:?}, always: {always}, same process: {same_process}");
    let world = World::new(path, SecondUse::RevokesGrant.provider()).await;
    let request = nth + 1;
    let name = if fault == QUOTA { "PutSecretValue" } else { "" };
    world.gateway.inject(if always { When::From(request, name) } else { When::Nth(request) }, fault);
    let process = world.process().await;
    let time_ms = if always || call == Call::Exchange { 3_500 } else { 60_000 };
    let outcome = world.run_in(&process, Deadline::InMs(time_ms)).await;
    assert!(world.gateway.faulted() > 0, "{case}: no request met the fault");
    world.gateway.reset();
    world.assert_sound(&case);

    let expected = expected_end(call, fault, always);
    let (expected_text, phase) = match expected {
        RunEnd::Refreshed => ("refreshed", Phase::Current),
        RunEnd::Failed(error_type, phase) => (error_type, phase),
        RunEnd::InMemory(error_type) => (error_type, Phase::Window),
    };
    assert_eq!(end(&outcome), expected_text, "{case}: {outcome:?}");
    if let Outcome::Error { message, .. } = &outcome
        && call != Call::Exchange
    {
        assert!(message.starts_with(&format!("secret `{SECRET}`")), "{case}: {message}");
        let safe = message.contains("the new tokens are safe in the secret as version ");
        assert_eq!(safe, call == Call::Promote, "{case}: {message}");
        assert_eq!(message.contains("NEW TOKENS WERE ISSUED"), expected_text == "TokenNotStored", "{case}: {message}");
        let unreadable =
            fault == InjectedFault::Html && message.contains("an answer of status 200 that could not be read");
        assert_eq!(unreadable, fault == InjectedFault::Html, "{case}: {message}");
    }
    let reached = matches!(phase, Phase::Window | Phase::Staged | Phase::Current);
    assert_eq!(world.bench.provider.granted(), usize::from(reached), "{case}");
    world.age(TimeDelta::hours(1));

    let issued = matches!(call, Call::Stage | Call::Promote) && expected != RunEnd::Refreshed;
    // The process keeps the tokens in memory until it knows that they are current.
    let in_memory = issued && same_process;
    let ends = match phase {
        _ if in_memory => vec!["recovered", "skipped"],
        phase => phase.ends(path, SecondUse::RevokesGrant, true),
    };
    let mut observed = Vec::new();
    for _ in &ends {
        let outcome = if same_process { process.invoke("{}").await } else { world.run("{}").await };
        observed.push(end(&outcome));
        world.assert_sound(&case);
    }
    assert_eq!(observed, ends, "{case}");
    let sent_again = phase.sends() && !in_memory;
    assert_eq!(world.bench.provider.granted(), usize::from(reached || sent_again), "{case}");
    assert_eq!(world.bench.provider.reuses(), usize::from(phase == Phase::Window && !in_memory), "{case}");
    if ends.ends_with(&["skipped"]) {
        world.bench.assert_alive(SECRET);
    }
}

fn path_named(name: &str) -> &'static Path {
    PATHS.iter().find(|path| path.name == name).expect("a path of this name")
}

#[tokio::test]
async fn a_run_reports_a_fault_at_any_call_and_the_next_runs_finish() {
    let path = path_named("scheduled");
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    let mut rows = Vec::new();
    for (fault_name, which) in FAULTS {
        for always in [true, false] {
            let mut row = vec![fault_name.to_owned(), if always { "always" } else { "once" }.to_owned()];
            for (nth, call) in CALLS.into_iter().enumerate() {
                // There is only one exchange.
                if !applies(call, which) || (call == Call::Exchange && !always) {
                    row.push("-".to_owned());
                    continue;
                }
                row.push(match expected_end(call, which, always) {
                    RunEnd::Refreshed => "refreshed".to_owned(),
                    RunEnd::Failed(error_type, phase) => format!("{error_type}, {phase:?}"),
                    RunEnd::InMemory(error_type) => format!("{error_type}, in memory"),
                });
                for same_process in [true, false] {
                    let permits = Arc::clone(&permits);
                    cases.spawn(async move {
                        let _permit = permits.acquire().await;
                        inject_fault(path, nth, which, always, same_process).await;
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
            "A fault at every call of a scheduled refresh, {count} cases: the end of the run and the phase that it reached,\n\
             as expected and observed; then runs of the same process or of a new one, until one was skipped"
        ),
        &["response", "", "read", "claim", "exchange", "stage", "promote"],
        &rows,
    );
}

#[tokio::test]
async fn a_call_with_one_fault_is_repeated_on_every_path_and_the_end_is_the_same() {
    let faults = [
        InjectedFault::CloseBefore,
        InjectedFault::CloseAfter,
        InjectedFault::Truncate,
        InjectedFault::Refuse(503, "ServiceUnavailable"),
    ];
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for path in &PATHS {
        let world = World::new(path, SecondUse::RevokesGrant.provider()).await;
        let (_, requests) = world.record().await;
        let calls = (0..requests.len()).filter(|&nth| requests[nth].peer == Peer::SecretsManager);
        for (request, fault) in calls.flat_map(|request| faults.map(|fault| (request, fault))) {
            let (permits, name) = (Arc::clone(&permits), requests[request].name.clone());
            cases.spawn(async move {
                let _permit = permits.acquire().await;
                let case = format!("{}: {} {name}, {fault:?}", path.name, request + 1);
                let world = World::new(path, SecondUse::RevokesGrant.provider()).await;
                world.gateway.inject(When::Nth(request), fault);
                let outcome = world.run_in(&world.process().await, Deadline::InMs(60_000)).await;
                assert_eq!(world.gateway.faulted(), 1, "{case}");
                assert_eq!(end(&outcome), path.end.0, "{case}: {outcome:?}");
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
