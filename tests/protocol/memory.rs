//! Unstored tokens: issued tokens that cannot be written. They stay in the process's memory, and its next run writes them first.

use std::sync::Arc;

use serde_json::json;
use token_refresher::{
    protocol::outcome::{Outcome, Reason},
    store::StoreError,
};

use crate::{
    counting::{
        Script,
        Step::{Exchange, Get, Move, PutStaged},
    },
    over_both_stores,
    support::provider::{Provider, World as Behaviour},
    world::{LONG_AGO, NAME, StoreKind, World, seconds},
};

async fn unstored_tokens_are_kept_and_promoted_by_the_next_invocation(store: StoreKind) {
    for error in [
        Script::unavailable(),
        StoreError::AccessDenied { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() },
        StoreError::Quota { detail: "no".to_owned() },
    ] {
        let world = World::new(store).await;
        world.seed(seconds(3000), LONG_AGO);
        let process = world.process();
        process.script.fail_always(PutStaged, error);
        let started = world.clock.now();
        let error = process.invoke(json!({"force": true})).await.unwrap_err();
        assert_eq!(error.error_type().as_str(), "TokenNotStored");
        let tried_for = world.clock.now() - started;
        assert!(tried_for > seconds(58) && tried_for < seconds(60), "the write is retried until the deadline");
        for event in [json!({}), json!({"force": true}), json!({"secretId": NAME})] {
            assert_eq!(process.invoke(event).await.unwrap_err().error_type().as_str(), "TokenNotStored");
        }
        assert_eq!(world.provider.exchanges(), 1);
        process.script.stop_failing();
        process.script.reset();
        let report = process.run().await.unwrap();
        assert_eq!((report.outcome, report.reason), (Outcome::Recovered, Reason::NotStoredBefore));
        assert!(!process.script.taken().contains(&Exchange));
        assert_eq!(report.version_id, world.vault.id());
        world.assert_sound();
        process.script.reset();
        assert_eq!(process.outcome().await, Outcome::Skipped);
        assert_eq!(process.script.taken(), [Get]);
        world.assert_sound();
    }
}

async fn issued_tokens_survive_a_panic_before_they_are_staged(store: StoreKind) {
    let world = World::due(store).await;
    let process = Arc::new(world.process().before(PutStaged, 1, || panic!("as if in the SDK")));
    let running = Arc::clone(&process);
    let run = tokio::spawn(async move { running.run().await.map(|report| report.outcome) });
    assert!(run.await.unwrap_err().is_panic());
    let report = process.run().await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Recovered, Reason::NotStoredBefore));
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn a_dry_run_leaves_unstored_tokens_in_memory(store: StoreKind) {
    let world = World::due(store).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    process.run().await.unwrap_err();
    process.script.stop_failing();
    let before = world.vault.versions();
    process.invoke(json!({"dryRun": true})).await.unwrap();
    assert_eq!(world.vault.versions(), before);
    assert_eq!(process.outcome().await, Outcome::Recovered);
    world.assert_sound();
}

async fn unstored_tokens_are_promoted_although_the_event_names_the_secret_by_its_arn(store: StoreKind) {
    let world = World::due(store).await;
    let Some(fake) = world.vault.fake() else { return };
    let by_arn = json!({"secretId": fake.arn(NAME)});
    for (first, second) in [(json!({}), by_arn.clone()), (by_arn, json!({}))] {
        world.clock.advance(seconds(3600));
        let exchanges = world.provider.exchanges();
        let process = world.process();
        process.script.fail_always(PutStaged, Script::unavailable());
        assert_eq!(process.invoke(first).await.unwrap_err().error_type().as_str(), "TokenNotStored");
        assert_eq!(process.invoke(second.clone()).await.unwrap_err().error_type().as_str(), "TokenNotStored");
        process.script.stop_failing();
        process.invoke(second).await.unwrap();
        assert_eq!(world.provider.exchanges(), exchanges + 1);
        world.assert_sound();
    }
}

async fn another_secret_does_not_wait_for_unstored_tokens(store: StoreKind) {
    let world = World::due(store).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    process.run().await.unwrap_err();
    world.vault.create("crm/other", &world.document(seconds(3600)), world.clock.now());
    let started = world.clock.now();
    let report = process.invoke(json!({"secretId": "crm/other"})).await.unwrap();
    assert_eq!(report.outcome, Outcome::Skipped);
    assert!(world.clock.now() - started < seconds(5), "a run of another secret does not wait");
    process.script.stop_failing();
    // A run of another secret promotes them as well.
    let report = process.invoke(json!({"secretId": "crm/other", "force": true})).await.unwrap();
    assert_eq!((report.outcome, report.secret_id.as_str()), (Outcome::Refreshed, "crm/other"));
    assert_eq!(world.provider.exchanges(), 2);
    world.assert_sound();
}

