//! A person changes the secret while runs work on it: edits, new consents, old copies, roll backs.

use std::sync::Arc;

use serde_json::json;
use token_refresher::{error::ErrorType, protocol::outcome::Outcome, store::versions::Versions};

use crate::{
    counting::{
        Hold, InjectedFault, Script,
        Step::{Exchange, Get, Move, PutClaim, PutStaged},
    },
    over_both_stores,
    support::provider::{Provider, World as Behaviour},
    world::{NAME, StoreKind, World, milliseconds, seconds},
};

async fn a_person_may_edit_another_member_at_any_step(store: StoreKind) {
    for (step, nth, merged) in
        [(PutClaim, 1, true), (Exchange, 1, true), (PutStaged, 1, true), (Move, 1, true), (Get, 1, false)]
    {
        let world = World::due(store).await;
        let (vault, seeded) = (world.vault.clone(), world.vault.member_names());
        let process = world.process().before(step, nth, move || {
            vault.replace(r#""note":"a person's own member""#, r#""first":1.0,"note":"edited""#);
        });
        let report = process.run().await.unwrap();
        assert_eq!(report.outcome, Outcome::Refreshed, "{step:?}");
        assert_eq!((report.version_id, report.previous_version_id.is_some()), (world.vault.id(), true));
        assert!(world.vault.text().contains(r#""first":1.0,"note":"edited","#), "the edit is kept");
        let mut names = world.vault.member_names();
        assert_eq!(names.split_off(names.len() - 2), ["tokenType", "refreshedAt"]);
        let names_before_edit = names.into_iter().filter(|name| name != "first").collect::<Vec<_>>();
        assert_eq!(names_before_edit, seeded, "members keep their order");
        // The first version, the edit, the claim, the staged version, and the merged version.
        assert_eq!(world.vault.count(), 4 + usize::from(merged), "{step:?}");
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
        // The merged version can be refreshed like any other.
        world.clock.advance(seconds(3600));
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn an_old_copy_whose_successors_are_gone_is_recovered_if_its_times_show_that_it_is_old(store: StoreKind) {
    for refreshed_before in [true, false] {
        let world = World::due(store).await;
        let first = world.vault.text();
        world.refresh_times(1).await;
        let copy = if refreshed_before { world.vault.text() } else { first };
        world.refresh_times(2).await;
        world.clock.advance(seconds(86_400));
        world.vault.edit(NAME, Versions::remove_old);
        world.refresh_times(1).await;
        world.vault.edit(NAME, Versions::remove_old);
        let newest = world.refresh_token();
        world.vault.put(&copy);
        let dry = world.process().invoke(json!({"dryRun": true})).await;
        let result = world.process().run().await;
        if refreshed_before {
            assert_eq!(dry.unwrap().outcome, Outcome::WouldRecover);
            assert_eq!(result.unwrap().outcome, Outcome::Recovered);
            assert!(world.refresh_token() == newest, "the newest tokens are current");
            world.assert_sound();
        } else {
            for error in [dry.unwrap_err(), result.unwrap_err()] {
                let text = error.to_string();
                assert_eq!(error.error_type().as_str(), "InvalidSecret");
                assert!(text.contains("it may be an old copy") && text.contains("make that version current"), "{text}");
            }
        }
        assert_eq!((world.provider.exchanges(), world.provider.reuses()), (4, 0));
    }
}

async fn new_tokens_are_used_although_the_old_grant_was_refreshed_after_they_were_obtained(store: StoreKind) {
    let world = World::due(store).await;
    let mut consented = world.document(seconds(3600));
    consented["refreshedAt"] = json!(world.clock.now().to_rfc3339());
    world.clock.advance(seconds(600));
    world.refresh_times(1).await;
    world.vault.put(&consented);
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 0));
    world.assert_sound();
}

async fn new_tokens_beside_a_refreshed_at_that_was_left_as_it_was_are_used(store: StoreKind) {
    let world = World::due(store).await;
    world.refresh_times(2).await;
    let mut consented = world.document(seconds(3600 + 899));
    consented["refreshedAt"] = json!((world.clock.now() - seconds(86_400)).to_rfc3339());
    world.vault.put(&consented);
    world.clock.advance(seconds(3600));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (3, 0));
    world.assert_sound();
}

async fn an_old_copy_saved_over_tokens_that_are_not_due_is_recovered_at_once(store: StoreKind) {
    let world = World::due(store).await;
    world.vault.set("expiresAt", (world.clock.now() + seconds(3000)).timestamp_millis());
    let page = world.vault.text();
    assert_eq!(world.process().invoke(json!({"force": true})).await.unwrap().outcome, Outcome::Refreshed);
    world.vault.put(&page);
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
    world.assert_sound();
}

async fn the_access_token_may_be_edited_during_the_exchange(store: StoreKind) {
    let world = World::due(store).await;
    let vault = world.vault.clone();
    let process = world.process().before(Exchange, 1, move || {
        vault.set("accessToken", "a-pasted-token-that-never-was");
    });
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(world.outcome().await, Outcome::Skipped);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
    world.assert_sound();
}

async fn a_person_may_edit_several_times_during_the_promotion(store: StoreKind) {
    let world = World::due(store).await;
    let mut process = world.process();
    for nth in 1..=4 {
        let vault = world.vault.clone();
        process = process.before(Move, nth, move || {
            vault.set("note", nth);
        });
    }
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(world.vault.json()["note"], 4);
    world.assert_sound();
}

async fn a_person_who_never_stops_editing_loses_nothing_and_the_next_run_promotes(store: StoreKind) {
    let world = World::due(store).await;
    let mut process = world.process();
    for nth in 1..=20 {
        let vault = world.vault.clone();
        process = process.before(Move, nth, move || {
            vault.set("note", nth);
        });
    }
    let started = world.clock.now();
    let error = process.run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "StoreUnavailable");
    assert!(error.to_string().contains("the new tokens are safe"), "{error}");
    assert!(world.clock.now() - started <= seconds(3));
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

/// A run waits before its promotion. Meanwhile another run promotes the same tokens, a forced run refreshes them, and a person saves
/// what was on the screen before all of them.
async fn an_edit_that_puts_the_old_tokens_back_does_not_bring_spent_ones_back(store: StoreKind) {
    for (recovers, failing_read) in [(false, None), (true, None), (false, Some(2)), (false, Some(3)), (false, Some(4))]
    {
        let world = World::due(store).await;
        let screen = world.vault.text();
        if recovers {
            world.process().inject(Move, 1, InjectedFault::CrashBefore).crash().await;
        }
        let hold = Arc::new(Hold::default());
        let mut process = world.process().inject(Move, 1, InjectedFault::Hold(Arc::clone(&hold)));
        if let Some(nth) = failing_read {
            process = process.inject(Get, nth, InjectedFault::Fail(Script::unavailable()));
        }
        let others = async {
            hold.until_reached().await;
            assert_eq!(world.outcome().await, Outcome::Recovered);
            let forced = world.process().invoke(json!({"force": true})).await;
            assert_eq!(forced.unwrap().outcome, Outcome::Refreshed);
            world.vault.put(&screen.replace("own member", "edited member"));
            hold.release();
        };
        let (result, ()) = tokio::join!(process.run(), others);

        let case = format!("recovers: {recovers}, the read that fails: {failing_read:?}");
        match result {
            Ok(report) => assert_eq!(report.outcome, Outcome::Superseded, "{case}"),
            // It could not look for later tokens.
            Err(error) => {
                assert!(failing_read > Some(2), "{case}: {error}");
                assert_eq!(error.error_type(), ErrorType::StoreUnavailable, "{case}");
                assert_eq!(world.outcome().await, Outcome::Recovered, "{case}");
            }
        }
        assert_eq!(process.script.faults_left(), 0, "{case}");
        assert_eq!(world.vault.json()["note"], "a person's edited member", "{case}");
        assert_eq!(world.provider.exchanges(), 2, "{case}");
        world.assert_sound();
        assert_eq!(world.outcome().await, Outcome::Skipped, "{case}");
    }
}

/// The forced run stages its tokens while the other run, which has looked for later ones, puts the merged version.
async fn a_merged_version_does_not_hide_tokens_that_are_staged_at_the_same_moment(store: StoreKind) {
    let world = World::due(store).await;
    let screen = world.vault.text();
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let [staging, merging] = [(); 2].map(|()| Arc::new(Hold::default()));
    let forced = world.process().inject(PutStaged, 1, InjectedFault::Hold(Arc::clone(&staging)));
    let recovers = world.process().inject(PutStaged, 1, InjectedFault::Hold(Arc::clone(&merging)));
    let run_recovers = async {
        staging.until_reached().await;
        world.vault.put(&screen.replace("own member", "edited member"));
        recovers.outcome().await
    };
    let run_forced = async {
        let outcome = forced.invoke(json!({"force": true})).await.unwrap().outcome;
        merging.release();
        outcome
    };
    let releases = async {
        merging.until_reached().await;
        staging.release();
    };
    let outcomes = tokio::join!(run_recovers, run_forced, releases);

    assert_eq!(outcomes, (Outcome::Superseded, Outcome::Superseded, ()));
    assert_eq!(world.vault.json()["note"], "a person's edited member");
    world.assert_sound();
    assert_eq!(world.outcome().await, Outcome::Skipped);
}

async fn a_person_who_edits_after_a_crash_keeps_the_edit(store: StoreKind) {
    let world = World::due(store).await;
    world.process().inject(Move, 1, InjectedFault::CrashBefore).crash().await;
    world.vault.replace("own member", "edited member");
    // The first run that recovers crashes too, between its two writes.
    world.process().inject(Move, 1, InjectedFault::CrashBefore).crash().await;
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!(world.vault.json()["note"], "a person's edited member");
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn a_new_consent_survives_at_any_step(store: StoreKind) {
    for (step, exchanged) in [(PutClaim, true), (Exchange, true), (PutStaged, true), (Move, true), (Get, false)] {
        let world = World::due(store).await;
        let consented = world.document(seconds(3600)).to_string();
        let (vault, text) = (world.vault.clone(), consented.clone());
        let process = world.process().before(step, if step == Get { 2 } else { 1 }, move || {
            vault.put(&text);
        });
        // There is a second read only in a take-over.
        if step == Get {
            world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
            world.clock.advance(seconds(63));
        }
        let report = process.run().await.unwrap();
        assert_eq!(report.outcome, Outcome::Superseded, "{step:?}");
        assert_eq!(report.version_id, world.vault.id());
        assert_eq!(report.expires_in_seconds, Some(if exchanged { 3600 } else { 3537 }));
        assert_eq!(world.vault.text(), consented, "{step:?}");
        let staged = world.vault.labelled("OAUTH_STAGED").expect("a staged version");
        assert!(
            world.provider.is_alive(
                serde_json::from_str::<serde_json::Value>(&staged).unwrap()["refreshToken"].as_str().unwrap()
            )
        );
        world.assert_sound();
        assert_eq!(world.outcome().await, Outcome::Skipped);
    }
}

async fn an_old_copy_put_back_is_recovered_without_an_exchange(store: StoreKind) {
    for age in [1, 3, 10] {
        for edited in [false, true] {
            let world = World::due(store).await;
            let old = world.vault.text();
            world.refresh_times(age).await;
            let (newest, id) = (world.vault.text(), world.vault.id());
            let old = if edited { old.replace("own member", "edited member") } else { old };
            world.vault.put(&old);
            let versions = world.vault.count();
            assert_eq!(world.outcome().await, Outcome::Recovered, "{age} refreshes old");
            assert_eq!(world.provider.exchanges(), age);
            if edited {
                assert_eq!(world.vault.text(), newest.replace("own member", "edited member"));
            } else {
                assert_eq!((world.vault.id(), world.vault.count()), (id, versions));
            }
            world.assert_sound();
            // The recovered tokens are due, too.
            assert_eq!(world.outcome().await, Outcome::Refreshed);
            world.assert_sound();
        }
    }
}

async fn an_old_copy_whose_claim_was_removed_is_recovered(store: StoreKind) {
    let world = World::due(store).await;
    world.refresh_times(2).await;
    let old = world.vault.text();
    // The put below removes the oldest unlabelled version: the claim on the tokens of the old copy.
    world.refresh_times(50).await;
    assert_eq!(world.vault.count(), 100);
    let newest = world.refresh_token();
    world.vault.put(&old);
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert!(!process.script.taken().contains(&PutClaim), "the staged version was found in the list");
    assert_eq!(world.refresh_token(), newest);
    assert_eq!(world.provider.exchanges(), 52);
    world.assert_sound();
}

async fn a_roll_back_by_label_is_recovered_when_the_token_is_due(store: StoreKind) {
    let world = World::due(store).await;
    world.refresh_times(3).await;
    let newest = world.vault.id();
    world.vault.roll_back();
    assert_ne!(world.vault.id(), newest);
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!(world.vault.id(), newest);
    assert_eq!(world.provider.exchanges(), 3);
    world.assert_sound();
}

async fn an_expiry_set_to_zero_makes_the_token_due_and_does_not_hide_a_claim(store: StoreKind) {
    let world = World::new(store).await;
    world.seed(seconds(3600), seconds(3600));
    let zero = |world: &World| {
        let expiry = world.vault.json()["expiresAt"].to_string();
        world.vault.replace(&format!(r#""expiresAt":{expiry}"#), r#""expiresAt":0"#);
    };
    zero(&world);
    world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
    zero(&world);
    assert_eq!(world.outcome().await, Outcome::InProgress);
    world.clock.advance(seconds(63));
    let vault = world.vault.clone();
    let expiry = r#""expiresAt":0"#;
    let process = world.process().after(Exchange, 1, move || {
        vault.replace(expiry, r#""expiresAt":1"#);
    });
    let versions = world.vault.count();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    // The edit, the claim and the staged version. An edited expiry is not merged.
    assert_eq!(world.vault.count(), versions + 3);
    assert_eq!(world.current().expires_at, Some(world.clock.now() - milliseconds(50) + seconds(3600)));
    world.assert_sound();
}

async fn tokens_of_a_provider_that_repeats_them_are_refreshed_each_time(store: StoreKind) {
    for behaviour in [Behaviour::Echo, Behaviour::RepeatAll] {
        let world = World::due_with(store, Provider::rotating().in_world(behaviour)).await;
        // The clock does not move between these.
        for _ in 0..3 {
            let process = world.process();
            let report = process.invoke(json!({"force": true})).await.unwrap();
            assert_eq!(report.outcome, Outcome::Refreshed, "{behaviour:?}");
        }
        world.clock.advance(seconds(3600));
        world.refresh_times(2).await;
        assert_eq!((world.provider.exchanges(), world.vault.count()), (5, 11));
        world.assert_sound();
    }
}

async fn a_document_near_the_size_limit_is_refreshed_or_rejected_before_the_claim(store: StoreKind) {
    for (bytes, fits) in [(65_536 - 4096, true), (65_536 - 4095, false), (65_536, false)] {
        let world = World::new(store).await;
        let mut document = world.document(seconds(0));
        document["padding"] = json!("");
        let padding = bytes - document.to_string().len();
        document["padding"] = json!("x".repeat(padding));
        world.vault.create(NAME, &document, world.clock.now() - seconds(3600));
        let before = world.vault.versions();
        let result = world.process().run().await;
        if fits {
            assert_eq!(result.unwrap().outcome, Outcome::Refreshed);
            world.assert_sound();
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.error_type().as_str(), "InvalidSecret");
            assert!(error.to_string().contains(&format!("{bytes} bytes")), "{error}");
            assert_eq!(world.vault.versions(), before);
            assert_eq!(world.provider.exchanges(), 0);
        }
    }
}

over_both_stores!(
    an_old_copy_whose_successors_are_gone_is_recovered_if_its_times_show_that_it_is_old,
    new_tokens_are_used_although_the_old_grant_was_refreshed_after_they_were_obtained,
    new_tokens_beside_a_refreshed_at_that_was_left_as_it_was_are_used,
    an_old_copy_saved_over_tokens_that_are_not_due_is_recovered_at_once,
    the_access_token_may_be_edited_during_the_exchange,
    a_person_may_edit_another_member_at_any_step,
    a_person_may_edit_several_times_during_the_promotion,
    a_person_who_never_stops_editing_loses_nothing_and_the_next_run_promotes,
    an_edit_that_puts_the_old_tokens_back_does_not_bring_spent_ones_back,
    a_merged_version_does_not_hide_tokens_that_are_staged_at_the_same_moment,
    a_person_who_edits_after_a_crash_keeps_the_edit,
    a_new_consent_survives_at_any_step,
    an_old_copy_put_back_is_recovered_without_an_exchange,
    an_old_copy_whose_claim_was_removed_is_recovered,
    a_roll_back_by_label_is_recovered_when_the_token_is_due,
    an_expiry_set_to_zero_makes_the_token_due_and_does_not_hide_a_claim,
    tokens_of_a_provider_that_repeats_them_are_refreshed_each_time,
    a_document_near_the_size_limit_is_refreshed_or_rejected_before_the_claim,
);
