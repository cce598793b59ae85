//! Why a run failed: what failed, for which secret, and what to do. The message and the advice are separate. No text here contains
//! a secret: [`crate::sanitize`] cleans what providers and stores answer.

use std::{borrow::Cow, fmt, time::Duration};

use crate::{
    crash::PANIC_MESSAGE,
    error::{Advice, Audience, ErrorType, InvalidSetting},
    kms::{self, SigningError},
    oauth::response::{ErrorResponse, RefusalKind},
    store::{Limits, Operation, SecretStore, StoreError, VersionId},
    token_secret::SecretProblem,
};

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The event has none of the known forms.
    InvalidEvent {
        /// What is wrong with it.
        problem: String,
    },
    /// A setting of the function is wrong or missing.
    InvalidConfiguration {
        /// Which setting, what was found, and what is allowed.
        problem: String,
    },
    /// The secret does not exist or has no value.
    SecretNotFound {
        /// The secret.
        secret_id: String,
        /// The store's text.
        detail: String,
        /// What to do, as the store knows it.
        advice: Advice,
    },
    /// The function lacks a permission.
    AccessDenied {
        /// The secret.
        secret_id: String,
        /// The action to allow.
        action: &'static str,
        /// The store's text.
        detail: String,
        /// What to do, as the store knows it.
        advice: Advice,
        /// The version that holds new tokens already.
        staged: Option<VersionId>,
    },
    /// The document of the token secret, of the client's secret or of the published secret is wrong.
    InvalidSecret {
        /// The secret.
        secret_id: String,
        /// What is wrong, with the member's name.
        problem: String,
    },
    /// The provider refused for good: `ReauthorizationRequired`, `ClientRejected` or `ProviderRejected`, by the refusal's kind.
    Refused {
        /// The secret.
        secret_id: String,
        /// The token endpoint, without its query.
        endpoint: String,
        /// The error response.
        refusal: Box<ErrorResponse>,
        /// What happened before.
        history: History,
        /// What to do where the grant itself is refused.
        grant_advice: Advice,
        /// What to do where the client is rejected.
        client_advice: Advice,
    },
    /// The provider issued tokens that cannot be used: they cannot be understood, or do not fit.
    Unusable {
        /// The secret.
        secret_id: String,
        /// The token endpoint, without its query.
        endpoint: String,
        /// What the provider did.
        detail: String,
        /// Where its response is now.
        response: ResponseLocation,
        /// `First`, or `Recorded`.
        history: History,
    },
    /// The provider did not respond, or not in a usable way.
    ProviderUnavailable {
        /// The secret.
        secret_id: String,
        /// The token endpoint, without its query.
        endpoint: String,
        /// What happened.
        detail: String,
        /// Whether the provider may have spent the refresh token all the same.
        maybe_spent: bool,
        /// How long the provider accepts a refresh token after its exchange, if that is known.
        grace: Option<Duration>,
    },
    /// The store throttles or fails, after retries.
    StoreUnavailable {
        /// The secret.
        secret_id: String,
        /// The action that failed.
        action: &'static str,
        /// The store's text.
        detail: String,
        /// What to do, as the store knows it.
        advice: Advice,
        /// The version that holds new tokens already.
        staged: Option<VersionId>,
    },
    /// The secret has no room for the versions that a refresh needs.
    VersionQuota {
        /// The secret.
        secret_id: String,
        /// How much the store keeps.
        limits: Limits,
        /// Whether a reader asked for the refresh: there is room, but the scheduled refreshes of the next day need it.
        is_readers_request: bool,
        /// Whether the refresh needs a version for its claim.
        needs_claim: bool,
        /// The version that holds new tokens already.
        staged: Option<VersionId>,
    },
    /// A bug ended the run of a secret in a sweep.
    Panicked {
        /// The secret.
        secret_id: String,
    },
    /// New tokens were issued and could not be written. They are in this process's memory.
    TokenNotStored {
        /// The secret.
        secret_id: String,
        /// The version id they are to have.
        version_id: VersionId,
        /// Why the last try failed.
        detail: String,
    },
}

