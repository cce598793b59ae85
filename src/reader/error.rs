//! The errors of a reader, grouped by remedy. No text contains a secret.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use super::source::Source;
pub use crate::error::Remedy;
use crate::{
    error::{Audience, ErrorType},
    sanitize::sanitize_line,
    store::StoreError,
    token_secret::SecretProblem,
};

/// Why a reader returns no token or no secret.
///
/// ```
/// use token_refresher::reader::{ReadError, Remedy};
///
/// fn status_for_the_caller(error: &ReadError) -> u16 {
///     match error.remedy() {
///         Remedy::Wait => 503,
///         Remedy::FixSetting | Remedy::Consent | Remedy::Report => 500,
///     }
/// }
/// let error = ReadError::Unavailable { secret_id: "crm".to_owned(), detail: "no answer".to_owned() };
/// assert_eq!(status_for_the_caller(&error), 503);
/// assert_eq!(error.to_string(), "secret `crm` cannot be read now (no answer); try again in some seconds");
/// ```
///
/// `Debug` shows the same text, because it is what a `main` that returns the error prints.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The secret does not exist or has no value yet.
    SecretNotFound {
        /// The secret.
        secret_id: String,
        /// The source's text.
        detail: String,
        /// What to do.
        advice: String,
    },
    /// The reader has no permission to read the secret.
    AccessDenied {
        /// The secret.
        secret_id: String,
        /// The action to allow.
        action: &'static str,
        /// The source's text.
        detail: String,
        /// What to do.
        advice: String,
    },
    /// The content of the secret is wrong.
    InvalidSecret {
        /// The secret.
        secret_id: String,
        /// The problem, with the name of the member.
        problem: String,
    },
    /// The source refused for another reason. A retry will not help.
    Rejected {
        /// The secret.
        secret_id: String,
        /// The source's text.
        detail: String,
    },
    /// The source throttles, fails or cannot be reached.
    Unavailable {
        /// The secret.
        secret_id: String,
        /// The source's text.
        detail: String,
    },
    /// The secret contains no valid access token: the refresher has not written one yet.
    NoToken {
        /// The secret.
        secret_id: String,
        /// When the access token in it expired; `None` if it contains none.
        expired_at: Option<DateTime<Utc>>,
    },
    /// A new token was requested, and the refresher function delivered none.
    NotRefreshed {
        /// The token secret.
        secret_id: String,
        /// The name or ARN of the refresher function.
        function: String,
        /// The reason.
        reason: NotRefreshed,
    },
}

/// Why a refresher function delivered no new token.
///
/// ```
/// use token_refresher::reader::{NotRefreshed, ReadError, Remedy};
///
/// let reason = NotRefreshed::Failed {
///     error_type: "ReauthorizationRequired".to_owned(),
///     message: "…".to_owned(),
/// };
/// let error = ReadError::NotRefreshed { secret_id: "crm".to_owned(), function: "token-refresher".to_owned(), reason };
/// assert_eq!(error.remedy(), Remedy::Consent);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRefreshed {
    /// The reader has no permission to invoke it.
    AccessDenied {
        /// Lambda's text.
        detail: String,
    },
    /// The function does not exist, cannot be invoked like this, or is not a refresher.
    Rejected {
        /// Lambda's text.
        detail: String,
    },
    /// Lambda throttles, fails or cannot be reached.
    Unavailable {
        /// The cause.
        detail: String,
    },
    /// The function returned an error. `docs/errors.md` lists the types.
    Failed {
        /// Its `errorType`.
        error_type: String,
        /// Its `errorMessage`.
        message: String,
    },
    /// Earlier attempts failed, and the back-off has not ended.
    BackingOff {
        /// When the back-off ends, if the report contains it.
        retry_at: Option<String>,
    },
    /// The function was invoked, and there was no new version in time.
    Pending {
        /// How long the reader waited for it.
        seconds: u64,
    },
    /// Lambda responded with 429 each time, and there was no new version in time.
    Busy {
        /// How long the reader asked and waited.
        seconds: u64,
    },
}

