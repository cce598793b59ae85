//! Sweeps over three due tokens: killed at every request, and with every call failing for one of them. Then the later sweeps.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use chrono::TimeDelta;
use serde_json::json;
use token_refresher::store::Label;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    bench::{Bench, LONG_AGO_MS, Process},
    promises::SecondUse,
    store::{self, EDITED, NOTE},
    support::{
        gateway::{Gateway, InjectedFault, Upstreams, When},
        runtime_api::{Deadline, Outcome},
    },
    table,
    world::process_behind,
};

/// How many cases run at the same time. With more, the processes would take the processor from each other.
const AT_ONCE: usize = 8;

const SECRETS: [&str; 3] = ["crm/a", "crm/b", "crm/c"];

/// The secret that fails.
const FAILING: &str = "crm/b";

const BATCH: &str = "BatchGetSecretValue";
const EXCHANGE: &str = "POST";

/// The calls of one secret's run, in order. The exchange has no name of its own.
const CALLS: [(&str, &str); 5] = [
    ("read", "GetSecretValue AWSCURRENT"),
    ("list", "ListSecretVersionIds"),
    ("claim", "PutSecretValue OAUTH_CLAIM"),
    ("stage", "PutSecretValue OAUTH_STAGED"),
    ("promote", "UpdateSecretVersionStage AWSCURRENT"),
];

/// Three due tokens, and processes that sweep.
struct World {
    bench: Bench,
    gateway: Gateway,
    /// The first refresh token of each secret.
    first_tokens: [String; 3],
    secret_ids: &'static str,
}

impl World {
    async fn new(second_use: SecondUse, secret_ids: &'static str) -> Self {
        let bench = Bench::with(second_use.provider()).await;
        let upstreams = Upstreams { secrets_manager: bench.sm.url().to_owned(), provider: bench.provider.url() };
        let gateway = Gateway::start(upstreams).await;
        let first_tokens = SECRETS.map(|name| {
            let changes = json!({"tokenEndpoint": gateway.token_endpoint(), "note": NOTE, "expiresAt": LONG_AGO_MS});
            let token = bench.due_token_but(&changes);
            bench.secret(name, &token);
            token["refreshToken"].as_str().expect("a refresh token").to_owned()
        });
        Self { bench, gateway, first_tokens, secret_ids }
    }

    async fn process(&self) -> Process {
        process_behind(&self.gateway, &self.bench, &[("SECRET_ID", self.secret_ids), ("WRITES_PER_SECOND", "50")]).await
    }

    /// How often a secret's first refresh token was sent.
    fn sent(&self, secret: usize) -> usize {
        let requests = self.bench.provider.requests();
        requests.iter().filter(|request| request.field("refresh_token") == Some(&self.first_tokens[secret])).count()
    }

    /// Whether the provider has processed the exchange, and nothing of it is in the store: limit L1 of `docs/protocol.md`.
    fn is_in_window(&self, secret: usize) -> bool {
        self.sent(secret) > 0 && !self.bench.sm.labels(SECRETS[secret]).contains_key(Label::Staged.as_str())
    }

