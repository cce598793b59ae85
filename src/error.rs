//! What can go wrong, named by what mends it. The names are Lambda's `errorType`; the texts say what failed, for which
//! secret, and what to do. No text here ever holds a secret: see [`crate::oauth::printable`] for what providers say.

use std::fmt;

use crate::{
    oauth::response::{Refusal, RefusalKind},
    setting::InvalidSetting,
    store::{StoreError, VERSION_QUOTA, VersionId, action, action::permission},
    token_secret::SecretProblem,
};

/// Why a run ended without what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The event is none of the known forms.
    InvalidEvent {
        /// What is wrong with it.
        problem: String,
    },
    /// A setting of the function is wrong or missing.
    InvalidConfiguration {
        /// Which, what was found, and what is allowed.
        problem: String,
    },
    /// The secret is not there, or has no value yet.
    SecretNotFound {
        /// The secret.
        secret_id: String,
        /// The store's text.
        said: String,
    },
    /// The function may not do something it must do.
    AccessDenied {
        /// The secret.
        secret_id: String,
        /// The action to allow.
        action: &'static str,
        /// The store's text.
        said: String,
        /// Where new tokens are safe already.
        staged: Option<VersionId>,
    },
    /// The secret is not what a token secret (or a client's secret) should be.
    InvalidSecret {
        /// The secret.
        secret_id: String,
        /// What is wrong, naming the member.
        problem: String,
    },
    /// The provider refused for good: `ReauthorizationRequired`, `ClientRejected` or `ProviderRejected`, by the kind.
    Refused {
        /// The secret.
        secret_id: String,
        /// The token endpoint, without its query.
        endpoint: String,
        /// What it answered.
        refusal: Refusal,
        /// What came before.
        history: History,
    },
    /// The provider could not be reached, or gave no answer to go by.
    ProviderUnavailable {
        /// The secret.
        secret_id: String,
        /// The token endpoint, without its query.
        endpoint: String,
        /// What happened.
        trouble: String,
        /// Whether the provider may have spent the refresh token all the same.
        maybe_spent: bool,
    },
    /// The store throttles or fails, after retries.
    StoreUnavailable {
        /// The secret.
        secret_id: String,
        /// The action that failed.
        action: &'static str,
        /// The store's text.
        said: String,
        /// What to do.
        mend: &'static str,
        /// Where new tokens are safe already.
        staged: Option<VersionId>,
    },
    /// There is no room for the versions a refresh needs.
    VersionQuota {
        /// The secret.
        secret_id: String,
        /// Where new tokens are safe already.
        staged: Option<VersionId>,
    },
    /// Tokens were issued and could not be written. They stay in this process's memory.
    TokenNotStored {
        /// The secret.
        secret_id: String,
        /// The version id they are to have.
        version_id: VersionId,
        /// Why the last try failed.
        said: String,
    },
}

/// What came before a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing: the token was sent for the first time.
    First,
    /// A run that may have spent the token and ended without storing the answer.
    AfterInterruption,
    /// The refusal itself: this is the answer on record.
    Recorded,
}

