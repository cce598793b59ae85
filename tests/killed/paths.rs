//! The paths through a refresh, each with what there is before it. Which requests a path makes is not told here: that
//! is recorded.

use crate::promises::Phase;

/// What has come to pass before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: the token is far from expiry.
    NotDue,
    /// The token is due.
    Due,
    /// The same, in a version so young that the quota is looked at.
    DueAndYoung,
    /// The same, and its client is in a secret of its own.
    DueWithClientApart,
    /// The same, and readers are told in a secret of their own.
    DueWithReaders,
    /// A run was killed after its claim, an hour ago.
    DeadClaim,
    /// Two were.
    TwoDeadClaims,
    /// A run was killed after it had staged the new tokens.
    Staged,
    /// The same, and a person has edited another member since.
    StagedAndEdited,
    /// A person edits another member just before the first promotion.
    EditedMeanwhile,
    /// Two refreshes ago a person took a copy, and pastes it back.
    PastedBack,
    /// A person has withdrawn their consent.
    Withdrawn,
    /// The same, and a run has recorded the refusal.
    RefusalRecorded,
}

/// Who asks for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    Schedule,
    Force,
    /// A reader that met a 401, with the version it has; it asks again until that is no longer current.
    Reader,
}

/// A path through a refresh.
#[derive(Debug)]
pub struct Path {
    pub name: &'static str,
    pub before: Before,
    pub asks: Asks,
    pub claims: bool,
    /// What an undisturbed run ends with: its outcome or error, its calls to the store, its new versions.
    pub ends: (&'static str, usize, usize),
}

impl Path {
    const fn new(name: &'static str, before: Before, ends: (&'static str, usize, usize)) -> Self {
        Self { name, before, asks: Asks::Schedule, claims: true, ends }
    }

    const fn asked_by(self, asks: Asks) -> Self {
        Self { asks, ..self }
    }

    const fn without_claims(self) -> Self {
        Self { claims: false, ..self }
    }

    /// How far things are before the run.
    pub fn start(&self) -> Phase {
        match self.before {
            Before::NotDue if self.asks == Asks::Schedule => Phase::Current,
            Before::Staged | Before::StagedAndEdited | Before::PastedBack => Phase::Staged,
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

/// Every path. The calls and versions of a refresh, of one with `CLAIM=never` and of a recovery are those of the
/// README's table; the others follow from the protocol.
pub static PATHS: [Path; 20] = [
    Path::new("skip", Before::NotDue, ("skipped", 1, 0)),
    Path::new("scheduled", Before::Due, ("refreshed", 4, 2)),
    Path::new("forced", Before::Due, ("refreshed", 4, 2)).asked_by(Asks::Force),
    Path::new("asked by a reader", Before::NotDue, ("refreshed", 4, 2)).asked_by(Asks::Reader),
    Path::new("young version", Before::DueAndYoung, ("refreshed", 5, 2)),
    Path::new("client apart", Before::DueWithClientApart, ("refreshed", 5, 2)),
    Path::new("readers told", Before::DueWithReaders, ("refreshed", 7, 2)),
    Path::new("take-over", Before::DeadClaim, ("refreshed", 10, 2)),
    Path::new("second take-over", Before::TwoDeadClaims, ("refreshed", 10, 2)),
    Path::new("edited meanwhile", Before::EditedMeanwhile, ("refreshed", 7, 3)),
    Path::new("recovery", Before::Staged, ("recovered", 5, 0)),
    Path::new("recovery, forced", Before::Staged, ("recovered", 5, 0)).asked_by(Asks::Force),
    Path::new("recovery, edited", Before::StagedAndEdited, ("recovered", 6, 1)),
    Path::new("copy pasted back", Before::PastedBack, ("recovered", 6, 0)),
    Path::new("refusal", Before::Withdrawn, (REFUSED, 5, 2)),
    Path::new("refusal recorded", Before::RefusalRecorded, (REFUSED, 4, 0)),
    Path::new("no claims", Before::Due, ("refreshed", 5, 1)).without_claims(),
    Path::new("no claims, edited", Before::EditedMeanwhile, ("refreshed", 8, 2)).without_claims(),
    Path::new("no claims, recovery", Before::Staged, ("recovered", 5, 0)).without_claims(),
    Path::new("no claims, refusal", Before::Withdrawn, (REFUSED, 6, 1)).without_claims(),
];
