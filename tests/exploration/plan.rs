//! What is to be explored: who is there, what may go wrong and how often, and how it all begins.

use chrono::TimeDelta;
use token_refresher::{protocol::Mode, protocol::options::ClaimMode};

use crate::{person::Deed, provider::Manners};

/// How much time a run has.
pub const TIMEOUT: TimeDelta = TimeDelta::seconds(60);

/// A pause after which half a second is left of a run that began before it.
pub const NEARLY_OVER: TimeDelta = TimeDelta::milliseconds(59_500);

/// A pause that outlasts a run and its lease.
pub const PAST_THE_LEASE: TimeDelta = TimeDelta::seconds(64);

/// What is to be explored.
#[derive(Clone, Debug)]
pub struct Plan {
    pub manners: Manners,
    /// Whether a new consent ends the grants before it.
    pub consent_ends_others: bool,
    pub claim: ClaimMode,
    /// The runs: how each treats the secret, and the process it runs in. A process makes its runs one after the other.
    pub runs: Vec<(Mode, usize)>,
    /// How many runs may be on their way at once.
    pub at_once: usize,
    pub deeds: Vec<Deed>,
    /// How many crashes, lost requests, lost answers, refusals and lagging reads there may be in all.
    pub faults: usize,
    /// How many times the clock may leap in all, and by how much.
    pub leaps: usize,
    pub leap_lengths: Vec<TimeDelta>,
    /// Whether reads may lag behind the newest write.
    pub lagging_reads: bool,
    /// How old the current version is at first, and how long its token still lives.
    pub age: TimeDelta,
    pub expires_in: TimeDelta,
    /// How many other versions, young and without a label, the secret has at first.
    pub other_versions: usize,
    /// Whether the current tokens come of a refresh, so that there is an AWSPREVIOUS with spent ones.
    pub refreshed_before: bool,
    pub readers: Readers,
}

/// Who reads the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// No one, or the token secret itself.
    OfTheSecret,
    /// They are told in a second secret, empty at first.
    Told,
}

impl Plan {
    pub fn tells_readers(&self) -> bool {
        self.readers == Readers::Told
    }

    /// Scheduled runs, each in a process of its own, on an old version with a token that is due.
    pub fn of_runs(runs: usize, manners: Manners) -> Self {
        Self {
            manners,
            consent_ends_others: false,
            claim: ClaimMode::Always,
            runs: (0..runs).map(|process| (Mode::Scheduled, process)).collect(),
            at_once: runs,
            deeds: Vec::new(),
            faults: 0,
            leaps: 0,
            leap_lengths: vec![NEARLY_OVER, PAST_THE_LEASE],
            lagging_reads: false,
            age: TimeDelta::hours(1),
            expires_in: TimeDelta::zero(),
            other_versions: 0,
            refreshed_before: false,
            readers: Readers::OfTheSecret,
        }
    }
}