async fn a_new_consent_is_not_replaced_by_unstored_tokens(store: StoreKind) {
    // Whether another run takes over and gets a response within the grace period, before the person consents.
    for taken_over in [false, true] {
        let world = World::due_with(store, Provider::rotating().in_world(Behaviour::Grace)).await;
        let process = world.process();
        process.script.fail_always(PutStaged, Script::unavailable());
        process.run().await.unwrap_err();
        if taken_over {
            world.clock.advance(seconds(10));
            assert_eq!(world.outcome().await, Outcome::Refreshed);
        }
        let consented = world.document(seconds(3600)).to_string();
        world.vault.put(&consented);
        process.script.stop_failing();
        assert_eq!(process.outcome().await, Outcome::Superseded, "taken over: {taken_over}");
        assert_eq!(world.vault.text(), consented);
        assert_eq!(process.outcome().await, Outcome::Skipped);
        world.assert_current_is_alive();
    }
}

async fn unstored_tokens_are_kept_beside_another_response_to_the_same_token(store: StoreKind) {
    let world = World::due_with(store, Provider::rotating().in_world(Behaviour::Grace)).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    process.run().await.unwrap_err();
    world.clock.advance(seconds(10));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let (theirs, versions) = (world.vault.text(), world.vault.count());
    process.script.stop_failing();
    assert_eq!(process.outcome().await, Outcome::Superseded);
    assert_eq!(world.vault.text(), theirs);
    assert_eq!(world.vault.count(), versions + 1);
    assert_eq!(process.outcome().await, Outcome::Skipped);
    world.assert_current_is_alive();
}

async fn an_old_copy_put_back_in_the_meantime_gets_the_newest_tokens(store: StoreKind) {
    let world = World::due(store).await;
    let old = world.vault.text();
    // This process stages, but does not promote.
    let process = world.process();
    process.script.fail_always(Move, Script::unavailable());
    assert_eq!(process.run().await.unwrap_err().error_type().as_str(), "StoreUnavailable");
    assert_eq!(world.outcome().await, Outcome::Recovered);
    world.clock.advance(seconds(3600));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let newest = world.refresh_token();
    world.vault.put(&old);
    process.script.stop_failing();
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert_eq!(world.refresh_token(), newest);
    world.assert_sound();
}

async fn a_denied_promotion_leaves_the_tokens_staged(store: StoreKind) {
    let world = World::due(store).await;
    let process = world.process();
    let denied =
        StoreError::AccessDenied { action: "secretsmanager:UpdateSecretVersionStage", detail: "no".to_owned() };
    process.script.fail_always(Move, denied);
    let error = process.run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "AccessDenied");
    let message = error.to_string();
    assert!(
        message.contains("secretsmanager:UpdateSecretVersionStage") && message.contains("tokens are safe"),
        "{message}"
    );
    assert_eq!(world.outcome().await, Outcome::Recovered);
    // The process that received them finds that they are current.
    process.script.stop_failing();
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!((world.provider.exchanges(), world.vault.count()), (1, 3));
    world.assert_sound();
}

async fn a_secret_damaged_during_the_exchange_is_recovered_after_its_repair(store: StoreKind) {
    for same_process in [false, true] {
        let world = World::due(store).await;
        let (vault, before) = (world.vault.clone(), world.vault.text());
        let process = world.process().before(Move, 1, move || {
            vault.put(&"{\"oops\":");
        });
        let error = process.run().await.unwrap_err();
        assert_eq!(error.error_type().as_str(), "InvalidSecret");
        let next = if same_process { process } else { world.process() };
        assert_eq!(next.run().await.unwrap_err().error_type().as_str(), "InvalidSecret");
        world.vault.put(&before);
        assert_eq!(next.outcome().await, Outcome::Recovered);
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn unstored_tokens_that_end_with_their_process_are_reported_by_the_next_one(store: StoreKind) {
    let world = World::due(store).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    assert_eq!(process.run().await.unwrap_err().error_type().as_str(), "TokenNotStored");
    drop(process);
    // The deadline is over. The lease lasts three seconds longer.
    assert_eq!(world.outcome().await, Outcome::InProgress);
    world.clock.advance(seconds(4));
    let error = world.process().run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ReauthorizationRequired");
    assert_eq!(world.provider.exchanges(), 2);
}

over_both_stores!(
    issued_tokens_survive_a_panic_before_they_are_staged,
    unstored_tokens_are_kept_and_promoted_by_the_next_invocation,
    a_dry_run_leaves_unstored_tokens_in_memory,
    unstored_tokens_are_promoted_although_the_event_names_the_secret_by_its_arn,
    another_secret_does_not_wait_for_unstored_tokens,
    a_new_consent_is_not_replaced_by_unstored_tokens,
    unstored_tokens_are_kept_beside_another_response_to_the_same_token,
    an_old_copy_put_back_in_the_meantime_gets_the_newest_tokens,
    a_denied_promotion_leaves_the_tokens_staged,
    a_secret_damaged_during_the_exchange_is_recovered_after_its_repair,
    unstored_tokens_that_end_with_their_process_are_reported_by_the_next_one,
);