impl ReadError {
    /// What resolves the error.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NotRefreshed { reason, .. } => reason.remedy(),
            _ if self.is_permanent() => Remedy::FixSetting,
            _ => Remedy::Wait,
        }
    }

    /// Whether a later read of the secret ends the same way until a person has corrected something.
    pub(super) const fn is_permanent(&self) -> bool {
        match self {
            Self::SecretNotFound { .. }
            | Self::AccessDenied { .. }
            | Self::InvalidSecret { .. }
            | Self::Rejected { .. } => true,
            Self::Unavailable { .. } | Self::NoToken { .. } | Self::NotRefreshed { .. } => false,
        }
    }

    /// The name or ARN of the secret.
    #[must_use]
    pub fn secret_id(&self) -> &str {
        match self {
            Self::SecretNotFound { secret_id, .. }
            | Self::AccessDenied { secret_id, .. }
            | Self::InvalidSecret { secret_id, .. }
            | Self::Rejected { secret_id, .. }
            | Self::Unavailable { secret_id, .. }
            | Self::NoToken { secret_id, .. }
            | Self::NotRefreshed { secret_id, .. } => secret_id,
        }
    }

    /// Translates the error of a source.
    pub(super) fn of_store(source: &Source, secret_id: &str, error: StoreError) -> Self {
        let advice = source.advice(&error, secret_id).text(Audience::Function).to_owned();
        let secret_id = secret_id.to_owned();
        match error {
            StoreError::NotFound { detail } => Self::SecretNotFound { secret_id, detail, advice },
            StoreError::AccessDenied { action, detail } => Self::AccessDenied { secret_id, action, detail, advice },
            StoreError::Binary => Self::InvalidSecret { secret_id, problem: SecretProblem::Binary.to_string() },
            StoreError::Throttled { detail, .. }
            | StoreError::Unavailable { detail, .. }
            | StoreError::NotAuthenticated { detail, .. } => Self::Unavailable { secret_id, detail },
            StoreError::NotConfigured { detail } | StoreError::Rejected { detail, .. } => {
                Self::Rejected { secret_id, detail }
            }
            // A read of these stores never fails like this, but a source that the caller provides may return it.
            error @ (StoreError::Exists | StoreError::Moved { .. } | StoreError::Quota { .. }) => {
                Self::Rejected { secret_id, detail: error.to_string() }
            }
        }
    }
}

impl NotRefreshed {
    fn remedy(&self) -> Remedy {
        match self {
            Self::AccessDenied { .. } | Self::Rejected { .. } => Remedy::FixSetting,
            Self::Unavailable { .. } | Self::BackingOff { .. } | Self::Pending { .. } | Self::Busy { .. } => {
                Remedy::Wait
            }
            Self::Failed { error_type, .. } => ErrorType::read(error_type).map_or(Remedy::Report, ErrorType::remedy),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretNotFound { secret_id, detail, advice } => {
                write!(f, "secret `{secret_id}` was not found ({detail}); {advice}")
            }
            Self::AccessDenied { secret_id, action, detail, advice } => {
                write!(f, "secret `{secret_id}`: not allowed to {action} ({detail}); {advice}")
            }
            Self::InvalidSecret { secret_id, problem } => write!(f, "secret `{secret_id}` cannot be used: {problem}"),
            Self::Rejected { secret_id, detail } => write!(
                f,
                "secret `{secret_id}` cannot be read ({detail}); a retry will not help: check its name and the settings \
                 of its source"
            ),
            Self::Unavailable { secret_id, detail } => {
                write!(f, "secret `{secret_id}` cannot be read now ({detail}); try again in some seconds")
            }
            Self::NoToken { secret_id, expired_at: None } => write!(
                f,
                "secret `{secret_id}` holds no access token yet; the refresher writes one at its next run: if it does \
                 not, see its log"
            ),
            Self::NoToken { secret_id, expired_at: Some(at) } => write!(
                f,
                "secret `{secret_id}`: its access token expired at {} and the refresher has written no new one; try again \
                 in some seconds: if that does not help, see the refresher's log",
                at.to_rfc3339_opts(SecondsFormat::Secs, true)
            ),
            Self::NotRefreshed { secret_id, function, reason } => {
                write!(f, "secret `{secret_id}`: no new token from the function `{function}`: ")?;
                reason.fmt_for(f, function)
            }
        }
    }
}

