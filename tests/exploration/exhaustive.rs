//! Small worlds that are gone through to the last schedule. `DEEP=1` goes through larger ones.

use chrono::TimeDelta;
use token_refresher::protocol::{Mode, options::ClaimMode};

use crate::{
    explorer::{Tally, explore, say},
    person::Deed,
    plan::{PAST_THE_LEASE, Plan, Readers},
    provider::Manners,
};

/// How many faults and leaps of the clock a schedule may have. Fewer first: what is found has the shortest story.
type Mishaps = (usize, usize);

/// Goes through these plans with so many mishaps, and tells how many schedules that were.
fn all(what: &str, usual: &[Mishaps], deep: &[Mishaps], plans: impl Fn() -> Vec<Plan>) {
    let deeper = if std::env::var_os("DEEP").is_some() { deep } else { &[] };
    for (faults, leaps) in usual.iter().chain(deeper).copied() {
        let mut sum = Tally::default();
        for plan in plans() {
            sum += explore(&Plan { faults, leaps, ..plan });
        }
        say(&format!("explored {what}, faults up to {faults}, leaps of the clock up to {leaps}: {sum}"));
    }
}

fn with_every_provider(plan: impl Fn(Manners) -> Plan) -> Vec<Plan> {
    Manners::ALL.into_iter().map(plan).collect()
}

/// The same plans with each of these changes.
fn each<T: Clone>(plans: Vec<Plan>, changes: &[T], change: impl Fn(Plan, T) -> Plan) -> Vec<Plan> {
    let variants = |plan: Plan| changes.iter().map(|to| change(plan.clone(), to.clone())).collect::<Vec<_>>();
    plans.into_iter().flat_map(variants).collect()
}

fn forced(if_version_id: Option<&str>) -> Mode {
    Mode::Forced { if_version_id: if_version_id.map(str::to_owned) }
}

#[test]
fn of_two_runs_nothing_is_lost() {
    all("two runs", &[(1, 0), (0, 1), (1, 1), (2, 0)], &[(2, 1), (1, 2)], || {
        with_every_provider(|manners| Plan::of_runs(2, manners))
    });
}

#[test]
fn of_two_runs_whose_reads_lag_behind_nothing_is_lost() {
    all("two runs whose reads lag behind", &[(1, 0), (2, 0)], &[(2, 1)], || {
        with_every_provider(|manners| Plan { lagging_reads: true, ..Plan::of_runs(2, manners) })
    });
}

#[test]
fn of_three_runs_nothing_is_lost() {
    all("three runs", &[(1, 0)], &[(0, 1)], || {
        [Manners::ReuseEndsGrant, Manners::EndsOldAccess].map(|manners| Plan::of_runs(3, manners)).to_vec()
    });
}

#[test]
fn of_a_run_and_a_person_nothing_is_lost() {
    all("a run and a person with two deeds", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let plans = with_every_provider(|manners| Plan {
            refreshed_before: true,
            leap_lengths: vec![PAST_THE_LEASE],
            ..Plan::of_runs(1, manners)
        });
        let plans = each(plans, &Deed::ALL, |plan, first| Plan { deeds: vec![first], ..plan });
        let plans = each(plans, &Deed::ALL, |plan, second| Plan { deeds: vec![plan.deeds[0], second], ..plan });
        // Whether a consent ends others matters where there is one.
        let endings = each(plans, &[false, true], |plan, consent_ends_others| Plan { consent_ends_others, ..plan });
        endings.into_iter().filter(|plan| !plan.consent_ends_others || plan.deeds.contains(&Deed::Consent)).collect()
    });
}

#[test]
fn of_two_runs_and_a_person_nothing_is_lost() {
    all("two runs and a person with one deed", &[(0, 0), (0, 1)], &[(1, 0)], || {
        let plans = with_every_provider(|manners| Plan {
            refreshed_before: true,
            leap_lengths: vec![PAST_THE_LEASE],
            ..Plan::of_runs(2, manners)
        });
        each(plans, &Deed::ALL, |plan, deed| Plan { deeds: vec![deed], ..plan })
    });
}