    /// Waits until the peers have processed what a killed process had sent.
    async fn settle(&self) {
        let processed = || (self.bench.sm.actions().len(), self.bench.provider.requests().len());
        let mut before = processed();
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = processed();
            if now == before {
                return;
            }
            before = now;
        }
    }

    fn assert_sound(&self, case: &str) {
        for name in SECRETS {
            store::assert_sound_secret(&self.bench, name, case);
        }
    }

    fn age(&self) {
        for name in SECRETS {
            store::age_secret(&self.bench, name, TimeDelta::hours(1));
        }
    }

    /// A person edits another member of a secret.
    fn edit(&self, name: &str) {
        let mut document = self.bench.current(name);
        document["note"] = EDITED.into();
        self.bench.sm.user_put(name, &document);
    }

    /// Sweeps until each token was skipped, or its consent is lost. Returns what the sweeps did.
    async fn finish(&self, process: Option<&Process>, lost: &[usize], case: &str) -> Vec<Counts> {
        let mut sweeps = Vec::new();
        loop {
            let outcome = if let Some(process) = process {
                process.invoke("{}").await
            } else {
                let process = self.process().await;
                let outcome = process.invoke("{}").await;
                process.function.kill().await;
                outcome
            };
            self.assert_sound(case);
            let counts = Counts::of(&outcome);
            assert_eq!(counts.of_name("secrets"), SECRETS.len(), "{case}: {outcome:?}");
            sweeps.push(counts);
            let counts = &sweeps[sweeps.len() - 1];
            if counts.of_name("skipped") == SECRETS.len() - lost.len() {
                assert_eq!(counts.of_name("failed"), lost.len(), "{case}: {outcome:?}");
                break;
            }
            assert!(sweeps.len() < 4, "{case}: the sweeps do not finish: {sweeps:?}");
        }
        for (secret, name) in SECRETS.into_iter().enumerate() {
            let is_lost = lost.contains(&secret);
            assert_eq!(
                self.sent(secret),
                if is_lost { 2 } else { 1 },
                "{case}: {name} is sent twice only in the window"
            );
            if !is_lost {
                self.bench.assert_alive(name);
            }
        }
        assert_eq!(self.bench.provider.reuses(), lost.len(), "{case}");
        sweeps
    }
}

