//! Secrets Manager throttling, failing, refusing and losing answers, at every call of a refresh.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    bench::{Bench, SECRET, ended, error, report},
    support::{
        provider::Provider,
        runtime_api::{Deadline, Outcome},
        secrets_manager::{Effect, Fault, GET, LIST, MOVE, PUT},
    },
};

/// A refresh's calls, in their order.
const CALLS: [&str; 4] = [GET, PUT, PUT, MOVE];

/// How far a run got that met a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// The fault was overcome.
    Through,
    /// Nothing was sent: the next run refreshes.
    Nowhere(&'static str),
    /// New tokens are in the store, not yet current: the next run puts them in place.
    Staged(&'static str),
    /// New tokens are in the process's memory alone.
    InMemory(&'static str),
    /// All was done, and no one said so.
    Done(&'static str),
}

/// What is to come of a fault that strikes a refresh's calls from number `call` on, once or for ever.
fn expected(call: usize, effect: Effect, forever: bool) -> Got {
    use Effect::{AccessDenied, DropAfter, LimitExceeded};
    use Got::{Done, InMemory, Nowhere, Staged, Through};
    match (call, effect, forever) {
        // The SDK asks three times (a full quota is throttling to it), and a version id takes the same text again.
        (_, effect, false) if !matches!(effect, AccessDenied) => Through,
        (0 | 1, AccessDenied, _) => Nowhere("AccessDenied"),
        (1, LimitExceeded, _) => Nowhere("VersionQuota"),
        (0 | 1, ..) => Nowhere("StoreUnavailable"),
        // Issued tokens are worth more than one refusal: tried until the deadline.
        (2, _, false) => Through,
        (2, DropAfter, true) => Staged("TokenNotStored"),
        (2, _, true) => InMemory("TokenNotStored"),
        (_, AccessDenied, _) => Staged("AccessDenied"),
        (_, DropAfter, true) => Done("StoreUnavailable"),
        _ => Staged("StoreUnavailable"),
    }
}

async fn strike(call: usize, effect: Effect, forever: bool, same_process: bool) {
    let case = format!("call {call} ({}), {effect:?}, for ever: {forever}, same process: {same_process}", CALLS[call]);
    let bench = Bench::without_leases(Provider::rotating()).await;
    let version = bench.due_secret();
    let on = Arc::new(AtomicBool::new(true));
    let fault = match effect {
        // Only puts meet the quota, and only those two are there.
        Effect::LimitExceeded => Fault::on(PUT, effect).after(call - 1),
        effect => Fault::on_any(effect).after(call),
    };
    bench.sm.fault(fault.times(if forever { usize::MAX } else { 1 }).when({
        let on = Arc::clone(&on);
        move |_| on.load(Ordering::Relaxed)
    }));
    let mut process = bench.process().await;

    let first = process.invoke_until("{}", Deadline::InMs(3_500)).await;
    on.store(false, Ordering::Relaxed);

    let got = expected(call, effect, forever);
    assert_eq!(matches!(first, Outcome::Response(_)), got == Got::Through, "{case}: {first:?}");
    match got {
        Got::Through => assert_eq!(ended(&report(first)), ("refreshed", "due"), "{case}"),
        Got::Nowhere(named) | Got::Staged(named) | Got::InMemory(named) | Got::Done(named) => {
            let (error_type, message) = error(first);
            assert_eq!(error_type, named, "{case}: {message}");
            assert!(message.starts_with(&format!("secret `{SECRET}`")), "{case}: {message}");
            let safe = message.contains("the new tokens are safe in the secret as version ");
            assert_eq!(safe, call == 3, "{case}: {message}");
            assert_eq!(message.contains("NEW TOKENS WERE ISSUED"), named == "TokenNotStored", "{case}: {message}");
        }
    }
    assert_eq!(bench.provider.exchanges(), usize::from(!matches!(got, Got::Nowhere(_))), "{case}");
    if !matches!(got, Got::Through | Got::Done(_)) {
        assert_eq!(bench.sm.current(SECRET).0, version, "{case}");
    }

    if !same_process {
        process = process.replaced(&bench, &[]).await;
    }
    let next = process.invoke("{}").await;
    let expected = match got {
        Got::Nowhere(_) => ("refreshed", "due"),
        // The process remembers what it could not see in its place.
        Got::Staged(_) | Got::InMemory(_) | Got::Done(_) if same_process => ("recovered", "not_stored_before"),
        Got::Through | Got::Done(_) => ("skipped", "not_due"),
        Got::Staged(_) => ("recovered", "due"),
        Got::InMemory(_) => {
            // The one window that remains. The token is spent, and a reuse kills the family.
            let (error_type, message) = error(next);
            assert_eq!(error_type, "ReauthorizationRequired", "{case}: {message}");
            assert!(message.contains("a run before this one ended after its claim"), "{case}: {message}");
            assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, 1), "{case}");
            return;
        }
    };
    assert_eq!(ended(&report(next)), expected, "{case}");
    assert_eq!(ended(&process.report("{}").await), ("skipped", "not_due"), "{case}");
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (1, 0), "{case}");
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn whatever_strikes_whichever_call_no_token_is_spent_twice_and_the_live_one_ends_up_current() {
    let effects = [
        Effect::Throttle,
        Effect::InternalError,
        Effect::AccessDenied,
        Effect::LimitExceeded,
        Effect::DropBefore,
        Effect::DropAfter,
    ];
    // Most of the time they wait; all at once would starve the processes of theirs.
    let turns = Arc::new(Semaphore::new(16));
    let mut cases = JoinSet::new();
    // Those that wait longest come first.
    for call in (0..CALLS.len()).rev() {
        for (effect, forever) in effects.into_iter().flat_map(|effect| [(effect, true), (effect, false)]) {
            for same_process in [true, false] {
                if matches!(effect, Effect::LimitExceeded) && CALLS[call] != PUT {
                    continue;
                }
                let turns = Arc::clone(&turns);
                cases.spawn(async move {
                    let _turn = turns.acquire().await;
                    strike(call, effect, forever, same_process).await;
                });
            }
        }
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_call_throttled_twice_is_made_a_third_time_and_no_more() {
    for (call, action) in CALLS.into_iter().enumerate() {
        let bench = Bench::new().await;
        bench.due_secret();
        bench.sm.fault(Fault::on_any(Effect::Throttle).after(call).times(2));
        let process = bench.process().await;
        assert_eq!(ended(&process.report("{}").await), ("refreshed", "due"), "{action}");
        assert_eq!(bench.sm.actions().len(), 6, "{action}");
        bench.assert_alive(SECRET);
    }

    let bench = Bench::new().await;
    bench.due_secret();
    bench.sm.fault(Fault::on_any(Effect::Throttle).times(3));
    let process = bench.process().await;
    let expected = format!(
        "secret `{SECRET}`: secretsmanager:GetSecretValue failed (ThrottlingException: Rate exceeded); the next run \
         tries again"
    );
    assert_eq!(process.error("{}").await, ("StoreUnavailable".to_owned(), expected));
    assert_eq!(bench.sm.actions(), [GET; 3]);
}

#[tokio::test]
async fn a_denied_action_is_named_with_the_statement_that_allows_it() {
    for (action, fresh) in [(GET, false), (PUT, false), (MOVE, false), (LIST, true)] {
        for by_arn in [false, true] {
            let bench = Bench::new().await;
            if fresh {
                // Young enough for the quota to be looked at.
                bench.sm.create(SECRET, bench.due_token());
            } else {
                bench.due_secret();
            }
            bench.sm.fault(Fault::on(action, Effect::AccessDenied).always());
            let process = bench.process().await;
            let (name, resource) = if by_arn {
                (bench.sm.arn(SECRET), bench.sm.arn(SECRET))
            } else {
                (SECRET.to_owned(), format!("arn:aws:secretsmanager:*:*:secret:{SECRET}-??????"))
            };

            let (error_type, message) = process.error(&json!({"secretId": name}).to_string()).await;

            assert_eq!(error_type, "AccessDenied", "{message}");
            let start =
                format!("secret `{name}`: not allowed to secretsmanager:{action} (AccessDeniedException: User: ");
            assert!(message.starts_with(&start), "{message}");
            let statement =
                json!({"Effect": "Allow", "Action": format!("secretsmanager:{action}"), "Resource": resource})
                    .to_string();
            assert!(message.contains(&format!("add to the function's role: {statement}")), "{message}");
            assert_eq!(bench.provider.exchanges(), usize::from(action == MOVE), "{action}");
        }
    }
}

#[tokio::test]
async fn a_clients_secret_that_may_not_be_read_is_the_one_named() {
    let bench = Bench::new().await;
    bench.secret("crm/client", json!({}));
    bench
        .secret(SECRET, bench.due_token_but(&json!({"clientSecret": null, "clientCredentialsSecretId": "crm/client"})));
    bench.sm.fault(Fault::on(GET, Effect::AccessDenied).when(|call| call.secret_id == "crm/client").always());
    let process = bench.process().await;
    let (error_type, message) = process.error("{}").await;
    assert_eq!(error_type, "AccessDenied");
    assert!(message.starts_with("secret `crm/client`: not allowed to secretsmanager:GetSecretValue"), "{message}");
    assert!(message.contains("arn:aws:secretsmanager:*:*:secret:crm/client-??????"), "{message}");
}

#[tokio::test]
async fn a_store_out_of_reach_is_told_as_such() {
    let bench = Bench::new().await;
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")]).await;
    let expected = format!(
        "secret `{SECRET}`: secretsmanager:GetSecretValue failed (no answer: Connection refused (os error 111)); the \
         next run tries again"
    );
    assert_eq!(process.error("{}").await, ("StoreUnavailable".to_owned(), expected));
}

#[tokio::test]
async fn without_credentials_the_error_says_so() {
    let bench = Bench::new().await;
    bench.due_secret();
    let process = bench.process_with(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_EC2_METADATA_DISABLED", "true")]).await;
    let (error_type, message) = error(process.invoke_until("{}", Deadline::InMs(5_000)).await);
    assert_eq!(error_type, "StoreUnavailable");
    assert!(message.contains("credentials"), "{message}");
    assert!(bench.sm.actions().is_empty());
}

#[tokio::test]
async fn one_try_of_a_call_that_hangs_is_given_up_after_three_seconds() {
    let bench = Bench::new().await;
    bench.due_secret();
    bench.sm.fault(Fault::on(GET, Effect::DelayBefore(Duration::from_secs(30))));
    let process = bench.process().await;
    assert_eq!(ended(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(bench.sm.actions().len(), 5);
}

#[tokio::test]
async fn a_store_that_hangs_ends_the_run_before_its_deadline() {
    let bench = Bench::new().await;
    bench.due_secret();
    bench.sm.fault(Fault::on(GET, Effect::DelayBefore(Duration::from_secs(30))).always());
    let process = bench.process().await;
    let (error_type, message) = error(process.invoke_until("{}", Deadline::InMs(1_000)).await);
    assert_eq!(error_type, "StoreUnavailable");
    assert!(message.contains("secretsmanager:GetSecretValue failed (no answer before the deadline)"), "{message}");
}

#[tokio::test]
async fn two_versions_must_be_free_of_the_quota_where_refreshes_come_close_together() {
    for (versions, expected) in [(97, "refreshed"), (98, "refreshed"), (99, "VersionQuota"), (100, "VersionQuota")] {
        let bench = Bench::new().await;
        bench.sm.create(SECRET, bench.due_token());
        bench.sm.edit(SECRET, |secret, now| {
            for number in 1..versions {
                secret.put(&format!("{number:036}").into(), &"old".into(), Some(&[]), now).unwrap();
            }
        });
        let process = bench.process().await;
        if expected == "refreshed" {
            assert_eq!(ended(&process.report("{}").await), ("refreshed", "due"), "{versions}");
            bench.assert_alive(SECRET);
        } else {
            let (error_type, message) = process.error("{}").await;
            assert_eq!(error_type, expected, "{versions}");
            assert!(
                message.contains("has no room for the versions that a refresh needs")
                    && message.contains("CLAIM=never"),
                "{message}"
            );
            assert_eq!((bench.provider.exchanges(), bench.sm.version_count(SECRET)), (0, versions));
            assert_eq!(bench.sm.actions().last().map(String::as_str), Some(GET), "a successor is looked for");
        }
    }
}

#[tokio::test]
async fn tokens_in_memory_come_first_in_the_next_invocation_and_nothing_is_exchanged_before() {
    let bench = Bench::new().await;
    bench.due_secret();
    bench.secret("crm/other", bench.due_token());
    let on = Arc::new(AtomicBool::new(true));
    let its_on = Arc::clone(&on);
    let fault = Fault::on(PUT, Effect::LimitExceeded).after(1).always();
    bench.sm.fault(fault.when(move |call| call.secret_id == SECRET && its_on.load(Ordering::Relaxed)));
    let process = bench.process().await;
    let (error_type, message) = error(process.invoke_until("{}", Deadline::InMs(2_600)).await);
    assert_eq!(error_type, "TokenNotStored");
    for part in ["NEW TOKENS WERE ISSUED AND COULD NOT BE WRITTEN", "invoke the function again now", "do not deploy it"]
    {
        assert!(message.contains(part), "{message}");
    }
    // It still fails: the same again, for force, too, and the provider is left alone.
    let again = process.invoke_until(r#"{"force":true}"#, Deadline::InMs(2_600)).await;
    assert_eq!(error(again).0, error_type);
    assert_eq!(bench.provider.exchanges(), 1);

    // A run for another secret puts them in place, too, and does its own work.
    on.store(false, Ordering::Relaxed);
    assert_eq!(ended(&process.report(r#"{"secretId":"crm/other"}"#).await), ("refreshed", "due"));
    bench.assert_alive(SECRET);
    bench.assert_alive("crm/other");
    assert_eq!(ended(&process.report("{}").await), ("skipped", "not_due"));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, 0));
}
