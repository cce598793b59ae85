//! What all errors have in common: their types, what kind of action ends them, and advice for the person who reads them.
//! Knows no particular error but that of a setting.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

/// The type of an error: `errorType` in Lambda's response, a dimension of the metric `Failed`, what a reader decides by.
///
/// The names are a format (`docs/compatibility.md`): a name may be added, none is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The event has none of the known forms.
    InvalidEvent,
    /// A setting of the function is wrong or missing.
    InvalidConfiguration,
    /// The secret does not exist or has no value.
    SecretNotFound,
    /// A permission is missing.
    AccessDenied,
    /// The secret's document is wrong.
    InvalidSecret,
    /// The grant has ended: a person must consent again.
    ReauthorizationRequired,
    /// The provider does not accept the client.
    ClientRejected,
    /// The provider refused the request for another reason.
    ProviderRejected,
    /// The provider did not respond, or not in a usable way.
    ProviderUnavailable,
    /// The store did not respond, or failed.
    StoreUnavailable,
    /// The secret has no room for the versions that a refresh needs.
    VersionQuota,
    /// New tokens were issued and could not be written.
    TokenNotStored,
    /// The run ended at a bug.
    Panicked,
}

/// What ends an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Time. Try again in some seconds, with a bound.
    Wait,
    /// A correction of what the error names: a name, a permission, a setting, a member of the secret.
    FixSetting,
    /// A person consents again at the provider and puts the new tokens into the secret.
    Consent,
    /// None of these: report it to the operator of the refresher.
    Report,
}

impl ErrorType {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::InvalidEvent,
        Self::InvalidConfiguration,
        Self::SecretNotFound,
        Self::AccessDenied,
        Self::InvalidSecret,
        Self::ReauthorizationRequired,
        Self::ClientRejected,
        Self::ProviderRejected,
        Self::ProviderUnavailable,
        Self::StoreUnavailable,
        Self::VersionQuota,
        Self::TokenNotStored,
        Self::Panicked,
    ];

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidEvent => "InvalidEvent",
            Self::InvalidConfiguration => "InvalidConfiguration",
            Self::SecretNotFound => "SecretNotFound",
            Self::AccessDenied => "AccessDenied",
            Self::InvalidSecret => "InvalidSecret",
            Self::ReauthorizationRequired => "ReauthorizationRequired",
            Self::ClientRejected => "ClientRejected",
            Self::ProviderRejected => "ProviderRejected",
            Self::ProviderUnavailable => "ProviderUnavailable",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::VersionQuota => "VersionQuota",
            Self::TokenNotStored => "TokenNotStored",
            Self::Panicked => "Panicked",
        }
    }

    /// Reads a name. `None`: a later version's, or Lambda's own (`Sandbox.Timedout`).
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error_type| error_type.as_str() == name)
    }

    /// What ends an error of this type, for a function that reads the token.
    #[must_use]
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::ReauthorizationRequired => Remedy::Consent,
            Self::ProviderUnavailable | Self::StoreUnavailable => Remedy::Wait,
            Self::InvalidConfiguration
            | Self::SecretNotFound
            | Self::AccessDenied
            | Self::InvalidSecret
            | Self::ClientRejected
            | Self::ProviderRejected
            | Self::VersionQuota => Remedy::FixSetting,
            Self::InvalidEvent | Self::TokenNotStored | Self::Panicked => Remedy::Report,
        }
    }
}

/// By its name.
impl Serialize for ErrorType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an error is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// In the response or the log of a deployed function.
    Function,
    /// In a terminal, by the person who started the program.
    CommandLine,
}

/// What to do about an error, in words. It depends on where the error is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    texts: Box<Texts>,
}

/// Boxed to keep errors small: they are returned by value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Texts {
    function: Cow<'static, str>,
    command_line: Option<Cow<'static, str>>,
}

impl Advice {
    /// The same advice for everyone.
    #[must_use]
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { texts: Box::new(Texts { function: text.into(), command_line: None }) }
    }

    /// Other advice in a terminal.
    #[must_use]
    pub fn or_at_command_line(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.texts.command_line = Some(text.into());
        self
    }

    /// The advice for where it is read.
    #[must_use]
    pub fn text(&self, audience: Audience) -> &str {
        match (audience, &self.texts.command_line) {
            (Audience::CommandLine, Some(text)) => text,
            _ => &self.texts.function,
        }
    }
}

/// A setting that is wrong or missing. The text names it, what was found, and what is allowed. `Debug` shows the same text, because it
/// is what a `main` that returns the error prints.
#[derive(Clone, PartialEq, Eq)]
pub struct InvalidSetting {
    problem: String,
}

impl InvalidSetting {
    /// A problem in words, without a secret in them.
    #[must_use]
    pub fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into() }
    }

    /// A setting with a value that is not allowed.
    #[must_use]
    pub fn found(name: &str, found: &str, allowed: &str) -> Self {
        let found: String = found.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::new(format!("{name} is \"{found}\"; allowed is {allowed}"))
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl fmt::Debug for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for InvalidSetting {}

/// The cause at the end of the chain of an error's causes: the HTTP clients' own texts only say that something failed.
#[cfg(any(feature = "_https", feature = "reqwest"))]
pub(crate) fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_type_is_read_by_its_name() {
        for error_type in ErrorType::ALL {
            assert_eq!(ErrorType::read(error_type.as_str()), Some(error_type));
        }
        assert_eq!(ErrorType::read("Sandbox.Timedout"), None);
    }

    #[test]
    fn advice_depends_on_where_it_is_read() {
        let same = Advice::new("wait");
        let other = Advice::new("invoke the function again").or_at_command_line("run the command again");
        for (advice, function, command_line) in
            [(same, "wait", "wait"), (other, "invoke the function again", "run the command again")]
        {
            assert_eq!([Audience::Function, Audience::CommandLine].map(|it| advice.text(it)), [function, command_line]);
        }
    }
}
