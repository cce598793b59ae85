//! The formats that later versions of this program must read and write: see `docs/compatibility.md`. Each is compared with the
//! vectors in this folder, byte by byte. A vector is never changed. A new one may be added.
//!
//! A test that fails writes its results below `target/tmp`. To add a vector, add its inputs, and copy its results from there.

use std::{fs, path::Path};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use token_refresher::{
    clock::Clock,
    oauth::client::Client,
    oauth::grant::Grant,
    protocol::{
        ids::{self, ClientDigest, TokenKey},
        record::{Record, RecordRead},
    },
    secret::Secret,
    store::{Label, SecretStore, Selector, StoreError, VersionId, directory::DirectoryStore},
    token_secret::{Tokens, client_settings::ClientSettings, document::Document},
};

fn vectors(name: &str) -> Value {
    let path = format!("tests/vectors/{name}.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares the vectors of a file with the results that the code computes from their inputs.
fn assert_unchanged(name: &str, computed: &Value) {
    let vectors = vectors(name);
    if vectors != *computed {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(computed).unwrap() + "\n";
        fs::write(&path, text).unwrap();
        panic!("the results differ from tests/vectors/{name}.json: they are in {}", path.display());
    }
}

fn text<'a>(case: &'a Value, member: &str) -> Option<&'a str> {
    case[member].as_str()
}

fn time(case: &Value, member: &str) -> Option<DateTime<Utc>> {
    text(case, member).map(|time| time.parse().unwrap())
}

fn grant(case: &Value) -> Grant {
    match text(case, "refreshToken") {
        Some(refresh_token) => Grant::RefreshToken(refresh_token.into()),
        None => Grant::Other(text(case, "grantType").unwrap().to_owned()),
    }
}

fn key(case: &Value) -> TokenKey {
    let tokens = Tokens {
        grant: grant(case),
        access_token: text(case, "accessToken").map(Secret::from),
        refreshed_at: time(case, "refreshedAt"),
    };
    TokenKey::of(text(case, "arn").unwrap(), &tokens, &client_settings(case))
}

fn client_settings(case: &Value) -> ClientSettings {
    ClientSettings::read(&Document::parse(&case["client"].to_string()).unwrap()).unwrap()
}

fn client_digest(case: &Value) -> ClientDigest {
    ClientDigest::of(&Client::new(client_settings(case).with_profile(), &grant(case)).unwrap())
}

/// All ids derived from the tokens and the client of a case.
fn ids(case: &Value) -> Value {
    let (key, client) = (key(case), client_digest(case));
    json!({
        "key": key.to_string(),
        "client": client.to_string(),
        "claim 0": key.claim(0),
        "claim 1": key.claim(1),
        "claim 99": key.claim(99),
        "staged": key.staged(),
        "staged second": key.staged_second(&text(case, "body").unwrap().into()),
        "published": key.published(&text(case, "publication").unwrap().into()),
        "refusal": key.refusal(client, time(case, "now").unwrap()),
        "kept": key.kept(),
        "kept second": key.kept_second(&text(case, "body").unwrap().into()),
    })
}

#[test]
fn ids_never_change() {
    let mut computed = vectors("ids");
    for case in computed["cases"].as_array_mut().unwrap() {
        case["ids"] = ids(case);
    }
    for case in computed["merged"].as_array_mut().unwrap() {
        let [members_of, tokens_of] = ["membersOf", "tokensOf"].map(|name| VersionId::from(text(case, name).unwrap()));
        case["id"] = json!(ids::merged(&members_of, &tokens_of));
    }
    assert!(computed["cases"].as_array().unwrap().len() >= 10);
    assert_unchanged("ids", &computed);
}

/// The record that a run with the tokens of the first case of `ids.json` reads from a text.
fn record(text: &str) -> Value {
    match Record::read(&text.into(), &key(&vectors("ids")["cases"][0])) {
        RecordRead::Record(Record::Claim(claim)) => json!({
            "claim": claim.attempt,
            "leaseEndsAt": claim.lease_ends_at.to_rfc3339(),
            "client": claim.client_settings,
        }),
        RecordRead::Record(Record::Refusal { attempt, refusal }) => json!({
            "refusal after claim": attempt,
            "kind": format!("{:?}", refusal.kind),
            "status": refusal.status,
            "error": refusal.error,
            "description": refusal.description,
        }),
        RecordRead::Record(Record::Kept { attempt, detail }) => {
            json!({"kept response after claim": attempt, "detail": detail})
        }
        RecordRead::OfLaterVersion => json!("a record of a later version"),
        RecordRead::Other => json!("not a record of these tokens"),
    }
}

