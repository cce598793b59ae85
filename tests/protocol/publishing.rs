//! A second secret that tells readers what they need, and nothing that only the refresher needs.

use serde_json::{Value, json};
use token_refresher::{
    protocol::outcome::{Outcome, Reason},
    store::{VersionId, versions::Versions},
};

use crate::{
    counting::{
        Step::{Exchange, Get, Move, PutClaim, PutStaged},
        Strike,
    },
    over_both_stores,
    world::{LONG_AGO, NAME, Over, World, seconds},
};

const READERS: &str = "crm/prod/access";

impl World {
    /// A world whose secret is due in so long and names a second one, which has no value yet.
    async fn publishing(over: Over, expires_in: i64) -> Self {
        let world = Self::new(over).await;
        let mut document = world.document(seconds(expires_in));
        document["publishTo"] = json!(READERS);
        world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
        world.vault.create_empty(READERS);
        world
    }

    fn readers(&self) -> Versions {
        self.vault.edit(READERS, |versions, _| versions.clone())
    }

    fn told(&self) -> Option<Value> {
        let told = self.readers().get(None, None).ok()?;
        Some(serde_json::from_str(told.body.expose()).expect("JSON"))
    }

    fn told_id(&self) -> VersionId {
        self.readers().get(None, None).expect("a value").id
    }

    /// Readers are told of the tokens that are current.
    fn assert_told(&self) {
        let (told, current) = (self.told().expect("a publication"), self.vault.json());
        for member in ["accessToken", "expiresAt", "tokenType"] {
            assert!(told.get(member) == current.get(member), "{member} differs");
        }
        self.assert_sound();
    }
}

async fn readers_are_told_before_the_tokens_are_current_and_get_nothing_that_is_only_the_refreshers(over: Over) {
    let world = World::publishing(over, 0).await;
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, PutClaim, Exchange, PutStaged, Get, PutStaged, Get, Move]);
    let told = world.told().unwrap();
    let members: Vec<_> = told.as_object().unwrap().keys().collect();
    assert_eq!(members, ["accessToken", "expiresAt", "tokenType"]);
    world.assert_told();
    // Not the first time: read, put, move.
    world.clock.advance(seconds(3600));
    process.script.reset();
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    assert_eq!(process.script.taken(), [Get, PutClaim, Exchange, PutStaged, Get, PutStaged, Move, Move]);
    assert_eq!(world.readers().list(true).len(), 2);
    world.assert_told();
    process.script.reset();
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!(process.script.taken(), [Get, Get]);
}

async fn what_is_published_is_written_in_the_style_and_the_text_of_the_token_secret(over: Over) {
    let world = World::new(over).await;
    world.vault.create_empty(READERS);
    let (access, refresh) = world.provider.issue();
    let text = format!(
        r#"{{"scope":"a b","expires_at":"2026-01-01T02:00:00+01:00","token_response":{{"instance_url" : "https://x", "n":1.50}},"refresh_token":"{refresh}","access_token":"{access}","publish_to":"{READERS}","client_id":"c"}}"#
    );
    world.vault.create(NAME, &text, world.clock.now() - LONG_AGO);
    assert_eq!(world.outcome().await, Outcome::Skipped);
    let told = world.readers().get(None, None).unwrap().body.expose().to_owned();
    let expected = format!(
        r#"{{"access_token":"{access}","expires_at":"2026-01-01T02:00:00+01:00","scope":"a b","token_response":{{"instance_url" : "https://x", "n":1.50}}}}"#
    );
    assert!(told == expected, "it reads otherwise");
}

async fn readers_are_told_of_tokens_that_a_person_put_there_by_the_next_run(over: Over) {
    let world = World::publishing(over, 0).await;
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let mut consented = world.document(seconds(7200));
    consented["publishTo"] = json!(READERS);
    world.vault.put(&consented);
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Skipped);
    // Looked for staged tokens, and once more at what is current, before readers are told.
    assert_eq!(process.script.taken(), [Get, Get, Get, Get, PutStaged, Move]);
    world.assert_told();
    // An expiry that a person changes is told, too.
    world.vault.set("expiresAt", (world.clock.now() + seconds(5000)).timestamp_millis());
    assert_eq!(world.outcome().await, Outcome::Skipped);
    world.assert_told();
    // Tokens that were current before: readers go back to them as well.
    world.vault.roll_back();
    assert_eq!(world.outcome().await, Outcome::Skipped);
    world.assert_told();
}

async fn a_run_that_ends_after_it_has_told_readers_is_made_up_for_by_the_next(over: Over) {
    for (step, nth) in [(PutStaged, 1), (Get, 2), (PutStaged, 2), (Get, 3), (Move, 1)] {
        for strike in [Strike::DieBefore, Strike::DieAfter] {
            let world = World::publishing(over, 0).await;
            // Without an answer in the store the token is spent: that is another test's.
            if (step, nth) == (PutStaged, 1) && matches!(strike, Strike::DieBefore) {
                continue;
            }
            let after = matches!(strike, Strike::DieAfter);
            world.process().strike(step, nth, strike).die().await;
            let done = (step, nth) == (Move, 1) && after;
            let expected = if done { Outcome::Skipped } else { Outcome::Recovered };
            assert_eq!(world.outcome().await, expected, "{step:?} {nth}, after: {after}");
            world.assert_told();
            assert_eq!(world.provider.exchanges(), 1);
        }
    }
}

async fn tokens_of_a_forced_run_that_ended_before_their_promotion_are_put_in_place_once_readers_know_of_them(
    over: Over,
) {
    let world = World::publishing(over, 7200).await;
    let process = world.process().strike(Move, 1, Strike::DieBefore);
    process.die_of(json!({"force": true})).await;
    let report = world.process().run().await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Recovered, Reason::NotDue));
    world.assert_told();
}