/// Where a response is that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseLocation {
    /// In this version of the secret.
    Version(VersionId),
    /// Only in this process's memory.
    Memory {
        /// The version id it is to have.
        version_id: VersionId,
        /// Why the last try to put it failed.
        problem: String,
    },
    /// Nowhere: no version has room for it.
    Lost {
        /// Why it could not be put.
        problem: String,
    },
    /// Nowhere: it has no new refresh token.
    NotNeeded,
    /// Nowhere: the grant brings another response at any time.
    Repeatable,
}

/// What happened before a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing: the token was sent for the first time.
    First,
    /// An earlier run may have spent the token and ended without storing the response.
    AfterInterruption,
    /// An earlier run recorded this refusal; the provider was not asked again.
    Recorded,
}

impl Error {
    /// The type of the error.
    #[must_use]
    pub const fn error_type(&self) -> ErrorType {
        match self {
            Self::InvalidEvent { .. } => ErrorType::InvalidEvent,
            Self::InvalidConfiguration { .. } => ErrorType::InvalidConfiguration,
            Self::SecretNotFound { .. } => ErrorType::SecretNotFound,
            Self::AccessDenied { .. } => ErrorType::AccessDenied,
            Self::InvalidSecret { .. } => ErrorType::InvalidSecret,
            Self::Refused { refusal, .. } => match refusal.kind {
                RefusalKind::ReauthorizationRequired => ErrorType::ReauthorizationRequired,
                RefusalKind::ClientRejected => ErrorType::ClientRejected,
                RefusalKind::ProviderRejected => ErrorType::ProviderRejected,
            },
            Self::Unusable { response: ResponseLocation::Memory { .. }, .. } | Self::TokenNotStored { .. } => {
                ErrorType::TokenNotStored
            }
            Self::Unusable { .. } => ErrorType::ProviderRejected,
            Self::ProviderUnavailable { .. } => ErrorType::ProviderUnavailable,
            Self::StoreUnavailable { .. } => ErrorType::StoreUnavailable,
            Self::VersionQuota { .. } => ErrorType::VersionQuota,
            Self::Panicked { .. } => ErrorType::Panicked,
        }
    }

    /// The secret that failed, if the error is about one.
    #[must_use]
    pub fn secret_id(&self) -> Option<&str> {
        match self {
            Self::InvalidEvent { .. } | Self::InvalidConfiguration { .. } => None,
            Self::SecretNotFound { secret_id, .. }
            | Self::AccessDenied { secret_id, .. }
            | Self::InvalidSecret { secret_id, .. }
            | Self::Refused { secret_id, .. }
            | Self::Unusable { secret_id, .. }
            | Self::ProviderUnavailable { secret_id, .. }
            | Self::StoreUnavailable { secret_id, .. }
            | Self::VersionQuota { secret_id, .. }
            | Self::Panicked { secret_id }
            | Self::TokenNotStored { secret_id, .. } => Some(secret_id),
        }
    }

    /// What an error of a store means for the secret. `staged`: the version that holds new tokens already.
    #[must_use]
    pub fn of_store(store: &impl SecretStore, secret_id: &str, error: StoreError, staged: Option<&VersionId>) -> Self {
        let advice = store.advice(&error, secret_id);
        let (secret_id, staged) = (secret_id.to_owned(), staged.cloned());
        let unavailable = |action, detail, staged| Self::StoreUnavailable {
            secret_id: secret_id.clone(),
            action,
            detail,
            advice: advice.clone(),
            staged,
        };
        match error {
            // A version that was just staged exists, whatever a read returns.
            StoreError::NotFound { detail } if staged.is_some() => {
                let advice = Advice::new("the next run tries again").or_at_command_line("try again");
                let action = store.action(Operation::MoveLabel);
                Self::StoreUnavailable { secret_id, action, detail, advice, staged }
            }
            StoreError::NotFound { detail } => Self::SecretNotFound { secret_id, detail, advice },
            StoreError::AccessDenied { action, detail } => {
                Self::AccessDenied { secret_id, action, detail, advice, staged }
            }
            StoreError::NotConfigured { detail } => Self::InvalidConfiguration {
                problem: format!("secret `{secret_id}`: {detail}; {}", advice.text(Audience::Function)),
            },
            StoreError::Quota { .. } => {
                let limits = store.limits();
                Self::VersionQuota { secret_id, limits, is_readers_request: false, needs_claim: false, staged }
            }
            StoreError::Binary => Self::InvalidSecret { secret_id, problem: SecretProblem::Binary.to_string() },
            StoreError::Throttled { action, detail }
            | StoreError::Unavailable { action, detail }
            | StoreError::Rejected { action, detail }
            | StoreError::NotAuthenticated { action, detail } => unavailable(action, detail, staged),
            StoreError::Exists => {
                let detail = "the version id exists with other content".to_owned();
                unavailable(store.action(Operation::Put), detail, staged)
            }
            StoreError::Moved { detail } => {
                let detail = format!("AWSCURRENT kept moving, or the move was refused: {detail}");
                unavailable(store.action(Operation::MoveLabel), detail, staged)
            }
        }
    }

