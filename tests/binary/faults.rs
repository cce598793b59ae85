//! Secrets Manager throttles, fails, denies or hangs: which calls are retried, how often, and the error message. tests/killed
//! injects faults into every call of a refresh.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use crate::{
    bench::{Bench, SECRET, error, outcome_of},
    support::{
        runtime_api::Deadline,
        secrets_manager::{Effect, Fault, GET, LIST, MOVE, PUT},
    },
};

/// The calls of a refresh, in order.
const CALLS: [&str; 5] = [GET, LIST, PUT, PUT, MOVE];

#[tokio::test]
async fn a_throttled_call_is_made_at_most_three_times() {
    for (call, action) in CALLS.into_iter().enumerate() {
        let bench = Bench::new().await;
        bench.due_secret();
        bench.sm.fault(Fault::on_any(Effect::Throttle).after(call).times(2));
        let process = bench.process().await;
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{action}");
        assert_eq!(bench.sm.actions().len(), CALLS.len() + 2, "{action}");
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
async fn the_error_of_a_denied_action_has_the_policy_statement_to_add() {
    for action in [GET, LIST, PUT, MOVE] {
        for by_arn in [false, true] {
            let bench = Bench::new().await;
            bench.due_secret();
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
async fn the_error_names_a_clients_secret_that_may_not_be_read() {
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
async fn a_store_that_cannot_be_reached_is_reported() {
    let bench = Bench::new().await;
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")]).await;
    let expected = format!(
        "secret `{SECRET}`: secretsmanager:GetSecretValue failed (no answer: Connection refused (os error 111)); the \
         next run tries again"
    );
    assert_eq!(process.error("{}").await, ("StoreUnavailable".to_owned(), expected));
}

#[tokio::test]
async fn missing_credentials_are_reported() {
    let bench = Bench::new().await;
    bench.due_secret();
    let process = bench.process_with(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_EC2_METADATA_DISABLED", "true")]).await;
    let (error_type, message) = error(process.invoke_until("{}", Deadline::InMs(5_000)).await);
    assert_eq!(error_type, "InvalidConfiguration");
    assert!(message.contains("credentials") && !message.contains("the next run tries again"), "{message}");
    assert!(bench.sm.actions().is_empty());
}

#[tokio::test]
async fn an_attempt_of_a_call_that_hangs_ends_after_three_seconds() {
    let bench = Bench::new().await;
    bench.due_secret();
    bench.sm.fault(Fault::on(GET, Effect::DelayBefore(Duration::from_secs(30))));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(bench.sm.actions().len(), CALLS.len() + 1);
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
async fn a_refresh_needs_room_for_two_versions() {
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
            assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{versions}");
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
            assert_eq!(
                bench.sm.actions().last().map(String::as_str),
                Some(LIST),
                "the list shows that there is no room"
            );
        }
    }
}

#[tokio::test]
async fn the_next_invocation_writes_unstored_tokens_before_it_exchanges_any() {
    let bench = Bench::new().await;
    bench.due_secret();
    bench.secret("crm/other", bench.due_token());
    let is_full = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&is_full);
    let fault = Fault::on(PUT, Effect::LimitExceeded).after(1).always();
    bench.sm.fault(fault.when(move |call| call.secret_id == SECRET && fails.load(Ordering::Relaxed)));
    let process = bench.process().await;
    let (error_type, message) = error(process.invoke_until("{}", Deadline::InMs(2_600)).await);
    assert_eq!(error_type, "TokenNotStored");
    for part in ["NEW TOKENS WERE ISSUED AND COULD NOT BE WRITTEN", "invoke the function again now", "do not deploy it"]
    {
        assert!(message.contains(part), "{message}");
    }
    // The write still fails: the same error again, also with force, and no exchange.
    let again = process.invoke_until(r#"{"force":true}"#, Deadline::InMs(2_600)).await;
    assert_eq!(error(again).0, error_type);
    assert_eq!(bench.provider.exchanges(), 1);

    // A run for another secret writes these tokens too, then does its own work.
    is_full.store(false, Ordering::Relaxed);
    assert_eq!(outcome_of(&process.report(r#"{"secretId":"crm/other"}"#).await), ("refreshed", "due"));
    bench.assert_alive(SECRET);
    bench.assert_alive("crm/other");
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, 0));
}
