//! The cost of each path in calls, versions and exchanges: the table "Calls and versions" of `docs/protocol.md`.

use serde_json::json;
use token_refresher::protocol::outcome::{Outcome, Reason};

use crate::{
    counting::{
        InjectedFault,
        Step::{Exchange, Get, List, Move, PutClaim, PutStaged},
    },
    over_both_stores,
    support::provider::{CLIENT_ID, CLIENT_SECRET},
    world::{LONG_AGO, NAME, StoreKind, World, seconds},
};

/// Nobody but a person puts a version without the label `OAUTH_STAGED`, and its tokens may have been exchanged.
async fn a_skip_costs_one_read_and_two_of_a_version_that_a_person_put(store: StoreKind) {
    for (expires_in, outcome, calls) in [(901, Outcome::Skipped, 2), (900, Outcome::Refreshed, 6)] {
        let world = World::new(store).await;
        world.seed(seconds(expires_in), LONG_AGO);
        let before = world.vault.versions();
        let process = world.process();
        assert_eq!(process.outcome().await, outcome, "{expires_in} s before expiry");
        assert_eq!(process.script.taken().len(), calls);
        if outcome == Outcome::Skipped {
            assert_eq!(process.script.taken(), [Get, Get]);
            assert_eq!(world.vault.versions(), before);
            assert_eq!(world.provider.exchanges(), 0);
        } else {
            process.script.reset();
            assert_eq!(process.outcome().await, Outcome::Skipped);
            assert_eq!(process.script.taken(), [Get]);
        }
        world.assert_sound();
    }
}

async fn a_refresh_costs_five_calls_and_two_versions(store: StoreKind) {
    for age in [seconds(60), LONG_AGO] {
        let world = World::new(store).await;
        world.seed(seconds(0), age);
        let process = world.process();
        let report = process.run().await.unwrap();
        assert_eq!((report.outcome, report.reason), (Outcome::Refreshed, Reason::Due));
        assert_eq!(report.version_id, world.vault.id());
        assert_eq!(report.expires_in_seconds, Some(3600));
        assert_eq!(process.script.taken(), [Get, List, PutClaim, Exchange, PutStaged, Move], "{age} old");
        assert_eq!(world.vault.count(), 3);
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn a_refresh_without_claims_costs_four_calls_and_one_version_once_it_is_known_that_it_can_write(
    store: StoreKind,
) {
    let world = World::due(store).await;
    let process = world.process_with(&[("CLAIM", "never")]);
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, List, PutClaim, Exchange, PutStaged, Move]);
    assert_eq!(world.vault.count(), 3);
    world.clock.advance(seconds(3600));
    process.script.reset();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, List, Exchange, PutStaged, Move]);
    assert_eq!(world.vault.count(), 4);
    world.assert_sound();
}

async fn a_client_in_another_secret_costs_one_more_read(store: StoreKind) {
    let world = World::new(store).await;
    let mut document = world.document(seconds(0));
    for member in ["clientId", "clientSecret", "tokenEndpoint"] {
        document.as_object_mut().unwrap().remove(member);
    }
    document["clientCredentialsSecretId"] = json!("crm/client");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    let client = json!({"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "tokenEndpoint": world.provider.url()});
    world.vault.create("crm/client", &client, world.clock.now());
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, Get, List, PutClaim, Exchange, PutStaged, Move]);
    assert!(!world.vault.text().contains("clientSecret\""));
    world.assert_sound();
}

