//! `tokenctl adopt`.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use token_refresher::{
    protocol::{
        ids::TokenKey,
        record::{Record, holder},
    },
    store::{Label, SecretStore, Selector},
    token_secret::{TokenSecret, client_settings::ClientSettings},
};

use crate::{
    process::run,
    server::{ACCESS_TOKEN, REFRESH_TOKEN},
    world::{SECRET, World},
};

#[tokio::test]
async fn a_whole_document_is_stored_as_it_is() {
    let world = World::new().await;
    let text = format!(
        r#"{{ "rate": 1.10, "refresh_token": "{REFRESH_TOKEN}", "provider": "xero", "client_id": "c", "client_secret": "unseen-secret" }}"#
    );
    let ended = run(world.tokenctl(&["adopt", SECRET]), &text).await.done();
    for part in [
        "warning: the document has no access token. If another program uses this document today, it exchanges the refresh token itself",
        "Secret `myapp/prod/crm` is created",
        "The next run of the function refreshes it.",
        "From now on, no other program may exchange this refresh token.",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let version = world.store.get(SECRET, Selector::Label(Label::Current)).await.unwrap();
    assert!(version.body.expose().starts_with(r#"{"rate":1.10,"refresh_token":"#));
}

#[tokio::test]
async fn every_mistake_of_a_document_is_named_and_nothing_is_stored() {
    let world = World::new().await;
    for (document, parts) in [
        ("", &["it is empty"][..]),
        ("not JSON", &["it is not JSON (from line 1, column 2 on)"]),
        (r#"{"accessToken": "a"}"#, &["its member `refreshToken` is missing or empty"]),
        (
            r#"{"refreshToken": "r ", "clientId": "\tc", "tokenEndpointAuthMethod": "basic", "expiresAt": "soon"}"#,
            &[
                "`refreshToken` has a blank at its end",
                "`clientId` has",
                "`tokenEndpointAuthMethod` is",
                "`expiresAt` is",
            ],
        ),
        (
            r#"{"refreshToken": "r", "clientId": " c", "clientSecret": "s", "tokenEndpoint": "id.example", "extraHeaders": {"host": "a"}}"#,
            &["`clientId` has", "its `tokenEndpoint` is not a URL"],
        ),
        (r#"{"refreshToken": "r"}"#, &["it does not exist, and these tokens have no client: add `clientId`"]),
        (
            r#"{"refreshToken": "r", "provider": "xero"}"#,
            &["`clientId` and `clientSecret` are neither in it", "pass --client-in-environment"],
        ),
        (
            r#"{"refreshToken": "r", "clientId": "c", "clientSecret": "s", "tokenEndpoint": "http://id.example/token"}"#,
            &["its `tokenEndpoint` is http to id.example"],
        ),
        (r#"{"refreshToken": "r", "clientId": "c", "clientSecret": "s", "provider": "xer0"}"#, &["is \"xero\" meant?"]),
    ] {
        let ended = run(world.tokenctl(&["adopt", SECRET]), document).await;
        for part in parts {
            assert!(ended.code == 1 && ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
        assert!(!world.exists().await, "{document}");
    }
    let long = format!(r#"{{"refreshToken": "{}"}}"#, "r".repeat(65 * 1024));
    run(world.tokenctl(&["adopt", SECRET]), &long).await.failed(1, "the document is longer than 65536 bytes");
    let almost = world.token(&json!({"own": "x".repeat(63 * 1024)})).to_string();
    run(world.tokenctl(&["adopt", SECRET]), &almost).await.failed(1, "bytes, and 61440 are allowed");
    run(world.tokenctl(&["adopt", SECRET]), "").await.failed(1, "it is empty");
}

#[tokio::test]
async fn a_misspelt_member_is_a_warning() {
    let world = World::new().await;
    let document = world.token(&json!({"refreshMarginSecond": 60})).to_string();
    let ended = run(world.tokenctl(&["adopt", SECRET]), &document).await.done();
    assert!(ended.stderr.contains("warning: ") && ended.stderr.contains("refreshMarginSecond"), "{}", ended.stderr);
}

#[tokio::test]
async fn only_tokens_are_merged_into_the_document_of_the_secret() {
    let world = World::new().await;
    for (given, expires_at) in [
        // When it was issued is not known: the token is due at once.
        (
            json!({"access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN, "expires_in": 3600, "realmId": "7"}),
            None,
        ),
        (
            json!({"accessToken": ACCESS_TOKEN, "refreshToken": REFRESH_TOKEN, "expiresAt": "2100-01-01T00:00:00Z", "realmId": "7"}),
            Some("2100-01-01T00:00:00Z"),
        ),
        (json!({"data": {"access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN, "realmId": "7"}}), None),
    ] {
        let world = World::new().await;
        world.create(&world.token(&json!({}))).await;
        let ended = run(world.tokenctl(&["adopt", SECRET]), &given.to_string()).await;
        ended.failed(2, "pass --yes to replace the tokens");
        let before = Utc::now();
        run(world.tokenctl(&["adopt", SECRET, "--yes"]), &given.to_string()).await.done();
        let document = world.document().await;
        assert_eq!(
            (&document["accessToken"], &document["refreshToken"]),
            (&json!(ACCESS_TOKEN), &json!(REFRESH_TOKEN))
        );
        assert_eq!((&document["clientId"], &document["own"]), (&json!("public"), &json!([1.10])));
        assert_eq!(document["tokenResponse"], json!({"realmId": "7"}), "{given}");
        let end = DateTime::from_timestamp_millis(document["expiresAt"].as_i64().unwrap()).unwrap();
        match expires_at {
            Some(expected) => assert_eq!(end, expected.parse::<DateTime<Utc>>().unwrap()),
            None => assert!(end - before < TimeDelta::seconds(30), "{end}"),
        }
    }
    let tokens = json!({"access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN}).to_string();
    run(world.tokenctl(&["adopt", SECRET]), &tokens).await.failed(1, "these tokens have no client");
}

#[tokio::test]
async fn a_refresh_token_alone_is_put_into_the_document_of_the_secret() {
    let world = World::new().await;
    world.create(&world.token(&json!({"refreshedAt": 1}))).await;
    let given = json!({"refresh_token": REFRESH_TOKEN, "client_id": "other"}).to_string();
    let ended = run(world.tokenctl(&["adopt", SECRET, "--yes"]), &given).await.done();
    assert!(ended.stderr.contains("The next run of the function refreshes it."), "{}", ended.stderr);
    let expected = world.token(&json!({"refreshToken": REFRESH_TOKEN, "expiresAt": 0}));
    assert_eq!(world.document().await, expected);
}

#[tokio::test]
async fn a_document_of_something_else_is_replaced_only_after_a_question() {
    let world = World::new().await;
    let other = json!({"username": "admin", "password": "unseen-password-of-database"});
    world.create(&other).await;
    let given = world.token(&json!({})).to_string();
    run(world.tokenctl(&["adopt", SECRET]), &given)
        .await
        .failed(2, "has a document of something else (`password`, `username`)");
    run(world.login(&crate::world::PUBLIC), "").await.failed(2, "pass --yes to write tokens into it");
    assert_eq!(world.document().await, other);

    // A client's secret has members of ours.
    let world = World::new().await;
    world.create(&json!({"clientId": "c", "clientSecret": "unseen-client-secret", "note": 1})).await;
    let ended = run(world.tokenctl(&["adopt", SECRET]), &given).await;
    ended.failed(
        2,
        "has members that the new document lacks (`clientSecret`, `note`); pass --yes to replace the document",
    );
}

#[tokio::test]
async fn an_older_document_and_what_is_no_document_are_explained() {
    let world = World::new().await;
    world.create(&world.token(&json!({"refreshedAt": "2026-02-01T00:00:00Z"}))).await;
    let older = world.token(&json!({"refreshToken": REFRESH_TOKEN, "refreshedAt": "2026-01-01T00:00:00Z"})).to_string();
    for (given, text) in [
        (older.as_str(), "the document is older than the one in secret"),
        (r#"{"ARN": "a", "SecretString": "{}"}"#, "it is the output of get-secret-value"),
        (r#"{"error": "invalid_grant"}"#, "it is an error response of the provider"),
        (r#"{"access_token": "a"}"#, "it has an access token and no refresh token"),
    ] {
        run(world.tokenctl(&["adopt", SECRET, "--yes"]), given).await.failed(1, text);
    }
}

#[tokio::test]
async fn members_of_ours_beside_tokens_do_not_go_to_the_token_response() {
    let world = World::new().await;
    world.create(&world.token(&json!({}))).await;
    let given = json!({"accessToken": ACCESS_TOKEN, "refreshToken": REFRESH_TOKEN, "refreshedAt": 1, "loginSettings": {}, "publishTo": "x",
                       "tokenResponse": {"a": 1}, "realmId": "7"});
    run(world.tokenctl(&["adopt", SECRET, "--yes"]), &given.to_string()).await.done();
    assert_eq!(world.document().await["tokenResponse"], json!({"realmId": "7"}));
}

#[tokio::test]
async fn a_document_whose_client_the_function_has_is_stored_on_request() {
    let world = World::new().await;
    let document = json!({"refreshToken": REFRESH_TOKEN, "own": 1}).to_string();
    run(world.tokenctl(&["adopt", SECRET, "--client-in-environment"]), &document).await.done();
    assert_eq!(world.document().await, json!({"refreshToken": REFRESH_TOKEN, "own": 1}));
}

#[tokio::test]
async fn new_tokens_do_not_keep_the_time_of_another_refresh() {
    let world = World::new().await;
    let old = world.token(&json!({"refreshedAt": "2026-01-01T00:00:00Z"}));
    world.create(&old).await;
    // An edit of the same tokens keeps it.
    let mut edited = old.clone();
    edited["own"] = json!(2);
    run(world.tokenctl(&["adopt", SECRET, "--yes"]), &edited.to_string()).await.done();
    assert_eq!(world.document().await, edited);
    edited["refreshToken"] = json!(REFRESH_TOKEN);
    run(world.tokenctl(&["adopt", SECRET, "--yes"]), &edited.to_string()).await.done();
    assert_eq!(world.document().await.get("refreshedAt"), None);
}

#[tokio::test]
async fn tokens_that_the_function_has_exchanged_are_refused() {
    let world = World::new().await;
    let old = world.token(&json!({}));
    let first = world.create(&old).await;
    let new = world.token(&json!({"refreshToken": REFRESH_TOKEN, "refreshedAt": 1}));
    let version = world.store.get(SECRET, Selector::Label(Label::Current)).await.unwrap();
    let token = TokenSecret::parse(version.body.expose()).unwrap();
    let staged = TokenKey::of(&version.arn, &token.tokens, &token.client).staged();
    world.store.put(SECRET, &staged, Label::Staged, &new.to_string().into()).await.unwrap();
    world.store.move_current(SECRET, &first, &staged).await.unwrap();
    // As a whole document, as a response, and with another access token; also after a person has edited another member.
    let response = json!({"refresh_token": "unseen-old-refresh-token", "access_token": "unseen-other-access-token"});
    for given in [old.to_string(), response.to_string()] {
        let ended = run(world.tokenctl(&["adopt", SECRET, "--yes"]), &given).await;
        ended.failed(1, "the function has already exchanged these tokens");
    }
    let mut edited = new.clone();
    edited["own"] = json!(2);
    world.store.put_value(SECRET, &edited.to_string().into()).await.unwrap();
    let ended = run(world.tokenctl(&["adopt", SECRET, "--yes"]), &response.to_string()).await;
    ended.failed(1, "the function has already exchanged these tokens");
    assert_eq!(world.document().await, edited);
}

#[tokio::test]
async fn a_document_that_replaces_another_names_the_members_that_are_lost() {
    let world = World::new().await;
    world.create(&world.token(&json!({"publishTo": "readers"}))).await;
    let mut document = world.token(&json!({}));
    document.as_object_mut().unwrap().remove("own");
    let ended = run(world.tokenctl(&["adopt", SECRET, "--yes"]), &document.to_string()).await.done();
    assert!(ended.stderr.contains("these members are lost: `own`, `publishTo`"), "{}", ended.stderr);
}

/// A version as the function keeps a response that it could not understand.
async fn keep(world: &World, response: &str) {
    let version = world.store.get(SECRET, Selector::Label(Label::Current)).await.unwrap();
    let key = TokenKey::of(
        &version.arn,
        &TokenSecret::parse(version.body.expose()).unwrap().tokens,
        &ClientSettings::default(),
    );
    let record = Record::Kept { attempt: 0, detail: "answered 200".to_owned() };
    let record = record.to_text_with(&key, &holder(), Some(&response.into()));
    world.store.put(SECRET, &key.kept(), Label::Kept, &record).await.unwrap();
}

#[tokio::test]
async fn a_kept_response_is_taken_in_by_the_places_of_its_tokens() {
    let world = World::new().await;
    world.create(&world.token(&json!({}))).await;
    run(world.tokenctl(&["adopt", SECRET, "--kept"]), "").await.failed(1, "has no kept response");

    let response = json!({"result": [{"at": ACCESS_TOKEN, "rt": REFRESH_TOKEN}], "n": 1});
    keep(&world, &response.to_string()).await;
    run(world.tokenctl(&["adopt", "elsewhere", "--kept"]), "").await.failed(1, "`elsewhere` does not exist");
    let ended = run(world.tokenctl(&["adopt", SECRET, "--kept"]), "").await;
    ended.failed(1, "/result/0/at (20 characters)\n  /result/0/rt (20 characters)");
    let at = |access, refresh| {
        world.tokenctl(&["adopt", SECRET, "--kept", "--access-token-at", access, "--refresh-token-at", refresh])
    };
    run(at("/result/1/at", "/result/0/rt"), "").await.failed(1, "there is no string at /result/1/at");
    let mut command = at("/result/0/at", "/result/0/rt");
    command.args(["--expires-in-seconds", "3600"]);
    let ended = run(command, "").await.done();
    assert!(ended.stderr.contains("Its access token expires in 59 min."), "{}", ended.stderr);
    let document = world.document().await;
    assert_eq!((&document["accessToken"], &document["refreshToken"]), (&json!(ACCESS_TOKEN), &json!(REFRESH_TOKEN)));
    assert_eq!(document["own"], json!([1.10]));
    keep(&world, &response.to_string()).await;
    world
        .store
        .put_value(SECRET, &world.token(&json!({"refreshToken": "unseen-newer-consent"})).to_string().into())
        .await
        .unwrap();
    let ended = run(at("/result/0/at", "/result/0/rt"), "").await;
    ended.failed(1, "is the response to other tokens than secret `myapp/prod/crm` has now");
    keep(&world, "access_token=&what is this").await;
    run(world.tokenctl(&["adopt", SECRET, "--kept"]), "").await.failed(1, "the kept response is not JSON");
    let kept = world.store.get(SECRET, Selector::Label(Label::Kept)).await.unwrap();
    world.store.remove_label(SECRET, Label::Kept, &kept.id).await.unwrap();
    // The label is off: the response is not needed any more.
    run(world.tokenctl(&["adopt", SECRET, "--kept"]), "").await.failed(1, "has no kept response");
}
