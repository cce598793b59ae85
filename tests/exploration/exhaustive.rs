//! Small worlds of which every schedule is explored. `DEEP=1` explores larger ones too.

use chrono::TimeDelta;
use token_refresher::protocol::{Mode, options::ClaimMode};

use crate::{
    explorer::{Counts, explore, print_line},
    person::UserAction,
    plan::{
        A_SECOND, Difference, NEARLY_OVER, Neighbour, PAST_A_DAY, PAST_THE_LEASE, Plan, Readers, Responses,
        SWEEP_NEARLY_OVER, Search,
    },
    provider::Behaviour,
    run::Pacing,
};

/// The largest numbers of faults and of clock jumps in a schedule. Tests start with the smallest, so that a failure has a short
/// schedule.
type FaultLimits = (usize, usize);

/// Explores these plans with each of the limits, and prints the numbers of schedules.
fn explore_all(what: &str, usual: &[FaultLimits], deep: &[FaultLimits], plans: impl Fn() -> Vec<Plan>) {
    let deeper = if std::env::var_os("DEEP").is_some() { deep } else { &[] };
    for (faults, jumps) in usual.iter().chain(deeper).copied() {
        let mut sum = Counts::default();
        for plan in plans() {
            sum += explore(&Plan { faults, jumps, ..plan });
        }
        print_line(&format!("explored {what}, up to {faults} faults and {jumps} clock jumps: {sum}"));
    }
}

fn with_every_provider(plan: impl Fn(Behaviour) -> Plan) -> Vec<Plan> {
    Behaviour::ALL.into_iter().map(plan).collect()
}

/// Each plan with each of the changes.
fn with_each<T: Clone>(plans: Vec<Plan>, changes: &[T], change: impl Fn(Plan, T) -> Plan) -> Vec<Plan> {
    let variants = |plan: Plan| changes.iter().map(|to| change(plan.clone(), to.clone())).collect::<Vec<_>>();
    plans.into_iter().flat_map(variants).collect()
}

fn forced(if_version_id: Option<&str>) -> Mode {
    Mode::Forced { if_version_id: if_version_id.map(str::to_owned) }
}

#[test]
fn two_runs_lose_nothing() {
    explore_all("two runs", &[(1, 0), (0, 1), (1, 1), (2, 0)], &[(2, 1), (1, 2)], || {
        with_every_provider(|behaviour| Plan::of_runs(2, behaviour))
    });
}

#[test]
fn two_runs_with_stale_reads_lose_nothing() {
    explore_all("two runs with stale reads", &[(1, 0), (2, 0)], &[(2, 1)], || {
        with_every_provider(|behaviour| Plan { stale_reads: true, ..Plan::of_runs(2, behaviour) })
    });
}

#[test]
fn three_runs_lose_nothing() {
    explore_all("three runs", &[(1, 0)], &[(0, 1)], || {
        [Behaviour::ReuseEndsGrant, Behaviour::EndsOldAccess].map(|behaviour| Plan::of_runs(3, behaviour)).to_vec()
    });
}

#[test]
fn a_run_and_a_person_lose_nothing() {
    explore_all("a run and a person with two actions", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let plans = with_every_provider(|behaviour| Plan {
            refreshed_before: true,
            jump_lengths: vec![PAST_THE_LEASE],
            ..Plan::of_runs(1, behaviour)
        });
        let plans = with_each(plans, &UserAction::ALL, |plan, first| Plan { user_actions: vec![first], ..plan });
        let plans = with_each(plans, &UserAction::ALL, |plan, second| Plan {
            user_actions: vec![plan.user_actions[0], second],
            ..plan
        });
        // `consent_ends_others` makes a difference only if there is a consent.
        let plans = with_each(plans, &[false, true], |plan, consent_ends_others| Plan { consent_ends_others, ..plan });
        plans
            .into_iter()
            .filter(|plan| !plan.consent_ends_others || plan.user_actions.contains(&UserAction::Consent))
            .collect()
    });
}

fn explore_two_runs_and_a_person(what: &str, behaviours: &[Behaviour]) {
    explore_all(what, &[(0, 0), (0, 1)], &[(1, 0)], || {
        let plans = behaviours.iter().map(|behaviour| Plan {
            refreshed_before: true,
            jump_lengths: vec![PAST_THE_LEASE],
            ..Plan::of_runs(2, *behaviour)
        });
        with_each(plans.collect(), &UserAction::ALL, |plan, action| Plan { user_actions: vec![action], ..plan })
    });
}

