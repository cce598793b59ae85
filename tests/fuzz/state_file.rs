//! Any bytes as the state file of a secret in a directory: rejected without quoting a secret, or written back as it was read, and
//! every operation works on it.

use chrono::{DateTime, TimeDelta};
use token_refresher::{
    protocol::decision,
    secret::Secret,
    store::{Limits, StoreError, VersionId, versions::Versions},
};

/// The secret in the seeds: no message may show it.
const SECRET: &str = "s3cr3t-of-the-seeds";

pub fn target(input: &[u8]) {
    // An error message of serde may quote the file. It is never shown; the tests of the store check that.
    let Ok(versions) = serde_json::from_slice::<Versions>(input) else { return };
    let text = serde_json::to_string(&versions).unwrap();
    assert_eq!(
        serde_json::from_str::<Versions>(&text).unwrap(),
        versions,
        "the written file differs from the read one"
    );
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let listed = versions.list(true);
    assert!(versions.list(false).len() <= listed.len());
    assert!(decision::room(&listed, Limits::SECRETS_MANAGER, now) <= Limits::SECRETS_MANAGER.versions);
    for label in versions.labels().keys() {
        match versions.get(None, Some(label)) {
            Ok(version) => assert_eq!(Some(&version.id), versions.labels().get(label)),
            Err(error) => assert_shows_no_secret(&error.to_string(), &versions),
        }
    }
    for version in &listed {
        let version = versions.get(Some(&version.id), None).expect("a listed version");
        // Times are added to the creation time.
        assert!(decision::claim_of_unknown_content(0, version.created).lease_ends_at > version.created);
    }
    assert_puts_and_moves(versions, now);
}

fn assert_puts_and_moves(mut versions: Versions, now: DateTime<chrono::Utc>) {
    let (id, body) = (VersionId::from("00000000-0000-4000-8000-00000000new1"), Secret::from("new"));
    let before = versions.clone();
    match versions.put(&id, &body, Some(&["OAUTH_STAGED".to_owned()]), now) {
        Ok(()) => {
            assert_eq!(versions.get(Some(&id), None).unwrap().body, body);
            assert_eq!(versions.put(&id, &"other".into(), None, now), Err(StoreError::Exists));
        }
        Err(error) => {
            assert_eq!(versions, before, "a failed operation changed something");
            assert_shows_no_secret(&error.to_string(), &versions);
            return;
        }
    }
    let current = versions.labels().get("AWSCURRENT").cloned();
    let before = versions.clone();
    match versions.move_label("AWSCURRENT", current.as_ref(), &id) {
        Ok(()) => assert_eq!(versions.labels().get("AWSCURRENT"), Some(&id)),
        Err(_) => assert_eq!(versions, before, "an operation that fails has changed nothing"),
    }
    // Roll back to the version before, if it still exists.
    if current.as_ref().is_some_and(|id| versions.get(Some(id), None).is_ok()) && current.as_ref() != Some(&id) {
        assert_eq!(versions.roll_back().ok(), current);
    }
    let put = versions.put(&"00000000-0000-4000-8000-00000000new2".into(), &body, None, now + TimeDelta::days(2));
    match put {
        Ok(()) | Err(StoreError::Exists) => {}
        Err(error) => assert!(
            matches!(error, StoreError::Quota { .. }) && versions.list(true).len() >= Limits::SECRETS_MANAGER.versions
        ),
    }
}

fn assert_shows_no_secret(message: &str, versions: &Versions) {
    let named = versions.labels().iter().any(|(label, id)| label.contains(SECRET) || id.as_str().contains(SECRET));
    assert!(named || !message.contains(SECRET), "a message quotes a value");
}
