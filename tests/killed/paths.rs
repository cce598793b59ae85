//! The paths through a refresh, and the situation before each. Their requests are not listed here: the tests record them.

use crate::promises::Phase;

/// The situation before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The token is far from expiry.
    NotDue,
    /// The token is due.
    Due,
    /// The token is due, and its client is in another secret.
    DueWithClientSecret,
    /// The token is due, and there is a published secret.
    DueWithPublication,
    /// A run was killed after its claim, an hour ago.
    DeadClaim,
    /// Two runs were killed after their claims.
    TwoDeadClaims,
    /// A run was killed after it had staged the new tokens.
    Staged,
    /// The same, and a person has then edited another member.
    StagedAndEdited,
    /// A person edits another member just before the first promotion.
    EditedDuringRun,
    /// A person puts back a copy from two refreshes ago.
    OldCopy,
    /// A person has withdrawn the consent.
    Withdrawn,
    /// The same, and a run has recorded the refusal.
    RefusalRecorded,
}

/// What starts the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Schedule,
    Force,
    /// A reader that got a 401 and forces the version that it has. It repeats this until that version is no longer current.
    Reader,
}

/// A path through a refresh.
#[derive(Debug)]
pub struct Path {
    pub name: &'static str,
    pub before: Before,
    pub trigger: Trigger,
    pub claims: bool,
    /// The end of a run without a kill: its outcome or error type, its calls to the store, its new versions.
    pub end: (&'static str, usize, usize),
}

impl Path {
    const fn new(name: &'static str, before: Before, end: (&'static str, usize, usize)) -> Self {
        Self { name, before, trigger: Trigger::Schedule, claims: true, end }
    }

    const fn triggered_by(self, trigger: Trigger) -> Self {
        Self { trigger, ..self }
    }

    const fn without_claims(self) -> Self {
        Self { claims: false, ..self }
    }

    /// The phase before the run.
    pub fn start(&self) -> Phase {
        match self.before {
            Before::NotDue if self.trigger == Trigger::Schedule => Phase::Current,
            Before::Staged | Before::StagedAndEdited | Before::OldCopy => Phase::Staged,
            Before::RefusalRecorded => Phase::Refused,
            _ => Phase::Free,
        }
    }

    /// Whether the provider refuses the token.
    pub fn is_refused(&self) -> bool {
        matches!(self.before, Before::Withdrawn | Before::RefusalRecorded)
    }

    pub fn settings(&self) -> &'static [(&'static str, &'static str)] {
        if self.claims { &[] } else { &[("CLAIM", "never")] }
    }
}

const REFUSED: &str = "ReauthorizationRequired";

/// Every path. The table "Calls and versions" of `docs/protocol.md` has the numbers of most of them. The others follow from the
/// protocol.
pub static PATHS: [Path; 19] = [
    Path::new("skip", Before::NotDue, ("skipped", 2, 0)),
    Path::new("scheduled", Before::Due, ("refreshed", 5, 2)),
    Path::new("forced", Before::Due, ("refreshed", 5, 2)).triggered_by(Trigger::Force),
    Path::new("forced by a reader", Before::NotDue, ("refreshed", 5, 2)).triggered_by(Trigger::Reader),
    Path::new("client's secret", Before::DueWithClientSecret, ("refreshed", 6, 2)),
    Path::new("publication", Before::DueWithPublication, ("refreshed", 8, 2)),
    Path::new("take-over", Before::DeadClaim, ("refreshed", 10, 2)),
    Path::new("second take-over", Before::TwoDeadClaims, ("refreshed", 10, 2)),
    Path::new("edited during the run", Before::EditedDuringRun, ("refreshed", 9, 3)),
    Path::new("recovery", Before::Staged, ("recovered", 5, 0)),
    Path::new("recovery, forced", Before::Staged, ("recovered", 5, 0)).triggered_by(Trigger::Force),
    Path::new("recovery, edited", Before::StagedAndEdited, ("recovered", 7, 1)),
    Path::new("old copy", Before::OldCopy, ("recovered", 6, 0)),
    Path::new("refusal", Before::Withdrawn, (REFUSED, 6, 2)),
    Path::new("refusal recorded", Before::RefusalRecorded, (REFUSED, 4, 0)),
    Path::new("no claims", Before::Due, ("refreshed", 5, 2)).without_claims(),
    Path::new("no claims, edited during the run", Before::EditedDuringRun, ("refreshed", 9, 3)).without_claims(),
    Path::new("no claims, recovery", Before::Staged, ("recovered", 5, 0)).without_claims(),
    Path::new("no claims, refusal", Before::Withdrawn, (REFUSED, 6, 2)).without_claims(),
];
