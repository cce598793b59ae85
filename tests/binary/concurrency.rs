//! Several processes with one token, processes that are killed, and the time that an invocation has.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, SECRET, error, outcome_of, report},
    support::{
        provider::{Provider, Response},
        runtime_api::{Deadline, Outcome},
        secrets_manager::{Effect, Fault, GET, MOVE, PUT},
    },
};

/// Sends the event to so many processes at once. Returns how often each outcome occurred.
async fn all_at_once(bench: &Bench, processes: usize, event: &str) -> BTreeMap<String, usize> {
    let mut runs = JoinSet::new();
    for _ in 0..processes {
        let (process, event) = (bench.process().await, event.to_owned());
        runs.spawn(async move { process.report(&event).await });
    }
    let mut outcomes = BTreeMap::new();
    for report in runs.join_all().await {
        *outcomes.entry(report["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    outcomes
}

#[tokio::test]
async fn one_of_several_processes_at_once_exchanges() {
    for processes in [2, 3, 8] {
        let responses = [Response::Delay(Duration::from_millis(300), Box::new(Response::Exchange))];
        let bench = Bench::with(Provider::script(responses)).await;
        bench.due_secret();

        let mut outcomes = all_at_once(&bench, processes, "{}").await;

        assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (1, 0), "{processes}");
        assert_eq!(outcomes.remove("refreshed"), Some(1), "{processes}");
        // A process that starts late finds new tokens that are current, or staged: then it promotes them.
        let late = ["in_progress", "skipped", "recovered"];
        assert!(outcomes.keys().all(|outcome| late.contains(&outcome.as_str())), "{outcomes:?}");
        assert!(processes > 3 || outcomes.contains_key("in_progress"), "{outcomes:?}");
        assert_eq!(bench.sm.version_count(SECRET), 3, "{processes}: a claim and a staged version");
        bench.assert_alive(SECRET);
    }
}

#[tokio::test]
async fn many_readers_with_a_401_at_once_cause_one_exchange() {
    let responses = [Response::Delay(Duration::from_millis(300), Box::new(Response::Exchange))];
    let bench = Bench::with(Provider::script(responses)).await;
    let stale = bench.due_secret();
    let event = json!({"force": true, "ifVersionId": stale.as_str()}).to_string();
    let outcomes = all_at_once(&bench, 6, &event).await;
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (1, 0), "{outcomes:?}");
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn force_does_not_override_a_lease() {
    let responses = [Response::Delay(Duration::from_millis(500), Box::new(Response::Exchange))];
    let bench = Bench::with(Provider::script(responses)).await;
    bench.due_secret();
    let (first, second) = (bench.process().await, bench.process().await);
    let second_run = async {
        bench.provider.until_exchanges(1).await;
        second.report(r#"{"force":true}"#).await
    };
    let (first, second) = tokio::join!(first.report("{}"), second_run);
    assert_eq!((outcome_of(&first), outcome_of(&second)), (("refreshed", "due"), ("in_progress", "forced")));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (1, 0));
}

#[tokio::test]
async fn a_process_killed_during_its_exchange_leaves_a_lease_that_the_next_one_respects() {
    let bench = Bench::with(Provider::script([Response::NeverResponds])).await;
    let version = bench.due_secret();
    let process = bench.process().await;
    let kill = async {
        bench.provider.until_exchanges(1).await;
        process.function.kill().await;
    };
    let (outcome, ()) = tokio::join!(process.invoke("{}"), kill);
    assert_eq!(outcome, Outcome::Gone);

    let process = process.replaced(&bench, &[]).await;
    for event in ["{}", r#"{"force":true}"#] {
        assert_eq!(process.report(event).await["outcome"], "in_progress", "{event}");
    }
    assert_eq!((bench.provider.exchanges(), bench.sm.current(SECRET).0), (1, version));
}

#[tokio::test]
async fn the_next_process_takes_over_after_the_lease_of_a_killed_one() {
    // How the provider treats the request of the killed process, and the result of the next process.
    for (response, expected) in
        [(Response::NeverResponds, "refreshed"), (Response::Exchange, "ReauthorizationRequired")]
    {
        let spent = matches!(response, Response::Exchange);
        let first = Response::Delay(Duration::from_mins(1), Box::new(response));
        let bench = Bench::without_leases(Provider::script([first])).await;
        bench.due_secret();
        let process = bench.process().await;
        let kill = async {
            bench.provider.until_exchanges(1).await;
            process.function.kill().await;
        };
        let (outcome, ()) = tokio::join!(process.invoke("{}"), kill);
        assert_eq!(outcome, Outcome::Gone);

        let process = process.replaced(&bench, &[]).await;
        if spent {
            // The one known window: the provider issued tokens, and the process died before it stored them.
            assert_eq!(process.error("{}").await.0, expected);
        } else {
            assert_eq!(outcome_of(&process.report("{}").await), (expected, "due"));
            bench.assert_alive(SECRET);
            assert!(process.function.output().contains("an earlier run ended without storing a response"));
        }
        assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, usize::from(spent)));
    }
}

