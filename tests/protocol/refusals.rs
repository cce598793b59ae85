//! Refusals of the provider: kept on record for a while, overtaken by events, or not worth a record.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use token_refresher::protocol::{Error, outcome::Outcome};

use crate::{
    counting::{
        Hold, Script,
        Step::{Exchange, Get, Move, PutClaim},
        Strike,
    },
    over_both_stores,
    support::provider::{Answer, CLIENT_SECRET, Provider, World as Manners},
    world::{LONG_AGO, NAME, Over, World, milliseconds, seconds},
};

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

async fn refused(world: &World, event: Value) -> Error {
    let error = world.process().invoke(event).await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ReauthorizationRequired");
    error
}

async fn a_refusal_is_reported_without_asking_again_until_its_six_hours_end(over: Over) {
    for claim in ["always", "never"] {
        let world = World::due(over).await;
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
            // Each of these refusals was answered and heard: no run was interrupted.
            assert!(!error.to_string().contains("may have spent"), "at {time}: {error}");
        }
        assert_eq!(world.vault.text(), before);
        assert_eq!(world.provider.reuses(), 0);
    }
}

async fn a_refusal_is_forgotten_with_the_tokens_it_was_about(over: Over) {
    let world = World::due(over).await;
    world.provider.withdraw_consent();
    refused(&world, json!({})).await;
    // Another member changes nothing about it.
    world.vault.replace("own member", "edited member");
    refused(&world, json!({})).await;
    assert_eq!(world.provider.exchanges(), 1);
    world.vault.put(&world.document(seconds(0)));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn a_refused_client_is_asked_with_again_once_it_was_changed(over: Over) {
    let world = World::new(over).await;
    let mut document = world.document(seconds(0));
    document["clientSecret"] = json!("mistyped secret of the client");
    world.never_show("mistyped secret of the client");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    for exchanges in [1, 1] {
        assert_eq!(world.process().run().await.unwrap_err().error_type().as_str(), "ClientRejected");
        assert_eq!(world.provider.exchanges(), exchanges);
    }
    world.vault.set("clientSecret", CLIENT_SECRET);
    // The run that was refused has its lease; it is over already, and cannot say so.
    assert_eq!(world.outcome().await, Outcome::InProgress);
    world.clock.advance(seconds(63));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn force_asks_again_and_a_second_refusal_is_no_surprise(over: Over) {
    let world = World::due(over).await;
    world.provider.withdraw_consent();
    refused(&world, json!({})).await;
    world.clock.advance(seconds(63));
    let error = refused(&world, json!({"force": true})).await;
    assert!(!error.to_string().contains("was not asked again"), "{error}");
    assert_eq!(world.provider.exchanges(), 2);
    refused(&world, json!({})).await;
    assert_eq!(world.provider.exchanges(), 2);
}

async fn a_bare_status_is_not_recorded_and_is_tried_again_by_back_off(over: Over) {
    let world = World::due_with(over, Provider::answering(400, "text/plain", "no such thing")).await;
    for (advance, exchanges, error) in [
        (seconds(0), 1, Some("ProviderRejected")),
        (seconds(63) - milliseconds(1), 1, None),
        (milliseconds(1), 2, Some("ProviderRejected")),
        (seconds(63), 2, None),
        (seconds(60) - milliseconds(1), 2, None),
        (milliseconds(1), 3, Some("ProviderRejected")),
    ] {
        world.clock.advance(advance);
        let result = world.process().run().await;
        assert_eq!(result.as_ref().err().map(|error| error.error_type().as_str()), error, "{result:?}");
        assert_eq!(world.provider.exchanges(), exchanges);
    }
    // Three claims and no refusal.
    assert_eq!(world.vault.count(), 4);
}

async fn an_unavailable_provider_is_asked_again_after_the_lease(over: Over) {
    for answer in [
        Answer::fixed(503, "text/html", "<h1>busy</h1>"),
        Answer::fixed(400, "application/json", r#"{"error":"temporarily_unavailable"}"#),
        Answer::fixed(200, "application/json", r#"{"token_type":"Bearer"}"#),
        Answer::CloseBeforeAnswer,
    ] {
        let world = World::due_with(over, Provider::script([answer])).await;
        assert_eq!(world.process().run().await.unwrap_err().error_type().as_str(), "ProviderUnavailable");
        assert_eq!(world.outcome().await, Outcome::InProgress);
        world.clock.advance(seconds(63));
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_refusal_of_tokens_that_a_person_has_replaced_is_none(over: Over) {
    let world = World::due(over).await;
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

async fn a_refusal_of_tokens_that_another_run_has_exchanged_is_none(over: Over) {
    // Two runs without claims, the second held right before it asks; how far the first one gets meanwhile.
    for dies in [true, false] {
        let world = World::due_with(over, Provider::rotating().in_world(Manners::NoReuseDetection)).await;
        let settings = [("CLAIM", "never")];
        let hold = Arc::new(Hold::default());
        let late = world.process_with(&settings).strike(Exchange, 1, Strike::Hold(Arc::clone(&hold)));
        let other = async {
            hold.until_reached().await;
            let first = world.process_with(&settings);
            if dies {
                first.strike(Move, 1, Strike::DieBefore).die().await;
            } else {
                assert_eq!(first.outcome().await, Outcome::Refreshed);
            }
            hold.release();
        };
        let (result, ()) = tokio::join!(late.run(), other);
        assert_eq!(result.unwrap().outcome, Outcome::Recovered);
        assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 1));
        assert_eq!(world.vault.count(), 2);
        world.assert_current_is_alive();
    }
}

async fn two_answers_for_one_token_stay_in_the_store(over: Over) {
    for dies in [true, false] {
        let world = World::due_with(over, Provider::rotating().in_world(Manners::Grace)).await;
        let settings = [("CLAIM", "never")];
        let hold = Arc::new(Hold::default());
        let late = world.process_with(&settings).strike(Exchange, 1, Strike::Hold(Arc::clone(&hold)));
        let other = async {
            hold.until_reached().await;
            // Later by a moment, so that the two documents differ.
            world.clock.advance(milliseconds(5));
            let first = world.process_with(&settings);
            if dies {
                first.strike(Move, 1, Strike::DieBefore).die().await;
            } else {
                assert_eq!(first.outcome().await, Outcome::Refreshed);
            }
            hold.release();
        };
        let (result, ()) = tokio::join!(late.run(), other);
        assert_eq!(result.unwrap().outcome, Outcome::Superseded);
        assert_eq!(world.vault.count(), 3);
        world.assert_current_is_alive();
    }
}

async fn a_record_of_a_refusal_never_comes_to_readers(over: Over) {
    let world = World::due(over).await;
    world.provider.withdraw_consent();
    refused(&world, json!({})).await;
    let record = world.vault.labelled("OAUTH_CLAIM").expect("a record");
    assert!(record.contains("invalid_grant") && !world.vault.text().contains("invalid_grant"));
    // A store that cannot take the record down costs an exchange later, and no error of its own.
    let world = World::due(over).await;
    world.provider.withdraw_consent();
    let failing = Strike::Fail(Script::unavailable());
    let error = world.process().strike(PutClaim, 2, failing).run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ReauthorizationRequired");
    let failing = || Strike::Fail(Script::unavailable());
    world.clock.advance(seconds(63));
    // Nor do reads that fail after a refusal.
    let process = world.process().strike(Get, 6, failing()).strike(Get, 7, failing());
    assert_eq!(process.run().await.unwrap_err().error_type().as_str(), "ReauthorizationRequired");
}

over_both_stores!(
    a_refusal_is_reported_without_asking_again_until_its_six_hours_end,
    a_refusal_is_forgotten_with_the_tokens_it_was_about,
    a_refused_client_is_asked_with_again_once_it_was_changed,
    force_asks_again_and_a_second_refusal_is_no_surprise,
    a_bare_status_is_not_recorded_and_is_tried_again_by_back_off,
    an_unavailable_provider_is_asked_again_after_the_lease,
    a_refusal_of_tokens_that_a_person_has_replaced_is_none,
    a_refusal_of_tokens_that_another_run_has_exchanged_is_none,
    two_answers_for_one_token_stay_in_the_store,
    a_record_of_a_refusal_never_comes_to_readers,
);