    /// What an error of KMS means for the secret.
    #[must_use]
    pub fn of_signing(secret_id: &str, error: SigningError) -> Self {
        let (secret_id, action) = (secret_id.to_owned(), kms::SIGN);
        match error {
            SigningError::AccessDenied { detail } => {
                let advice = Advice::new(
                    "allow kms:Sign on this key in the function's role (SigningKmsKeyArn in schedule.yaml) and in the key's policy",
                );
                Self::AccessDenied { secret_id, action, detail, advice, staged: None }
            }
            SigningError::Rejected { key, detail } => Self::InvalidSecret {
                secret_id,
                problem: format!(
                    "the key `{key}` that `signingKmsKeyId` names cannot sign ({detail}); check that it exists, is enabled, is for \
                     signing, and fits the `signingAlgorithm` (RS256 if there is none)"
                ),
            },
            SigningError::NotConfigured { detail } => {
                Self::InvalidConfiguration { problem: format!("KMS cannot sign for secret `{secret_id}`: {detail}") }
            }
            SigningError::Unavailable { detail } => {
                let advice = Advice::new("the next run tries again").or_at_command_line("try again");
                Self::StoreUnavailable { secret_id, action, detail, advice, staged: None }
            }
        }
    }

    /// What failed, and for which secret.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::InvalidEvent { problem } | Self::InvalidConfiguration { problem } => problem.clone(),
            Self::SecretNotFound { secret_id, detail, .. } => format!("secret `{secret_id}` was not found ({detail})"),
            Self::AccessDenied { secret_id, action, detail, staged, .. } => {
                format!("secret `{secret_id}`: not allowed to {action} ({detail}){}", SafeIn(staged.as_ref()))
            }
            Self::InvalidSecret { secret_id, problem } => format!("secret `{secret_id}` cannot be used: {problem}"),
            Self::Refused { secret_id, endpoint, refusal, history, .. } => {
                let history = match history {
                    History::First => "",
                    History::AfterInterruption => {
                        "; an earlier run ended after its claim: it may have spent the token without storing the response"
                    }
                    History::Recorded => "; an earlier run recorded this refusal, and the provider was not asked again",
                };
                format!("secret `{secret_id}`: {endpoint} refused the refresh ({refusal}){history}")
            }
            Self::Unusable { secret_id, endpoint, detail, response, history } => {
                let location = match (response, history) {
                    (ResponseLocation::Version(id), History::Recorded) => format!(
                        "; an earlier run kept the response as version {id}, and the provider was not asked again"
                    ),
                    (ResponseLocation::Version(id), _) => format!("; the response is kept as version {id}"),
                    (ResponseLocation::Memory { version_id, problem }, _) => format!(
                        "; THE RESPONSE COULD NOT BE WRITTEN ({problem}); it is only in this process's memory, to become \
                         version {version_id}"
                    ),
                    (ResponseLocation::Lost { problem }, _) => format!("; THE RESPONSE IS LOST ({problem})"),
                    (ResponseLocation::NotNeeded | ResponseLocation::Repeatable, _) => String::new(),
                };
                format!("secret `{secret_id}`: {endpoint} {detail}{location}")
            }
            Self::ProviderUnavailable { secret_id, endpoint, detail, maybe_spent: false, .. } => {
                format!("secret `{secret_id}`: {endpoint} {detail}")
            }
            Self::ProviderUnavailable { secret_id, endpoint, detail, grace, .. } => {
                let grace = grace.map(|grace| format!("; if it did, it still accepts it for {} s", grace.as_secs()));
                let grace = grace.unwrap_or_default();
                format!(
                    "secret `{secret_id}`: {endpoint} {detail}; the provider may have spent the refresh token{grace}"
                )
            }
            Self::StoreUnavailable { secret_id, action, detail, staged, .. } => {
                format!("secret `{secret_id}`: {action} failed ({detail}){}", SafeIn(staged.as_ref()))
            }
            Self::VersionQuota { secret_id, is_readers_request: true, .. } => format!(
                "secret `{secret_id}` has no room for a refresh that a reader asks for (`ifVersionId`): the scheduled refreshes of \
                 the next 24 hours need it"
            ),
            Self::VersionQuota { secret_id, limits, staged, .. } => format!(
                "secret `{secret_id}` has no room for the versions that a refresh needs (about {}, of which those younger \
                 than {} hours count){}",
                limits.versions,
                limits.unlabelled_kept.num_hours(),
                SafeIn(staged.as_ref())
            ),
            Self::Panicked { secret_id } => format!("secret `{secret_id}`: {PANIC_MESSAGE}"),
            Self::TokenNotStored { secret_id, version_id, detail } => format!(
                "secret `{secret_id}`: NEW TOKENS WERE ISSUED AND COULD NOT BE WRITTEN ({detail}); they are only in this \
                 process's memory, to become version {version_id}"
            ),
        }
    }

    /// What to do about it. `None`: the message itself names what to correct.
    #[must_use]
    pub fn advice(&self, audience: Audience) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::InvalidEvent { .. }
            | Self::InvalidConfiguration { .. }
            | Self::InvalidSecret { .. }
            | Self::Panicked { .. } => return None,
            Self::SecretNotFound { advice, .. }
            | Self::AccessDenied { advice, .. }
            | Self::StoreUnavailable { advice, .. } => advice.text(audience).into(),
            Self::VersionQuota { is_readers_request: true, .. } => {
                "find out why the API rejects new tokens; `force` without `ifVersionId` skips this check".into()
            }
            Self::VersionQuota { needs_claim: true, .. } => "refresh or edit it less often, or set CLAIM=never (one version for \
                                                             each refresh) if no two runs can overlap"
                .into(),
            Self::VersionQuota { needs_claim: false, .. } => "refresh or edit it less often".into(),
            Self::Refused { refusal, history, grant_advice, client_advice, .. } => {
                let advice = match refusal.kind {
                    RefusalKind::ReauthorizationRequired => grant_advice.text(audience).into(),
                    RefusalKind::ClientRejected => client_advice.text(audience).into(),
                    RefusalKind::ProviderRejected if refusal.may_want_json() => Cow::from(
                        "check tokenEndpoint, extraParameters and extraHeaders against the provider's documentation; if it \
                         expects JSON, set tokenRequestFormat to \"json\"",
                    ),
                    RefusalKind::ProviderRejected if refusal.status == 401 => {
                        format!("{}; check tokenEndpoint, too", client_advice.text(audience)).into()
                    }
                    RefusalKind::ProviderRejected => {
                        "check tokenEndpoint, extraParameters and extraHeaders against the provider's documentation".into()
                    }
                };
                let advice = match &refusal.location {
                    Some(target) => format!("{advice}; the redirect leads to {target}").into(),
                    None => advice,
                };
                match history {
                    History::First | History::AfterInterruption => advice,
                    History::Recorded => format!(
                        "{advice}; the provider is asked again when the tokens or the client have changed, after six hours \
                         at the latest, or at once with `force`"
                    )
                    .into(),
                }
            }
            Self::Unusable { secret_id, response: ResponseLocation::Version(_), .. } => format!(
                "take the tokens out of it: `tokenctl adopt {secret_id} --kept` (docs/errors.md, ProviderRejected); `force` sends the old \
                 refresh token again, which is probably spent"
            )
            .into(),
            Self::Unusable { response: ResponseLocation::Lost { .. }, .. } => {
                "the old refresh token is probably spent: let the provider respond with less (fewer scopes or claims), then a \
                 person must consent again"
                    .into()
            }
            Self::Unusable { response: ResponseLocation::NotNeeded, .. } => {
                "let the provider issue shorter tokens (fewer scopes or claims); a later run asks again".into()
            }
            Self::Unusable { response: ResponseLocation::Repeatable, .. } => {
                "look in the provider's documentation for a parameter or a header with which it answers as RFC 6749 says \
                 (extraParameters, extraHeaders); the next run asks again"
                    .into()
            }
            Self::ProviderUnavailable { maybe_spent, .. } => match (audience, maybe_spent) {
                (Audience::Function, false) => "the next run tries again".into(),
                (Audience::Function, true) => {
                    "the next run tries again: if it ends with invalid_grant, a person must consent again".into()
                }
                (Audience::CommandLine, false) => "try again".into(),
                (Audience::CommandLine, true) => {
                    "try again: if it ends with invalid_grant, a person must consent again".into()
                }
            },
            Self::Unusable { response: ResponseLocation::Memory { .. }, .. } | Self::TokenNotStored { .. } => match audience {
                Audience::Function => {
                    "invoke the function again now, before the process is replaced, and do not deploy it; if the process \
                     ends first, a person must consent again"
                }
                Audience::CommandLine => {
                    "do not end this process before they are written; if it ends first, a person must consent again"
                }
            }
            .into(),
        })
    }
}

