//! The store without a process: it makes versions older, and checks what must always hold.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::bench::{Bench, SECRET};

/// The member `note` before and after a person's edit. Only a person changes it.
pub const NOTE: &str = "a person's own";
pub const EDITED: &str = "a person's edited";

/// Makes all versions of the secret older. After an hour every lease and every back-off has ended.
pub fn age(bench: &Bench, by: TimeDelta) {
    age_secret(bench, SECRET, by);
}

/// The same for any secret.
pub fn age_secret(bench: &Bench, name: &str, by: TimeDelta) {
    bench.sm.edit(name, |versions, _| {
        let mut json = serde_json::to_value(&*versions).expect("JSON");
        for version in json["versions"].as_array_mut().expect("its versions") {
            let created: DateTime<Utc> = version["created"].as_str().expect("a time").parse().expect("a time");
            version["created"] = (created - by).to_rfc3339().into();
        }
        *versions = serde_json::from_value(json).expect("its versions");
    });
}

/// Fails unless AWSCURRENT is a whole document with issued tokens, a person's edit is kept, and every version is a document or a
/// record.
pub fn assert_sound(bench: &Bench, case: &str) {
    assert_sound_secret(bench, SECRET, case);
}

/// The same for any secret.
pub fn assert_sound_secret(bench: &Bench, name: &str, case: &str) {
    let issued = bench.provider.every_token_issued();
    let is_issued = |value: &Value| value.as_str().is_some_and(|token| issued.iter().any(|known| known == token));
    let is_document = |value: &Value| {
        let pair = is_issued(&value["refreshToken"]) && is_issued(&value["accessToken"]);
        pair && [NOTE, EDITED].contains(&value["note"].as_str().unwrap_or_default()) && value["expiresAt"].is_i64()
    };
    let is_record = |value: &Value| {
        let about = value["about"].as_str().unwrap_or_default().starts_with("token-refresher's own record");
        about && (value["leaseEndsAt"].is_string() || value["refusal"].is_object())
    };
    let texts = bench.sm.edit(name, |versions, _| {
        let ids: Vec<_> = versions.list(true).into_iter().map(|listed| listed.id).collect();
        ids.iter().map(|id| versions.get(Some(id), None).expect("a version").body).collect::<Vec<_>>()
    });
    let versions: Vec<Value> =
        texts.iter().map(|text| serde_json::from_str(text.expose()).unwrap_or_default()).collect();
    let current = bench.current(name);
    assert!(is_document(&current), "{case}: AWSCURRENT is a whole document with issued tokens");
    assert!(
        versions.iter().all(|version| is_document(version) || is_record(version)),
        "{case}: every version is a document or a record"
    );
    if versions.iter().any(|version| version["note"] == EDITED) {
        assert_eq!(current["note"], EDITED, "{case}: a person's edit is kept");
    }
}
