//! A dry run: it says what a scheduled run would do, from what is in the store, and changes nothing.

use serde_json::{Value, json};
use token_refresher::{protocol::outcome::Outcome, store::VersionId};

use crate::{
    counting::{
        InjectedFault,
        Step::{Exchange, Move, PutClaim},
    },
    over_both_stores,
    support::provider::Provider,
    world::{LONG_AGO, NAME, StoreKind, World, seconds},
};

/// The outcome of a dry run, or its error type. Fails if it changes anything.
async fn dry_run(world: &World) -> String {
    let (versions, exchanges) = (world.vault.versions(), world.provider.exchanges());
    let result = world.process().invoke(json!({"dryRun": true})).await;
    assert_eq!(world.vault.versions(), versions);
    assert_eq!(world.provider.exchanges(), exchanges);
    match result {
        Ok(report) => report.outcome.as_str().to_owned(),
        Err(error) => error.error_type().as_str().to_owned(),
    }
}

/// The outcome of a scheduled run, or its error type.
async fn run(world: &World) -> String {
    match world.process().run().await {
        Ok(report) => report.outcome.as_str().to_owned(),
        Err(error) => error.error_type().as_str().to_owned(),
    }
}

async fn a_dry_run_says_what_the_next_run_then_does(store: StoreKind) {
    for (situation, dry, real) in [
        ("not due", "skipped", "skipped"),
        ("due", "would_refresh", "refreshed"),
        ("staged", "would_recover", "recovered"),
        ("staged, not due", "would_recover", "recovered"),
        ("claimed", "in_progress", "in_progress"),
        ("claimed, after the lease", "would_refresh", "refreshed"),
        ("claimed twice, after the lease", "backing_off", "backing_off"),
        ("refused", "ReauthorizationRequired", "ReauthorizationRequired"),
        ("full", "VersionQuota", "VersionQuota"),
    ] {
        let world = World::new(store).await;
        let is_due = !situation.contains("not due");
        world.seed(seconds(if is_due { 0 } else { 3600 }), LONG_AGO);
        let crash_after_claim = async || {
            world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
        };
        match situation {
            "staged" | "staged, not due" => {
                world.process().inject(Move, 1, InjectedFault::CrashBefore).crash_on(json!({"force": true})).await;
            }
            "claimed" => crash_after_claim().await,
            "claimed, after the lease" => {
                crash_after_claim().await;
                world.clock.advance(seconds(63));
            }
            "claimed twice, after the lease" => {
                for _ in 0..2 {
                    crash_after_claim().await;
                    world.clock.advance(seconds(63));
                }
            }
            "refused" => {
                world.provider.withdraw_consent();
                assert_eq!(run(&world).await, "ReauthorizationRequired");
            }
            "full" => world.vault.edit(NAME, |versions, now| {
                for n in 1..100 {
                    let id = VersionId::from(format!("00000000-0000-4000-8000-{n:012}"));
                    versions.put(&id, &"another".into(), Some(&[]), now).expect("room");
                }
            }),
            _ => {}
        }
        assert_eq!(dry_run(&world).await, dry, "{situation}");
        assert_eq!(run(&world).await, real, "{situation}");
    }
}

async fn a_published_secret_that_does_not_exist_is_an_error_of_the_dry_run(store: StoreKind) {
    for exists in [true, false] {
        let world = World::new(store).await;
        let mut document: Value = world.document(seconds(0));
        document["publishTo"] = json!("crm/readers");
        world.vault.create(NAME, &document, world.clock.now() - LONG_AGO);
        if exists {
            world.vault.create_empty("crm/readers");
        }
        assert_eq!(dry_run(&world).await, if exists { "would_refresh" } else { "SecretNotFound" });
    }
}

async fn a_dry_run_asks_no_provider(store: StoreKind) {
    let world = World::due_with(store, Provider::responding(500, "text/plain", "down")).await;
    let process = world.process();
    assert_eq!(process.invoke(json!({"dryRun": true})).await.unwrap().outcome, Outcome::WouldRefresh);
    assert!(!process.script.taken().contains(&Exchange));
}

over_both_stores!(
    a_dry_run_says_what_the_next_run_then_does,
    a_published_secret_that_does_not_exist_is_an_error_of_the_dry_run,
    a_dry_run_asks_no_provider,
);
