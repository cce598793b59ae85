//! Crashes, lost responses and stale reads, at every step, and the run that follows.

use std::sync::Arc;

use serde_json::json;
use token_refresher::{
    protocol::{ids::TokenKey, outcome::Outcome},
    store::{StoreError, VersionId, versions::Versions},
};

use crate::{
    counting::{
        Hold, InjectedFault, Script,
        Step::{Exchange, Get, List, Move, PutClaim, PutStaged},
    },
    over_both_stores,
    support::{
        provider::{Provider, Response, World as Behaviour},
        secrets_manager::{Effect, Fault, MOVE, PUT},
    },
    world::{LONG_AGO, NAME, StoreKind, World, milliseconds, seconds},
};

async fn a_claim_is_respected_until_its_lease_ends_and_then_taken_over(store: StoreKind) {
    // The deadline of the run that crashes, and the end of its lease, both in seconds from its start.
    for (deadline, lease) in [
        (60, 63),
        (2, 5),
        (897, 900),
        (900, 900),
        // A function cannot have so much time, so the deadline counts as unknown.
        (901, 63),
        (-1, 63),
        (-1_767_225_600, 63),
    ] {
        let world = World::due(store).await;
        let process = world.process().inject(PutClaim, 1, InjectedFault::CrashAfter);
        let started = world.clock.now();
        if deadline == 2 {
            world.clock.stop_pauses();
        }
        tokio::select! {
            result = process.invoke_until(json!({}), started + seconds(deadline)) => panic!("{result:?}"),
            () = process.script.crashed.notified() => {}
        }
        drop(process);
        world.clock.advance(seconds(lease) - milliseconds(1));
        let report = world.process().run().await.unwrap();
        assert_eq!(report.outcome, Outcome::InProgress, "deadline {deadline} s");
        assert_eq!(report.retry_at, Some(started + seconds(lease)));
        world.clock.advance(milliseconds(1));
        assert_eq!(world.outcome().await, Outcome::Refreshed, "deadline {deadline} s");
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn each_attempt_backs_off_longer_than_the_one_before(store: StoreKind) {
    let world = World::due(store).await;
    for (attempt, minutes) in [0, 1, 3, 7, 15, 30, 30].into_iter().enumerate() {
        world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
        let lease_end = world.clock.now() + seconds(63);
        let retry_at = lease_end + seconds(60 * minutes);
        for (now, outcome) in [
            (lease_end - milliseconds(1), Outcome::InProgress),
            (lease_end, Outcome::BackingOff),
            (retry_at - milliseconds(1), Outcome::BackingOff),
        ] {
            if outcome == Outcome::InProgress || minutes > 0 {
                world.clock.set(now);
                let report = world.process().run().await.unwrap();
                assert_eq!(report.outcome, outcome, "attempt {attempt}");
                let until = if outcome == Outcome::InProgress { lease_end } else { retry_at };
                assert_eq!(report.retry_at, Some(until), "attempt {attempt}");
            }
        }
        world.clock.set(retry_at);
    }
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn force_and_a_changed_client_override_the_back_off_but_not_a_lease(store: StoreKind) {
    for by_force in [true, false] {
        let world = World::due(store).await;
        world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
        world.clock.advance(seconds(63));
        world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
        let event = if by_force { json!({"force": true}) } else { json!({}) };
        let run_with_override = async |outcome| {
            if !by_force {
                world.vault.set("extraParameters", json!({"audience": world.clock.now().to_rfc3339()}));
            }
            assert_eq!(world.process().invoke(event.clone()).await.unwrap().outcome, outcome, "force: {by_force}");
        };
        world.clock.advance(seconds(63) - milliseconds(1));
        run_with_override(Outcome::InProgress).await;
        world.clock.advance(milliseconds(1));
        let before = world.vault.text();
        if by_force {
            assert_eq!(world.outcome().await, Outcome::BackingOff);
        }
        assert_eq!(world.vault.text(), before);
        run_with_override(Outcome::Refreshed).await;
        world.assert_sound();
    }
}

async fn a_record_of_a_later_version_counts_as_a_claim_with_unknown_content(store: StoreKind) {
    for refusal in [false, true] {
        for event in [json!({}), json!({"force": true})] {
            let world = World::due(store).await;
            world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
            let key = TokenKey::of(world.vault.versions().arn(), &world.current().tokens, &world.current().client);
            let id = if refusal { VersionId::from("9b2f6c1e-0000-8000-8000-000000000003") } else { key.claim(1) };
            let later_record = json!({"v": 2, "token": key.to_string(), "holds": "members of a later version"});
            let put_at = world.clock.now() + seconds(30);
            world.clock.set(put_at);
            world.vault.edit(NAME, |versions, now| {
                let labels = ["OAUTH_CLAIM".to_owned()];
                versions.put(&id, &later_record.to_string().into(), Some(&labels), now).expect("room");
            });
            let versions = world.vault.versions();
            for waited in [seconds(0), seconds(900) - milliseconds(1)] {
                world.clock.set(put_at + waited);
                let report = world.process().invoke(event.clone()).await.unwrap();
                assert_eq!((report.outcome, report.retry_at), (Outcome::InProgress, Some(put_at + seconds(900))));
            }
            assert_eq!(world.vault.versions(), versions, "nothing is written");
            // After a second claim the scheduled run backs off for a minute more. The forced run does not.
            let scheduled = event == json!({});
            world.clock.set(put_at + seconds(if scheduled && !refusal { 960 } else { 900 }));
            assert_eq!(world.process().invoke(event).await.unwrap().outcome, Outcome::Refreshed);
            world.assert_sound();
        }
    }
}

async fn the_newest_claim_is_found_if_the_label_is_on_a_claim_of_other_tokens(store: StoreKind) {
    let world = World::due(store).await;
    let first = world.vault.text();
    world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
    world.clock.advance(seconds(63));
    world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
    let lease_end = world.clock.now() + seconds(63);
    world.vault.put(&world.document(seconds(0)));
    world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
    world.vault.put(&first);
    world.clock.set(lease_end);
    let report = world.process().run().await.unwrap();
    assert_eq!((report.outcome, report.retry_at), (Outcome::BackingOff, Some(lease_end + seconds(60))));
    world.clock.advance(seconds(60));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn one_of_two_runs_that_take_over_gets_the_claim(store: StoreKind) {
    let world = World::due(store).await;
    world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
    world.clock.advance(seconds(63));
    let before = world.vault.versions();
    world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
    // Its list and its read of the newest claim are stale.
    let stale = || InjectedFault::StaleRead(before.clone());
    let late = world.process().inject(List, 1, stale()).inject(Get, 4, stale());
    assert_eq!(late.outcome().await, Outcome::InProgress);
    assert_eq!(late.script.taken(), [Get, List, Get, Get, Get, PutClaim]);
    assert_eq!(world.provider.exchanges(), 0);
    world.assert_sound();
}

async fn a_first_claim_that_was_removed_neither_lets_two_runs_exchange_nor_blocks_the_secret(store: StoreKind) {
    let world = World::due(store).await;
    for _ in 0..2 {
        world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
        world.clock.advance(seconds(3600));
    }
    world.clock.advance(seconds(86_400));
    world.vault.edit(NAME, Versions::remove_old);
    assert_eq!(world.vault.count(), 2, "the first version and the newest claim");
    let hold = Arc::new(Hold::default());
    let first = world.process().inject(Exchange, 1, InjectedFault::Hold(Arc::clone(&hold)));
    let second = async {
        hold.until_reached().await;
        assert_eq!(world.outcome().await, Outcome::InProgress);
        hold.release();
    };
    let (result, ()) = tokio::join!(first.run(), second);
    assert_eq!(result.unwrap().outcome, Outcome::Refreshed);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
    world.assert_sound();
}

async fn a_claim_that_cannot_be_read_yet_ends_the_run_in_progress(store: StoreKind) {
    let world = World::due(store).await;
    let before = world.vault.versions();
    world.process().inject(PutClaim, 1, InjectedFault::CrashAfter).crash().await;
    let mut late = world.process();
    for nth in 2..=5 {
        late = late.inject(Get, nth, InjectedFault::StaleRead(before.clone()));
    }
    let report = late.run().await.unwrap();
    assert_eq!((report.outcome, report.retry_at), (Outcome::InProgress, None));
    assert_eq!(world.provider.exchanges(), 0);
}

/// Limit L1 of `docs/protocol.md`.
async fn a_response_lost_in_a_crash_costs_one_exchange_of_the_old_token_and_the_message_names_it(store: StoreKind) {
    let world = World::due(store).await;
    let before = world.vault.text();
    world.process().inject(Exchange, 1, InjectedFault::CrashAfter).crash().await;
    world.clock.advance(seconds(63) - milliseconds(1));
    assert_eq!(world.outcome().await, Outcome::InProgress);
    world.clock.advance(milliseconds(1));
    let error = world.process().run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "ReauthorizationRequired");
    assert!(error.to_string().contains("may have spent the token"), "{error}");
    for _ in 0..3 {
        world.clock.advance(seconds(600));
        assert_eq!(world.process().run().await.unwrap_err().error_type().as_str(), "ReauthorizationRequired");
    }
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 1));
    assert_eq!(world.vault.text(), before);
}

async fn a_response_lost_in_a_crash_is_repeated_within_a_grace_period(store: StoreKind) {
    let world = World::due_with(store, Provider::rotating().in_world(Behaviour::Grace)).await;
    world.process().inject(Exchange, 1, InjectedFault::CrashAfter).crash().await;
    world.clock.advance(seconds(63));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 1));
    world.assert_current_is_alive();
}

