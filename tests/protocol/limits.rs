//! Too little room and too little time are noticed before the refresh token is sent.

use chrono::TimeDelta;
use serde_json::json;
use token_refresher::{protocol::outcome::Outcome, store::VersionId};

use crate::{
    counting::{
        InjectedFault,
        Step::{Exchange, Get, List, Move, PutClaim},
    },
    over_both_stores,
    support::provider::{Provider, Response},
    world::{LONG_AGO, StoreKind, Vault, World, milliseconds, seconds},
};

/// Fills the secret up to this number of versions. The new ones have this age and no label.
fn fill(vault: &Vault, versions: usize, age: TimeDelta) {
    vault.edit(crate::world::NAME, |secret, now| {
        for n in secret.list(true).len()..versions {
            let id = VersionId::from(format!("00000000-0000-4000-8000-{n:012}"));
            secret.put(&id, &format!("filler {n}").as_str().into(), Some(&[]), now - age).expect("room");
        }
    });
}

async fn the_quota_is_checked_before_the_claim(store: StoreKind) {
    let day = seconds(86_400);
    for (age, versions, fits) in [
        (seconds(60), 98, true),
        (seconds(60), 99, false),
        (seconds(60), 100, false),
        (day - milliseconds(1), 99, false),
        (day, 100, true),
    ] {
        let world = World::new(store).await;
        world.seed(seconds(0), seconds(60));
        fill(&world.vault, versions, age);
        let before = world.vault.versions();
        let result = world.process().run().await;
        if fits {
            assert_eq!(result.unwrap().outcome, Outcome::Refreshed, "{versions} versions, {age} old");
            assert!(world.vault.count() <= 100);
        } else {
            assert_eq!(result.unwrap_err().error_type().as_str(), "VersionQuota", "{versions} versions, {age} old");
            assert_eq!(world.vault.versions(), before);
            assert_eq!(world.provider.exchanges(), 0);
        }
        world.assert_sound();
    }
}

async fn a_due_token_in_an_old_version_needs_room_for_two_versions_too(store: StoreKind) {
    for (versions, fits) in [(98, true), (99, false)] {
        let world = World::due(store).await;
        fill(&world.vault, versions, seconds(60));
        let result = world.process().run().await;
        assert_eq!(result.is_ok(), fits, "{versions} versions: {result:?}");
        assert_eq!(world.provider.exchanges(), usize::from(fits));
        world.assert_sound();
    }
}

async fn a_readers_request_leaves_room_for_scheduled_refreshes_and_a_persons_force_need_not(store: StoreKind) {
    // The refreshes of 23 hours, 45 minutes apart, need 62 versions. Then the ones of the last hour make room.
    for (versions, admitted) in [(38, true), (39, false)] {
        let world = World::new(store).await;
        world.seed(seconds(3000), LONG_AGO);
        fill(&world.vault, versions, LONG_AGO);
        let id = world.vault.id();
        let request = world.process().invoke(json!({"force": true, "ifVersionId": id.as_str()})).await;
        assert_eq!(request.is_ok(), admitted, "{versions} versions: {request:?}");
        if let Err(error) = request {
            assert_eq!(error.error_type().as_str(), "VersionQuota");
            assert!(error.to_string().contains("a reader asks for"), "{error}");
            assert_eq!((world.provider.exchanges(), world.vault.count()), (0, versions));
            let report = world.process().invoke(json!({"force": true})).await.unwrap();
            assert_eq!(report.outcome, Outcome::Refreshed, "a person's force");
        }
        world.assert_sound();
    }
}

async fn readers_that_ask_one_after_the_other_never_take_the_room_of_a_scheduled_refresh(store: StoreKind) {
    let world = World::new(store).await;
    world.seed(seconds(3600), LONG_AGO);
    let process = world.process();
    let (mut requests, mut refused) = (0, 0);
    for quarter in 0..(36 * 4) {
        if quarter % 3 == 2 {
            let outcome = process.run().await.expect("a scheduled run finds room").outcome;
            assert!(matches!(outcome, Outcome::Refreshed | Outcome::Skipped), "{outcome:?}");
        }
        let event = json!({"force": true, "ifVersionId": world.vault.id().as_str()});
        match process.invoke(event).await {
            Ok(_) => requests += 1,
            Err(error) => {
                assert_eq!(error.error_type().as_str(), "VersionQuota");
                refused += 1;
            }
        }
        world.clock.advance(seconds(900));
    }
    assert!(requests > 10 && refused > 10, "{requests} admitted, {refused} refused");
    world.assert_sound();
}

