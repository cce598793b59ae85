//! Refusals of the provider: recorded ones, those of tokens that are no longer current, and errors that are not recorded.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use token_refresher::protocol::{Error, outcome::Outcome};

use crate::{
    counting::{
        Hold, InjectedFault, Script,
        Step::{Exchange, Get, Move, PutClaim},
    },
    over_both_stores,
    support::provider::{CLIENT_SECRET, Provider, Response, World as Behaviour},
    world::{LONG_AGO, NAME, StoreKind, World, milliseconds, seconds},
};

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

async fn refused(world: &World, event: Value) -> Error {
    let error = world.process().invoke(event).await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ReauthorizationRequired");
    error
}

async fn a_recorded_refusal_is_returned_without_a_request_for_six_hours(store: StoreKind) {
    for claim in ["always", "never"] {
        let world = World::due(store).await;
        world.provider.withdraw_consent();
        let before = world.vault.text();
        for (time, exchanges) in [
            ("00:00:00.250", 1),
            ("00:00:01", 1),
            ("05:59:59.999", 1),
            ("06:00:00", 2),
            ("06:01:30", 2),
            ("11:59:59.999", 2),
            ("12:00:00", 3),
            ("18:00:00", 4),
            ("18:10:00", 4),
        ] {
            world.clock.set(at(time));
            let error = world.process_with(&[("CLAIM", claim)]).run().await.unwrap_err();
            assert_eq!(error.error_type().as_str(), "ReauthorizationRequired", "at {time}");
            assert_eq!(world.provider.exchanges(), exchanges, "at {time}, CLAIM={claim}");
            let asked = ["00:00:00.250", "06:00:00", "12:00:00", "18:00:00"].contains(&time);
            assert_eq!(error.to_string().contains("was not asked again"), !asked, "at {time}: {error}");
            // Every response was received: no run was interrupted.
            assert!(!error.to_string().contains("may have spent"), "at {time}: {error}");
        }
        assert_eq!(world.vault.text(), before);
        assert_eq!(world.provider.reuses(), 0);
    }
}