#[test]
fn the_text_of_written_records_never_changes() {
    let (records, key) = (vectors("records"), key(&vectors("ids")["cases"][0]));
    for name in ["a claim of version 1", "a refused grant of version 1"] {
        let case = records["read"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let text = Secret::from(text(case, "text").unwrap());
        let RecordRead::Record(record) = Record::read(&text, &key) else { panic!("{name} is a record") };
        assert_eq!(record.to_text(&key, "7f000001-0000-4000-8000-000000000001").expose(), text.expose(), "{name}");
    }
    let name = "a kept response of version 1";
    let case = records["read"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    let text = Secret::from(text(case, "text").unwrap());
    let RecordRead::Record(record) = Record::read(&text, &key) else { panic!("{name} is a record") };
    let response = Secret::from(r#"{"issued":["vector \"token\""]}"#);
    let written = record.to_text_with(&key, "7f000001-0000-4000-8000-000000000001", Some(&response));
    assert_eq!(written.expose(), text.expose(), "{name}");
}

#[test]
fn old_records_are_still_read() {
    let mut computed = vectors("records");
    for case in computed["read"].as_array_mut().unwrap() {
        case["record"] = record(text(case, "text").unwrap());
    }
    assert_unchanged("records", &computed);
}

/// A copy of the folder with the state files, and a directory store over it.
fn directory_store() -> (tempfile::TempDir, DirectoryStore) {
    let folder = tempfile::TempDir::new().unwrap();
    for file in fs::read_dir("tests/vectors/directory").unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let store = DirectoryStore::open(folder.path(), Clock::system()).unwrap();
    (folder, store)
}

#[tokio::test]
async fn old_state_files_of_the_directory_store_are_still_read() {
    let (_folder, store) = directory_store();
    let [first, claim, staged] = [
        "95f52372-bcc0-40af-a413-6131cf190522",
        "d6a2a2f6-df62-836c-bfe9-8bd8f14fb2f4",
        "470be543-4be8-85d4-9ea3-77277e7289dd",
    ]
    .map(VersionId::from);
    let first_text = "{\"refreshToken\":\"vector-refresh-1\",\"note\":\"é \\\" \\n\"}";
    let staged_text = r#"{"refreshToken":"vector-refresh-2"}"#;
    for (label, id, text) in [
        (Label::Previous, &first, first_text),
        (Label::Claim, &claim, r#"{"about":"a claim"}"#),
        (Label::Staged, &staged, staged_text),
        (Label::Current, &staged, staged_text),
    ] {
        let version = store.get("crm/prod/oauth", Selector::Label(label)).await.unwrap();
        assert_eq!((&version.id, version.body.expose()), (id, text), "{label:?}");
        assert_eq!(version.created.to_rfc3339(), "2026-01-01T12:00:00.250+00:00");
        assert_eq!(version.arn, "local:/var/lib/tokens/crm%2Fprod%2Foauth.json");
    }
    let listed = store.list("crm/prod/oauth").await.unwrap();
    assert_eq!(
        listed.into_iter().map(|listed| (listed.id, listed.labels.any())).collect::<Vec<_>>(),
        [(first, true), (claim, true), (staged, true)]
    );
    let one = store.get("one-version", Selector::Label(Label::Current)).await.unwrap();
    assert_eq!(one.body.expose(), "not even JSON");
    let claim = store.get("one-version", Selector::Label(Label::Claim)).await;
    assert!(matches!(claim, Err(StoreError::NotFound { .. })), "{claim:?}");
}

#[tokio::test]
async fn the_text_of_written_state_files_never_changes() {
    let (folder, store) = directory_store();
    for name in ["crm/prod/oauth", "one-version"] {
        let file = format!("{}.json", name.replace('/', "%2F"));
        let current = store.get(name, Selector::Label(Label::Current)).await.unwrap();
        // A put of the same text under the same id changes nothing, but writes the file.
        store.put(name, &current.id, Label::Staged, &current.body).await.unwrap();
        let [vector, written] =
            [Path::new("tests/vectors/directory"), folder.path()].map(|folder| fs::read(folder.join(&file)));
        assert_eq!(String::from_utf8(written.unwrap()), String::from_utf8(vector.unwrap()), "{file}");
    }
}