async fn labels_that_do_not_fit_are_named_before_anything_is_spent(store: StoreKind) {
    // AWSCURRENT, AWSPREVIOUS, OAUTH_CLAIM and OAUTH_STAGED are four of twenty.
    for (others, fits) in [(16, true), (17, false)] {
        let world = World::due(store).await;
        world.vault.edit(crate::world::NAME, |secret, now| {
            for n in 0..others {
                let id = VersionId::from(format!("00000000-0000-4000-8000-{n:012}"));
                secret.put(&id, &"of another program".into(), Some(&[format!("OTHER_{n}")]), now).expect("room");
            }
        });
        let before = world.vault.versions();
        match world.process().run().await {
            Ok(report) => assert!(fits && report.outcome == Outcome::Refreshed, "{others} others: {report:?}"),
            Err(error) => {
                assert!(!fits, "{others} others: {error}");
                assert_eq!(error.error_type().as_str(), "InvalidSecret");
                assert!(error.to_string().contains("OAUTH_CLAIM and OAUTH_STAGED besides"), "{error}");
                assert_eq!(world.vault.versions(), before);
                assert_eq!(world.provider.exchanges(), 0);
            }
        }
        world.assert_sound();
    }
}

async fn the_label_of_ended_claims_takes_no_room_from_a_refresh(store: StoreKind) {
    let world = World::due_with(store, Provider::script([Response::fixed(503, "text/plain", "busy")])).await;
    world.vault.edit(crate::world::NAME, |secret, now| {
        for n in 0..16 {
            let id = VersionId::from(format!("00000000-0000-4000-8000-{n:012}"));
            secret.put(&id, &"of another program".into(), Some(&[format!("OTHER_{n}")]), now).expect("room");
        }
    });
    assert_eq!(world.process().run().await.unwrap_err().error_type().as_str(), "ProviderUnavailable");
    assert!(world.vault.labelled("OAUTH_ENDED").is_none());
    world.clock.advance(seconds(63));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn a_refresh_without_claims_needs_room_for_one_version(store: StoreKind) {
    for (versions, fits) in [(99, true), (100, false)] {
        let world = World::due(store).await;
        world.refresh_times(1).await;
        let settings = [("CLAIM", "never")];
        world.process().invoke(json!({"force": true})).await.unwrap();
        fill(&world.vault, versions, seconds(60));
        let exchanges = world.provider.exchanges();
        let result = world.process_with(&settings).invoke(json!({"force": true})).await;
        if fits {
            assert_eq!(result.unwrap().outcome, Outcome::Refreshed);
        } else {
            assert_eq!(result.unwrap_err().error_type().as_str(), "VersionQuota");
            assert_eq!(world.provider.exchanges(), exchanges);
        }
        world.assert_sound();
    }
}

async fn every_claim_after_the_first_checks_the_quota(store: StoreKind) {
    for (versions, fits) in [(98, true), (99, false)] {
        let world = World::due(store).await;
        world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
        world.clock.advance(seconds(63));
        fill(&world.vault, versions, seconds(60));
        let result = world.process().run().await;
        assert_eq!(result.is_ok(), fits, "{versions} versions: {result:?}");
        assert_eq!(world.provider.exchanges(), usize::from(fits));
        world.assert_sound();
    }
}

async fn a_full_secret_is_recovered(store: StoreKind) {
    for age in [seconds(60), LONG_AGO] {
        let world = World::new(store).await;
        world.seed(seconds(0), age);
        // Without a claim, so that the next run does not find one.
        let process = world.process_with(&[("CLAIM", "never")]);
        process.inject(Move, 1, InjectedFault::CrashBefore).crash().await;
        fill(&world.vault, 100, seconds(60));
        let process = world.process();
        assert_eq!(process.outcome().await, Outcome::Recovered, "{age} old");
        assert_eq!(process.script.taken(), [Get, List, Get, Get, Move]);
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn an_edit_in_a_full_secret_leaves_the_tokens_staged_until_there_is_room(store: StoreKind) {
    let world = World::due(store).await;
    world.process().inject(Move, 1, InjectedFault::CrashBefore).crash().await;
    world.vault.replace("own member", "edited member");
    fill(&world.vault, 100, seconds(60));
    let error = world.process().run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "VersionQuota");
    assert!(error.to_string().contains("tokens are safe"), "{error}");
    world.clock.advance(seconds(86_400));
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!(world.vault.json()["note"], "a person's edited member");
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn only_if_a_refresh_puts_a_claim_the_error_advises_claim_never(store: StoreKind) {
    for (claim, grant_type, advised) in
        [("always", "refresh_token", true), ("never", "refresh_token", false), ("always", "client_credentials", false)]
    {
        let world = World::due(store).await;
        world.vault.set("grantType", grant_type);
        fill(&world.vault, 100, seconds(60));
        let error = world.process_with(&[("CLAIM", claim)]).run().await.unwrap_err();
        assert_eq!(error.error_type().as_str(), "VersionQuota");
        let message = error.to_string();
        assert!(message.contains("refresh or edit it less often"), "{message}");
        assert_eq!(message.contains("CLAIM=never"), advised, "CLAIM={claim}, {grant_type}: {message}");
    }
}

/// A day of refreshes leaves room for one version. That is not enough, even if the check happens later.
async fn short_lived_tokens_end_in_version_quota_before_the_refresh_token_is_sent(store: StoreKind) {
    // In seconds: the lifetime, the time between refreshes, and the time from the last refresh to the next run. `fits`: how many
    // refreshes there is room for.
    for (claim, lifetime, interval, fits, last_interval) in
        [("always", 1800, 1500, 49, 1801), ("never", 900, 800, 98, 901)]
    {
        let world = World::with(store, Provider::rotating().with_lifetime(lifetime)).await;
        world.seed(seconds(0), LONG_AGO);
        let process = world.process_with(&[("CLAIM", claim)]);
        for _ in 0..fits {
            assert_eq!(process.outcome().await, Outcome::Refreshed);
            world.clock.advance(seconds(interval));
        }
        world.clock.advance(seconds(last_interval - interval));
        for _ in 0..2 {
            assert_eq!(process.run().await.unwrap_err().error_type().as_str(), "VersionQuota", "CLAIM={claim}");
            assert_eq!(world.provider.exchanges(), fits);
            world.clock.advance(seconds(300));
        }
        world.clock.advance(seconds(86_400));
        assert_eq!(process.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_run_with_less_than_two_seconds_left_does_not_start(store: StoreKind) {
    for (left, begins) in [(0, false), (1900, false), (1999, false), (2000, true)] {
        let world = World::due(store).await;
        world.clock.stop_pauses();
        let before = world.vault.versions();
        let result = world.process().invoke_until(json!({}), world.clock.now() + milliseconds(left)).await;
        if begins {
            assert_eq!(result.unwrap().outcome, Outcome::Refreshed);
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.error_type().as_str(), "InvalidConfiguration", "{left} ms left");
            assert!(error.to_string().contains(&format!("{left} ms")) && !error.to_string().contains("  "), "{error}");
            assert_eq!(world.vault.versions(), before);
            assert_eq!(world.provider.exchanges(), 0);
        }
        world.assert_sound();
    }
}

async fn a_run_with_less_than_one_second_left_does_not_send_the_token(store: StoreKind) {
    for (left, sends) in [(999, false), (1000, true), (1001, true)] {
        let world = World::due(store).await;
        world.clock.stop_pauses();
        let clock = world.clock.clone();
        let process = world.process().after(PutClaim, 1, move || clock.advance(milliseconds(60_000 - left)));
        let result = process.run().await;
        assert_eq!(process.script.taken().contains(&Exchange), sends, "{left} ms left");
        if sends {
            assert_eq!(result.unwrap().outcome, Outcome::Refreshed);
        } else {
            assert_eq!(result.unwrap_err().error_type().as_str(), "InvalidConfiguration");
            assert_eq!(world.provider.exchanges(), 0);
        }
        world.assert_sound();
    }
}

async fn a_response_is_awaited_until_the_deadline_leaves_the_time_of_two_writes(store: StoreKind) {
    let world = World::due(store).await;
    let clock = world.clock.clone();
    // The provider needs 40 of the 60 seconds.
    let process = world.process().before(Exchange, 1, move || clock.advance(seconds(40)));
    assert_eq!(process.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn an_impossible_deadline_counts_as_one_minute(store: StoreKind) {
    for from_now in [-1_767_225_600, -1, 901, 1_000_000] {
        let world = World::due(store).await;
        let report = world.process().invoke_until(json!({}), world.clock.now() + seconds(from_now)).await.unwrap();
        assert_eq!(report.outcome, Outcome::Refreshed, "{from_now} s from now");
        world.assert_sound();
    }
}

over_both_stores!(
    the_quota_is_checked_before_the_claim,
    a_due_token_in_an_old_version_needs_room_for_two_versions_too,
    a_readers_request_leaves_room_for_scheduled_refreshes_and_a_persons_force_need_not,
    readers_that_ask_one_after_the_other_never_take_the_room_of_a_scheduled_refresh,
    labels_that_do_not_fit_are_named_before_anything_is_spent,
    the_label_of_ended_claims_takes_no_room_from_a_refresh,
    a_refresh_without_claims_needs_room_for_one_version,
    every_claim_after_the_first_checks_the_quota,
    a_full_secret_is_recovered,
    an_edit_in_a_full_secret_leaves_the_tokens_staged_until_there_is_room,
    only_if_a_refresh_puts_a_claim_the_error_advises_claim_never,
    short_lived_tokens_end_in_version_quota_before_the_refresh_token_is_sent,
    a_run_with_less_than_two_seconds_left_does_not_start,
    a_run_with_less_than_one_second_left_does_not_send_the_token,
    a_response_is_awaited_until_the_deadline_leaves_the_time_of_two_writes,
    an_impossible_deadline_counts_as_one_minute,
);
