//! Kept responses: what looks like tokens and cannot be understood is in the store, or in memory until it can be written.

use serde_json::{Value, json};
use token_refresher::{
    protocol::outcome::{Outcome, Reason},
    store::{StoreError, VersionId},
};

use crate::{
    counting::{
        Script,
        Step::{EndClaim, Exchange, Get, List, PutClaim, PutKept},
    },
    over_both_stores,
    support::provider::{Provider, Response},
    world::{NAME, Process, StoreKind, World, seconds},
};

const BODY: &str =
    r#"{"issued":[{"access_token":"unseen-new-access","refresh_token":"unseen-new-refresh","expires_in":600}]}"#;
const OTHER_BODY: &str =
    r#"{"issued":[{"access_token":"unseen-later-access","refresh_token":"unseen-later-refresh"}]}"#;

fn not_understood(body: &str) -> Response {
    Response::fixed(200, "application/json", body)
}

async fn world(store: StoreKind, responses: impl IntoIterator<Item = Response>) -> World {
    let world = World::due_with(store, Provider::script(responses)).await;
    for token in ["access", "refresh"].iter().flat_map(|kind| ["new", "later"].map(|of| format!("unseen-{of}-{kind}")))
    {
        world.never_print(&token);
    }
    world
}

/// The response in the version with this label.
fn kept(world: &World, label: &str) -> Option<String> {
    let record: Value = serde_json::from_str(&world.vault.labelled(label)?).ok()?;
    record["response"].as_str().map(str::to_owned)
}

/// Runs, and expects the error that says which version holds the response.
async fn kept_as(process: &Process, event: Value) -> String {
    let error = process.invoke(event.clone()).await.unwrap_err();
    let message = error.to_string();
    assert_eq!(error.error_type().as_str(), "ProviderRejected", "{event}: {message}");
    let id = message.split(" as version ").nth(1).unwrap_or_else(|| panic!("{event}: {message}"));
    id.split([',', ';']).next().unwrap().to_owned()
}

async fn a_kept_response_is_not_asked_for_again_and_its_error_takes_one_more_read(store: StoreKind) {
    for (claim, first, later) in [
        ("always", vec![Get, List, PutClaim, Exchange, PutKept, EndClaim], vec![Get, List, Get]),
        // A person put the version.
        ("never", vec![Get, List, PutClaim, Exchange, PutKept], vec![Get, List, Get]),
    ] {
        let world = world(store, [not_understood(BODY)]).await;
        let before = world.vault.text();
        let process = world.process_with(&[("CLAIM", claim)]);
        let id = kept_as(&process, json!({})).await;
        assert_eq!(process.script.taken(), first, "CLAIM={claim}");
        assert_eq!(kept(&world, "OAUTH_KEPT").as_deref(), Some(BODY));
        process.script.reset();
        for event in
            [json!({}), json!({"dryRun": true}), json!({"force": true, "ifVersionId": world.vault.id().as_str()})]
        {
            assert_eq!(kept_as(&process, event).await, id);
        }
        assert_eq!(process.script.taken(), [later.clone(), later.clone(), later].concat());
        assert_eq!((world.provider.exchanges(), world.vault.text()), (1, before));
    }
}

/// A person's tokens are exchanged, although the response to the old ones is still kept.
async fn new_tokens_are_exchanged_although_a_response_to_old_ones_is_kept(store: StoreKind) {
    let world = world(store, [not_understood(BODY)]).await;
    let process = world.process();
    kept_as(&process, json!({})).await;
    world.vault.put(&world.document(seconds(0)));
    process.script.reset();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken().len(), 7, "one more, for the kept response");
    assert_eq!(kept(&world, "OAUTH_KEPT").as_deref(), Some(BODY));
    world.assert_sound();
}