/// The counts in the report of a sweep that are not zero. Empty: it returned an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn of(outcome: &Outcome) -> Self {
        let Outcome::Response(report) = outcome else { return Self::default() };
        assert_eq!(report["outcome"], "swept", "{report}");
        let members = report.as_object().expect("a report").iter();
        let members = members.filter(|(name, _)| *name != "soonestExpiresInSeconds");
        let counts =
            members.filter_map(|(name, value)| Some((name.clone(), value.as_u64().filter(|count| *count > 0)?)));
        Self(counts.collect())
    }

    fn of_name(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or_default().try_into().expect("a small number")
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.iter().filter(|(name, _)| *name != "secrets");
        let counts: Vec<_> = counts.map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// A request of the sweep: its name, and which of this name.
type Point = (String, usize);

fn points() -> Vec<Point> {
    let mut points = vec![(BATCH.to_owned(), 1)];
    for name in SECRETS {
        points.extend(CALLS.map(|(_, call)| (format!("{call} of {name}"), 1)));
    }
    points.extend((1..=SECRETS.len()).map(|nth| (EXCHANGE.to_owned(), nth)));
    points.push(("response".to_owned(), 1));
    points
}

async fn kill((name, nth): Point, fault: InjectedFault, second_use: SecondUse) -> (Vec<Counts>, usize) {
    let case = format!("{nth}. {name}, {fault:?}, {second_use:?}");
    let world = World::new(second_use, "crm/*").await;
    world.gateway.inject(When::Named(name, nth), fault);
    let process = world.process().await;
    tokio::select! {
        () = world.gateway.until_faulted() => {}
        // The test gets the response before the gateway holds it.
        _ = process.invoke("{}") => world.gateway.until_faulted().await,
    }
    process.function.kill().await;
    world.settle().await;
    world.gateway.reset();
    world.assert_sound(&case);
    let in_window: Vec<usize> = (0..SECRETS.len()).filter(|secret| world.is_in_window(*secret)).collect();
    world.edit(FAILING);
    world.age();

    if second_use == SecondUse::RevokesGrant {
        return (world.finish(None, &in_window, &case).await, in_window.len());
    }
    // With a grace period no consent is lost.
    let process = world.process().await;
    let first = Counts::of(&process.invoke("{}").await);
    let second = Counts::of(&process.invoke("{}").await);
    world.assert_sound(&case);
    assert_eq!(second.of_name("skipped"), SECRETS.len(), "{case}: {first:?}, {second:?}");
    for (secret, name) in SECRETS.into_iter().enumerate() {
        world.bench.assert_alive(name);
        assert_eq!(world.sent(secret), if in_window.contains(&secret) { 2 } else { 1 }, "{case}: {name}");
    }
    (vec![first, second], in_window.len())
}

#[tokio::test]
async fn later_sweeps_finish_after_a_kill_at_any_request() {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for (number, point) in points().into_iter().enumerate() {
        for fault in [InjectedFault::HoldBefore, InjectedFault::HoldAfter] {
            for second_use in [SecondUse::RevokesGrant, SecondUse::Allowed] {
                let (permits, point) = (Arc::clone(&permits), point.clone());
                cases.spawn(async move {
                    let _permit = permits.acquire().await;
                    let (sweeps, in_window) = kill(point.clone(), fault, second_use).await;
                    (number, point, fault, second_use, sweeps, in_window)
                });
            }
        }
    }
    let mut cases = cases.join_all().await;
    cases.sort_by_key(|(number, _, fault, second_use, ..)| (*number, !fault.is_before(), *second_use));
    let rows: Vec<Vec<String>> = cases
        .iter()
        .filter(|(_, _, _, second_use, ..)| *second_use == SecondUse::RevokesGrant)
        .map(|(_, (name, nth), fault, _, sweeps, in_window)| {
            let when = if fault.is_before() { "before" } else { "after" };
            let sweeps: Vec<_> = sweeps.iter().map(Counts::to_string).collect();
            vec![format!("{when} {nth}. {name}"), in_window.to_string(), sweeps.join("; ")]
        })
        .collect();
    table::print(
        &format!(
            "A sweep of three due tokens, killed at every request, before and after its peer has processed it: {} kills.\n\
             In the window: exchanged, and not in the store. These are sent a second time, and no others.",
            cases.len()
        ),
        &["killed", "in the window", "the later sweeps"],
        &rows,
    );
}

const FAULTS: [(&str, InjectedFault); 5] = [
    ("closed before", InjectedFault::CloseBefore),
    ("closed after", InjectedFault::CloseAfter),
    ("throttled", InjectedFault::Refuse(400, "ThrottlingException")),
    ("503", InjectedFault::Refuse(503, "ServiceUnavailable")),
    ("denied", DENIED),
];

const DENIED: InjectedFault = InjectedFault::Refuse(400, "AccessDeniedException");

/// The error of the failing secret, if this call of its run always fails.
fn expected_error(call: &str, fault: InjectedFault) -> &'static str {
    match call {
        EXCHANGE => "ProviderUnavailable",
        "stage" => "TokenNotStored",
        _ if fault == DENIED => "AccessDenied",
        _ => "StoreUnavailable",
    }
}