async fn a_request_whose_response_is_lost_is_not_sent_again_in_the_same_run(store: StoreKind) {
    for response in [Response::CloseAfterProcessing, Response::BreaksOff] {
        let provider = Provider::script([response]).in_world(Behaviour::Grace);
        let world = World::due_with(store, provider).await;
        let error = world.process().run().await.unwrap_err();
        assert_eq!(error.error_type().as_str(), "ProviderUnavailable");
        assert!(error.to_string().contains("may have spent"), "{error}");
        assert_eq!(world.provider.exchanges(), 1);
        assert_eq!(world.outcome().await, Outcome::InProgress);
        world.clock.advance(seconds(63));
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_current_is_alive();
    }
}

async fn staged_tokens_are_recovered_by_the_next_run(store: StoreKind) {
    for forced in [None, Some(false), Some(true)] {
        for fault in [InjectedFault::CrashAfter, InjectedFault::CrashBefore] {
            let world = World::due(store).await;
            let step = if matches!(fault, InjectedFault::CrashAfter) { PutStaged } else { Move };
            world.process().inject(step, 1, fault).crash().await;
            let event = match forced {
                None => json!({}),
                Some(false) => json!({"force": true}),
                Some(true) => json!({"force": true, "ifVersionId": world.vault.id().as_str()}),
            };
            // Without a wait for the end of the lease.
            assert_eq!(world.process().invoke(event).await.unwrap().outcome, Outcome::Recovered);
            assert_eq!(world.outcome().await, Outcome::Skipped);
            assert_eq!(world.provider.exchanges(), 1);
            world.assert_sound();
        }
    }
}