/// Message and advice, for whoever reads the function's response or its log.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match self.advice(Audience::Function) {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<InvalidSetting> for Error {
    fn from(setting: InvalidSetting) -> Self {
        Self::InvalidConfiguration { problem: setting.to_string() }
    }
}

/// The part of a message about new tokens that are in the store already.
struct SafeIn<'a>(Option<&'a VersionId>);

impl fmt::Display for SafeIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(id) => write!(
                f,
                "; the new tokens are safe in the secret as version {id} (OAUTH_STAGED), and a later run promotes them"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{aws, directory::DirectoryStore};

    fn refused(kind: RefusalKind, error: &str, history: History) -> Error {
        Error::Refused {
            secret_id: "crm".to_owned(),
            endpoint: "https://id.example/token".to_owned(),
            refusal: Box::new(ErrorResponse {
                kind,
                status: 400,
                error: Some(error.to_owned()),
                description: None,
                location: None,
            }),
            history,
            grant_advice: Advice::new("consent again").or_at_command_line("log in again"),
            client_advice: Advice::new("check the client"),
        }
    }

    fn store_unavailable() -> Error {
        let detail = || "no".to_owned();
        let error = StoreError::Unavailable { action: aws::MOVE, detail: detail() };
        Error::StoreUnavailable {
            secret_id: "crm".to_owned(),
            action: aws::MOVE,
            detail: detail(),
            advice: aws::advice(&error, "crm", "eu-central-1"),
            staged: Some("v2".into()),
        }
    }

    fn unavailable(maybe_spent: bool) -> Error {
        Error::ProviderUnavailable {
            secret_id: "crm".to_owned(),
            endpoint: "https://id.example/token".to_owned(),
            detail: "did not answer in time".to_owned(),
            maybe_spent,
            grace: None,
        }
    }

    #[test]
    fn every_error_names_what_failed_and_for_which_secret_and_what_to_do() {
        let not_stored = Error::TokenNotStored {
            secret_id: "crm".to_owned(),
            version_id: "v2".into(),
            detail: "no answer".to_owned(),
        };
        for (error, name, text, at_command_line) in [
            (
                store_unavailable(),
                "StoreUnavailable",
                "secret `crm`: secretsmanager:UpdateSecretVersionStage failed (no); the new tokens are safe in the secret as \
                 version v2 (OAUTH_STAGED), and a later run promotes them; the next run tries again",
                Some("try again"),
            ),
            (
                refused(RefusalKind::ReauthorizationRequired, "invalid_grant", History::First),
                "ReauthorizationRequired",
                "secret `crm`: https://id.example/token refused the refresh (status 400, invalid_grant); consent again",
                Some("log in again"),
            ),
            (
                refused(RefusalKind::ReauthorizationRequired, "invalid_grant", History::AfterInterruption),
                "ReauthorizationRequired",
                "secret `crm`: https://id.example/token refused the refresh (status 400, invalid_grant); an earlier run ended \
                 after its claim: it may have spent the token without storing the response; consent again",
                Some("log in again"),
            ),
            (
                refused(RefusalKind::ClientRejected, "invalid_client", History::Recorded),
                "ClientRejected",
                "secret `crm`: https://id.example/token refused the refresh (status 400, invalid_client); an earlier run \
                 recorded this refusal, and the provider was not asked again; check the client; the provider is asked again when the \
                 tokens or the client have changed, after six hours at the latest, or at once with `force`",
                None,
            ),
            (
                refused(RefusalKind::ProviderRejected, "invalid_scope", History::First),
                "ProviderRejected",
                "secret `crm`: https://id.example/token refused the refresh (status 400, invalid_scope); check tokenEndpoint, \
                 extraParameters and extraHeaders against the provider's documentation",
                None,
            ),
            (
                unavailable(false),
                "ProviderUnavailable",
                "secret `crm`: https://id.example/token did not answer in time; the next run tries again",
                Some("try again"),
            ),
            (
                unavailable(true),
                "ProviderUnavailable",
                "secret `crm`: https://id.example/token did not answer in time; the provider may have spent the refresh token; \
                 the next run tries again: if it ends with invalid_grant, a person must consent again",
                Some("try again: if it ends with invalid_grant, a person must consent again"),
            ),
            (
                not_stored,
                "TokenNotStored",
                "secret `crm`: NEW TOKENS WERE ISSUED AND COULD NOT BE WRITTEN (no answer); they are only in this process's \
                 memory, to become version v2; invoke the function again now, before the process is replaced, and do not \
                 deploy it; if the process ends first, a person must consent again",
                Some("do not end this process before they are written; if it ends first, a person must consent again"),
            ),
        ] {
            assert_eq!((error.error_type().as_str(), error.to_string().as_str()), (name, text));
            assert_eq!(error.secret_id(), Some("crm"));
            let advice = error.advice(Audience::Function).unwrap();
            assert_eq!(error.to_string(), format!("{}; {advice}", error.message()));
            if let Some(expected) = at_command_line {
                assert_eq!(error.advice(Audience::CommandLine).unwrap(), expected);
            }
        }
    }

    #[test]
    fn an_error_of_a_store_has_the_advice_of_that_store() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = DirectoryStore::open(folder.path(), crate::clock::Clock::system()).unwrap();
        let detail = || "no".to_owned();
        for (error, name, text) in [
            (
                StoreError::NotFound { detail: detail() },
                "SecretNotFound",
                "secret `crm` was not found (no); check the name and the directory, and give the secret a value",
            ),
            (
                StoreError::AccessDenied { action: "write", detail: detail() },
                "AccessDenied",
                "secret `crm`: not allowed to write (no); check who owns the file and its folder",
            ),
            (
                StoreError::Binary,
                "InvalidSecret",
                "secret `crm` cannot be used: it is binary, where text (SecretString) is wanted",
            ),
            (
                StoreError::Quota { detail: detail() },
                "VersionQuota",
                "secret `crm` has no room for the versions that a refresh needs (about 100, of which those younger than 24 \
                 hours count); refresh or edit it less often",
            ),
            (
                StoreError::Moved { detail: detail() },
                "StoreUnavailable",
                "secret `crm`: write failed (AWSCURRENT kept moving, or the move was refused: no); the next run tries again",
            ),
        ] {
            let error = Error::of_store(&store, "crm", error, None);
            assert_eq!((error.error_type().as_str(), error.to_string().as_str()), (name, text));
        }
    }

    #[test]
    fn errors_without_a_secret_and_without_advice_name_what_to_correct() {
        let problem = || "what is wrong".to_owned();
        for error in [Error::InvalidEvent { problem: problem() }, Error::InvalidConfiguration { problem: problem() }] {
            assert_eq!((error.secret_id(), error.to_string()), (None, problem()));
        }
    }
}