#[test]
fn two_runs_and_a_person_lose_nothing() {
    let others: Vec<_> =
        Behaviour::ALL.into_iter().filter(|behaviour| *behaviour != Behaviour::GraceReplaces).collect();
    explore_two_runs_and_a_person("two runs and a person with one action", &others);
}

/// A test of its own: this provider revokes the tokens of the earlier response.
#[test]
fn the_later_of_two_responses_and_a_person_lose_nothing() {
    let what = "two runs and a person with one action, where a later response replaces an earlier one";
    explore_two_runs_and_a_person(what, &[Behaviour::GraceReplaces]);
}

/// A run promotes tokens that another run has promoted before, and that a forced run has spent.
#[test]
fn three_runs_and_an_old_copy_lose_nothing() {
    let what = "two runs, a forced run and a person who saves the first document";
    explore_all(what, &[(0, 0)], &[(1, 0)], || {
        let plan = Plan {
            runs: vec![(Mode::Scheduled, 0), (Mode::Scheduled, 1), (forced(None), 2)],
            user_actions: vec![UserAction::SaveOldCopy],
            at_once: 2,
            ..Plan::of_runs(3, Behaviour::ReuseEndsGrant)
        };
        vec![plan]
    });
}

/// Two runs, one or both forced, or two steps of a rotation.
fn with_pairs_of_modes(plans: Vec<Plan>) -> Vec<Plan> {
    let version = "00000000-0000-4000-8000-000000000001";
    let modes = [
        [forced(None), Mode::Scheduled],
        [forced(None), forced(None)],
        [forced(Some(version)), forced(Some(version))],
        [Mode::Rotation, Mode::Rotation],
    ];
    with_each(plans, &modes, |plan, modes| Plan { runs: modes.into_iter().zip(0..).collect(), ..plan })
}

#[test]
fn forced_runs_lose_nothing() {
    explore_all(
        "two runs, one or both forced, or two steps of a rotation",
        &[(1, 0), (0, 1)],
        &[(1, 1), (2, 0)],
        || {
            let plans = with_every_provider(|behaviour| Plan {
                expires_in: TimeDelta::hours(1),
                ..Plan::of_runs(2, behaviour)
            });
            with_pairs_of_modes(plans)
        },
    );
}

#[test]
fn two_runs_of_one_process_and_one_of_another_lose_nothing() {
    explore_all("two runs of one process and one of another", &[(0, 1), (1, 0)], &[(1, 1)], || {
        with_every_provider(|behaviour| Plan {
            runs: vec![(Mode::Scheduled, 0), (Mode::Scheduled, 0), (Mode::Scheduled, 1)],
            ..Plan::of_runs(2, behaviour)
        })
    });
}

#[test]
fn runs_one_after_the_other_without_claims_lose_nothing() {
    explore_all(
        "two runs one after the other with CLAIM=never, and a person",
        &[(1, 0), (0, 1)],
        &[(1, 1), (2, 0)],
        || {
            let plans = with_every_provider(|behaviour| Plan {
                claim: ClaimMode::Never,
                at_once: 1,
                refreshed_before: true,
                ..Plan::of_runs(2, behaviour)
            });
            with_each(plans, &UserAction::ALL, |plan, action| Plan { user_actions: vec![action], ..plan })
        },
    );
}

#[test]
fn two_runs_that_publish_lose_nothing_and_publish_the_current_tokens() {
    explore_all("two runs that publish", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        with_every_provider(|behaviour| Plan { readers: Readers::OfPublishedSecret, ..Plan::of_runs(2, behaviour) })
    });
}

#[test]
fn a_run_that_publishes_and_a_person_lose_nothing_and_publish_the_current_tokens() {
    explore_all("a run that publishes and a person with one action", &[(1, 0), (0, 1)], &[(1, 1)], || {
        let plans = with_every_provider(|behaviour| Plan {
            refreshed_before: true,
            readers: Readers::OfPublishedSecret,
            jump_lengths: vec![PAST_THE_LEASE],
            ..Plan::of_runs(1, behaviour)
        });
        with_each(plans, &UserAction::ALL, |plan, action| Plan { user_actions: vec![action], ..plan })
    });
}

