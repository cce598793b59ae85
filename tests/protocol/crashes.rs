//! Processes that end, answers that are lost, reads that lag, at every step; and what the next run makes of it.

use serde_json::json;
use token_refresher::{
    oauth::grant::Grant,
    protocol::{ids::TokenKey, outcome::Outcome},
    store::{StoreError, VersionId},
};

use crate::{
    counting::{
        Script,
        Step::{Exchange, Get, List, Move, PutClaim, PutStaged},
        Strike,
    },
    over_both_stores,
    support::{
        provider::{Answer, Provider, World as Manners},
        secrets_manager::{Effect, Fault, MOVE, PUT},
    },
    world::{LONG_AGO, NAME, Over, World, milliseconds, seconds},
};

async fn a_claim_is_respected_until_its_lease_ends_and_then_taken_over(over: Over) {
    // The deadline given to the run that dies, and when its lease ends, both in seconds from then.
    for (deadline, lease) in [
        (60, 63),
        (2, 5),
        (897, 900),
        (900, 900),
        // No function has that long: as good as unknown.
        (901, 63),
        (-1, 63),
        (-1_767_225_600, 63),
    ] {
        let world = World::due(over).await;
        let process = world.process().strike(PutClaim, 1, Strike::DieAfter);
        let died = world.clock.now();
        if deadline == 2 {
            world.clock.hold();
        }
        tokio::select! {
            result = process.invoke_until(json!({}), died + seconds(deadline)) => panic!("{result:?}"),
            () = process.script.died.notified() => {}
        }
        drop(process);
        world.clock.advance(seconds(lease) - milliseconds(1));
        let report = world.process().run().await.unwrap();
        assert_eq!(report.outcome, Outcome::InProgress, "deadline {deadline} s");
        assert_eq!(report.retry_at, Some(died + seconds(lease)));
        world.clock.advance(milliseconds(1));
        assert_eq!(world.outcome().await, Outcome::Refreshed, "deadline {deadline} s");
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_sound();
    }
}