async fn readers_who_cannot_be_told_hold_no_promotion_up_and_are_told_by_the_next_run(over: Over) {
    let denied = || token_refresher::store::StoreError::AccessDenied {
        action: "secretsmanager:PutSecretValue",
        detail: "no".to_owned(),
    };
    let world = World::publishing(over, 0).await;
    let process = world.process().strike(PutStaged, 2, Strike::Fail(denied()));
    let error = process.run().await.unwrap_err();
    assert_eq!((error.error_type().as_str(), error.secret_id()), ("AccessDenied", Some(READERS)));
    let text = error.to_string();
    assert!(text.contains("it is the publishTo of `crm/prod/oauth`, whose own tokens are safe"), "{text}");
    let advice = match over {
        Over::SecretsManager => "secret:crm/prod/access-??????",
        Over::Directory => "check who owns the file",
    };
    assert!(text.contains(advice), "{text}");
    world.assert_sound();
    assert_eq!(world.told(), None);
    // The same process has nothing left over: it finds a token that is not due, and tells readers.
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_told();
}

async fn a_published_secret_that_is_not_there_is_named(over: Over) {
    let world = World::new(over).await;
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

async fn nothing_but_a_publication_is_ever_replaced(over: Over) {
    for (text, problem) in [
        (r#"{"apiKey":"k"}"#, "it has a member `apiKey`, which is never published"),
        (r#"{"accessToken":"a","refreshToken":"r"}"#, "it has a member `refreshToken`, which is never published"),
        (r#"{"clientId":"c"}"#, "it has a member `clientId`, which is never published"),
        ("a plain password", "it is not JSON (from line 1, column 1 on)"),
        ("[]", "it is an array, where a JSON object is wanted"),
    ] {
        let world = World::publishing(over, 0).await;
        world.vault.edit(READERS, |versions, now| {
            versions.put(&"0".repeat(36).into(), &text.into(), None, now).expect("room");
        });
        for _ in 0..2 {
            let error = world.process().run().await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "secret `{READERS}` cannot be used: {problem}; give the readers a secret of their own (it is the \
                     publishTo of `{NAME}`, whose own tokens are safe)"
                )
            );
        }
        assert_eq!(world.readers().list(true).len(), 1, "{text}");
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
    // An object without members is as good as none.
    let world = World::publishing(over, 0).await;
    world.vault.edit(READERS, |versions, now| {
        versions.put(&"0".repeat(36).into(), &"{}".into(), None, now).expect("room");
    });
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_told();
}

async fn a_token_secret_is_never_published_to_itself(over: Over) {
    let world = World::new(over).await;
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

async fn a_token_secret_without_an_access_token_has_nothing_to_publish(over: Over) {
    let world = World::publishing(over, 7200).await;
    let mut document = world.vault.json();
    document.as_object_mut().unwrap().remove("accessToken");
    world.vault.put(&document);
    let process = world.process();
    assert_eq!(process.outcome().await, Outcome::Skipped);
    assert_eq!((process.script.taken(), world.told()), (vec![Get], None));
}

async fn readers_ask_for_a_refresh_by_the_version_they_know(over: Over) {
    let world = World::publishing(over, 0).await;
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    let known = world.told_id();
    let ask = |id: VersionId| json!({"force": true, "ifVersionId": id.as_str()});
    // A person edits another member: another version, the same tokens, and readers know them by the same id.
    world.vault.set("note", "edited");
    let report = world.process().invoke(ask(known.clone())).await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Refreshed, Reason::Forced));
    assert_eq!(report.published_version_id, Some(world.told_id()));
    world.assert_told();
    let report = world.process().invoke(ask(known)).await.unwrap();
    assert_eq!((report.outcome, report.reason), (Outcome::Skipped, Reason::VersionNotCurrent));
    assert_eq!(world.provider.exchanges(), 2);
}

async fn of_runs_that_tell_readers_at_once_the_last_word_is_of_the_current_tokens(over: Over) {
    let world = World::publishing(over, 0).await;
    let (scheduled, vault) = (world.process(), world.vault.clone());
    let mut theirs = world.document(seconds(7200));
    theirs["publishTo"] = json!(READERS);
    // A person's tokens come between publication and promotion.
    let process = world.process().before(Move, 1, move || {
        vault.put(&theirs);
    });
    assert_eq!(process.outcome().await, Outcome::Superseded);
    world.assert_told();
    assert_eq!(scheduled.outcome().await, Outcome::Skipped);
    assert_eq!(scheduled.script.taken(), [Get, Get]);
}

over_both_stores!(
    readers_are_told_before_the_tokens_are_current_and_get_nothing_that_is_only_the_refreshers,
    what_is_published_is_written_in_the_style_and_the_text_of_the_token_secret,
    readers_are_told_of_tokens_that_a_person_put_there_by_the_next_run,
    a_run_that_ends_after_it_has_told_readers_is_made_up_for_by_the_next,
    tokens_of_a_forced_run_that_ended_before_their_promotion_are_put_in_place_once_readers_know_of_them,
    readers_who_cannot_be_told_hold_no_promotion_up_and_are_told_by_the_next_run,
    a_published_secret_that_is_not_there_is_named,
    nothing_but_a_publication_is_ever_replaced,
    a_token_secret_is_never_published_to_itself,
    a_token_secret_without_an_access_token_has_nothing_to_publish,
    readers_ask_for_a_refresh_by_the_version_they_know,
    of_runs_that_tell_readers_at_once_the_last_word_is_of_the_current_tokens,
);