#[test]
fn runs_that_publish_a_token_not_due_lose_nothing_and_publish_the_current_tokens() {
    explore_all(
        "a scheduled run, a forced run and in some worlds a person, all publishing",
        &[(0, 0)],
        &[(1, 0), (0, 1)],
        || {
            let plans = [Behaviour::ReuseEndsGrant, Behaviour::EndsOldAccess].map(|behaviour| Plan {
                readers: Readers::OfPublishedSecret,
                expires_in: TimeDelta::hours(1),
                runs: vec![(Mode::Scheduled, 0), (forced(None), 1)],
                ..Plan::of_runs(2, behaviour)
            });
            let user_actions = [vec![], vec![UserAction::Consent], vec![UserAction::RollBack]];
            with_each(plans.to_vec(), &user_actions, |plan, user_actions| Plan { user_actions, ..plan })
        },
    );
}

#[test]
fn two_runs_in_a_nearly_full_secret_lose_nothing() {
    explore_all("two runs in a secret of 97 to 100 versions", &[(0, 0), (0, 1), (1, 0)], &[], || {
        let plans = [Behaviour::ReuseEndsGrant, Behaviour::EndsOldAccess]
            .map(|behaviour| Plan { age: TimeDelta::minutes(5), ..Plan::of_runs(2, behaviour) });
        with_each(plans.to_vec(), &[96, 97, 98, 99], |plan, other_versions| Plan { other_versions, ..plan })
    });
}

#[test]
fn runs_over_days_lose_nothing_although_old_versions_are_dropped() {
    explore_all("two runs with days between them", &[(0, 1), (1, 1)], &[(2, 1), (1, 2)], || {
        let plans = [Behaviour::ReuseEndsGrant, Behaviour::EndsOldAccess]
            .map(|behaviour| Plan { jump_lengths: vec![PAST_A_DAY, PAST_THE_LEASE], ..Plan::of_runs(2, behaviour) });
        with_each(plans.to_vec(), &[1, 2], |plan, at_once| Plan { at_once, ..plan })
    });
}

#[test]
fn an_old_copy_put_back_days_later_loses_nothing() {
    explore_all("two runs and a person with two actions, days apart", &[(0, 1)], &[(1, 1), (0, 2)], || {
        let providers = [Behaviour::ReuseEndsGrant, Behaviour::EndsOldAccess];
        let plans = providers.map(|behaviour| Plan {
            refreshed_before: true,
            jump_lengths: vec![PAST_A_DAY],
            at_once: 1,
            ..Plan::of_runs(2, behaviour)
        });
        with_each(plans.to_vec(), &UserAction::ALL, |plan, second| Plan {
            user_actions: vec![UserAction::SaveOldCopy, second],
            ..plan
        })
    });
}

#[test]
fn two_functions_with_different_settings_lose_nothing() {
    explore_all("runs of two functions with different client settings", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        with_every_provider(|behaviour| Plan { second_function: Difference::Client, ..Plan::of_runs(2, behaviour) })
    });
}

#[test]
fn a_switch_of_claim_loses_nothing() {
    explore_all(
        "two runs one after the other, and CLAIM changed between them",
        &[(1, 0), (0, 1)],
        &[(1, 1), (2, 0)],
        || {
            let plans = with_every_provider(|behaviour| Plan {
                second_function: Difference::Claim,
                at_once: 1,
                refreshed_before: true,
                ..Plan::of_runs(2, behaviour)
            });
            with_each(plans, &[ClaimMode::Always, ClaimMode::Never], |plan, claim| Plan { claim, ..plan })
        },
    );
}

const KEPT: [Behaviour; 3] = [Behaviour::ReuseEndsGrant, Behaviour::GraceRepeats, Behaviour::EndsOldAccess];

#[test]
fn responses_that_are_not_understood_are_kept() {
    let version = "00000000-0000-4000-8000-000000000001";
    let modes = [
        [Mode::Scheduled, Mode::Scheduled],
        [Mode::Scheduled, forced(None)],
        [Mode::Scheduled, forced(Some(version))],
        [forced(None), forced(None)],
    ];
    explore_all("two runs that do not understand the responses", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let plans = KEPT.map(|behaviour| Plan { responses: Responses::Kept, ..Plan::of_runs(2, behaviour) });
        with_each(plans.to_vec(), &modes, |plan, modes| Plan { runs: modes.into_iter().zip(0..).collect(), ..plan })
    });
}

#[test]
fn responses_that_are_not_understood_are_kept_although_reads_lag_behind() {
    explore_all(
        "two runs that do not understand the responses, with stale reads",
        &[(1, 0), (2, 0)],
        &[(1, 1), (2, 1)],
        || {
            let of_kind =
                |behaviour| Plan { responses: Responses::Kept, stale_reads: true, ..Plan::of_runs(2, behaviour) };
            KEPT.map(of_kind).to_vec()
        },
    );
}