async fn a_force_asks_at_once_and_the_kept_response_keeps_its_label(store: StoreKind) {
    let responses = [not_understood(BODY), Response::fixed(503, "text/plain", "busy"), not_understood(OTHER_BODY)];
    let world = world(store, responses).await;
    let process = world.process();
    let first = kept_as(&process, json!({})).await;
    let forced = process.invoke(json!({"force": true})).await.unwrap_err();
    assert_eq!(forced.error_type().as_str(), "ProviderUnavailable");
    assert_eq!(kept_as(&process, json!({})).await, first);
    assert_eq!(kept(&world, "OAUTH_KEPT").as_deref(), Some(BODY));
    // A second response has the label then. The first one stays for a day.
    let second = kept_as(&process, json!({"force": true})).await;
    assert_ne!(second, first);
    assert_eq!(kept_as(&process, json!({})).await, second);
    assert_eq!(kept(&world, "OAUTH_KEPT").as_deref(), Some(OTHER_BODY));
    assert_eq!(world.provider.exchanges(), 3);
    world.vault.edit(NAME, |secret, now| secret.remove_old(now + seconds(25 * 3600)));
    world.clock.advance(seconds(25 * 3600));
    assert_eq!(kept_as(&process, json!({})).await, second);
    assert_eq!(world.provider.exchanges(), 3);
}

async fn a_response_that_cannot_be_written_stays_in_memory_until_it_can(store: StoreKind) {
    for error in [
        Script::unavailable(),
        StoreError::AccessDenied { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() },
        StoreError::Quota { detail: "no".to_owned() },
    ] {
        let world = world(store, [not_understood(BODY)]).await;
        let process = world.process();
        process.script.fail_always(PutKept, error);
        let started = world.clock.now();
        let error = process.run().await.unwrap_err();
        assert_eq!(error.error_type().as_str(), "TokenNotStored");
        let message = error.to_string();
        let memory = "it is only in this process's memory, to become version ";
        assert!(message.contains("THE RESPONSE COULD NOT BE WRITTEN (") && message.contains(memory), "{message}");
        assert!(message.contains("invoke the function again now"), "{message}");
        let tried_for = world.clock.now() - started;
        assert!(tried_for > seconds(58) && tried_for < seconds(60), "the write is retried until the deadline");
        for event in [json!({}), json!({"force": true}), json!({"secretId": NAME})] {
            assert_eq!(process.invoke(event).await.unwrap_err().error_type().as_str(), "TokenNotStored");
        }
        process.script.stop_failing();
        // The run that writes it returns its error, even a person's: they could not know that it is written now.
        let id = kept_as(&process, json!({"force": true})).await;
        assert!(message.contains(&id), "{message}");
        assert_eq!(kept(&world, "OAUTH_KEPT").as_deref(), Some(BODY));
        assert_eq!(kept_as(&world.process(), json!({})).await, id);
        assert_eq!(world.provider.exchanges(), 1);
    }
}

async fn a_run_that_names_the_secret_by_arn_finds_its_unstored_response(store: StoreKind) {
    let world = world(store, [not_understood(BODY)]).await;
    let Some(fake) = world.vault.fake() else { return };
    let by_arn = json!({"secretId": fake.arn(NAME)});
    let process = world.process();
    process.script.fail_always(PutKept, Script::unavailable());
    for event in [json!({}), by_arn.clone()] {
        assert_eq!(process.invoke(event).await.unwrap_err().error_type().as_str(), "TokenNotStored");
    }
    process.script.stop_failing();
    kept_as(&process, by_arn).await;
    assert_eq!(world.provider.exchanges(), 1);
}

async fn another_secret_does_not_wait_for_an_unstored_response(store: StoreKind) {
    let world = world(store, [not_understood(BODY)]).await;
    let process = world.process();
    process.script.fail_always(PutKept, Script::unavailable());
    process.run().await.unwrap_err();
    world.vault.create("crm/other", &world.document(seconds(3600)), world.clock.now());
    let started = world.clock.now();
    let report = process.invoke(json!({"secretId": "crm/other"})).await.unwrap();
    assert_eq!(report.outcome, Outcome::Skipped);
    assert!(world.clock.now() - started < seconds(5), "a run of another secret does not wait");
    // It writes the response as soon as that is possible.
    process.script.stop_failing();
    process.invoke(json!({"secretId": "crm/other"})).await.unwrap();
    assert_eq!(kept(&world, "OAUTH_KEPT").as_deref(), Some(BODY));
}

/// The response is written. It may still be wanted.
async fn a_persons_new_tokens_are_used_although_a_response_is_in_memory(store: StoreKind) {
    let world = world(store, [not_understood(BODY)]).await;
    let process = world.process();
    process.script.fail_always(PutKept, Script::unavailable());
    process.run().await.unwrap_err();
    world.vault.put(&world.document(seconds(0)));
    process.script.stop_failing();
    let report = process.run().await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Refreshed, Reason::Due));
    assert_eq!(kept(&world, "OAUTH_KEPT").as_deref(), Some(BODY));
    world.assert_sound();
}