async fn each_attempt_backs_off_longer_than_the_one_before(over: Over) {
    let world = World::due(over).await;
    for (attempt, minutes) in [0, 1, 3, 7, 15, 30, 30].into_iter().enumerate() {
        let nth_claim = if attempt == 0 { 1 } else { 2 };
        world.process().strike(PutClaim, nth_claim, Strike::DieAfter).die().await;
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

async fn force_and_another_client_override_the_back_off_and_never_a_lease(over: Over) {
    for by_force in [true, false] {
        let world = World::due(over).await;
        world.process().strike(PutClaim, 1, Strike::DieAfter).die().await;
        world.clock.advance(seconds(63));
        world.process().strike(PutClaim, 2, Strike::DieAfter).die().await;
        let event = if by_force { json!({"force": true}) } else { json!({}) };
        let insist = async |outcome| {
            if !by_force {
                world.vault.set("extraParameters", json!({"audience": world.clock.now().to_rfc3339()}));
            }
            assert_eq!(world.process().invoke(event.clone()).await.unwrap().outcome, outcome, "force: {by_force}");
        };
        world.clock.advance(seconds(63) - milliseconds(1));
        insist(Outcome::InProgress).await;
        world.clock.advance(milliseconds(1));
        let before = world.vault.text();
        if by_force {
            assert_eq!(world.outcome().await, Outcome::BackingOff);
        }
        assert_eq!(world.vault.text(), before);
        insist(Outcome::Refreshed).await;
        world.assert_sound();
    }
}

async fn a_record_of_a_later_version_is_waited_out_as_a_claim_of_unknown_content(over: Over) {
    for refusal in [false, true] {
        for event in [json!({}), json!({"force": true})] {
            let world = World::due(over).await;
            world.process().strike(PutClaim, 1, Strike::DieAfter).die().await;
            let key = TokenKey::of(world.vault.versions().arn(), &Grant::of(&world.current()), &world.current().tokens);
            let id = if refusal { VersionId::from("9b2f6c1e-0000-8000-8000-000000000003") } else { key.claim(1) };
            let later_record = json!({"v": 2, "token": key.to_string(), "holds": "what this version does not know"});
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
            assert_eq!(world.vault.versions(), versions, "nothing is touched");
            // A second claim backs off for a minute more; force does not.
            let scheduled = event == json!({});
            world.clock.set(put_at + seconds(if scheduled && !refusal { 960 } else { 900 }));
            assert_eq!(world.process().invoke(event).await.unwrap().outcome, Outcome::Refreshed);
            world.assert_sound();
        }
    }
}

async fn the_newest_claim_is_found_when_the_label_is_on_other_tokens(over: Over) {
    let world = World::due(over).await;
    let first = world.vault.text();
    world.process().strike(PutClaim, 1, Strike::DieAfter).die().await;
    world.clock.advance(seconds(63));
    world.process().strike(PutClaim, 2, Strike::DieAfter).die().await;
    let lease_end = world.clock.now() + seconds(63);
    world.vault.put(&world.document(seconds(0)));
    world.process().strike(PutClaim, 1, Strike::DieAfter).die().await;
    world.vault.put(&first);
    world.clock.set(lease_end);
    let report = world.process().run().await.unwrap();
    assert_eq!((report.outcome, report.retry_at), (Outcome::BackingOff, Some(lease_end + seconds(60))));
    world.clock.advance(seconds(60));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn the_claim_that_two_runs_take_over_goes_to_one(over: Over) {
    let world = World::due(over).await;
    world.process().strike(PutClaim, 1, Strike::DieAfter).die().await;
    world.clock.advance(seconds(63));
    let before = world.vault.versions();
    world.process().strike(PutClaim, 2, Strike::DieAfter).die().await;
    // Its read of the newest claim lags behind.
    let late = world.process().strike(Get, 4, Strike::Stale(before));
    assert_eq!(late.outcome().await, Outcome::InProgress);
    assert_eq!(late.script.taken(), [Get, PutClaim, Get, Get, Get, List, PutClaim]);
    assert_eq!(world.provider.exchanges(), 0);
    world.assert_sound();
}

async fn a_claim_that_cannot_be_read_yet_is_in_progress(over: Over) {
    let world = World::due(over).await;
    let before = world.vault.versions();
    world.process().strike(PutClaim, 1, Strike::DieAfter).die().await;
    let mut late = world.process();
    for nth in 2..=5 {
        late = late.strike(Get, nth, Strike::Stale(before.clone()));
    }
    let report = late.run().await.unwrap();
    assert_eq!((report.outcome, report.retry_at), (Outcome::InProgress, None));
    assert_eq!(world.provider.exchanges(), 0);
}

/// The one window that remains.
async fn an_answer_that_died_with_its_process_costs_one_try_of_the_old_token_which_the_message_tells(over: Over) {
    let world = World::due(over).await;
    let before = world.vault.text();
    world.process().strike(Exchange, 1, Strike::DieAfter).die().await;
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

async fn an_answer_that_died_with_its_process_is_answered_again_within_a_grace_period(over: Over) {
    let world = World::due_with(over, Provider::rotating().in_world(Manners::Grace)).await;
    world.process().strike(Exchange, 1, Strike::DieAfter).die().await;
    world.clock.advance(seconds(63));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 1));
    world.assert_current_is_alive();
}

async fn an_answer_lost_on_the_way_is_not_asked_for_again_within_the_run(over: Over) {
    for answer in [Answer::CloseAfterProcessing, Answer::BreaksOff] {
        let provider = Provider::script([answer]).in_world(Manners::Grace);
        let world = World::due_with(over, provider).await;
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

async fn staged_tokens_are_recovered_by_whatever_run_comes_next(over: Over) {
    for forced in [None, Some(false), Some(true)] {
        for strike in [Strike::DieAfter, Strike::DieBefore] {
            let world = World::due(over).await;
            let step = if matches!(strike, Strike::DieAfter) { PutStaged } else { Move };
            world.process().strike(step, 1, strike).die().await;
            let event = match forced {
                None => json!({}),
                Some(false) => json!({"force": true}),
                Some(true) => json!({"force": true, "ifVersionId": world.vault.id().as_str()}),
            };
            // At once: staged tokens need no lease to end.
            assert_eq!(world.process().invoke(event).await.unwrap().outcome, Outcome::Recovered);
            assert_eq!(world.outcome().await, Outcome::Skipped);
            assert_eq!(world.provider.exchanges(), 1);
            world.assert_sound();
        }
    }
}

async fn tokens_staged_by_force_long_before_expiry_are_recovered_when_the_old_ones_fall_due(over: Over) {
    let world = World::new(over).await;
    world.seed(seconds(3600), LONG_AGO);
    world.process().strike(Move, 1, Strike::DieBefore).die_of(json!({"force": true})).await;
    assert_eq!(world.outcome().await, Outcome::Skipped);
    world.clock.advance(seconds(2700));
    assert_eq!(world.outcome().await, Outcome::Recovered);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn after_the_promotion_nothing_is_left_to_do(over: Over) {
    let world = World::due(over).await;
    world.process().strike(Move, 1, Strike::DieAfter).die().await;
    assert_eq!(world.outcome().await, Outcome::Skipped);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

async fn a_process_that_ends_before_its_claim_leaves_nothing(over: Over) {
    for (step, strike) in [(Get, Strike::DieBefore), (Get, Strike::DieAfter), (PutClaim, Strike::DieBefore)] {
        let world = World::due(over).await;
        let before = world.vault.versions();
        world.process().strike(step, 1, strike).die().await;
        assert_eq!(world.vault.versions(), before);
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_claim_whose_answer_is_lost_spends_nothing_and_is_taken_over(over: Over) {
    let world = World::due(over).await;
    let error = world.process().strike(PutClaim, 1, Strike::LoseAnswer).run().await.unwrap_err();
    assert_eq!(error.error_type().as_str(), "StoreUnavailable");
    assert_eq!(world.provider.exchanges(), 0);
    assert_eq!(world.outcome().await, Outcome::InProgress);
    world.clock.advance(seconds(63));
    assert_eq!(world.outcome().await, Outcome::Refreshed);
    world.assert_sound();
}

async fn a_claim_that_fails_spends_nothing(over: Over) {
    let denied = StoreError::AccessDenied { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() };
    let rejected = StoreError::Rejected { action: "secretsmanager:PutSecretValue", detail: "no".to_owned() };
    for (error, name) in [
        (denied, "AccessDenied"),
        (rejected, "StoreUnavailable"),
        (Script::unavailable(), "StoreUnavailable"),
        (StoreError::Quota { detail: "no".to_owned() }, "VersionQuota"),
    ] {
        let world = World::due(over).await;
        let before = world.vault.versions();
        let process = world.process().strike(PutClaim, 1, Strike::Fail(error));
        assert_eq!(process.run().await.unwrap_err().error_type().as_str(), name);
        assert_eq!(world.vault.versions(), before);
        assert_eq!(world.provider.exchanges(), 0);
        assert_eq!(world.outcome().await, Outcome::Refreshed);
        world.assert_sound();
    }
}

async fn a_lost_answer_or_a_failure_of_a_later_write_costs_nothing(over: Over) {
    for step in [PutStaged, Move] {
        for strike in [Strike::LoseAnswer, Strike::Fail(Script::unavailable())] {
            let world = World::due(over).await;
            let process = world.process().strike(step, 1, strike);
            let report = process.run().await.unwrap();
            assert_eq!(report.outcome, Outcome::Refreshed, "{step:?}");
            assert_eq!(report.version_id, world.vault.id());
            assert_eq!(process.script.strikes_left(), 0);
            assert_eq!((world.vault.count(), world.provider.exchanges()), (3, 1));
            world.assert_sound();
        }
    }
}

async fn what_the_sdk_sends_again_is_done_once(over: Over) {
    for (action, nth) in [(PUT, 0), (PUT, 1), (MOVE, 0)] {
        for effect in [Effect::DropAfter, Effect::DropBefore, Effect::InternalError, Effect::Throttle] {
            let world = World::due(over).await;
            let Some(fake) = world.vault.fake() else { return };
            fake.fault(Fault::on(action, effect).after(nth));
            assert_eq!(world.outcome().await, Outcome::Refreshed, "{action} {nth} {effect:?}");
            assert_eq!(fake.faults_left(), 0);
            assert_eq!((world.vault.count(), world.provider.exchanges()), (3, 1));
            world.assert_sound();
        }
    }
}

async fn a_lost_compare_and_swap_is_known_by_either_error(over: Over) {
    for code in ["InvalidParameterException", "InvalidRequestException"] {
        let world = World::due(over).await;
        let Some(fake) = world.vault.fake() else { return };
        fake.answer_lost_moves_with(code);
        let vault = world.vault.clone();
        let process = world.process().before(Move, 1, move || {
            vault.replace("own member", "edited member");
        });
        assert_eq!(process.outcome().await, Outcome::Refreshed, "{code}");
        assert_eq!(world.vault.json()["note"], "a person's edited member");
        world.assert_sound();
    }
}

async fn a_stale_read_does_no_harm(over: Over) {
    for refreshes in [1, 2, 5] {
        // Which of the run's reads lag behind: the first one alone, or those after it, too, that look at AWSCURRENT.
        for stale in [&[1][..], &[1, 2], &[1, 3 + refreshes], &[1, 3 + refreshes, 4 + refreshes]] {
            let world = World::due(over).await;
            let old = world.vault.versions();
            world.refresh_times(refreshes).await;
            let before = world.vault.versions();
            let mut process = world.process();
            for &nth in stale {
                process = process.strike(Get, nth, Strike::Stale(old.clone()));
            }
            let outcome = process.outcome().await;
            // What was staged cannot be seen either: whoever holds the claim is taken to be at it.
            assert!(matches!(outcome, Outcome::Recovered | Outcome::InProgress | Outcome::BackingOff), "{outcome:?}");
            assert_eq!(world.vault.versions(), before, "{refreshes} refreshes, reads {stale:?} stale");
            assert_eq!(world.provider.exchanges(), refreshes);
            world.assert_sound();
        }
    }
}

async fn the_holder_before_may_stage_between_the_look_and_the_next_claim(over: Over) {
    let world = World::due(over).await;
    let before = world.vault.versions();
    world.process().strike(Move, 1, Strike::DieBefore).die().await;
    world.clock.advance(seconds(63));
    let process = world.process();
    let process = process.strike(Get, 2, Strike::Stale(before.clone())).strike(List, 1, Strike::Stale(before));
    assert_eq!(process.outcome().await, Outcome::Recovered);
    assert_eq!(process.script.taken().iter().filter(|&&step| step == PutClaim).count(), 2);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_sound();
}

over_both_stores!(
    a_claim_is_respected_until_its_lease_ends_and_then_taken_over,
    each_attempt_backs_off_longer_than_the_one_before,
    force_and_another_client_override_the_back_off_and_never_a_lease,
    a_record_of_a_later_version_is_waited_out_as_a_claim_of_unknown_content,
    the_newest_claim_is_found_when_the_label_is_on_other_tokens,
    the_claim_that_two_runs_take_over_goes_to_one,
    a_claim_that_cannot_be_read_yet_is_in_progress,
    an_answer_that_died_with_its_process_costs_one_try_of_the_old_token_which_the_message_tells,
    an_answer_that_died_with_its_process_is_answered_again_within_a_grace_period,
    an_answer_lost_on_the_way_is_not_asked_for_again_within_the_run,
    staged_tokens_are_recovered_by_whatever_run_comes_next,
    tokens_staged_by_force_long_before_expiry_are_recovered_when_the_old_ones_fall_due,
    after_the_promotion_nothing_is_left_to_do,
    a_process_that_ends_before_its_claim_leaves_nothing,
    a_claim_whose_answer_is_lost_spends_nothing_and_is_taken_over,
    a_claim_that_fails_spends_nothing,
    a_lost_answer_or_a_failure_of_a_later_write_costs_nothing,
    what_the_sdk_sends_again_is_done_once,
    a_lost_compare_and_swap_is_known_by_either_error,
    a_stale_read_does_no_harm,
    the_holder_before_may_stage_between_the_look_and_the_next_claim,
);