impl fmt::Debug for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ReadError {}

impl NotRefreshed {
    fn fmt_for(&self, f: &mut fmt::Formatter<'_>, function: &str) -> fmt::Result {
        match self {
            Self::AccessDenied { detail } => {
                let resource = if function.starts_with("arn:") {
                    function.to_owned()
                } else {
                    format!("arn:aws:lambda:*:*:function:{function}")
                };
                let statement = serde_json::json!({
                    "Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": resource
                });
                write!(f, "not allowed to invoke it ({detail}); add to this function's role: {statement}")
            }
            Self::Rejected { detail } => {
                write!(f, "it cannot be invoked ({detail}); check its name, the Region and the account")
            }
            Self::Unavailable { detail } => write!(f, "{detail}; try again in some seconds"),
            Self::Failed { error_type, message } => {
                write!(f, "{}: {}", sanitize_line(error_type, 64), sanitize_line(message, 1000))?;
                match self.remedy() {
                    Remedy::Report => f.write_str("; report it to the operator of the refresher"),
                    // Messages with another remedy contain their own advice.
                    _ => Ok(()),
                }
            }
            Self::BackingOff { retry_at } => {
                f.write_str("its earlier attempts failed")?;
                match retry_at {
                    Some(at) => write!(f, ", and the next is due at {}: see its log", sanitize_line(at, 40)),
                    None => f.write_str(": see its log"),
                }
            }
            Self::Pending { seconds } => write!(
                f,
                "it was asked, but there is no new version after {seconds} s; another run may hold the claim: try again in a \
                 minute, and see its log"
            ),
            Self::Busy { seconds } => write!(
                f,
                "its concurrency was in use each time it was asked (429), and there is no new version after {seconds} s; try \
                 again in a minute"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::source::SecretVersion;

    fn not_refreshed(function: &str, reason: NotRefreshed) -> ReadError {
        ReadError::NotRefreshed { secret_id: "crm".to_owned(), function: function.to_owned(), reason }
    }

    fn failed(error_type: &str) -> ReadError {
        let (error_type, message) = (error_type.to_owned(), "it\nsays".to_owned());
        not_refreshed("token-refresher", NotRefreshed::Failed { error_type, message })
    }

    #[test]
    fn every_error_names_the_failure_the_secret_and_the_remedy() {
        let detail = || "no".to_owned();
        let get = "secretsmanager:GetSecretValue";
        let source = Source::from_fn(|_| async { Ok(SecretVersion::text("v1", "")) });
        for (error, remedy, text) in [
            (
                ReadError::of_store(&source, "crm", StoreError::NotFound { detail: detail() }),
                Remedy::FixSetting,
                "secret `crm` was not found (no); check the name, and give the secret a value",
            ),
            (
                ReadError::of_store(&source, "crm", StoreError::AccessDenied { action: get, detail: detail() }),
                Remedy::FixSetting,
                "secret `crm`: not allowed to secretsmanager:GetSecretValue (no); allow secretsmanager:GetSecretValue",
            ),
            (
                ReadError::of_store(&source, "crm", StoreError::Binary),
                Remedy::FixSetting,
                "secret `crm` cannot be used: it is binary, where text (SecretString) is wanted",
            ),
            (
                ReadError::of_store(&source, "crm", StoreError::Rejected { action: get, detail: detail() }),
                Remedy::FixSetting,
                "secret `crm` cannot be read (no); a retry will not help: check its name and the settings of its source",
            ),
            (
                ReadError::of_store(&source, "crm", StoreError::Unavailable { action: get, detail: detail() }),
                Remedy::Wait,
                "secret `crm` cannot be read now (no); try again in some seconds",
            ),
            (
                ReadError::NoToken { secret_id: "crm".to_owned(), expired_at: None },
                Remedy::Wait,
                "secret `crm` holds no access token yet; the refresher writes one at its next run: if it does not, see its log",
            ),
            (
                ReadError::NoToken { secret_id: "crm".to_owned(), expired_at: Some(DateTime::UNIX_EPOCH) },
                Remedy::Wait,
                "secret `crm`: its access token expired at 1970-01-01T00:00:00Z and the refresher has written no new one; try \
                 again in some seconds: if that does not help, see the refresher's log",
            ),
            (
                not_refreshed("token-refresher", NotRefreshed::AccessDenied { detail: detail() }),
                Remedy::FixSetting,
                "secret `crm`: no new token from the function `token-refresher`: not allowed to invoke it (no); add to this \
                 function's role: {\"Action\":\"lambda:InvokeFunction\",\"Effect\":\"Allow\",\
                 \"Resource\":\"arn:aws:lambda:*:*:function:token-refresher\"}",
            ),
            (
                not_refreshed(
                    "arn:aws:lambda:eu-central-1:1:function:f",
                    NotRefreshed::AccessDenied { detail: detail() },
                ),
                Remedy::FixSetting,
                "secret `crm`: no new token from the function `arn:aws:lambda:eu-central-1:1:function:f`: not allowed to \
                 invoke it (no); add to this function's role: {\"Action\":\"lambda:InvokeFunction\",\"Effect\":\"Allow\",\
                 \"Resource\":\"arn:aws:lambda:eu-central-1:1:function:f\"}",
            ),
            (
                not_refreshed("f", NotRefreshed::Rejected { detail: detail() }),
                Remedy::FixSetting,
                "secret `crm`: no new token from the function `f`: it cannot be invoked (no); check its name, the Region and \
                 the account",
            ),
            (
                not_refreshed("f", NotRefreshed::Unavailable { detail: detail() }),
                Remedy::Wait,
                "secret `crm`: no new token from the function `f`: no; try again in some seconds",
            ),
            (
                not_refreshed("f", NotRefreshed::BackingOff { retry_at: Some("2026-01-01T00:00:00Z".to_owned()) }),
                Remedy::Wait,
                "secret `crm`: no new token from the function `f`: its earlier attempts failed, and the next is due at \
                 2026-01-01T00:00:00Z: see its log",
            ),
            (
                not_refreshed("f", NotRefreshed::Pending { seconds: 30 }),
                Remedy::Wait,
                "secret `crm`: no new token from the function `f`: it was asked, but there is no new version after 30 s; \
                 another run may hold the claim: try again in a minute, and see its log",
            ),
            (
                not_refreshed("f", NotRefreshed::Busy { seconds: 30 }),
                Remedy::Wait,
                "secret `crm`: no new token from the function `f`: its concurrency was in use each time it was asked (429), \
                 and there is no new version after 30 s; try again in a minute",
            ),
            (
                failed("ReauthorizationRequired"),
                Remedy::Consent,
                "secret `crm`: no new token from the function `token-refresher`: ReauthorizationRequired: it?says",
            ),
            (
                failed("Panicked"),
                Remedy::Report,
                "secret `crm`: no new token from the function `token-refresher`: Panicked: it?says; report it to the \
                 operator of the refresher",
            ),
        ] {
            assert_eq!((error.remedy(), error.to_string().as_str(), error.secret_id()), (remedy, text, "crm"));
        }
    }

    #[test]
    fn each_error_type_of_the_refresher_has_its_remedy() {
        for (error_type, remedy) in [
            ("InvalidEvent", Remedy::Report),
            ("InvalidConfiguration", Remedy::FixSetting),
            ("SecretNotFound", Remedy::FixSetting),
            ("AccessDenied", Remedy::FixSetting),
            ("InvalidSecret", Remedy::FixSetting),
            ("ReauthorizationRequired", Remedy::Consent),
            ("ClientRejected", Remedy::FixSetting),
            ("ProviderRejected", Remedy::FixSetting),
            ("ProviderUnavailable", Remedy::Wait),
            ("StoreUnavailable", Remedy::Wait),
            ("VersionQuota", Remedy::FixSetting),
            ("TokenNotStored", Remedy::Report),
            ("Panicked", Remedy::Report),
            ("Sandbox.Timedout", Remedy::Report),
        ] {
            assert_eq!(failed(error_type).remedy(), remedy, "{error_type}");
        }
    }
}