async fn staged_tokens_are_recovered_with_five_calls_no_version_and_no_exchange(store: StoreKind) {
    for (age, claim) in [(LONG_AGO, "always"), (seconds(60), "always"), (LONG_AGO, "never")] {
        let world = World::new(store).await;
        world.seed(seconds(0), age);
        world.process().inject(Move, 1, InjectedFault::CrashBefore).crash().await;
        let versions = world.vault.count();
        let process = world.process_with(&[("CLAIM", claim)]);
        assert_eq!(process.outcome().await, Outcome::Recovered);
        assert_eq!(process.script.taken(), [Get, List, Get, Get, Move], "{age} old, CLAIM={claim}");
        assert_eq!(world.vault.count(), versions);
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn an_edit_during_a_refresh_costs_four_more_calls_and_one_version(store: StoreKind) {
    let world = World::due(store).await;
    let vault = world.vault.clone();
    let process = world.process().before(Move, 1, move || drop(vault.set("note", "edited")));
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    let steps = process.script.taken();
    assert_eq!(steps, [Get, List, PutClaim, Exchange, PutStaged, Move, Get, PutStaged, Get, Move]);
    // The first version, the edit, the claim, the staged version, and the merged version.
    assert_eq!(world.vault.count(), 5);
    world.assert_sound();
}

async fn an_edit_before_a_recovery_costs_two_more_calls_and_one_version(store: StoreKind) {
    let world = World::due(store).await;
    world.process().inject(Move, 1, InjectedFault::CrashBefore).crash().await;
    world.vault.set("note", "edited");
    let versions = world.vault.count();
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert_eq!(process.script.taken(), [Get, List, Get, Get, PutStaged, Get, Move]);
    assert_eq!(world.vault.count(), versions + 1);
    world.assert_sound();
}

async fn a_dry_run_neither_writes_nor_exchanges(store: StoreKind) {
    for (expires_in, outcome, steps) in
        [(901, Outcome::Skipped, vec![Get, Get]), (900, Outcome::WouldRefresh, vec![Get, List])]
    {
        let world = World::new(store).await;
        world.seed(seconds(expires_in), LONG_AGO);
        let before = world.vault.versions();
        let process = world.process();
        assert_eq!(process.invoke(json!({"dryRun": true})).await.unwrap().outcome, outcome);
        assert_eq!(process.script.taken(), steps);
        assert_eq!(world.vault.versions(), before);
        assert_eq!(world.provider.exchanges(), 0);
    }
}

async fn rfc_6749_names_and_value_forms_survive_repeated_refreshes(store: StoreKind) {
    let world = World::new(store).await;
    let (access, refresh) = world.provider.issue();
    let (url, now) = (world.provider.url(), world.clock.now().timestamp());
    // Not with a JSON library: it would not keep the order of the members and the text of the number.
    let text = format!(
        r#"{{"zeta":1.50e+3,"refresh_token":"{refresh}","access_token":"{access}","expires_at":"{now}","token_endpoint":"{url}","client_id":"{CLIENT_ID}","client_secret":"{CLIENT_SECRET}","alpha":[1, 2]}}"#
    );
    world.vault.create(NAME, &text, world.clock.now() - LONG_AGO);
    world.refresh_times(3).await;
    let text = world.vault.text();
    assert!(text.starts_with(r#"{"zeta":1.50e+3,"refresh_token":""#));
    assert!(text.contains(r#","alpha":[1, 2],"token_type":"Bearer","refreshed_at":""#));
    assert!(!text.contains("Token"));
    assert_eq!(world.vault.json()["expires_at"], json!(world.clock.now().timestamp().to_string()));
    world.assert_sound();
}

async fn a_forced_run_refreshes_a_token_not_due_if_the_named_version_is_current(store: StoreKind) {
    let world = World::new(store).await;
    let first = world.seed(seconds(3000), LONG_AGO);
    let event = json!({"force": true, "ifVersionId": first.as_str()});
    let process = world.process();
    assert_eq!(process.invoke(event.clone()).await.unwrap().outcome, Outcome::Refreshed);
    process.script.reset();
    let report = process.invoke(event).await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Skipped, Reason::VersionNotCurrent));
    assert_eq!(process.script.taken(), [Get]);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

over_both_stores!(
    a_skip_costs_one_read_and_two_of_a_version_that_a_person_put,
    a_refresh_costs_five_calls_and_two_versions,
    a_refresh_without_claims_costs_four_calls_and_one_version_once_it_is_known_that_it_can_write,
    a_client_in_another_secret_costs_one_more_read,
    staged_tokens_are_recovered_with_five_calls_no_version_and_no_exchange,
    an_edit_during_a_refresh_costs_four_more_calls_and_one_version,
    an_edit_before_a_recovery_costs_two_more_calls_and_one_version,
    a_dry_run_neither_writes_nor_exchanges,
    rfc_6749_names_and_value_forms_survive_repeated_refreshes,
    a_forced_run_refreshes_a_token_not_due_if_the_named_version_is_current,
);
