//! What a run is asked to do, and the options that hold for every run of a process.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::token_secret::{client_settings::ClientSettings, member_names::MemberNames};

/// The options of a process.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long before expiry a token is due, if its secret has no margin of its own.
    pub refresh_margin: Duration,
    /// Whether runs claim before they exchange.
    pub claim: ClaimMode,
    /// The client, for what the secrets leave out.
    pub client: ClientSettings,
    /// Where members are in secrets that do not say it themselves.
    pub member_names: MemberNames,
}

/// Whether a run claims a token before it exchanges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClaimMode {
    /// It does. Two new versions for each refresh; no two runs exchange the same token.
    #[default]
    Always,
    /// It does not. One new version for each refresh, for tokens of less than about 45 minutes; something else must keep runs
    /// from overlapping.
    Never,
}

/// How a run treats its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Refresh it if it is due.
    Scheduled,
    /// Refresh it in any case, or only while the named version is current.
    Forced {
        /// The version that the caller knows to be stale.
        if_version_id: Option<String>,
    },
    /// Refresh it as if it were due, unless its tokens are new: the first step of a rotation, which may come again.
    Rotation,
    /// Report what a scheduled run would do.
    DryRun,
}

/// One run to do.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The secret's name or ARN.
    pub secret_id: &'a str,
    /// How to treat it.
    pub mode: &'a Mode,
    /// When the invocation ends.
    pub deadline: DateTime<Utc>,
}
