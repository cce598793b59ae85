//! Tokens that were issued and cannot be written: they stay in the process's memory, and nothing comes before them.

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
    support::provider::{CLIENT_ID, CLIENT_SECRET, Provider, World as Manners},
    world::{LONG_AGO, NAME, Over, World, seconds},
};

async fn tokens_that_cannot_be_written_are_kept_and_put_in_place_by_the_next_invocation(over: Over) {
    for error in [
        Script::unavailable(),
        StoreError::AccessDenied { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() },
        StoreError::Quota { detail: "no".to_owned() },
    ] {
        let world = World::new(over).await;
        world.seed(seconds(3000), LONG_AGO);
        let process = world.process();
        process.script.fail_always(PutStaged, error);
        let began = world.clock.now();
        let error = process.invoke(json!({"force": true})).await.unwrap_err();
        assert_eq!(error.error_type().as_str(), "TokenNotStored");
        let tried_for = world.clock.now() - began;
        assert!(tried_for > seconds(58) && tried_for < seconds(60), "it is tried until the deadline");
        for event in [json!({}), json!({"force": true}), json!({"secretId": NAME})] {
            assert_eq!(process.invoke(event).await.unwrap_err().error_type().as_str(), "TokenNotStored");
        }
        assert_eq!(world.provider.exchanges(), 1);
        process.script.mend();
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

async fn a_dry_run_leaves_them_where_they_are(over: Over) {
    let world = World::due(over).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    process.run().await.unwrap_err();
    process.script.mend();
    let before = world.vault.versions();
    process.invoke(json!({"dryRun": true})).await.unwrap();
    assert_eq!(world.vault.versions(), before);
    assert_eq!(process.outcome().await, Outcome::Recovered);
    world.assert_sound();
}

async fn they_are_put_in_place_also_when_the_event_names_the_secret_by_its_arn(over: Over) {
    let world = World::due(over).await;
    let Some(fake) = world.vault.fake() else { return };
    let by_arn = json!({"secretId": fake.arn(NAME)});
    for (first, second) in [(json!({}), by_arn.clone()), (by_arn, json!({}))] {
        world.clock.advance(seconds(3600));
        let exchanges = world.provider.exchanges();
        let process = world.process();
        process.script.fail_always(PutStaged, Script::unavailable());
        assert_eq!(process.invoke(first).await.unwrap_err().error_type().as_str(), "TokenNotStored");
        assert_eq!(process.invoke(second.clone()).await.unwrap_err().error_type().as_str(), "TokenNotStored");
        process.script.mend();
        process.invoke(second).await.unwrap();
        assert_eq!(world.provider.exchanges(), exchanges + 1);
        world.assert_sound();
    }
}

async fn another_secret_does_not_wait_for_them(over: Over) {
    let world = World::due(over).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    process.run().await.unwrap_err();
    let (access, refresh) = world.provider.issue();
    let other = json!({
        "accessToken": access, "refreshToken": refresh, "tokenEndpoint": world.provider.url(),
        "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET,
        "expiresAt": (world.clock.now() + seconds(3600)).timestamp_millis(),
    });
    world.vault.create("crm/other", &other, world.clock.now());
    let began = world.clock.now();
    let report = process.invoke(json!({"secretId": "crm/other"})).await.unwrap();
    assert_eq!(report.outcome, Outcome::Skipped);
    assert!(world.clock.now() - began < seconds(5), "a run of another secret has its time to itself");
    process.script.mend();
    // A run of another secret puts them in place as well.
    let report = process.invoke(json!({"secretId": "crm/other", "force": true})).await.unwrap();
    assert_eq!((report.outcome, report.secret_id.as_str()), (Outcome::Refreshed, "crm/other"));
    assert_eq!(world.provider.exchanges(), 2);
    world.assert_sound();
}

async fn a_person_who_consents_again_meanwhile_is_not_overruled(over: Over) {
    // Whether another run took the claim over, and was answered within the grace period, before the person did.
    for taken_over in [false, true] {
        let world = World::due_with(over, Provider::rotating().in_world(Manners::Grace)).await;
        let process = world.process();
        process.script.fail_always(PutStaged, Script::unavailable());
        process.run().await.unwrap_err();
        if taken_over {
            world.clock.advance(seconds(10));
            assert_eq!(world.outcome().await, Outcome::Refreshed);
        }
        let consented = world.document(seconds(3600)).to_string();
        world.vault.put(&consented);
        process.script.mend();
        assert_eq!(process.outcome().await, Outcome::Superseded, "taken over: {taken_over}");
        assert_eq!(world.vault.text(), consented);
        assert_eq!(process.outcome().await, Outcome::Skipped);
        world.assert_current_is_alive();
    }
}

async fn two_answers_for_one_token_are_both_kept(over: Over) {
    let world = World::due_with(over, Provider::rotating().in_world(Manners::Grace)).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    process.run().await.unwrap_err();
    world.clock.advance(seconds(10));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let (theirs, versions) = (world.vault.text(), world.vault.count());
    process.script.mend();
    assert_eq!(process.outcome().await, Outcome::Superseded);
    assert_eq!(world.vault.text(), theirs);
    assert_eq!(world.vault.count(), versions + 1);
    assert_eq!(process.outcome().await, Outcome::Skipped);
    world.assert_current_is_alive();
}

async fn an_old_copy_put_back_meanwhile_gets_the_newest_tokens(over: Over) {
    let world = World::due(over).await;
    let old = world.vault.text();
    // Staged, and never promoted by this process.
    let process = world.process();
    process.script.fail_always(Move, Script::unavailable());
    assert_eq!(process.run().await.unwrap_err().error_type().as_str(), "StoreUnavailable");
    assert_eq!(world.outcome().await, Outcome::Recovered);
    world.clock.advance(seconds(3600));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let newest = world.refresh_token();
    world.vault.put(&old);
    process.script.mend();
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert_eq!(world.refresh_token(), newest);
    world.assert_sound();
}

async fn a_promotion_that_is_not_allowed_leaves_the_tokens_safe(over: Over) {
    let world = World::due(over).await;
    let process = world.process();
    let denied =
        StoreError::AccessDenied { action: "secretsmanager:UpdateSecretVersionStage", detail: "no".to_owned() };
    process.script.fail_always(Move, denied);
    let error = process.run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "AccessDenied");
    let shown = error.to_string();
    assert!(shown.contains("secretsmanager:UpdateSecretVersionStage") && shown.contains("tokens are safe"), "{shown}");
    assert_eq!(world.outcome().await, Outcome::Recovered);
    // The process that obtained them finds them in place.
    process.script.mend();
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!((world.provider.exchanges(), world.vault.count()), (1, 3));
    world.assert_sound();
}

async fn a_secret_damaged_while_the_provider_was_asked_is_healed_once_it_is_mended(over: Over) {
    for same_process in [false, true] {
        let world = World::due(over).await;
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

async fn what_dies_with_the_process_is_told_by_the_next_one(over: Over) {
    let world = World::due(over).await;
    let process = world.process();
    process.script.fail_always(PutStaged, Script::unavailable());
    assert_eq!(process.run().await.unwrap_err().error_type().as_str(), "TokenNotStored");
    drop(process);
    // Its minute is over; the lease lasts three seconds longer.
    assert_eq!(world.outcome().await, Outcome::InProgress);
    world.clock.advance(seconds(4));
    let error = world.process().run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ReauthorizationRequired");
    assert_eq!(world.provider.exchanges(), 2);
}

over_both_stores!(
    tokens_that_cannot_be_written_are_kept_and_put_in_place_by_the_next_invocation,
    a_dry_run_leaves_them_where_they_are,
    they_are_put_in_place_also_when_the_event_names_the_secret_by_its_arn,
    another_secret_does_not_wait_for_them,
    a_person_who_consents_again_meanwhile_is_not_overruled,
    two_answers_for_one_token_are_both_kept,
    an_old_copy_put_back_meanwhile_gets_the_newest_tokens,
    a_promotion_that_is_not_allowed_leaves_the_tokens_safe,
    a_secret_damaged_while_the_provider_was_asked_is_healed_once_it_is_mended,
    what_dies_with_the_process_is_told_by_the_next_one,
);
