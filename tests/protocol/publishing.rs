//! The published secret: what is written there, when, and by which run.

use serde_json::{Value, json};
use token_refresher::{
    protocol::outcome::{Outcome, Reason},
    store::{VersionId, versions::Versions},
};

use crate::{
    counting::{
        InjectedFault,
        Step::{Exchange, Get, List, Move, PutClaim, PutStaged},
    },
    over_both_stores,
    world::{LONG_AGO, NAME, StoreKind, World, seconds},
};

const PUBLISHED: &str = "crm/prod/access";

impl World {
    /// A world with a published secret that has no value yet. The token expires in this many seconds.
    async fn with_publication(store: StoreKind, expires_in: i64) -> Self {
        let world = Self::new(store).await;
        let mut document = world.document(seconds(expires_in));
        document["publishTo"] = json!(PUBLISHED);
        world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
        world.vault.create_empty(PUBLISHED);
        world
    }

    fn published_versions(&self) -> Versions {
        self.vault.edit(PUBLISHED, |versions, _| versions.clone())
    }

    fn published(&self) -> Option<Value> {
        let published = self.published_versions().get(None, None).ok()?;
        Some(serde_json::from_str(published.body.expose()).expect("JSON"))
    }

    fn published_id(&self) -> VersionId {
        self.published_versions().get(None, None).expect("a value").id
    }

    /// The current tokens are published.
    fn assert_published(&self) {
        let (published, current) = (self.published().expect("a publication"), self.vault.json());
        for member in ["accessToken", "expiresAt", "tokenType"] {
            assert!(published.get(member) == current.get(member), "{member} differs");
        }
        self.assert_sound();
    }
}

async fn tokens_are_published_before_they_are_current_and_with_published_members_only(store: StoreKind) {
    let world = World::with_publication(store, 0).await;
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, List, PutClaim, Exchange, PutStaged, Get, PutStaged, Get, Move]);
    let published = world.published().unwrap();
    let members: Vec<_> = published.as_object().unwrap().keys().collect();
    assert_eq!(members, ["accessToken", "expiresAt", "tokenType"]);
    world.assert_published();
    // Later publications: read, put, move.
    world.clock.advance(seconds(3600));
    process.script.reset();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, List, PutClaim, Exchange, PutStaged, Get, PutStaged, Move, Move]);
    assert_eq!(world.published_versions().list(true).len(), 2);
    world.assert_published();
    process.script.reset();
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!(process.script.taken(), [Get, Get]);
}

async fn a_publication_has_the_style_and_the_exact_text_of_the_token_secret(store: StoreKind) {
    let world = World::new(store).await;
    world.vault.create_empty(PUBLISHED);
    let (access, refresh) = world.provider.issue();
    let text = format!(
        r#"{{"scope":"a b","expires_at":"2026-01-01T02:00:00+01:00","token_response":{{"instance_url" : "https://x", "n":1.50}},"refresh_token":"{refresh}","access_token":"{access}","publish_to":"{PUBLISHED}","client_id":"c"}}"#
    );
    world.vault.create(NAME, &text, world.clock.now() - LONG_AGO);
    assert_eq!(world.outcome().await, Outcome::Skipped);
    let published = world.published_versions().get(None, None).unwrap().body.expose().to_owned();
    let expected = format!(
        r#"{{"access_token":"{access}","expires_at":"2026-01-01T02:00:00+01:00","scope":"a b","token_response":{{"instance_url" : "https://x", "n":1.50}}}}"#
    );
    assert!(published == expected, "the text differs");
}

async fn the_next_run_publishes_tokens_that_a_person_put(store: StoreKind) {
    let world = World::with_publication(store, 0).await;
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let mut consented = world.document(seconds(7200));
    consented["publishTo"] = json!(PUBLISHED);
    world.vault.put(&consented);
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Skipped);
    // It looks for a staged version, before it publishes once more, and reads AWSCURRENT again.
    assert_eq!(process.script.taken(), [Get, Get, Get, Get, Get, PutStaged, Move]);
    world.assert_published();
    // An expiry that a person changes is published, too.
    world.vault.set("expiresAt", (world.clock.now() + seconds(5000)).timestamp_millis());
    assert_eq!(world.outcome().await, Outcome::Skipped);
    world.assert_published();
    // Tokens that were current before are published again after a roll back.
    world.vault.roll_back();
    assert_eq!(world.outcome().await, Outcome::Skipped);
    world.assert_published();
}