#[test]
fn of_two_runs_of_which_one_or_both_are_forced_nothing_is_lost() {
    let version = "00000000-0000-4000-8000-000000000001";
    let modes =
        [[forced(None), Mode::Scheduled], [forced(None), forced(None)], [forced(Some(version)), forced(Some(version))]];
    all("two runs, forced", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let plans =
            with_every_provider(|manners| Plan { expires_in: TimeDelta::hours(1), ..Plan::of_runs(2, manners) });
        each(plans, &modes, |plan, modes| Plan { runs: modes.into_iter().zip(0..).collect(), ..plan })
    });
}

#[test]
fn of_a_process_that_lives_on_and_another_nothing_is_lost() {
    all("two runs of one process and one of another", &[(0, 1), (1, 0)], &[(1, 1)], || {
        with_every_provider(|manners| Plan {
            runs: vec![(Mode::Scheduled, 0), (Mode::Scheduled, 0), (Mode::Scheduled, 1)],
            ..Plan::of_runs(2, manners)
        })
    });
}

#[test]
fn of_runs_one_after_the_other_without_claims_nothing_is_lost() {
    all("two runs one after the other with CLAIM=never, and a person", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        let plans = with_every_provider(|manners| Plan {
            claim: ClaimMode::Never,
            at_once: 1,
            refreshed_before: true,
            ..Plan::of_runs(2, manners)
        });
        each(plans, &Deed::ALL, |plan, deed| Plan { deeds: vec![deed], ..plan })
    });
}

#[test]
fn of_two_runs_that_tell_readers_nothing_is_lost_and_readers_know() {
    all("two runs that tell readers", &[(1, 0), (0, 1)], &[(1, 1), (2, 0)], || {
        with_every_provider(|manners| Plan { readers: Readers::Told, ..Plan::of_runs(2, manners) })
    });
}

#[test]
fn of_a_run_that_tells_readers_and_a_person_nothing_is_lost_and_readers_know() {
    all("a run that tells readers and a person with one deed", &[(1, 0), (0, 1)], &[(1, 1)], || {
        let plans = with_every_provider(|manners| Plan {
            refreshed_before: true,
            readers: Readers::Told,
            leap_lengths: vec![PAST_THE_LEASE],
            ..Plan::of_runs(1, manners)
        });
        each(plans, &Deed::ALL, |plan, deed| Plan { deeds: vec![deed], ..plan })
    });
}

#[test]
fn of_runs_that_tell_readers_of_a_token_not_due_nothing_is_lost_and_readers_know() {
    all("a run, a forced one and at times a person, readers told", &[(0, 0)], &[(1, 0), (0, 1)], || {
        let plans = [Manners::ReuseEndsGrant, Manners::EndsOldAccess].map(|manners| Plan {
            readers: Readers::Told,
            expires_in: TimeDelta::hours(1),
            runs: vec![(Mode::Scheduled, 0), (forced(None), 1)],
            ..Plan::of_runs(2, manners)
        });
        let deeds = [vec![], vec![Deed::Consent], vec![Deed::RollBack]];
        each(plans.to_vec(), &deeds, |plan, deeds| Plan { deeds, ..plan })
    });
}

#[test]
fn in_a_secret_that_is_nearly_full_nothing_is_lost() {
    all("two runs in a secret of 97 to 100 versions", &[(0, 0), (0, 1), (1, 0)], &[], || {
        let plans = [Manners::ReuseEndsGrant, Manners::EndsOldAccess]
            .map(|manners| Plan { age: TimeDelta::minutes(5), ..Plan::of_runs(2, manners) });
        each(plans.to_vec(), &[96, 97, 98, 99], |plan, other_versions| Plan { other_versions, ..plan })
    });
}
