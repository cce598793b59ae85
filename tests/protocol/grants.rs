//! Grants without a single-use token, such as `client_credentials`: no claim, one version, and nothing that can be lost.

use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::{Value, json};
use token_refresher::{error::ErrorType, protocol::outcome::Outcome};

use crate::{
    counting::{
        Hold, InjectedFault,
        Step::{Exchange, Get, List, Move, PutStaged},
    },
    over_both_stores,
    support::provider::{CLIENT_SECRET, Response},
    world::{LONG_AGO, NAME, StoreKind, World, seconds},
};

/// A document without any token.
fn document(world: &World) -> Value {
    let mut document = world.document(seconds(0));
    let members = document.as_object_mut().expect("an object");
    for member in ["accessToken", "refreshToken", "expiresAt"] {
        members.remove(member);
    }
    document["grantType"] = json!("client_credentials");
    document["extraParameters"] = json!({"scope": "orders.read", "audience": "https://api.example"});
    document
}

async fn world(store: StoreKind) -> World {
    let world = World::new(store).await;
    world.vault.create(NAME, &document(&world), world.clock.now() - LONG_AGO);
    world
}

fn access_token(world: &World) -> String {
    world.vault.json()["accessToken"].as_str().expect("an access token").to_owned()
}

async fn a_refresh_costs_four_calls_and_one_version(store: StoreKind) {
    let world = world(store).await;
    let process = world.process();
    for versions in 2..5 {
        process.script.reset();
        assert_eq!(process.outcome().await, Outcome::Refreshed);
        assert_eq!(process.script.taken(), [Get, List, Exchange, PutStaged, Move]);
        assert_eq!(world.vault.count(), versions);
        assert!(world.provider.every_token_issued().contains(&access_token(&world)));
        assert_eq!(world.vault.json().get("refreshToken"), None);
        process.script.reset();
        assert_eq!(process.outcome().await, Outcome::Skipped);
        assert_eq!(process.script.taken(), [Get]);
        world.clock.advance(seconds(3600));
    }
    let requests = world.provider.requests();
    let form: Vec<&str> = requests[0].form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(form, ["grant_type", "client_id", "client_secret", "audience", "scope"]);
}

async fn claims_are_not_needed_whatever_the_setting_says(store: StoreKind) {
    for claim in ["always", "never"] {
        let world = world(store).await;
        let process = world.process_with(&[("CLAIM", claim)]);
        assert_eq!(process.outcome().await, Outcome::Refreshed);
        assert_eq!(process.script.taken(), [Get, List, Exchange, PutStaged, Move], "CLAIM={claim}");
    }
}

/// Three runs ask the provider one after the other. Then they store what they got, in every order.
async fn of_several_runs_at_once_the_response_that_was_requested_last_becomes_current(store: StoreKind) {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let world = world(store).await;
        let holds = [(); 3].map(|()| Arc::new(Hold::default()));
        let processes =
            holds.each_ref().map(|hold| world.process().inject(PutStaged, 1, InjectedFault::Hold(Arc::clone(hold))));
        let mut runs: Vec<_> = processes.iter().map(|process| process.outcome().boxed_local()).collect();
        for (run, hold) in runs.iter_mut().zip(&holds) {
            tokio::select! {
                outcome = run => panic!("ended before it stored anything: {outcome:?}"),
                () = hold.until_reached() => world.clock.advance(seconds(1)),
            }
        }
        for index in order {
            holds[index].release();
            runs[index].as_mut().await;
        }

        let issued = world.provider.every_token_issued();
        assert_eq!(&access_token(&world), issued.last().unwrap(), "stored in the order {order:?}");
        assert_eq!(world.outcome().await, Outcome::Skipped);
        assert_eq!(world.provider.exchanges(), 3);
    }
}

/// A person has read the secret before both runs, and saves it after the second one. The first run finds its old document again.
async fn an_edit_that_puts_the_old_document_back_does_not_bring_the_earlier_response_back(store: StoreKind) {
    let world = world(store).await;
    let [first_put, first_move, second_put] = [(); 3].map(|()| Arc::new(Hold::default()));
    let first = world.process().inject(PutStaged, 1, InjectedFault::Hold(Arc::clone(&first_put))).inject(
        Move,
        1,
        InjectedFault::Hold(Arc::clone(&first_move)),
    );
    let second = world.process().inject(PutStaged, 1, InjectedFault::Hold(Arc::clone(&second_put)));
    let mut edited = document(&world);
    edited["note"] = json!("edited");
    let run_second = async {
        first_put.until_reached().await;
        world.clock.advance(seconds(1));
        second.outcome().await
    };
    let releases = async {
        second_put.until_reached().await;
        first_put.release();
        first_move.until_reached().await;
        second_put.release();
        while world.vault.json().get("accessToken").is_none() {
            tokio::task::yield_now().await;
        }
        world.vault.put(&edited);
        first_move.release();
    };
    let (first, second, ()) = tokio::join!(first.outcome(), run_second, releases);

    assert_eq!([first, second], [Outcome::Superseded, Outcome::Refreshed]);
    assert_eq!(&access_token(&world), world.provider.every_token_issued().last().unwrap());
    assert_eq!(world.vault.json()["note"], "edited");
}

