//! What must happen after a kill: the phase that the killed run had reached, and what later runs do then. Runs nothing.

use crate::{
    paths::{Path, Trigger},
    support::{
        gateway::Observed,
        provider::{Provider, World},
    },
};

/// How far a refresh has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no claim, or its lease and back-off have ended.
    Free,
    /// A claim is in the store. The provider has received nothing.
    Claimed,
    /// The provider has processed the exchange, and nothing of it is in the store: limit L1 of `docs/protocol.md`.
    Window,
    /// The new tokens are in the store, but not current.
    Staged,
    /// Nothing is left to do.
    Current,
    /// The provider's refusal is in the store.
    Refused,
}

/// The explanation of the phases, printed above the table.
pub const LEGEND: &str = "\
free        no claim: the next run refreshes; the token is sent once in all
claimed     a claim, nothing sent: in_progress until the lease ends, then refreshed; sent once
window      processed by the provider, not in the store: in_progress, then sent once more, and the grant is revoked
  allowed   the same with a provider that has a grace period; no token is sent twice in any other case
staged      the new tokens are in the store: the next run promotes them at once; not sent again
current     nothing is left to do
refused     the refusal is recorded: no run asks the provider again
Always checked: AWSCURRENT is a whole document with issued tokens; a person's edit is kept; all versions are documents or
records; calls and new versions are within the table of docs/protocol.md (a take-over: 10 and 2); in the end the live token is
current, or a person must consent.";

/// The provider's reaction to the second use of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecondUse {
    RevokesGrant,
    Allowed,
}

impl SecondUse {
    pub fn provider(self) -> Provider {
        Provider::rotating().in_world(match self {
            Self::RevokesGrant => World::ReuseKillsFamily,
            Self::Allowed => World::Grace,
        })
    }
}

impl Phase {
    /// The ends of the later runs, up to the first that has nothing to do. `after_lease`: they start after the end of the lease.
    pub fn ends(self, path: &Path, second_use: SecondUse, after_lease: bool) -> Vec<&'static str> {
        let mut ends = Vec::new();
        if matches!(self, Self::Claimed | Self::Window) && path.claims && !after_lease {
            ends.push("in_progress");
        }
        ends.extend_from_slice(match self {
            Self::Current => &["skipped"],
            Self::Staged => &["recovered", "skipped"],
            Self::Window if second_use == SecondUse::Allowed && !path.is_refused() => &["refreshed", "skipped"],
            Self::Free | Self::Claimed if !path.is_refused() => &["refreshed", "skipped"],
            // A reader's event forces, so it ignores a recorded refusal after the end of the lease.
            _ if path.trigger == Trigger::Reader => &["ReauthorizationRequired"],
            _ => &["ReauthorizationRequired", "ReauthorizationRequired"],
        });
        ends
    }

    /// Whether the later runs send the token.
    pub fn sends(self) -> bool {
        matches!(self, Self::Free | Self::Claimed | Self::Window)
    }
}

/// How the runs after a kill end, and how often they and the killed run send the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaterRuns {
    pub ends: Vec<String>,
    pub sent: usize,
}

impl std::fmt::Display for LaterRuns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; sent {}", self.ends.join(", ").replace("ReauthorizationRequired", "reauthorize"), self.sent)
    }
}

/// The requests of a path that start a phase, by their number.
#[derive(Debug)]
pub struct Milestones {
    start: Phase,
    /// Each request with the phase that starts when it is processed, in order.
    reached: Vec<(usize, Phase)>,
    exchange: Option<usize>,
}

impl Milestones {
    /// The milestones of a path, from the requests of its run without a kill.
    pub fn of(path: &Path, requests: &[Observed]) -> Self {
        let first_from = |from: usize, name: &str| {
            requests.iter().skip(from).position(|request| request.name.starts_with(name)).map(|found| found + from)
        };
        let last_before =
            |end: usize, name: &str| requests[..end].iter().rposition(|request| request.name.starts_with(name));
        let mut reached = Vec::new();
        let exchange = first_from(0, "POST");
        if let Some(exchange) = exchange {
            reached.extend(last_before(exchange, "PutSecretValue OAUTH_CLAIM").map(|claim| (claim, Phase::Claimed)));
            reached.push((exchange, Phase::Window));
            let record = if path.is_refused() { Phase::Refused } else { Phase::Staged };
            reached.push((first_from(exchange, "PutSecretValue").expect("an exchange is recorded"), record));
        }
        // The last one, because a failed move changes nothing.
        reached.extend(last_before(requests.len(), "UpdateSecretVersionStage").map(|moved| (moved, Phase::Current)));
        Self { start: path.start(), reached, exchange }
    }

    /// The phase after this number of processed requests.
    pub fn phase(&self, processed: usize) -> Phase {
        self.reached.iter().rfind(|(number, _)| *number < processed).map_or(self.start, |(_, phase)| *phase)
    }

    /// The expected runs after a kill that comes after this number of processed requests. `after_lease`: they start after the end
    /// of the lease.
    pub fn expected(&self, path: &Path, processed: usize, second_use: SecondUse, after_lease: bool) -> LaterRuns {
        let phase = self.phase(processed);
        let sent_by_killed_run = self.exchange.is_some_and(|exchange| exchange < processed);
        let ends = phase.ends(path, second_use, after_lease).into_iter().map(str::to_owned).collect();
        LaterRuns { ends, sent: usize::from(sent_by_killed_run) + usize::from(phase.sends()) }
    }
}
