//! The settings of a world: the runs, the person, the provider, the limits of faults, and the first version.

use chrono::TimeDelta;
use token_refresher::{protocol::Mode, protocol::options::ClaimMode};

use crate::{person::UserAction, provider::Behaviour, run::Pacing};

/// The time from the start of a run to its deadline.
pub const TIMEOUT: TimeDelta = TimeDelta::seconds(60);

/// A clock jump that leaves half a second to a run that started just before it.
pub const NEARLY_OVER: TimeDelta = TimeDelta::milliseconds(59_500);

/// A clock jump that makes the next request a later one.
pub const A_SECOND: TimeDelta = TimeDelta::seconds(1);

/// Clock jumps in a sweep that started just before: too little time to begin a run, too little to send a token, half a second for the
/// run.
pub const TOO_LATE_TO_BEGIN: TimeDelta = TimeDelta::milliseconds(55_500);
pub const TOO_LATE_TO_SEND: TimeDelta = TimeDelta::milliseconds(57_000);
pub const SWEEP_NEARLY_OVER: TimeDelta = TimeDelta::seconds(59);

/// A clock jump past a run's deadline and its lease.
pub const PAST_THE_LEASE: TimeDelta = TimeDelta::seconds(64);

/// A clock jump past the time for which unlabelled versions are kept. The store drops them all.
pub const PAST_A_DAY: TimeDelta = TimeDelta::hours(25);

/// The settings of a world.
#[derive(Clone, Debug)]
pub struct Plan {
    pub behaviour: Behaviour,
    /// Whether a new consent ends the grants before it.
    pub consent_ends_others: bool,
    pub claim: ClaimMode,
    /// What is different in the processes with an odd number, as in a second function.
    pub second_function: Difference,
    /// The mode of each run, and its process. The runs of one process do not overlap.
    pub runs: Vec<(Mode, usize)>,
    /// How many runs may overlap.
    pub at_once: usize,
    pub user_actions: Vec<UserAction>,
    /// The largest number of faults in a schedule.
    pub faults: usize,
    /// The largest number of clock jumps in a schedule.
    pub jumps: usize,
    pub jump_lengths: Vec<TimeDelta>,
    /// Whether a read may miss the newest write.
    pub stale_reads: bool,
    /// The age of the first version.
    pub age: TimeDelta,
    /// The time until its access token expires.
    pub expires_in: TimeDelta,
    /// How many unlabelled versions the secret has at first, as old as the first version.
    pub other_versions: usize,
    /// Whether the tokens have been refreshed once, so that AWSPREVIOUS holds spent ones. The token is due then.
    pub refreshed_before: bool,
    pub readers: Readers,
    pub responses: Responses,
    /// The processes that sweep instead of running for the token secret alone. Their forced runs are ordinary ones.
    pub sweepers: Vec<usize>,
    pub search: Search,
    pub neighbour: Neighbour,
    pub pacing: Pacing,
}

/// How a sweep finds its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    Names,
    Prefix,
}

/// The other secret of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    None,
    /// Its token is due.
    Due,
    /// Its text is wrong.
    Invalid,
    /// The store denies every call for it.
    Denied,
    /// Its provider refuses the refresh token.
    Refused,
}

/// How the settings of a second function differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    None,
    /// It has other client settings.
    Client,
    /// It has the other `CLAIM`.
    Claim,
}

/// Which secret the readers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The token secret.
    OfTokenSecret,
    /// A published secret, which is empty at first.
    OfPublishedSecret,
}

/// Whether the program understands the provider's responses with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Responses {
    Understood,
    /// They look like tokens, and are kept.
    Kept,
}

impl Plan {
    /// Whether versions can become so old that the store drops them.
    pub fn drops_old_versions(&self) -> bool {
        self.jump_lengths.iter().any(|length| *length >= PAST_A_DAY)
    }

    pub fn publishes(&self) -> bool {
        self.readers == Readers::OfPublishedSecret
    }

    /// Scheduled runs, each in its own process. The first version is old, and its token is due.
    pub fn of_runs(runs: usize, behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            consent_ends_others: false,
            claim: ClaimMode::Always,
            second_function: Difference::None,
            runs: (0..runs).map(|process| (Mode::Scheduled, process)).collect(),
            at_once: runs,
            user_actions: Vec::new(),
            faults: 0,
            jumps: 0,
            jump_lengths: vec![NEARLY_OVER, PAST_THE_LEASE],
            stale_reads: false,
            age: TimeDelta::hours(1),
            expires_in: TimeDelta::zero(),
            other_versions: 0,
            refreshed_before: false,
            readers: Readers::OfTokenSecret,
            responses: Responses::Understood,
            sweepers: Vec::new(),
            search: Search::Names,
            neighbour: Neighbour::None,
            pacing: Pacing::None,
        }
    }

    /// Sweeps, each in its own process.
    pub fn of_sweeps(sweeps: usize, behaviour: Behaviour) -> Self {
        Self {
            sweepers: (0..sweeps).collect(),
            jump_lengths: vec![TOO_LATE_TO_BEGIN, TOO_LATE_TO_SEND, SWEEP_NEARLY_OVER, PAST_THE_LEASE],
            ..Self::of_runs(sweeps, behaviour)
        }
    }
}