/// A person's `force` asks at once. If it is not due, the run that writes the response says so all the same.
async fn a_response_that_is_written_later_is_announced_although_the_token_is_not_due(store: StoreKind) {
    let world = world(store, [not_understood(BODY)]).await;
    world.vault.put(&world.document(seconds(7200)));
    let process = world.process();
    process.script.fail_always(PutKept, Script::unavailable());
    let error = process.invoke(json!({"force": true})).await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "TokenNotStored");
    process.script.stop_failing();
    kept_as(&process, json!({})).await;
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!(world.provider.exchanges(), 1);
}

/// What looks like tokens is kept, without what is beside it.
async fn of_a_response_that_is_too_long_the_tokens_are_kept(store: StoreKind) {
    let long = BODY.replacen('{', &format!(r#"{{"profile":"{}","#, "p".repeat(70_000)), 1);
    let world = world(store, [not_understood(&long)]).await;
    let process = world.process();
    let message = process.run().await.unwrap_err().to_string();
    assert!(message.contains("; it is too long, so only what looks like tokens is kept; the response"), "{message}");
    let kept: Vec<String> = serde_json::from_str(&kept(&world, "OAUTH_KEPT").unwrap()).unwrap();
    assert_eq!(kept, ["unseen-new-access", "unseen-new-refresh"]);
    let message = process.run().await.unwrap_err().to_string();
    assert!(message.contains("; it is too long, so only what looks like tokens is kept; an earlier run"), "{message}");
    assert_eq!(world.provider.exchanges(), 1);
}

/// There is nothing to keep, and the refresh token is as good as before.
async fn a_token_that_is_too_long_without_a_new_refresh_token_is_asked_for_again(store: StoreKind) {
    let long = json!({"access_token": "unseen-".repeat(10_000), "expires_in": 600}).to_string();
    let good = json!({"access_token": "unseen-new-access", "expires_in": 600}).to_string();
    let world = world(store, [not_understood(&long), not_understood(&good)]).await;
    let process = world.process();
    let error = process.run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ProviderRejected");
    let message = error.to_string();
    let expected = "are allowed; let the provider issue shorter tokens (fewer scopes or claims)";
    assert!(message.contains("issued tokens that are too long") && message.contains(expected), "{message}");
    assert_eq!(kept(&world, "OAUTH_KEPT"), None);
    world.clock.advance(seconds(3600));
    assert_eq!(process.outcome().await, Outcome::Refreshed);
}

/// Its own label, the one of ended claims and the four of a refresh make six of twenty.
async fn a_response_is_kept_with_the_claims_label_if_its_own_does_not_fit(store: StoreKind) {
    for (others, label) in [(14, "OAUTH_KEPT"), (15, "OAUTH_CLAIM"), (16, "OAUTH_CLAIM")] {
        let world = world(store, [not_understood(BODY)]).await;
        world.vault.edit(NAME, |secret, now| {
            for n in 0..others {
                let id = VersionId::from(format!("00000000-0000-4000-8000-{n:012}"));
                secret.put(&id, &"of another program".into(), Some(&[format!("OTHER_{n}")]), now).expect("room");
            }
        });
        let id = kept_as(&world.process(), json!({})).await;
        assert_eq!(kept(&world, label).as_deref(), Some(BODY), "{others} other labels");
        world.clock.advance(seconds(3600));
        assert_eq!(kept_as(&world.process(), json!({})).await, id, "{others} other labels");
        assert_eq!(world.provider.exchanges(), 1);
    }
}

over_both_stores!(
    a_kept_response_is_not_asked_for_again_and_its_error_takes_one_more_read,
    new_tokens_are_exchanged_although_a_response_to_old_ones_is_kept,
    a_force_asks_at_once_and_the_kept_response_keeps_its_label,
    a_response_that_cannot_be_written_stays_in_memory_until_it_can,
    a_run_that_names_the_secret_by_arn_finds_its_unstored_response,
    another_secret_does_not_wait_for_an_unstored_response,
    a_persons_new_tokens_are_used_although_a_response_is_in_memory,
    a_response_is_kept_with_the_claims_label_if_its_own_does_not_fit,
    a_response_that_is_written_later_is_announced_although_the_token_is_not_due,
    of_a_response_that_is_too_long_the_tokens_are_kept,
    a_token_that_is_too_long_without_a_new_refresh_token_is_asked_for_again,
);