#[test]
fn responses_that_are_not_understood_are_kept_for_days() {
    explore_all(
        "three runs one after the other that do not understand the responses, one of them forced, and days between them",
        &[(1, 1)],
        &[(2, 1), (1, 2)],
        || {
            let of_kind = |behaviour| Plan {
                responses: Responses::Kept,
                runs: vec![(Mode::Scheduled, 0), (forced(None), 1), (Mode::Scheduled, 2)],
                at_once: 1,
                jump_lengths: vec![PAST_A_DAY],
                ..Plan::of_runs(3, behaviour)
            };
            KEPT.map(of_kind).to_vec()
        },
    );
}

#[test]
fn responses_that_are_not_understood_are_kept_in_memory() {
    explore_all(
        "two runs of one process that do not understand the responses, and one of another",
        &[(1, 0), (0, 1)],
        &[(1, 1), (2, 0)],
        || {
            let of_kind = |behaviour| Plan {
                responses: Responses::Kept,
                runs: vec![(Mode::Scheduled, 0), (Mode::Scheduled, 0), (Mode::Scheduled, 1)],
                ..Plan::of_runs(2, behaviour)
            };
            KEPT.map(of_kind).to_vec()
        },
    );
}

#[test]
fn readers_requests_leave_room_for_scheduled_runs() {
    let version = "00000000-0000-4000-8000-000000000001";
    explore_all(
        "a reader's request and a scheduled run in a secret of 30 to 98 versions",
        &[(0, 0), (1, 0)],
        &[(0, 1)],
        || {
            let plans = [Behaviour::ReuseEndsGrant].map(|behaviour| Plan {
                runs: vec![(forced(Some(version)), 0), (Mode::Scheduled, 1)],
                ..Plan::of_runs(2, behaviour)
            });
            with_each(plans.to_vec(), &[29, 37, 38, 96, 97], |plan, other_versions| Plan { other_versions, ..plan })
        },
    );
}

/// Sweeps with two kinds of providers. With `DEEP=1`, with all.
fn with_some_providers(plan: impl Fn(Behaviour) -> Plan) -> Vec<Plan> {
    if std::env::var_os("DEEP").is_some() {
        return with_every_provider(plan);
    }
    [Behaviour::ReuseEndsGrant, Behaviour::EndsOldAccess].map(plan).to_vec()
}

/// Scheduled runs, by the numbers of their processes.
fn scheduled<const N: usize>(processes: [usize; N]) -> Vec<(Mode, usize)> {
    processes.map(|process| (Mode::Scheduled, process)).to_vec()
}

#[test]
fn two_sweeps_lose_nothing() {
    explore_all("two sweeps", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        with_every_provider(|behaviour| Plan::of_sweeps(2, behaviour))
    });
}

#[test]
fn two_sweeps_with_stale_reads_lose_nothing() {
    explore_all("two sweeps that search, with stale reads", &[(1, 0)], &[(2, 0)], || {
        with_some_providers(|behaviour| Plan {
            stale_reads: true,
            search: Search::Prefix,
            ..Plan::of_sweeps(2, behaviour)
        })
    });
}

#[test]
fn sweeps_of_one_process_lose_nothing() {
    explore_all("three sweeps of one process", &[(1, 1), (2, 0)], &[(2, 1), (1, 2)], || {
        with_some_providers(|behaviour| Plan { runs: scheduled([0, 0, 0]), ..Plan::of_sweeps(1, behaviour) })
    });
}

#[test]
fn two_sweeps_of_one_process_and_one_of_another_lose_nothing() {
    explore_all("two sweeps of one process and one of another", &[(0, 1), (1, 0)], &[(1, 1)], || {
        let plan = Plan {
            runs: scheduled([0, 0, 1]),
            jump_lengths: vec![SWEEP_NEARLY_OVER, PAST_THE_LEASE],
            ..Plan::of_sweeps(2, Behaviour::ReuseEndsGrant)
        };
        vec![plan]
    });
}

