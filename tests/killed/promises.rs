//! What is promised: how far a run has come, and what the runs after it make of that. Runs nothing.

use crate::{
    paths::{Asks, Path},
    support::{
        gateway::Observed,
        provider::{Provider, World},
    },
};

/// How far things have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is claimed, or no longer.
    Free,
    /// A claim is in the store; the provider knows nothing.
    Claimed,
    /// The provider has processed the exchange, and the store knows nothing of it: the one window that remains.
    Window,
    /// The new tokens are in the store, not yet current.
    Staged,
    /// Nothing is left to do.
    Current,
    /// The provider's refusal is in the store.
    Refused,
}

/// What is said of the phases above the table.
pub const LEGEND: &str = "\
free        nothing is claimed: the next run refreshes; the token is sent once in all
claimed     a claim, nothing sent: in_progress within the lease, then refreshed; sent once
window      processed by the provider, unheard of in the store: in_progress, then sent once more, and the family is dead
  forgiven  the same with a provider that has a grace period; no token is sent twice in any other case
staged      the new tokens are in the store: the next run puts them in place, at once; not sent again
current     nothing is left to do
refused     the refusal is on record: nobody asks the provider again
Observed always: AWSCURRENT a whole document with issued tokens, a person's edit kept, no version but documents, claims and
refusals, calls and versions within README's table (a take-over: 10 and 2), and in the end the provider's live token
current, or a person asked to consent.";

/// What a provider makes of a token that is sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Second {
    KillsFamily,
    Forgiven,
}

impl Second {
    pub fn provider(self) -> Provider {
        Provider::rotating().in_world(match self {
            Self::KillsFamily => World::ReuseKillsFamily,
            Self::Forgiven => World::Grace,
        })
    }
}

impl Phase {
    /// What the runs from here on end with, the last one included that finds nothing to do. `later`: they begin when the
    /// lease has ended.
    pub fn ends(self, path: &Path, second: Second, later: bool) -> Vec<&'static str> {
        let mut ends = Vec::new();
        if matches!(self, Self::Claimed | Self::Window) && path.claims && !later {
            ends.push("in_progress");
        }
        ends.extend_from_slice(match self {
            Self::Current => &["skipped"],
            Self::Staged => &["recovered", "skipped"],
            Self::Window if second == Second::Forgiven && !path.is_refused() => &["refreshed", "skipped"],
            Self::Free | Self::Claimed if !path.is_refused() => &["refreshed", "skipped"],
            // Force asks the provider again when the lease has ended, whatever is on record; a reader's request is one.
            _ if path.asks == Asks::Reader => &["ReauthorizationRequired"],
            _ => &["ReauthorizationRequired", "ReauthorizationRequired"],
        });
        ends
    }

    /// Whether the runs from here on send the token.
    pub fn sends(self) -> bool {
        matches!(self, Self::Free | Self::Claimed | Self::Window)
    }
}

/// What the runs after a kill end with, and how often the killed run and they send the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    pub ends: Vec<String>,
    pub sent: usize,
}

impl std::fmt::Display for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; sent {}", self.ends.join(", ").replace("ReauthorizationRequired", "reauthorize"), self.sent)
    }
}

/// The requests of a path that change how far things are, by their number.
#[derive(Debug)]
pub struct Milestones {
    start: Phase,
    /// Each with the phase that begins when it is processed, in their order.
    reached: Vec<(usize, Phase)>,
    exchange: Option<usize>,
}

impl Milestones {
    /// Of a path whose undisturbed run made these requests.
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
        // One that was lost moved nothing.
        reached.extend(last_before(requests.len(), "UpdateSecretVersionStage").map(|moved| (moved, Phase::Current)));
        Self { start: path.start(), reached, exchange }
    }

    /// How far things are after so many processed requests.
    pub fn phase(&self, processed: usize) -> Phase {
        self.reached.iter().rfind(|(number, _)| *number < processed).map_or(self.start, |(_, phase)| *phase)
    }

    /// What is promised of the runs after a kill that came after so many processed requests. `later`: they begin when
    /// the lease has ended.
    pub fn promised(&self, path: &Path, processed: usize, second: Second, later: bool) -> Course {
        let phase = self.phase(processed);
        let by_it = self.exchange.is_some_and(|exchange| exchange < processed);
        let ends = phase.ends(path, second, later).into_iter().map(str::to_owned).collect();
        Course { ends, sent: usize::from(by_it) + usize::from(phase.sends()) }
    }
}
