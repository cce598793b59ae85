//! How many calls to the store, versions and exchanges each path takes: the table of the README.

use chrono::TimeDelta;
use serde_json::json;
use token_refresher::protocol::outcome::{Outcome, Reason};

use crate::{
    counting::{
        Step::{Exchange, Get, List, Move, PutClaim, PutStaged},
        Strike,
    },
    over_both_stores,
    support::provider::{CLIENT_ID, CLIENT_SECRET},
    world::{LONG_AGO, NAME, Over, World, seconds},
};

async fn a_token_far_from_expiry_costs_one_read(over: Over) {
    for (expires_in, outcome, calls) in [(901, Outcome::Skipped, 1), (900, Outcome::Refreshed, 5)] {
        let world = World::new(over).await;
        world.seed(seconds(expires_in), LONG_AGO);
        let before = world.vault.versions();
        let process = world.process();
        assert_eq!(process.outcome().await, outcome, "{expires_in} s before expiry");
        assert_eq!(process.script.taken().len(), calls);
        if outcome == Outcome::Skipped {
            assert_eq!(process.script.taken(), [Get]);
            assert_eq!(world.vault.versions(), before);
            assert_eq!(world.provider.exchanges(), 0);
        }
        world.assert_sound();
    }
}

async fn a_refresh_costs_four_calls_and_two_versions_and_a_look_at_the_quota_where_the_version_is_young(over: Over) {
    for (age, listed) in [(1_799_999, true), (1_800_000, false), (3_600_000, false)] {
        let world = World::new(over).await;
        world.seed(seconds(0), TimeDelta::milliseconds(age));
        let process = world.process();
        let report = process.run().await.unwrap();
        assert_eq!((report.outcome, report.reason), (Outcome::Refreshed, Reason::Due));
        assert_eq!(report.version_id, world.vault.id());
        assert_eq!(report.expires_in_seconds, Some(3600));
        let expected = [Get, List, PutClaim, Exchange, PutStaged, Move];
        let expected: Vec<_> = expected.into_iter().filter(|step| listed || *step != List).collect();
        assert_eq!(process.script.taken(), expected, "{age} ms old");
        assert_eq!(world.vault.count(), 3);
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn without_claims_a_refresh_costs_five_calls_and_one_version(over: Over) {
    let world = World::due(over).await;
    let process = world.process_with(&[("CLAIM", "never")]);
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, Get, Get, Exchange, PutStaged, Move]);
    assert_eq!(world.vault.count(), 2);
    world.assert_sound();
}

async fn a_client_in_another_secret_costs_one_read_more(over: Over) {
    let world = World::new(over).await;
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
    assert_eq!(process.script.taken(), [Get, Get, PutClaim, Exchange, PutStaged, Move]);
    assert!(!world.vault.text().contains("clientSecret\""));
    world.assert_sound();
}

async fn staged_tokens_are_recovered_with_five_calls_no_version_and_no_exchange(over: Over) {
    for (age, claim, expected) in [
        (LONG_AGO, "always", [Get, PutClaim, Get, Get, Move]),
        (seconds(60), "always", [Get, List, Get, Get, Move]),
        (LONG_AGO, "never", [Get, Get, Get, Get, Move]),
    ] {
        let world = World::new(over).await;
        world.seed(seconds(0), age);
        world.process().strike(Move, 1, Strike::DieBefore).die().await;
        let versions = world.vault.count();
        let process = world.process_with(&[("CLAIM", claim)]);
        assert_eq!(process.outcome().await, Outcome::Recovered);
        assert_eq!(process.script.taken(), expected, "{age} old, CLAIM={claim}");
        assert_eq!(world.vault.count(), versions);
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn a_dry_run_neither_writes_nor_exchanges(over: Over) {
    for (expires_in, outcome) in [(901, Outcome::Skipped), (900, Outcome::WouldRefresh)] {
        let world = World::new(over).await;
        world.seed(seconds(expires_in), LONG_AGO);
        let before = world.vault.versions();
        let process = world.process();
        assert_eq!(process.invoke(json!({"dryRun": true})).await.unwrap().outcome, outcome);
        assert_eq!(process.script.taken(), [Get]);
        assert_eq!(world.vault.versions(), before);
        assert_eq!(world.provider.exchanges(), 0);
    }
}

async fn the_names_of_rfc_6749_and_every_form_survive_refresh_after_refresh(over: Over) {
    let world = World::new(over).await;
    let (access, refresh) = world.provider.issue();
    let (url, now) = (world.provider.url(), world.clock.now().timestamp());
    // By hand: a JSON library would not keep the order, nor the number's text.
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

async fn a_forced_run_refreshes_what_is_not_due_while_the_version_it_names_is_current(over: Over) {
    let world = World::new(over).await;
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
    a_token_far_from_expiry_costs_one_read,
    a_refresh_costs_four_calls_and_two_versions_and_a_look_at_the_quota_where_the_version_is_young,
    without_claims_a_refresh_costs_five_calls_and_one_version,
    a_client_in_another_secret_costs_one_read_more,
    staged_tokens_are_recovered_with_five_calls_no_version_and_no_exchange,
    a_dry_run_neither_writes_nor_exchanges,
    the_names_of_rfc_6749_and_every_form_survive_refresh_after_refresh,
    a_forced_run_refreshes_what_is_not_due_while_the_version_it_names_is_current,
);
