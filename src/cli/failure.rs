//! Why a command did not do what it was asked for, and the exit code that says who has to act.

use std::{fmt, process::ExitCode};

use crate::{
    error::{Audience, ErrorType, InvalidSetting, Remedy},
    protocol::Error,
};

/// The exit codes, which `docs/tokenctl.md` promises.
/// The first is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    /// 1: a person has to correct something, or to consent.
    NeedsPerson,
    /// 2: the arguments are wrong (as clap says it), or something could not be reached; the same command may succeed later.
    NotDone,
    /// 130: Ctrl-C.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::NeedsPerson => 1,
            Exit::NotDone => 2,
            Exit::Interrupted => 130,
        })
    }
}

/// A failure: what happened and what to do, in words without a secret.
#[derive(Debug)]
pub(super) struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    /// A person has to act.
    pub(super) fn person(message: impl Into<String>) -> Self {
        Self { exit: Exit::NeedsPerson, message: message.into() }
    }

    /// Another try may succeed.
    pub(super) fn later(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotDone, message: message.into() }
    }

    /// The arguments do not fit together, or not to the secret.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::later(message)
    }

    /// The secret, or the document for it, is wrong.
    pub(super) fn unusable(secret_id: &str, problem: impl fmt::Display) -> Self {
        Self::person(format!("secret `{secret_id}` cannot be used: {problem}"))
    }

    /// Only an exit code: the command has printed what is wrong.
    pub(super) const fn silent(exit: Exit) -> Self {
        Self { exit, message: String::new() }
    }

    /// Standard output cannot be written. A reader that has ended, such as `head`, wants no message.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn of_output(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::silent(Exit::NotDone),
            _ => Self::later(format!("the output cannot be written: {error}")),
        }
    }

    pub(super) fn interrupted(message: &str) -> Self {
        Self { exit: Exit::Interrupted, message: message.to_owned() }
    }
}

impl From<InvalidSetting> for Failure {
    fn from(error: InvalidSetting) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = match error.advice(Audience::CommandLine) {
            Some(advice) => format!("{}; {advice}", error.message()),
            None => error.message(),
        };
        match error.error_type().remedy() {
            Remedy::Wait => Self::later(message),
            _ if error.error_type() == ErrorType::InvalidConfiguration => Self::usage(message),
            _ => Self::person(message),
        }
    }
}