async fn a_recorded_refusal_does_not_apply_to_other_tokens(store: StoreKind) {
    let world = World::due(store).await;
    world.provider.withdraw_consent();
    refused(&world, json!({})).await;
    // An edit of another member changes nothing.
    world.vault.replace("own member", "edited member");
    refused(&world, json!({})).await;
    assert_eq!(world.provider.exchanges(), 1);
    world.vault.put(&world.document(seconds(0)));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn a_changed_client_is_sent_after_a_refusal_of_the_old_one(store: StoreKind) {
    let world = World::new(store).await;
    let mut document = world.document(seconds(0));
    document["clientSecret"] = json!("mistyped secret of the client");
    world.never_print("mistyped secret of the client");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    for exchanges in [1, 1] {
        assert_eq!(world.process().run().await.unwrap_err().error_type().as_str(), "ClientRejected");
        assert_eq!(world.provider.exchanges(), exchanges);
    }
    world.vault.set("clientSecret", CLIENT_SECRET);
    // The refused run has ended its claim.
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn a_forced_run_sends_the_token_again_and_its_refusal_is_recorded(store: StoreKind) {
    let world = World::due(store).await;
    world.provider.withdraw_consent();
    refused(&world, json!({})).await;
    world.clock.advance(seconds(63));
    let error = refused(&world, json!({"force": true})).await;
    assert!(!error.to_string().contains("was not asked again"), "{error}");
    assert_eq!(world.provider.exchanges(), 2);
    refused(&world, json!({})).await;
    assert_eq!(world.provider.exchanges(), 2);
}

async fn a_readers_request_overrides_neither_a_recorded_refusal_nor_the_back_off(store: StoreKind) {
    let world = World::due(store).await;
    world.provider.withdraw_consent();
    refused(&world, json!({})).await;
    let request = json!({"force": true, "ifVersionId": world.vault.id().as_str()});
    let error = refused(&world, request).await;
    assert!(error.to_string().contains("was not asked again"), "{error}");
    assert_eq!(world.provider.exchanges(), 1);

    let world = World::due_with(store, Provider::responding(503, "text/plain", "busy")).await;
    let request = json!({"force": true, "ifVersionId": world.vault.id().as_str()});
    for _ in 0..2 {
        assert_eq!(world.process().run().await.unwrap_err().error_type().as_str(), "ProviderUnavailable");
    }
    assert_eq!(world.process().invoke(request).await.unwrap().outcome, Outcome::BackingOff);
    assert_eq!(world.provider.exchanges(), 2);
    // A person's force does not wait.
    let error = world.process().invoke(json!({"force": true})).await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ProviderUnavailable");
    assert_eq!(world.provider.exchanges(), 3);
}

async fn two_functions_with_different_settings_back_off_as_one(store: StoreKind) {
    let world = World::with(store, Provider::responding(503, "text/plain", "busy")).await;
    let mut document = world.document(seconds(0));
    document.as_object_mut().unwrap().remove("clientSecret");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    world.never_print("the secret of the old function");
    let functions = [[("CLIENT_SECRET", CLIENT_SECRET)], [("CLIENT_SECRET", "the secret of the old function")]];
    // The minutes, and the exchanges until then. Settings that neither of the last two claims used count as new: of both functions at
    // the start, and of the second one when the first has made two attempts in a row. Each attempt makes the next wait longer.
    for (minutes, exchanges) in [(0, 2), (1, 3), (3, 3), (4, 5), (18, 5), (19, 6)] {
        world.clock.set(at("00:00:00.250") + seconds(60 * minutes));
        for settings in functions.iter().cycle().take(4) {
            let _ = world.process_with(settings).run().await;
        }
        assert_eq!(world.provider.exchanges(), exchanges, "after {minutes} minutes");
    }
}

async fn an_error_status_without_an_oauth_error_is_not_recorded_and_backs_off(store: StoreKind) {
    let world = World::due_with(store, Provider::responding(400, "text/plain", "no such thing")).await;
    for (advance, exchanges, error) in [
        (seconds(0), 1, Some("ProviderRejected")),
        (seconds(0), 2, Some("ProviderRejected")),
        (seconds(60) - milliseconds(1), 2, None),
        (milliseconds(1), 3, Some("ProviderRejected")),
        (seconds(180) - milliseconds(1), 3, None),
        (milliseconds(1), 4, Some("ProviderRejected")),
    ] {
        world.clock.advance(advance);
        let result = world.process().run().await;
        assert_eq!(result.as_ref().err().map(|error| error.error_type().as_str()), error, "{result:?}");
        assert_eq!(world.provider.exchanges(), exchanges);
    }
    // Four claims and no refusal.
    assert_eq!(world.vault.count(), 5);
}

async fn an_unavailable_provider_gets_the_next_request_at_once_if_it_responded_and_else_after_the_lease(
    store: StoreKind,
) {
    for (response, responded) in [
        (Response::fixed(503, "text/html", "<h1>busy</h1>"), true),
        (Response::fixed(400, "application/json", r#"{"error":"temporarily_unavailable"}"#), true),
        (Response::fixed(200, "application/json", r#"{"token_type":"Bearer"}"#), true),
        (Response::CloseBeforeProcessing, false),
    ] {
        let world = World::due_with(store, Provider::script([response])).await;
        assert_eq!(world.process().run().await.unwrap_err().error_type().as_str(), "ProviderUnavailable");
        if !responded {
            assert_eq!(world.outcome().await, Outcome::InProgress);
            world.clock.advance(seconds(63));
        }
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_refusal_of_tokens_that_a_person_has_replaced_is_not_an_error(store: StoreKind) {
    let world = World::due(store).await;
    world.provider.withdraw_consent();
    let consented = world.document(seconds(3600)).to_string();
    let (vault, text) = (world.vault.clone(), consented.clone());
    let process = world.process().before(Exchange, 1, move || {
        vault.put(&text);
    });
    assert_eq!(process.outcome().await, Outcome::Superseded);
    assert_eq!(world.vault.text(), consented);
    // The first version, the claim, the consent: no refusal.
    assert_eq!(world.vault.count(), 3);
    world.assert_sound();
}

async fn a_refusal_of_tokens_that_another_run_has_exchanged_is_not_an_error(store: StoreKind) {
    // Two runs without claims. The second waits just before its exchange, until the first has ended or crashed.
    for first_crashes in [true, false] {
        let world = World::due_with(store, Provider::rotating().in_world(Behaviour::NoReuseDetection)).await;
        let settings = [("CLAIM", "never")];
        let hold = Arc::new(Hold::default());
        let late = world.process_with(&settings).inject(Exchange, 1, InjectedFault::Hold(Arc::clone(&hold)));
        let other = async {
            hold.until_reached().await;
            let first = world.process_with(&settings);
            if first_crashes {
                first.inject(Move, 1, InjectedFault::CrashBefore).crash().await;
            } else {
                assert_eq!(first.outcome().await, Outcome::Refreshed);
            }
            hold.release();
        };
        let (result, ()) = tokio::join!(late.run(), other);
        assert_eq!(result.unwrap().outcome, Outcome::Recovered);
        assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 1));
        // The first version, the claim that proves that writing works, the new tokens.
        assert_eq!(world.vault.count(), 3);
        world.assert_current_is_alive();
    }
}

async fn two_responses_to_one_token_stay_in_the_store(store: StoreKind) {
    for first_crashes in [true, false] {
        let world = World::due_with(store, Provider::rotating().in_world(Behaviour::Grace)).await;
        let settings = [("CLAIM", "never")];
        let hold = Arc::new(Hold::default());
        let late = world.process_with(&settings).inject(Exchange, 1, InjectedFault::Hold(Arc::clone(&hold)));
        let other = async {
            hold.until_reached().await;
            // A few milliseconds later, so that the two documents differ.
            world.clock.advance(milliseconds(5));
            let first = world.process_with(&settings);
            if first_crashes {
                first.inject(Move, 1, InjectedFault::CrashBefore).crash().await;
            } else {
                assert_eq!(first.outcome().await, Outcome::Refreshed);
            }
            hold.release();
        };
        let (result, ()) = tokio::join!(late.run(), other);
        assert_eq!(result.unwrap().outcome, Outcome::Superseded);
        assert_eq!(world.vault.count(), 4);
        world.assert_current_is_alive();
    }
}

async fn a_record_of_a_refusal_is_never_current_and_a_failed_record_is_not_an_error(store: StoreKind) {
    let world = World::due(store).await;
    world.provider.withdraw_consent();
    refused(&world, json!({})).await;
    let record = world.vault.labelled("OAUTH_CLAIM").expect("a record");
    assert!(record.contains("invalid_grant") && !world.vault.text().contains("invalid_grant"));
    // If the record cannot be written, the error is the same, and a later run sends the token again.
    let world = World::due(store).await;
    world.provider.withdraw_consent();
    let failing = InjectedFault::Fail(Script::unavailable());
    let error = world.process().inject(PutClaim, 2, failing).run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ReauthorizationRequired");
    let failing = || InjectedFault::Fail(Script::unavailable());
    world.clock.advance(seconds(63));
    // Reads that fail after a refusal change nothing either.
    let process = world.process().inject(Get, 8, failing()).inject(Get, 9, failing());
    assert_eq!(process.run().await.unwrap_err().error_type().as_str(), "ReauthorizationRequired");
}

over_both_stores!(
    a_recorded_refusal_is_returned_without_a_request_for_six_hours,
    a_recorded_refusal_does_not_apply_to_other_tokens,
    a_changed_client_is_sent_after_a_refusal_of_the_old_one,
    a_forced_run_sends_the_token_again_and_its_refusal_is_recorded,
    a_readers_request_overrides_neither_a_recorded_refusal_nor_the_back_off,
    two_functions_with_different_settings_back_off_as_one,
    an_error_status_without_an_oauth_error_is_not_recorded_and_backs_off,
    an_unavailable_provider_gets_the_next_request_at_once_if_it_responded_and_else_after_the_lease,
    a_refusal_of_tokens_that_a_person_has_replaced_is_not_an_error,
    a_refusal_of_tokens_that_another_run_has_exchanged_is_not_an_error,
    two_responses_to_one_token_stay_in_the_store,
    a_record_of_a_refusal_is_never_current_and_a_failed_record_is_not_an_error,
);