async fn a_run_that_was_killed_at_any_step_loses_nothing(store: StoreKind) {
    for (step, fault, next) in [
        (Exchange, InjectedFault::CrashBefore, Outcome::Refreshed),
        (Exchange, InjectedFault::CrashAfter, Outcome::Refreshed),
        (PutStaged, InjectedFault::CrashAfter, Outcome::Recovered),
        (Move, InjectedFault::CrashBefore, Outcome::Recovered),
        (Move, InjectedFault::CrashAfter, Outcome::Skipped),
    ] {
        let world = world(store).await;
        world.process().inject(step, 1, fault).crash().await;
        assert_eq!(world.outcome().await, next, "{step:?}");
        assert!(world.provider.every_token_issued().contains(&access_token(&world)), "{step:?}");
    }
}

async fn a_person_edits_at_any_step_and_the_edit_stays(store: StoreKind) {
    for step in [List, Exchange, PutStaged, Move] {
        let world = world(store).await;
        let vault = world.vault.clone();
        let process = world.process().before(step, 1, move || {
            vault.set("note", "edited");
            vault.set("refreshToken", "unseen-refresh-token-of-a-person");
        });
        assert_eq!(process.outcome().await, Outcome::Refreshed, "{step:?}");
        assert_eq!(world.vault.json()["note"], "edited", "{step:?}");
        assert_eq!(world.vault.json()["refreshToken"], "unseen-refresh-token-of-a-person", "{step:?}");
        assert!(world.provider.every_token_issued().contains(&access_token(&world)), "{step:?}");
        assert_eq!(world.outcome().await, Outcome::Skipped);
    }
}

async fn a_refusal_is_recorded_until_the_client_changes(store: StoreKind) {
    let world = world(store).await;
    world.vault.set("clientSecret", "unseen-wrong-secret-of-the-client");
    for _ in 0..3 {
        assert_eq!(world.process().run().await.unwrap_err().error_type(), ErrorType::ClientRejected);
    }
    assert_eq!(world.provider.exchanges(), 1);
    world.vault.set("clientSecret", CLIENT_SECRET);
    assert_eq!(world.outcome().await, Outcome::Refreshed);
}