async fn tokens_staged_by_a_forced_run_are_recovered_before_the_old_ones_are_due(store: StoreKind) {
    let world = World::new(store).await;
    world.seed(seconds(3600), LONG_AGO);
    world.process().inject(Move, 1, InjectedFault::CrashBefore).crash_on(json!({"force": true})).await;
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!(world.outcome().await, Outcome::Skipped);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn a_crash_after_the_promotion_leaves_nothing_to_do(store: StoreKind) {
    let world = World::due(store).await;
    world.process().inject(Move, 1, InjectedFault::CrashAfter).crash().await;
    assert_eq!(world.outcome().await, Outcome::Skipped);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn a_crash_before_the_claim_leaves_nothing(store: StoreKind) {
    for (step, fault) in
        [(Get, InjectedFault::CrashBefore), (Get, InjectedFault::CrashAfter), (PutClaim, InjectedFault::CrashBefore)]
    {
        let world = World::due(store).await;
        let before = world.vault.versions();
        world.process().inject(step, 1, fault).crash().await;
        assert_eq!(world.vault.versions(), before);
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_claim_whose_response_is_lost_sends_no_token_and_is_taken_over(store: StoreKind) {
    let world = World::due(store).await;
    let error = world.process().inject(PutClaim, 1, InjectedFault::LoseResponse).run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "StoreUnavailable");
    assert_eq!(world.provider.exchanges(), 0);
    assert_eq!(world.outcome().await, Outcome::InProgress);
    world.clock.advance(seconds(63));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn without_claims_a_version_that_a_person_put_is_exchanged_only_after_a_put_has_succeeded(store: StoreKind) {
    let denied = StoreError::AccessDenied { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() };
    let rejected = StoreError::Rejected { action: "secretsmanager:PutSecretValue", detail: "a replica".to_owned() };
    for (error, name) in [(denied, "AccessDenied"), (rejected, "StoreUnavailable")] {
        let world = World::due(store).await;
        let process = world.process_with(&[("CLAIM", "never")]);
        let error = process.inject(PutClaim, 1, InjectedFault::Fail(error)).run().await.unwrap_err();
        assert_eq!(error.error_type().as_str(), name);
        assert_eq!(world.provider.exchanges(), 0);
        assert_eq!(world.process_with(&[("CLAIM", "never")]).outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_run_with_claims_recovers_what_a_run_without_claims_has_staged(store: StoreKind) {
    let world = World::due(store).await;
    world.process_with(&[("CLAIM", "never")]).inject(Move, 1, InjectedFault::CrashBefore).crash().await;
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
    world.assert_sound();
}

async fn a_claim_that_fails_sends_no_token(store: StoreKind) {
    let denied = StoreError::AccessDenied { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() };
    let rejected = StoreError::Rejected { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() };
    for (error, name) in [
        (denied, "AccessDenied"),
        (rejected, "StoreUnavailable"),
        (Script::unavailable(), "StoreUnavailable"),
        (StoreError::Quota { detail: "no".to_owned() }, "VersionQuota"),
    ] {
        let world = World::due(store).await;
        let before = world.vault.versions();
        let process = world.process().inject(PutClaim, 1, InjectedFault::Fail(error));
        assert_eq!(process.run().await.unwrap_err().error_type().as_str(), name);
        assert_eq!(world.vault.versions(), before);
        assert_eq!(world.provider.exchanges(), 0);
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_later_write_that_fails_or_loses_its_response_is_repeated(store: StoreKind) {
    for step in [PutStaged, Move] {
        for fault in [InjectedFault::LoseResponse, InjectedFault::Fail(Script::unavailable())] {
            let world = World::due(store).await;
            let process = world.process().inject(step, 1, fault);
            let report = process.run().await.unwrap();
            assert_eq!(report.outcome, Outcome::Refreshed, "{step:?}");
            assert_eq!(report.version_id, world.vault.id());
            assert_eq!(process.script.faults_left(), 0);
            assert_eq!((world.vault.count(), world.provider.exchanges()), (3, 1));
            world.assert_sound();
        }
    }
}

async fn a_call_that_the_sdk_repeats_takes_effect_once(store: StoreKind) {
    for (action, nth) in [(PUT, 0), (PUT, 1), (MOVE, 0)] {
        for effect in [Effect::DropAfter, Effect::DropBefore, Effect::InternalError, Effect::Throttle] {
            let world = World::due(store).await;
            let Some(fake) = world.vault.fake() else { return };
            fake.fault(Fault::on(action, effect).after(nth));
            assert_eq!(world.outcome().await, Outcome::Refreshed, "{action} {nth} {effect:?}");
            assert_eq!(fake.faults_left(), 0);
            assert_eq!((world.vault.count(), world.provider.exchanges()), (3, 1));
            world.assert_sound();
        }
    }
}

async fn a_failed_compare_and_swap_is_recognised_by_either_error(store: StoreKind) {
    for code in ["InvalidParameterException", "InvalidRequestException"] {
        let world = World::due(store).await;
        let Some(fake) = world.vault.fake() else { return };
        fake.fail_lost_moves_with(code);
        let vault = world.vault.clone();
        let process = world.process().before(Move, 1, move || {
            vault.replace("own member", "edited member");
        });
        assert_eq!(process.outcome().await, Outcome::Refreshed, "{code}");
        assert_eq!(world.vault.json()["note"], "a person's edited member");
        world.assert_sound();
    }
}

async fn a_stale_read_does_no_harm(store: StoreKind) {
    for refreshes in [1, 2, 5] {
        // The stale reads of the run, by number: the first, or also later ones of AWSCURRENT.
        for stale in [&[1][..], &[1, 2], &[1, 3 + refreshes], &[1, 3 + refreshes, 4 + refreshes]] {
            let world = World::due(store).await;
            let old = world.vault.versions();
            world.refresh_times(refreshes).await;
            let before = world.vault.versions();
            let mut process = world.process();
            for &nth in stale {
                process = process.inject(Get, nth, InjectedFault::StaleRead(old.clone()));
            }
            let outcome = process.outcome().await;
            // The staged version cannot be read either, so the claim counts as one of a run at work.
            assert!(matches!(outcome, Outcome::Recovered | Outcome::InProgress | Outcome::BackingOff), "{outcome:?}");
            assert_eq!(world.vault.versions(), before, "{refreshes} refreshes, reads {stale:?} stale");
            assert_eq!(world.provider.exchanges(), refreshes);
            world.assert_sound();
        }
    }
}

async fn the_earlier_holder_may_stage_between_the_first_read_and_the_next_claim(store: StoreKind) {
    let world = World::due(store).await;
    let before = world.vault.versions();
    world.process().inject(Move, 1, InjectedFault::CrashBefore).crash().await;
    world.clock.advance(seconds(63));
    let process = world.process();
    let process = process.inject(Get, 2, InjectedFault::StaleRead(before.clone())).inject(
        List,
        1,
        InjectedFault::StaleRead(before),
    );
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert_eq!(process.script.taken().iter().filter(|&&step| step == PutClaim).count(), 2);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

over_both_stores!(
    a_claim_is_respected_until_its_lease_ends_and_then_taken_over,
    each_attempt_backs_off_longer_than_the_one_before,
    force_and_a_changed_client_override_the_back_off_but_not_a_lease,
    a_record_of_a_later_version_counts_as_a_claim_with_unknown_content,
    the_newest_claim_is_found_if_the_label_is_on_a_claim_of_other_tokens,
    one_of_two_runs_that_take_over_gets_the_claim,
    a_first_claim_that_was_removed_neither_lets_two_runs_exchange_nor_blocks_the_secret,
    a_claim_that_cannot_be_read_yet_ends_the_run_in_progress,
    a_response_lost_in_a_crash_costs_one_exchange_of_the_old_token_and_the_message_names_it,
    a_response_lost_in_a_crash_is_repeated_within_a_grace_period,
    a_request_whose_response_is_lost_is_not_sent_again_in_the_same_run,
    staged_tokens_are_recovered_by_the_next_run,
    tokens_staged_by_a_forced_run_are_recovered_before_the_old_ones_are_due,
    a_crash_after_the_promotion_leaves_nothing_to_do,
    a_crash_before_the_claim_leaves_nothing,
    a_claim_whose_response_is_lost_sends_no_token_and_is_taken_over,
    without_claims_a_version_that_a_person_put_is_exchanged_only_after_a_put_has_succeeded,
    a_run_with_claims_recovers_what_a_run_without_claims_has_staged,
    a_claim_that_fails_sends_no_token,
    a_later_write_that_fails_or_loses_its_response_is_repeated,
    a_call_that_the_sdk_repeats_takes_effect_once,
    a_failed_compare_and_swap_is_recognised_by_either_error,
    a_stale_read_does_no_harm,
    the_earlier_holder_may_stage_between_the_first_read_and_the_next_claim,
);