impl Error {
    /// The error's name, as Lambda's `errorType`.
    #[must_use]
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::InvalidEvent { .. } => "InvalidEvent",
            Self::InvalidConfiguration { .. } => "InvalidConfiguration",
            Self::SecretNotFound { .. } => "SecretNotFound",
            Self::AccessDenied { .. } => "AccessDenied",
            Self::InvalidSecret { .. } => "InvalidSecret",
            Self::Refused { refusal, .. } => match refusal.kind {
                RefusalKind::ReauthorizationRequired => "ReauthorizationRequired",
                RefusalKind::ClientRejected => "ClientRejected",
                RefusalKind::ProviderRejected => "ProviderRejected",
            },
            Self::ProviderUnavailable { .. } => "ProviderUnavailable",
            Self::StoreUnavailable { .. } => "StoreUnavailable",
            Self::VersionQuota { .. } => "VersionQuota",
            Self::TokenNotStored { .. } => "TokenNotStored",
        }
    }

    /// The secret it happened to, where it is about one.
    #[must_use]
    pub fn secret_id(&self) -> Option<&str> {
        match self {
            Self::InvalidEvent { .. } | Self::InvalidConfiguration { .. } => None,
            Self::SecretNotFound { secret_id, .. }
            | Self::AccessDenied { secret_id, .. }
            | Self::InvalidSecret { secret_id, .. }
            | Self::Refused { secret_id, .. }
            | Self::ProviderUnavailable { secret_id, .. }
            | Self::StoreUnavailable { secret_id, .. }
            | Self::VersionQuota { secret_id, .. }
            | Self::TokenNotStored { secret_id, .. } => Some(secret_id),
        }
    }

    /// What a store's error means for the secret it was asked about.
    #[must_use]
    pub fn of_store(secret_id: &str, error: StoreError, staged: Option<&VersionId>) -> Self {
        let (secret_id, staged) = (secret_id.to_owned(), staged.cloned());
        match error {
            StoreError::NotFound { said } => Self::SecretNotFound { secret_id, said },
            StoreError::AccessDenied { action, said } => Self::AccessDenied { secret_id, action, said, staged },
            StoreError::Quota { .. } => Self::VersionQuota { secret_id, staged },
            StoreError::Binary => Self::InvalidSecret { secret_id, problem: SecretProblem::Binary.to_string() },
            StoreError::Unavailable { action, said } => {
                Self::StoreUnavailable { secret_id, action, said, mend: TRY_AGAIN, staged }
            }
            StoreError::Rejected { action, said } => {
                let mend = "asking again will not help: check the secret's name and the function's settings";
                Self::StoreUnavailable { secret_id, action, said, mend, staged }
            }
            StoreError::Exists => Self::StoreUnavailable {
                secret_id,
                action: action::PUT,
                said: "the version id is taken by other content".to_owned(),
                mend: TRY_AGAIN,
                staged,
            },
            StoreError::Moved => Self::StoreUnavailable {
                secret_id,
                action: action::MOVE,
                said: "AWSCURRENT kept moving".to_owned(),
                mend: TRY_AGAIN,
                staged,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidEvent { problem } | Self::InvalidConfiguration { problem } => f.write_str(problem),
            Self::SecretNotFound { secret_id, said } => write!(
                f,
                "secret `{secret_id}` was not found ({said}); check the name, the Region and the account, and give the \
                 secret a value"
            ),
            Self::AccessDenied { secret_id, action, said, staged } => {
                write!(f, "secret `{secret_id}`: not allowed to {action} ({said}); {}", permission(action, secret_id))?;
                safe(f, staged.as_ref())
            }
            Self::InvalidSecret { secret_id, problem } => {
                write!(f, "secret `{secret_id}` cannot be used: {problem}")
            }
            Self::Refused { secret_id, endpoint, refusal, history } => {
                let mend = match refusal.kind {
                    RefusalKind::ReauthorizationRequired => {
                        "a person must consent again and put the new tokens into the secret"
                    }
                    RefusalKind::ClientRejected => {
                        "check clientId, clientSecret and tokenEndpointAuthMethod against the provider's console"
                    }
                    RefusalKind::ProviderRejected => {
                        "check tokenEndpoint, extraParameters and extraHeaders against the provider's documentation"
                    }
                };
                write!(f, "secret `{secret_id}`: {endpoint} refused the refresh ({refusal}); {mend}")?;
                match history {
                    History::First => {}
                    History::AfterInterruption => write!(
                        f,
                        "; a run before this one ended after its claim: it may have spent the token without storing the \
                         answer"
                    )?,
                    History::Recorded => write!(
                        f,
                        "; this is the answer on record, the provider was not asked again: it is once the tokens or the \
                         client change, at the latest in six hours, or at once with `force`"
                    )?,
                }
                Ok(())
            }
            Self::ProviderUnavailable { secret_id, endpoint, trouble, maybe_spent } => {
                write!(f, "secret `{secret_id}`: {endpoint} {trouble}; the next run tries again")?;
                if *maybe_spent {
                    write!(
                        f,
                        ", but the provider may have spent the refresh token: if that run ends with invalid_grant, a \
                         person must consent again"
                    )?;
                }
                Ok(())
            }
            Self::StoreUnavailable { secret_id, action, said, mend, staged } => {
                write!(f, "secret `{secret_id}`: {action} failed ({said}); {mend}")?;
                safe(f, staged.as_ref())
            }
            Self::VersionQuota { secret_id, staged } => {
                write!(
                    f,
                    "secret `{secret_id}` has no room for the versions that a refresh needs (about {VERSION_QUOTA}, of which those \
                     younger than 24 hours count); refresh or edit it less often, or set CLAIM=never (one version a \
                     refresh) where runs are serialised"
                )?;
                safe(f, staged.as_ref())
            }
            Self::TokenNotStored { secret_id, version_id, said } => write!(
                f,
                "secret `{secret_id}`: NEW TOKENS WERE ISSUED AND COULD NOT BE WRITTEN ({said}); they are in this \
                 process's memory only, to be version {version_id}: invoke the function again now, before it is \
                 replaced, and do not deploy it; if the process ends first, a person must consent again"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<InvalidSetting> for Error {
    fn from(setting: InvalidSetting) -> Self {
        Self::InvalidConfiguration { problem: setting.to_string() }
    }
}

const TRY_AGAIN: &str = "the next run tries again";

/// Says that nothing is lost, where that is so.
fn safe(f: &mut fmt::Formatter<'_>, staged: Option<&VersionId>) -> fmt::Result {
    match staged {
        None => Ok(()),
        Some(id) => write!(
            f,
            "; the new tokens are safe in the secret as version {id} (OAUTH_STAGED), and a run puts them in place as \
             soon as it can"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: RefusalKind, error: &str, history: History) -> Error {
        Error::Refused {
            secret_id: "crm".to_owned(),
            endpoint: "https://id.example/token".to_owned(),
            refusal: Refusal { kind, status: 400, error: Some(error.to_owned()), description: None },
            history,
        }
    }

    fn denied(secret_id: &str, action: &'static str, staged: Option<&str>) -> Error {
        let error = StoreError::AccessDenied { action, said: "no".to_owned() };
        Error::of_store(secret_id, error, staged.map(VersionId::from).as_ref())
    }

    #[test]
    fn every_error_says_what_failed_for_which_secret_and_how_to_mend_it() {
        for (error, name, text) in [
            (
                denied("crm", "secretsmanager:PutSecretValue", None),
                "AccessDenied",
                "secret `crm`: not allowed to secretsmanager:PutSecretValue (no); add to the function's role: \
                 {\"Action\":\"secretsmanager:PutSecretValue\",\"Effect\":\"Allow\",\
                 \"Resource\":\"arn:aws:secretsmanager:*:*:secret:crm-??????\"}",
            ),
            (
                denied("arn:aws:secretsmanager:eu-central-1:1:secret:crm-AbCdEf", "kms:Decrypt", None),
                "AccessDenied",
                "secret `arn:aws:secretsmanager:eu-central-1:1:secret:crm-AbCdEf`: not allowed to kms:Decrypt (no); add to the \
                 function's role: {\"Action\":\"kms:Decrypt\",\"Effect\":\"Allow\",\"Resource\":\"<ARN of the secret's KMS \
                 key>\"}",
            ),
            (
                Error::of_store(
                    "crm",
                    StoreError::Unavailable {
                        action: "secretsmanager:UpdateSecretVersionStage",
                        said: "no".to_owned(),
                    },
                    Some(&"v2".into()),
                ),
                "StoreUnavailable",
                "secret `crm`: secretsmanager:UpdateSecretVersionStage failed (no); the next run tries again; the new tokens \
                 are safe in the secret as version v2 (OAUTH_STAGED), and a run puts them in place as soon as it can",
            ),
            (
                Error::of_store("crm", StoreError::NotFound { said: "no".to_owned() }, None),
                "SecretNotFound",
                "secret `crm` was not found (no); check the name, the Region and the account, and give the secret a value",
            ),
            (
                Error::of_store("crm", StoreError::Binary, None),
                "InvalidSecret",
                "secret `crm` cannot be used: it is binary, where text (SecretString) is wanted",
            ),
            (
                refused(RefusalKind::ReauthorizationRequired, "invalid_grant", History::First),
                "ReauthorizationRequired",
                "secret `crm`: https://id.example/token refused the refresh (status 400, invalid_grant); a person must \
                 consent again and put the new tokens into the secret",
            ),
            (
                refused(RefusalKind::ReauthorizationRequired, "invalid_grant", History::AfterInterruption),
                "ReauthorizationRequired",
                "secret `crm`: https://id.example/token refused the refresh (status 400, invalid_grant); a person must \
                 consent again and put the new tokens into the secret; a run before this one ended after its claim: it may \
                 have spent the token without storing the answer",
            ),
            (
                refused(RefusalKind::ClientRejected, "invalid_client", History::Recorded),
                "ClientRejected",
                "secret `crm`: https://id.example/token refused the refresh (status 400, invalid_client); check clientId, \
                 clientSecret and tokenEndpointAuthMethod against the provider's console; this is the answer on record, the \
                 provider was not asked again: it is once the tokens or the client change, at the latest in six hours, or at \
                 once with `force`",
            ),
            (
                Error::ProviderUnavailable {
                    secret_id: "crm".to_owned(),
                    endpoint: "https://id.example/token".to_owned(),
                    trouble: "did not answer in time".to_owned(),
                    maybe_spent: true,
                },
                "ProviderUnavailable",
                "secret `crm`: https://id.example/token did not answer in time; the next run tries again, but the provider may \
                 have spent the refresh token: if that run ends with invalid_grant, a person must consent again",
            ),
        ] {
            assert_eq!((error.error_type(), error.to_string().as_str()), (name, text));
            assert_eq!(error.secret_id().is_some(), name != "InvalidEvent");
        }
    }
}