async fn an_invalid_grant_does_not_ask_for_a_consent(store: StoreKind) {
    let world = world(store).await;
    world.provider.respond_next(Response::fixed(400, "application/json", r#"{"error": "invalid_grant"}"#));
    let error = world.process().run().await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::ReauthorizationRequired);
    let message = error.to_string();
    assert!(message.contains("correct the client's settings") && !message.contains("consent"), "{message}");
}

async fn a_refresh_token_in_the_document_or_in_a_response_is_not_used(store: StoreKind) {
    let world = World::new(store).await;
    let mut document = document(&world);
    document["refreshToken"] = json!("unseen-refresh-token-of-before");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    let response = r#"{"access_token": "unseen-access-1", "refresh_token": "unseen-refresh-1", "expires_in": 3600}"#;
    world.provider.respond_next(Response::fixed(200, "application/json", response));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let current = world.vault.json();
    assert_eq!(
        (&current["accessToken"], &current["refreshToken"]),
        (&json!("unseen-access-1"), &document["refreshToken"])
    );
    assert_eq!(world.provider.requests()[0].field("refresh_token"), None);
}

async fn a_refresh_token_is_exchanged_beside_the_grant_type_that_brought_it(store: StoreKind) {
    let device_code = "urn:ietf:params:oauth:grant-type:device_code";
    for grant_type in [json!(""), json!("authorization_code"), json!("refreshToken"), json!(device_code), json!(["a"])]
    {
        let world = World::new(store).await;
        let mut document = world.document(seconds(0));
        document["grantType"] = grant_type;
        world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        assert_eq!(world.provider.requests()[0].field("grant_type"), Some("refresh_token"));
    }
}

/// A person creates the secret, gets a token, and puts a corrected document: again one without tokens.
async fn other_settings_beside_the_grant_get_a_token_of_their_own(store: StoreKind) {
    let world = world(store).await;
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let mut corrected = document(&world);
    corrected["extraParameters"]["scope"] = json!("orders.write");
    world.vault.put(&corrected);
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    assert_eq!(world.provider.requests()[1].field("scope"), Some("orders.write"));
    let issued = world.provider.every_token_issued();
    assert_eq!(&access_token(&world), issued.last().unwrap());
}

async fn a_run_whose_response_was_requested_earlier_leaves_the_labels_as_they_are(store: StoreKind) {
    let world = world(store).await;
    let hold = Arc::new(Hold::default());
    let first = world.process().inject(PutStaged, 1, InjectedFault::Hold(Arc::clone(&hold)));
    let run_first = first.outcome();
    let run_second = async {
        hold.until_reached().await;
        world.clock.advance(seconds(1));
        let outcome = world.outcome().await;
        hold.release();
        outcome
    };
    assert_eq!(tokio::join!(run_first, run_second), (Outcome::Superseded, Outcome::Refreshed));
    assert_eq!(world.vault.count(), 2);
    let current: Option<Value> = world.vault.labelled("OAUTH_STAGED").map(|text| serde_json::from_str(&text).unwrap());
    assert_eq!(current.as_ref().map(|current| &current["accessToken"]), Some(&world.vault.json()["accessToken"]));
}

async fn tokens_are_published(store: StoreKind) {
    let world = World::new(store).await;
    let mut document = document(&world);
    document["publishTo"] = json!("crm/published");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    world.vault.create_empty("crm/published");
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let published =
        world.vault.edit("crm/published", |versions, _| versions.get(None, Some("AWSCURRENT")).unwrap().body);
    let published: Value = serde_json::from_str(published.expose()).unwrap();
    assert_eq!(published["accessToken"], world.vault.json()["accessToken"]);
    assert_eq!(published.get("grantType"), None);
}

async fn a_document_with_neither_names_both(store: StoreKind) {
    let world = world(store).await;
    let mut document = document(&world);
    for (grant_type, words) in [
        (
            Value::Null,
            "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"",
        ),
        (json!("refresh_token"), "its member `refreshToken` is missing or empty (version"),
        (json!("client credentials"), "its member `grantType` is a string, where a string of visible ASCII characters"),
        (json!(["client_credentials"]), "its member `grantType` is an array"),
    ] {
        document["grantType"] = grant_type;
        world.vault.put(&document);
        let error = world.process().run().await.unwrap_err();
        assert_eq!(error.error_type(), ErrorType::InvalidSecret);
        assert!(error.to_string().contains(words), "{error}");
    }
}

async fn a_scope_that_was_not_sent_is_a_warning_of_the_first_refresh(store: StoreKind) {
    let world = World::new(store).await;
    let mut document = document(&world);
    document["extraParameters"] = Value::Null;
    document["scope"] = json!("orders.read");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    let warning = "the member `scope` of the token secret is not sent; put it into `extraParameters`";
    for expected in [vec![warning], vec![]] {
        let report = world.process().run().await.unwrap();
        assert_eq!(report.outcome, Outcome::Refreshed);
        assert_eq!(report.warnings, expected);
        world.clock.advance(seconds(3600));
    }
    assert_eq!(world.provider.requests()[0].field("scope"), None);
}

async fn a_response_in_an_unknown_form_is_not_kept_and_the_next_run_asks_again(store: StoreKind) {
    let world = world(store).await;
    let body = r#"{"issued": [{"access_token": "unseen-access-in-a-list"}]}"#;
    world.provider.respond_next(Response::fixed(200, "application/json", body));
    let process = world.process();
    let error = process.run().await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::ProviderRejected);
    let (message, expected) = (error.to_string(), "(extraParameters, extraHeaders); the next run asks again");
    assert!(message.contains("(its members: `issued`); look") && message.contains(expected), "{message}");
    assert_eq!(world.vault.count(), 1);
    assert_eq!(process.outcome().await, Outcome::Refreshed);
}

async fn a_transient_failure_is_tried_again_by_the_next_run(store: StoreKind) {
    let world = world(store).await;
    for _ in 0..5 {
        // A request without a single-use token is sent again in the same run, three times at most.
        (0..3).for_each(|_| world.provider.respond_next(Response::fixed(503, "text/plain", "down")));
        let error = world.process().run().await.unwrap_err();
        assert_eq!(error.error_type(), ErrorType::ProviderUnavailable);
    }
    // No back-off, and no version.
    assert_eq!((world.provider.exchanges(), world.vault.count()), (15, 1));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
}

over_both_stores![
    a_refresh_costs_four_calls_and_one_version,
    claims_are_not_needed_whatever_the_setting_says,
    of_several_runs_at_once_the_response_that_was_requested_last_becomes_current,
    an_edit_that_puts_the_old_document_back_does_not_bring_the_earlier_response_back,
    a_run_that_was_killed_at_any_step_loses_nothing,
    a_person_edits_at_any_step_and_the_edit_stays,
    a_refusal_is_recorded_until_the_client_changes,
    an_invalid_grant_does_not_ask_for_a_consent,
    a_refresh_token_in_the_document_or_in_a_response_is_not_used,
    a_refresh_token_is_exchanged_beside_the_grant_type_that_brought_it,
    other_settings_beside_the_grant_get_a_token_of_their_own,
    a_run_whose_response_was_requested_earlier_leaves_the_labels_as_they_are,
    tokens_are_published,
    a_document_with_neither_names_both,
    a_scope_that_was_not_sent_is_a_warning_of_the_first_refresh,
    a_response_in_an_unknown_form_is_not_kept_and_the_next_run_asks_again,
    a_transient_failure_is_tried_again_by_the_next_run,
];
