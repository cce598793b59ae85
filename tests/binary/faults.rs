//! Secrets Manager throttling, failing, refusing and hanging: what is tried again, how often, and what is said of it.
//! What becomes of a refresh, whichever call is struck, is in tests/killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use crate::{
    bench::{Bench, SECRET, ended, error},
    support::{
        runtime_api::Deadline,
        secrets_manager::{Effect, Fault, GET, LIST, MOVE, PUT},
    },
};

/// A refresh's calls, in their order.
const CALLS: [&str; 4] = [GET, PUT, PUT, MOVE];

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