#[test]
fn a_sweep_and_a_forced_run_lose_nothing() {
    let version = "00000000-0000-4000-8000-000000000001";
    explore_all("a sweep and a forced run", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let plans = with_some_providers(|behaviour| Plan::of_sweeps(1, behaviour));
        let expiries = [TimeDelta::zero(), TimeDelta::hours(1)];
        let plans = with_each(plans, &expiries, |plan, expires_in| Plan { expires_in, ..plan });
        // The forced run is one of another function, or one of the same process.
        with_each(plans, &[(forced(None), 1), (forced(Some(version)), 1), (forced(None), 0)], |plan, forced| Plan {
            runs: vec![(Mode::Scheduled, 0), forced],
            at_once: 2,
            ..plan
        })
    });
}

#[test]
fn a_sweep_and_a_person_lose_nothing() {
    let with_actions = |plans: Vec<Plan>, actions: &[Vec<UserAction>]| {
        with_each(plans, actions, |plan, user_actions| Plan { user_actions, ..plan })
    };
    let one: Vec<_> = UserAction::ALL.map(|action| vec![action]).to_vec();
    let two: Vec<_> =
        UserAction::ALL.into_iter().flat_map(|first| UserAction::ALL.map(|second| vec![first, second])).collect();
    let sweeping = |behaviour| Plan {
        refreshed_before: true,
        jump_lengths: vec![SWEEP_NEARLY_OVER, PAST_THE_LEASE],
        ..Plan::of_sweeps(1, behaviour)
    };
    explore_all("a sweep and a person with two actions", &[(0, 1)], &[(1, 0), (1, 1)], || {
        with_actions(with_some_providers(sweeping), &two)
    });
    explore_all("two sweeps of one process and a person with one action", &[(1, 0), (0, 1)], &[(1, 1)], || {
        let plans = with_some_providers(|behaviour| Plan { runs: scheduled([0, 0]), ..sweeping(behaviour) });
        with_actions(plans, &one)
    });
    explore_all("a sweep, a run and a person with one action", &[(0, 0)], &[(0, 1), (1, 0)], || {
        let plan = Plan { runs: scheduled([0, 1]), at_once: 2, ..sweeping(Behaviour::ReuseEndsGrant) };
        with_actions(vec![plan], &one)
    });
}

/// What a person rolled back to is not due.
#[test]
fn a_sweep_after_forced_runs_and_a_person_recovers() {
    let what = "two forced runs and a sweep, one after the other, and a person with one action";
    explore_all(what, &[(0, 0), (1, 0)], &[(2, 0), (1, 1)], || {
        let plans = with_some_providers(|behaviour| Plan {
            runs: vec![(forced(None), 1), (forced(None), 1), (Mode::Scheduled, 0)],
            at_once: 1,
            expires_in: TimeDelta::hours(1),
            ..Plan::of_sweeps(1, behaviour)
        });
        let actions = [UserAction::RollBack, UserAction::Edit];
        with_each(plans, &actions, |plan, action| Plan { user_actions: vec![action], ..plan })
    });
}

#[test]
fn sweeps_that_publish_lose_nothing_and_publish_the_current_tokens() {
    explore_all("two sweeps that publish", &[(0, 0), (1, 0), (0, 1)], &[(1, 1)], || {
        let plan = Plan {
            readers: Readers::OfPublishedSecret,
            jump_lengths: vec![SWEEP_NEARLY_OVER, PAST_THE_LEASE],
            ..Plan::of_sweeps(2, Behaviour::ReuseEndsGrant)
        };
        let expiries = [TimeDelta::zero(), TimeDelta::hours(1)];
        with_each(vec![plan], &expiries, |plan, expires_in| Plan { expires_in, ..plan })
    });
}

#[test]
fn a_secret_that_fails_does_not_fail_the_sweep() {
    explore_all("two sweeps of one process, of two secrets", &[(1, 0), (0, 1), (1, 1)], &[(2, 1)], || {
        let plan = Plan { runs: scheduled([0, 0]), ..Plan::of_sweeps(1, Behaviour::ReuseEndsGrant) };
        let others = [
            (Neighbour::Due, Search::Names),
            (Neighbour::Invalid, Search::Prefix),
            (Neighbour::Denied, Search::Prefix),
            (Neighbour::Refused, Search::Names),
        ];
        with_each(vec![plan], &others, |plan, (neighbour, search)| Plan { search, neighbour, ..plan })
    });
}

#[test]
fn sweeps_with_a_pace_lose_nothing() {
    explore_all("two sweeps whose writes keep to a pace", &[(1, 0), (0, 1)], &[(1, 1)], || {
        with_some_providers(|behaviour| Plan { pacing: Pacing::ByStore, ..Plan::of_sweeps(2, behaviour) })
    });
}