/// All calls of this kind for one secret fail. The sweep refreshes the others; then it, or a new process, finishes.
async fn fail_always(call: (&'static str, String), fault: InjectedFault, same_process: bool) -> String {
    let (call, name) = call;
    let case = format!("{call} {fault:?}, same process: {same_process}");
    let world = World::new(SecondUse::RevokesGrant, "crm/a,crm/b,crm/c").await;
    let is_exchange = call == EXCHANGE;
    let when = if is_exchange { When::Named(name, 2) } else { When::EachNamed(name) };
    world.gateway.inject(when, fault);
    let process = world.process().await;
    // Staging is tried until the deadline.
    let outcome = process.invoke_until("{}", Deadline::InMs(if call == "stage" { 9_000 } else { 60_000 })).await;
    assert!(world.gateway.faulted() > 0, "{case}: no request met the fault");
    world.gateway.reset();
    world.assert_sound(&case);
    let counts = Counts::of(&outcome);
    let Outcome::Response(report) = &outcome else { panic!("{case}: {outcome:?}") };
    // Without a batch each secret is read by itself. After a lost response the run reads what is current.
    if call == "batch" || (call, fault) == ("promote", InjectedFault::CloseAfter) {
        assert_eq!((counts.of_name("refreshed"), counts.of_name("failed")), (3, 0), "{case}: {outcome:?}");
        world.finish(Some(&process).filter(|_| same_process), &[], &case).await;
        return counts.to_string();
    }
    assert_eq!((counts.of_name("refreshed"), counts.of_name("failed")), (2, 1), "{case}: {outcome:?}");
    let failure = &report["failures"][0];
    assert_eq!(failure["errorType"], expected_error(call, fault), "{case}: {outcome:?}");
    let failed = SECRETS.iter().position(|name| failure["secretId"] == *name).expect("one of the secrets");
    assert!(is_exchange || SECRETS[failed] == FAILING, "{case}: {outcome:?}");
    for (secret, name) in SECRETS.into_iter().enumerate().filter(|(secret, _)| *secret != failed) {
        world.bench.assert_alive(name);
        assert_eq!(world.sent(secret), 1, "{case}: {name}");
    }
    let in_memory = call == "stage" && same_process;
    let lost: Vec<usize> = [failed].into_iter().filter(|secret| world.is_in_window(*secret) && !in_memory).collect();
    world.edit(FAILING);
    world.age();
    world.finish(Some(&process).filter(|_| same_process), &lost, &case).await;
    format!("{counts}: {}", failure["errorType"].as_str().unwrap_or_default())
}

/// One call fails, and is tried again.
async fn fail_once((name, nth): Point, fault: InjectedFault) {
    let case = format!("{nth}. {name}, {fault:?}");
    let world = World::new(SecondUse::RevokesGrant, "crm/*").await;
    world.gateway.inject(When::Named(name, nth), fault);
    let process = world.process().await;
    let counts = Counts::of(&process.invoke("{}").await);
    assert_eq!(world.gateway.faulted(), 1, "{case}");
    assert_eq!(counts.of_name("refreshed"), 3, "{case}: {counts:?}");
    world.finish(Some(&process), &[], &case).await;
}

#[tokio::test]
async fn a_failing_secret_fails_alone_and_later_sweeps_finish() {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    let mut calls = vec![("batch", BATCH.to_owned()), (EXCHANGE, EXCHANGE.to_owned())];
    calls.extend(CALLS.map(|(call, name)| (call, format!("{name} of {FAILING}"))));
    for call in calls {
        for (fault_name, fault) in FAULTS {
            // The provider has other errors.
            if call.0 == EXCHANGE && matches!(fault, InjectedFault::Refuse(..)) {
                continue;
            }
            for same_process in [true, false] {
                let (permits, call) = (Arc::clone(&permits), call.clone());
                cases.spawn(async move {
                    let _permit = permits.acquire().await;
                    let first = call.0;
                    let sweep = fail_always(call, fault, same_process).await;
                    vec![first.to_owned(), fault_name.to_owned(), sweep]
                });
            }
        }
    }
    let mut rows = cases.join_all().await;
    let count = rows.len();
    rows.sort();
    rows.dedup();
    table::print(
        &format!(
            "A sweep of three due tokens, and one call always fails for one of them (the exchange: once): {count} cases.\n\
             Then sweeps of the same process or of a new one, until each token was skipped or its consent lost."
        ),
        &["call", "response", "the sweep"],
        &rows,
    );
}

#[tokio::test]
async fn a_call_of_a_sweep_with_one_fault_is_repeated_and_the_end_is_the_same() {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    let is_call = |(name, _): &Point| name != EXCHANGE && name != "response";
    for point in points().into_iter().filter(is_call) {
        for (_, fault) in FAULTS.into_iter().filter(|(_, fault)| *fault != DENIED) {
            let (permits, point) = (Arc::clone(&permits), point.clone());
            cases.spawn(async move {
                let _permit = permits.acquire().await;
                fail_once(point, fault).await;
            });
        }
    }
    assert_eq!(cases.join_all().await.len(), 16 * 4);
}