#[tokio::test]
async fn a_run_with_too_little_time_does_not_start_and_names_the_setting_to_raise() {
    for (ms, starts) in [(1_500, false), (1_990, false), (3_500, true)] {
        let bench = Bench::new().await;
        bench.due_secret();
        let process = bench.process().await;
        let outcome = process.invoke_until("{}", Deadline::InMs(ms)).await;
        if starts {
            assert_eq!(outcome_of(&report(outcome)), ("refreshed", "due"), "{ms}");
            continue;
        }
        let (error_type, message) = error(outcome);
        assert_eq!(error_type, "InvalidConfiguration", "{ms}");
        let expected = format!(
            " ms are left of the invocation, too little to start a refresh safely (secret `{SECRET}`); nothing was sent: \
             raise the function's timeout, for example to 60 seconds"
        );
        let left: u64 = message.strip_suffix(&expected).expect(&message).parse().unwrap();
        assert!((1..=ms).contains(&left), "{message}");
        assert_eq!(
            (bench.sm.actions().as_slice(), bench.provider.exchanges()),
            ([GET.to_owned()].as_slice(), 0),
            "{ms}"
        );
    }
}

#[tokio::test]
async fn a_skip_needs_little_time() {
    let bench = Bench::new().await;
    bench.due_secret();
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(outcome_of(&report(process.invoke_until("{}", Deadline::InMs(1_000)).await)), ("skipped", "not_due"));
}

#[tokio::test]
async fn an_impossible_deadline_counts_as_one_minute() {
    for deadline in [Deadline::AtMs(0), Deadline::AtMs(60_000), Deadline::InMs(3_600_000), Deadline::AtMs(u64::MAX)] {
        let bench = Bench::new().await;
        bench.due_secret();
        let process = bench.process().await;
        assert_eq!(
            outcome_of(&report(process.invoke_until("{}", deadline).await)),
            ("refreshed", "due"),
            "{deadline:?}"
        );
        let claim = bench.sm.labels(SECRET)["OAUTH_CLAIM"].clone();
        let claim: Value = serde_json::from_str(&bench.sm.version(SECRET, &claim).unwrap()).unwrap();
        let end: chrono::DateTime<chrono::Utc> = claim["leaseEndsAt"].as_str().unwrap().parse().unwrap();
        let lease = (end - chrono::Utc::now()).num_seconds();
        assert!((45..=63).contains(&lease), "{deadline:?}: a lease of {lease} s");
    }
}

#[tokio::test]
async fn one_process_refreshes_many_secrets_one_after_the_other() {
    let bench = Bench::new().await;
    let names: Vec<_> = (0..5).map(|number| format!("tenants/{number}")).collect();
    for name in &names {
        bench.secret(name, bench.due_token());
    }
    let process = bench.process_with(&[("SECRET_ID", "")]).await;
    for expected in [("refreshed", "due"), ("skipped", "not_due")] {
        for name in &names {
            let report = process.report(&json!({"secretId": name}).to_string()).await;
            assert_eq!((outcome_of(&report), report["secretId"].as_str()), (expected, Some(name.as_str())));
        }
    }
    for name in &names {
        bench.assert_alive(name);
    }
    assert_eq!(bench.sm.actions().iter().filter(|action| *action == PUT).count(), 10);
}

#[tokio::test]
async fn an_old_copy_that_a_person_pastes_back_is_not_exchanged_again() {
    let bench = Bench::new().await;
    bench.due_secret();
    let copy = bench.current(SECRET);
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(outcome_of(&process.report(r#"{"force":true}"#).await), ("refreshed", "forced"));

    bench.sm.user_put(SECRET, &copy);

    assert_eq!(outcome_of(&process.report("{}").await), ("recovered", "due"));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, 0));
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn without_claims_a_failed_run_is_retried_at_once_and_a_killed_run_is_recovered() {
    let bench = Bench::with(Provider::script([Response::CloseBeforeProcessing])).await;
    bench.due_secret();
    let settings = [("CLAIM", "never")];
    let process = bench.process_with(&settings).await;
    assert_eq!(process.error("{}").await.0, "ProviderUnavailable");
    bench.sm.fault(Fault::on(MOVE, Effect::AccessDenied));
    assert_eq!(process.error("{}").await.0, "AccessDenied");
    let process = process.replaced(&bench, &settings).await;
    assert_eq!(outcome_of(&process.report("{}").await), ("recovered", "due"));
    assert_eq!((bench.provider.granted(), bench.provider.reuses()), (1, 0));
    // The first version, the claim that proved that writing works, the new tokens.
    assert_eq!(bench.sm.version_count(SECRET), 3);
    bench.assert_alive(SECRET);
}
