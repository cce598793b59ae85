//! The refresher as a reader sees it: one that is asked for a new token, by event, and answers a report. Knows neither the
//! cache nor how Lambda is reached.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde_json::{Value, json};

use super::error::NotRefreshed;
use crate::store::VersionId;

#[cfg(feature = "invoke")]
mod lambda;

/// A deployed refresher, to ask for a new token when the provider has rejected one, or none came in time. A clone is the same.
///
/// ```
/// use token_refresher::reader::{RefresherFunction, Reply};
///
/// // In place of a deployed one: a refresher in this process, or a test's.
/// let refresher = RefresherFunction::from_fn("token-refresher", |event| async move {
///     assert!(event["secretId"].is_string());
///     Ok(Reply::Report(serde_json::json!({"outcome": "refreshed", "versionId": "v2"})))
/// });
/// ```
#[derive(Clone)]
pub struct RefresherFunction {
    name: String,
    secret_id: Option<String>,
    invoke: Invoke,
}

type Invoking = Pin<Box<dyn Future<Output = Result<Reply, NotRefreshed>> + Send>>;

#[derive(Clone)]
enum Invoke {
    Function(Arc<dyn Fn(Value) -> Invoking + Send + Sync>),
    #[cfg(feature = "invoke")]
    Lambda(Arc<lambda::Lambda>),
}

/// What an invocation came to. See [`RefresherFunction`] for an example.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The function's report.
    Report(Value),
    /// The function's error.
    Error {
        /// Its `errorType`.
        error_type: String,
        /// Its `errorMessage`.
        message: String,
    },
    /// Lambda would not run another one beside those that run (429): another's request is under way.
    Busy,
}

/// Why a new token is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Occasion<'a> {
    /// The provider rejected the token of this version.
    Rejected(&'a VersionId),
    /// The secret holds no token that could be used: an ordinary run will do, which minds back-off.
    NoToken,
}

impl RefresherFunction {
    /// A refresher that is asked through a function of the caller's, given the event. `name` is for messages. See
    /// [`RefresherFunction`] for an example.
    pub fn from_fn<F>(name: impl Into<String>, invoke: impl Fn(Value) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Reply, NotRefreshed>> + Send + 'static,
    {
        let invoke = Invoke::Function(Arc::new(move |event| Box::pin(invoke(event))));
        Self { name: name.into(), secret_id: None, invoke }
    }

    /// Names the token secret, where another secret is read: the one that its `publishTo` names. The refresher knows the versions
    /// of either.
    ///
    /// ```
    /// # use token_refresher::reader::{ReadError, RefresherFunction, Reply, SecretVersion, Source};
    /// # use token_refresher::Reader;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
    /// # let source = Source::from_fn(|_| async {
    /// #     Ok(SecretVersion::text("v1", r#"{"accessToken": "t0ps3cret", "expiresAt": 4070908800000}"#))
    /// # });
    /// let refresher = RefresherFunction::from_fn("token-refresher", |event| async move {
    ///     assert_eq!(event["secretId"], "myapp/prod/upwork");
    ///     assert_eq!(event["ifVersionId"], "v1");
    ///     Ok(Reply::Error { error_type: "ProviderUnavailable".to_owned(), message: "…".to_owned() })
    /// });
    /// let refresher = refresher.of_secret("myapp/prod/upwork");
    /// let reader = Reader::builder(source, "myapp/prod/upwork-for-readers").refresher(refresher).build();
    /// reader.rejected(&reader.access_token().await?);
    /// assert!(reader.access_token().await.is_err());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn of_secret(mut self, secret_id: impl Into<String>) -> Self {
        self.secret_id = Some(secret_id.into());
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The token secret that it refreshes, where `read` is what the reader reads.
    pub(super) fn secret_id<'a>(&'a self, read: &'a str) -> &'a str {
        self.secret_id.as_deref().unwrap_or(read)
    }

    /// Asks once. The id answered is the version that the function says is current now, where it says so.
    pub(super) async fn ask(&self, read: &str, occasion: Occasion<'_>) -> Result<Option<VersionId>, NotRefreshed> {
        let secret_id = self.secret_id(read);
        let event = match occasion {
            Occasion::Rejected(version_id) => {
                json!({"secretId": secret_id, "force": true, "ifVersionId": version_id.as_str()})
            }
            Occasion::NoToken => json!({"secretId": secret_id}),
        };
        let reply = match &self.invoke {
            Invoke::Function(invoke) => invoke(event).await?,
            #[cfg(feature = "invoke")]
            Invoke::Lambda(lambda) => lambda.invoke(event.to_string()).await?,
        };
        read_reply(reply, if secret_id == read { "versionId" } else { "publishedVersionId" })
    }
}

/// What a reply says of the version to wait for, which its report has under this name.
fn read_reply(reply: Reply, version_id: &str) -> Result<Option<VersionId>, NotRefreshed> {
    match reply {
        Reply::Busy => Ok(None),
        Reply::Error { error_type, message } => Err(NotRefreshed::Failed { error_type, message }),
        Reply::Report(report) => match report["outcome"].as_str() {
            Some("backing_off") => {
                Err(NotRefreshed::BackingOff { retry_at: report["retryAt"].as_str().map(str::to_owned) })
            }
            Some(_) => Ok(report[version_id].as_str().map(VersionId::from)),
            None => Err(NotRefreshed::Rejected { detail: "it answered no report: it is no refresher".to_owned() }),
        },
    }
}

impl fmt::Debug for RefresherFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefresherFunction").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_the_version_to_wait_for_or_why_there_is_none() {
        for (reply, expected) in [
            (Reply::Busy, Ok(None)),
            (Reply::Report(json!({"outcome": "refreshed", "versionId": "v2"})), Ok(Some("v2".into()))),
            (Reply::Report(json!({"outcome": "in_progress", "versionId": "v1"})), Ok(Some("v1".into()))),
            (
                Reply::Report(json!({"outcome": "backing_off", "versionId": "v1", "retryAt": "2026-01-01T00:00:00Z"})),
                Err(NotRefreshed::BackingOff { retry_at: Some("2026-01-01T00:00:00Z".to_owned()) }),
            ),
            (
                Reply::Report(json!({"statusCode": 200})),
                Err(NotRefreshed::Rejected { detail: "it answered no report: it is no refresher".to_owned() }),
            ),
            (
                Reply::Error { error_type: "Panicked".to_owned(), message: "m".to_owned() },
                Err(NotRefreshed::Failed { error_type: "Panicked".to_owned(), message: "m".to_owned() }),
            ),
        ] {
            assert_eq!(read_reply(reply.clone(), "versionId"), expected, "{reply:?}");
        }
        for (report, expected) in [
            (json!({"outcome": "refreshed", "versionId": "v2", "publishedVersionId": "p2"}), Some("p2".into())),
            (json!({"outcome": "refreshed", "versionId": "v2"}), None),
        ] {
            assert_eq!(read_reply(Reply::Report(report), "publishedVersionId"), Ok(expected));
        }
    }
}