#[test]
fn sweeps_keep_responses_that_are_not_understood() {
    let what = "three sweeps of one process that do not understand the responses";
    explore_all(what, &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let of_kind = |behaviour| Plan {
            responses: Responses::Kept,
            runs: scheduled([0, 0, 0]),
            ..Plan::of_sweeps(1, behaviour)
        };
        KEPT.map(of_kind).to_vec()
    });
}

/// Worlds of a client that needs no refresh token. A jump of a second makes the second of two requests the later one.
fn of_client(runs: usize) -> Plan {
    Plan {
        jump_lengths: vec![A_SECOND, NEARLY_OVER, PAST_THE_LEASE],
        ..Plan::of_runs(runs, Behaviour::ClientCredentials)
    }
}

/// The first document has no token; a refreshed one has, and AWSPREVIOUS the first one.
fn refreshed_or_not(plan: Plan) -> Vec<Plan> {
    with_each(vec![plan], &[false, true], |plan, refreshed_before| Plan { refreshed_before, ..plan })
}

#[test]
fn two_runs_without_a_single_use_token_lose_nothing() {
    explore_all("two runs without a single-use token", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        refreshed_or_not(of_client(2))
    });
    let what = "two runs without a single-use token, one of which may be a second later";
    explore_all(what, &[(1, 1), (2, 0)], &[(1, 2), (2, 1)], || {
        vec![Plan { jump_lengths: vec![A_SECOND], ..of_client(2) }]
    });
}

#[test]
fn forced_runs_without_a_single_use_token_lose_nothing() {
    let what = "two runs without a single-use token, one or both forced, or two steps of a rotation";
    explore_all(what, &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || with_pairs_of_modes(vec![of_client(2)]));
}

#[test]
fn two_runs_without_a_single_use_token_and_stale_reads_lose_nothing() {
    explore_all("two runs without a single-use token, with stale reads", &[(1, 0)], &[(1, 1), (2, 0)], || {
        refreshed_or_not(Plan { stale_reads: true, ..of_client(2) })
    });
}

#[test]
fn two_runs_without_a_single_use_token_that_publish_lose_nothing() {
    explore_all("two runs without a single-use token that publish", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        vec![Plan { readers: Readers::OfPublishedSecret, jump_lengths: vec![A_SECOND], ..of_client(2) }]
    });
}

#[test]
fn a_run_without_a_single_use_token_and_a_person_lose_nothing() {
    let what = "a run without a single-use token and a person with two actions";
    explore_all(what, &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let plan = Plan { refreshed_before: true, jump_lengths: vec![PAST_THE_LEASE], ..of_client(1) };
        let plans = with_each(vec![plan], &UserAction::WITHOUT_CONSENT, |plan, first| Plan {
            user_actions: vec![first],
            ..plan
        });
        with_each(plans, &UserAction::WITHOUT_CONSENT, |plan, second| Plan {
            user_actions: vec![plan.user_actions[0], second],
            ..plan
        })
    });
}

#[test]
fn two_runs_without_a_single_use_token_and_a_person_lose_nothing() {
    let what = "two runs without a single-use token and a person with one action";
    explore_all(what, &[(0, 0)], &[(0, 1), (1, 0)], || {
        let plans = refreshed_or_not(Plan { jump_lengths: vec![A_SECOND], ..of_client(2) });
        with_each(plans, &UserAction::WITHOUT_CONSENT, |plan, action| Plan { user_actions: vec![action], ..plan })
    });
}

#[test]
fn three_runs_without_a_single_use_token_lose_nothing() {
    explore_all("three runs without a single-use token", &[(0, 0)], &[(0, 1), (1, 0)], || vec![of_client(3)]);
}

#[test]
fn two_runs_of_one_process_and_one_of_another_without_a_single_use_token_lose_nothing() {
    let what = "two runs of one process and one of another, without a single-use token";
    explore_all(what, &[(1, 0), (0, 1)], &[(1, 1)], || vec![Plan { runs: scheduled([0, 0, 1]), ..of_client(2) }]);
}

#[test]
fn sweeps_without_a_single_use_token_lose_nothing() {
    explore_all("two sweeps without a single-use token", &[(1, 0), (0, 1)], &[(1, 1)], || {
        let sweeps = Plan::of_sweeps(2, Behaviour::ClientCredentials);
        vec![Plan { jump_lengths: vec![A_SECOND, SWEEP_NEARLY_OVER, PAST_THE_LEASE], ..sweeps }]
    });
}
