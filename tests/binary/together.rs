//! Several processes on one token, processes that die, and the time an invocation has.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, SECRET, ended, error, report},
    support::{
        provider::{Answer, Provider},
        runtime_api::{Deadline, Outcome},
        secrets_manager::{Effect, Fault, GET, MOVE, PUT},
    },
};

/// The event in as many processes at once, and how often they ended how.
async fn all_at_once(bench: &Bench, processes: usize, event: &str) -> BTreeMap<String, usize> {
    let mut runs = JoinSet::new();
    for _ in 0..processes {
        let (process, event) = (bench.process().await, event.to_owned());
        runs.spawn(async move { process.report(&event).await });
    }
    let mut ends = BTreeMap::new();
    for report in runs.join_all().await {
        *ends.entry(report["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    ends
}

#[tokio::test]
async fn of_two_to_eight_processes_at_once_one_exchanges() {
    for processes in [2, 3, 8] {
        let answers = [Answer::Delay(Duration::from_millis(300), Box::new(Answer::Exchange))];
        let bench = Bench::with(Provider::script(answers)).await;
        bench.due_secret();

        let mut ends = all_at_once(&bench, processes, "{}").await;

        assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (1, 0), "{processes}");
        assert_eq!(ends.remove("refreshed"), Some(1), "{processes}");
        // A process that starts late finds the work done, or puts in place what the first is about to.
        assert!(ends.keys().all(|end| ["in_progress", "skipped", "recovered"].contains(&end.as_str())), "{ends:?}");
        assert!(processes > 3 || ends.contains_key("in_progress"), "{ends:?}");
        assert_eq!(bench.sm.version_count(SECRET), 3, "{processes}: a claim and a successor");
        bench.assert_alive(SECRET);
    }
}

#[tokio::test]
async fn of_many_readers_that_met_a_401_at_once_one_gets_the_token_refreshed() {
    let answers = [Answer::Delay(Duration::from_millis(300), Box::new(Answer::Exchange))];
    let bench = Bench::with(Provider::script(answers)).await;
    let stale = bench.due_secret();
    let event = json!({"force": true, "ifVersionId": stale.as_str()}).to_string();
    let ends = all_at_once(&bench, 6, &event).await;
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (1, 0), "{ends:?}");
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn force_does_not_break_into_a_lease() {
    let answers = [Answer::Delay(Duration::from_millis(500), Box::new(Answer::Exchange))];
    let bench = Bench::with(Provider::script(answers)).await;
    bench.due_secret();
    let (first, second) = (bench.process().await, bench.process().await);
    let meanwhile = async {
        bench.provider.until_exchanges(1).await;
        second.report(r#"{"force":true}"#).await
    };
    let (first, second) = tokio::join!(first.report("{}"), meanwhile);
    assert_eq!((ended(&first), ended(&second)), (("refreshed", "due"), ("in_progress", "forced")));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (1, 0));
}

#[tokio::test]
async fn a_process_killed_during_its_exchange_leaves_a_lease_that_the_next_one_waits_out() {
    let bench = Bench::with(Provider::script([Answer::NeverAnswers])).await;
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
async fn after_the_lease_of_a_killed_process_the_next_one_takes_over() {
    // What the request of the killed process met, and what the next ends with.
    for (answer, expected) in [(Answer::NeverAnswers, "refreshed"), (Answer::Exchange, "ReauthorizationRequired")] {
        let spent = matches!(answer, Answer::Exchange);
        let first = Answer::Delay(Duration::from_mins(1), Box::new(answer));
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
            // The one window that remains: granted, and no one was there to store it.
            assert_eq!(process.error("{}").await.0, expected);
        } else {
            assert_eq!(ended(&process.report("{}").await), (expected, "due"));
            bench.assert_alive(SECRET);
            assert!(process.function.output().contains("an earlier run ended without storing a response"));
        }
        assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, usize::from(spent)));
    }
}