async fn the_next_run_finishes_after_a_crash_at_any_step_of_a_publication(store: StoreKind) {
    for (step, nth) in [(PutStaged, 1), (Get, 2), (PutStaged, 2), (Get, 3), (Move, 1)] {
        for fault in [InjectedFault::CrashBefore, InjectedFault::CrashAfter] {
            let world = World::with_publication(store, 0).await;
            // The response is lost then: see `crashes`.
            if (step, nth) == (PutStaged, 1) && matches!(fault, InjectedFault::CrashBefore) {
                continue;
            }
            let after = matches!(fault, InjectedFault::CrashAfter);
            world.process().inject(step, nth, fault).crash().await;
            let done = (step, nth) == (Move, 1) && after;
            let expected = if done { Outcome::Skipped } else { Outcome::Recovered };
            assert_eq!(world.outcome().await, expected, "{step:?} {nth}, after: {after}");
            world.assert_published();
            assert_eq!(world.provider.exchanges(), 1);
        }
    }
}

async fn published_tokens_of_a_forced_run_that_crashed_are_promoted_before_the_old_ones_are_due(store: StoreKind) {
    let world = World::with_publication(store, 7200).await;
    let process = world.process().inject(Move, 1, InjectedFault::CrashBefore);
    process.crash_on(json!({"force": true})).await;
    let report = world.process().run().await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Recovered, Reason::NotDue));
    world.assert_published();
}

async fn a_failed_publication_does_not_stop_the_promotion_and_the_next_run_publishes(store: StoreKind) {
    let denied = || token_refresher::store::StoreError::AccessDenied {
        action: "secretsmanager:PutSecretValue",
        detail: "no".to_owned(),
    };
    let world = World::with_publication(store, 0).await;
    let process = world.process().inject(PutStaged, 2, InjectedFault::Fail(denied()));
    let error = process.run().await.unwrap_err();
    assert_eq!((error.error_type().as_str(), error.secret_id()), ("AccessDenied", Some(PUBLISHED)));
    let text = error.to_string();
    assert!(text.contains("it is the publishTo of `crm/prod/oauth`, whose own tokens are safe"), "{text}");
    let advice = match store {
        StoreKind::SecretsManager => "secret:crm/prod/access-??????",
        StoreKind::Directory => "check who owns the file",
    };
    assert!(text.contains(advice), "{text}");
    world.assert_sound();
    assert_eq!(world.published(), None);
    // The same process has no unstored tokens. The token is not due, and the run publishes it.
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_published();
}

async fn a_missing_published_secret_is_named_in_the_error(store: StoreKind) {
    let world = World::new(store).await;
    let mut document = world.document(seconds(0));
    document["publishTo"] = json!("crm/none");
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    for _ in 0..2 {
        let error = world.process().run().await.unwrap_err();
        assert_eq!((error.error_type().as_str(), error.secret_id()), ("SecretNotFound", Some("crm/none")));
        assert!(error.to_string().contains("it is the publishTo of `crm/prod/oauth`"), "{error}");
        world.assert_sound();
    }
    assert_eq!(world.provider.exchanges(), 1);
}

async fn only_a_publication_is_ever_replaced(store: StoreKind) {
    for (text, problem) in [
        (r#"{"apiKey":"k"}"#, "it has a member `apiKey`, which is never published"),
        (r#"{"accessToken":"a","refreshToken":"r"}"#, "it has a member `refreshToken`, which is never published"),
        (r#"{"clientId":"c"}"#, "it has a member `clientId`, which is never published"),
        ("a plain password", "it is not JSON (from line 1, column 1 on)"),
        ("[]", "it is an array, where a JSON object is wanted"),
    ] {
        let world = World::with_publication(store, 0).await;
        world.vault.edit(PUBLISHED, |versions, now| {
            versions.put(&"0".repeat(36).into(), &text.into(), None, now).expect("room");
        });
        for _ in 0..2 {
            let error = world.process().run().await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "secret `{PUBLISHED}` cannot be used: {problem}; give the readers a secret of their own (it is the \
                     publishTo of `{NAME}`, whose own tokens are safe)"
                )
            );
        }
        assert_eq!(world.published_versions().list(true).len(), 1, "{text}");
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
    // An empty object may be replaced.
    let world = World::with_publication(store, 0).await;
    world.vault.edit(PUBLISHED, |versions, now| {
        versions.put(&"0".repeat(36).into(), &"{}".into(), None, now).expect("room");
    });
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_published();
}

async fn a_token_secret_is_never_published_to_itself(store: StoreKind) {
    let world = World::new(store).await;
    let mut document = world.document(seconds(0));
    document["publishTo"] = json!(NAME);
    world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
    for _ in 0..2 {
        let error = world.process().run().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.error_type().as_str(), "InvalidSecret");
        assert!(text.contains("it is the token secret itself (it is the publishTo of"), "{text}");
        world.assert_sound();
    }
    assert_eq!(world.provider.exchanges(), 1);
}

async fn a_token_secret_without_an_access_token_publishes_nothing(store: StoreKind) {
    let world = World::with_publication(store, 7200).await;
    let mut document = world.vault.json();
    document.as_object_mut().unwrap().remove("accessToken");
    world.vault.put(&document);
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!((process.script.taken(), world.published()), (vec![Get, Get], None));
}

async fn a_reader_forces_a_refresh_by_its_published_version_id(store: StoreKind) {
    let world = World::with_publication(store, 0).await;
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let known_id = world.published_id();
    let force = |id: VersionId| json!({"force": true, "ifVersionId": id.as_str()});
    // An edit of another member makes a new version of the same tokens. Their published id stays the same.
    world.vault.set("note", "edited");
    let report = world.process().invoke(force(known_id.clone())).await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Refreshed, Reason::Forced));
    assert_eq!(report.published_version_id, Some(world.published_id()));
    world.assert_published();
    let report = world.process().invoke(force(known_id)).await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Skipped, Reason::VersionNotCurrent));
    assert_eq!(world.provider.exchanges(), 2);
}

async fn a_run_whose_promotion_fails_publishes_the_current_tokens(store: StoreKind) {
    let world = World::with_publication(store, 0).await;
    let (scheduled, vault) = (world.process(), world.vault.clone());
    let mut theirs = world.document(seconds(7200));
    theirs["publishTo"] = json!(PUBLISHED);
    // A person puts other tokens between the publication and the promotion.
    let process = world.process().before(Move, 1, move || {
        vault.put(&theirs);
    });
    assert_eq!(process.outcome().await, Outcome::Superseded);
    world.assert_published();
    assert_eq!(scheduled.outcome().await, Outcome::Skipped);
    assert_eq!(scheduled.script.taken(), [Get, Get, Get]);
}

over_both_stores!(
    tokens_are_published_before_they_are_current_and_with_published_members_only,
    a_publication_has_the_style_and_the_exact_text_of_the_token_secret,
    the_next_run_publishes_tokens_that_a_person_put,
    the_next_run_finishes_after_a_crash_at_any_step_of_a_publication,
    published_tokens_of_a_forced_run_that_crashed_are_promoted_before_the_old_ones_are_due,
    a_failed_publication_does_not_stop_the_promotion_and_the_next_run_publishes,
    a_missing_published_secret_is_named_in_the_error,
    only_a_publication_is_ever_replaced,
    a_token_secret_is_never_published_to_itself,
    a_token_secret_without_an_access_token_publishes_nothing,
    a_reader_forces_a_refresh_by_its_published_version_id,
    a_run_whose_promotion_fails_publishes_the_current_tokens,
);