#[tokio::test]
async fn with_too_little_time_a_run_does_not_begin_and_says_what_to_raise() {
    for (ms, begins) in [(1_500, false), (1_990, false), (3_500, true)] {
        let bench = Bench::new().await;
        bench.due_secret();
        let process = bench.process().await;
        let outcome = process.invoke_until("{}", Deadline::InMs(ms)).await;
        if begins {
            assert_eq!(ended(&report(outcome)), ("refreshed", "due"), "{ms}");
            continue;
        }
        let (error_type, message) = error(outcome);
        assert_eq!(error_type, "InvalidConfiguration", "{ms}");
        let told = format!(
            " ms are left of the invocation, too little to start a refresh safely (secret `{SECRET}`); nothing was sent: \
             raise the function's timeout, for example to 60 seconds"
        );
        let left: u64 = message.strip_suffix(&told).expect(&message).parse().unwrap();
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
    assert_eq!(ended(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(ended(&report(process.invoke_until("{}", Deadline::InMs(1_000)).await)), ("skipped", "not_due"));
}

#[tokio::test]
async fn a_deadline_that_cannot_be_true_counts_as_a_minute() {
    for deadline in [Deadline::AtMs(0), Deadline::AtMs(60_000), Deadline::InMs(3_600_000), Deadline::AtMs(u64::MAX)] {
        let bench = Bench::new().await;
        bench.due_secret();
        let process = bench.process().await;
        assert_eq!(ended(&report(process.invoke_until("{}", deadline).await)), ("refreshed", "due"), "{deadline:?}");
        let claim = bench.sm.labels(SECRET)["OAUTH_CLAIM"].clone();
        let claim: Value = serde_json::from_str(&bench.sm.version(SECRET, &claim).unwrap()).unwrap();
        let end: chrono::DateTime<chrono::Utc> = claim["leaseEndsAt"].as_str().unwrap().parse().unwrap();
        let lease = (end - chrono::Utc::now()).num_seconds();
        assert!((45..=63).contains(&lease), "{deadline:?}: a lease of {lease} s");
    }
}

#[tokio::test]
async fn one_process_serves_many_secrets_one_after_the_other() {
    let bench = Bench::new().await;
    let names: Vec<_> = (0..5).map(|number| format!("tenants/{number}")).collect();
    for name in &names {
        bench.secret(name, bench.due_token());
    }
    let process = bench.process_with(&[("SECRET_ID", "")]).await;
    for expected in [("refreshed", "due"), ("skipped", "not_due")] {
        for name in &names {
            let report = process.report(&json!({"secretId": name}).to_string()).await;
            assert_eq!((ended(&report), report["secretId"].as_str()), (expected, Some(name.as_str())));
        }
    }
    for name in &names {
        bench.assert_alive(name);
    }
    assert_eq!(bench.sm.actions().iter().filter(|action| *action == PUT).count(), 10);
}

#[tokio::test]
async fn a_copy_of_a_spent_token_that_a_person_pastes_back_is_not_spent_again() {
    let bench = Bench::new().await;
    bench.due_secret();
    let copy = bench.current(SECRET);
    let process = bench.process().await;
    assert_eq!(ended(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(ended(&process.report(r#"{"force":true}"#).await), ("refreshed", "forced"));

    bench.sm.human_put(SECRET, &copy);

    assert_eq!(ended(&process.report("{}").await), ("recovered", "due"));
    assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, 0));
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn without_claims_a_failed_run_is_tried_again_at_once_and_a_cut_off_one_recovered() {
    let bench = Bench::with(Provider::script([Answer::CloseBeforeAnswer])).await;
    bench.due_secret();
    let settings = [("CLAIM", "never")];
    let process = bench.process_with(&settings).await;
    assert_eq!(process.error("{}").await.0, "ProviderUnavailable");
    bench.sm.fault(Fault::on(MOVE, Effect::AccessDenied));
    assert_eq!(process.error("{}").await.0, "AccessDenied");
    let process = process.replaced(&bench, &settings).await;
    assert_eq!(ended(&process.report("{}").await), ("recovered", "due"));
    assert_eq!((bench.provider.granted(), bench.provider.reuses()), (1, 0));
    assert!(!bench.sm.labels(SECRET).contains_key("OAUTH_CLAIM"));
    bench.assert_alive(SECRET);
}
