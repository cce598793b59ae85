//! Requests a new token from the refresher: sends an event, and interprets the report. Knows neither the cache nor how Lambda is
//! called.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde_json::{Value, json};

use super::error::NotRefreshed;
use crate::store::VersionId;

#[cfg(feature = "invoke")]
mod lambda;

/// A deployed refresher. A reader requests a new token from it if the provider has rejected one, or if there is no valid one. A
/// clone is the same function.
///
/// ```
/// use token_refresher::reader::{RefresherFunction, Reply};
///
/// // Instead of a deployed refresher: one in this process, or a test double.
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

type InvokeFuture = Pin<Box<dyn Future<Output = Result<Reply, NotRefreshed>> + Send>>;

#[derive(Clone)]
enum Invoke {
    Function(Arc<dyn Fn(Value) -> InvokeFuture + Send + Sync>),
    #[cfg(feature = "invoke")]
    Lambda(Arc<lambda::Lambda>),
}

/// The result of an invocation. See [`RefresherFunction`] for an example.
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
    /// Lambda responded with 429: the function's concurrency is in use, perhaps for another secret. The reader asks again.
    Busy,
}

/// Whether the refresher has accepted a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// It has, and its report may name the version that is current now.
    Accepted(Option<VersionId>),
    /// It has, and another run holds the claim: this one has not tried a refresh.
    InProgress,
    /// It has not: its concurrency is in use.
    Busy,
}

/// Why a new token is requested.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestReason<'a> {
    /// The provider rejected the token of this version.
    Rejected(&'a VersionId),
    /// The secret contains no valid token. An ordinary run is enough, which respects the back-off.
    NoToken,
}

impl RefresherFunction {
    /// A refresher that is invoked through the given function, which gets the event. `name` is for messages. See
    /// [`RefresherFunction`] for an example.
    pub fn from_fn<F>(name: impl Into<String>, invoke: impl Fn(Value) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Reply, NotRefreshed>> + Send + 'static,
    {
        let invoke = Invoke::Function(Arc::new(move |event| Box::pin(invoke(event))));
        Self { name: name.into(), secret_id: None, invoke }
    }

    /// Names the token secret. Needed if the reader reads the published secret, the one that `publishTo` of the token secret names.
    /// The refresher knows the versions of both.
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

    /// The token secret to refresh. `read_id`: the secret that the reader reads.
    pub(super) fn secret_id<'a>(&'a self, read_id: &'a str) -> &'a str {
        self.secret_id.as_deref().unwrap_or(read_id)
    }

    /// Invokes the function once. The report may name the version of `read_id` that is current now.
    pub(super) async fn request_token(
        &self,
        read_id: &str,
        reason: RequestReason<'_>,
    ) -> Result<Requested, NotRefreshed> {
        let secret_id = self.secret_id(read_id);
        let event = match reason {
            RequestReason::Rejected(version_id) => {
                json!({"secretId": secret_id, "force": true, "ifVersionId": version_id.as_str()})
            }
            RequestReason::NoToken => json!({"secretId": secret_id}),
        };
        let reply = match &self.invoke {
            Invoke::Function(invoke) => invoke(event).await?,
            #[cfg(feature = "invoke")]
            Invoke::Lambda(lambda) => lambda.invoke(event.to_string()).await?,
        };
        interpret(reply, if secret_id == read_id { "versionId" } else { "publishedVersionId" })
    }
}

/// Interprets a reply. `member`: the member of a report that names the current version.
fn interpret(reply: Reply, member: &str) -> Result<Requested, NotRefreshed> {
    match reply {
        Reply::Busy => Ok(Requested::Busy),
        Reply::Error { error_type, message } => Err(NotRefreshed::Failed { error_type, message }),
        Reply::Report(report) => match report["outcome"].as_str() {
            Some("backing_off") => {
                Err(NotRefreshed::BackingOff { retry_at: report["retryAt"].as_str().map(str::to_owned) })
            }
            Some("in_progress") => Ok(Requested::InProgress),
            Some(_) => Ok(Requested::Accepted(report[member].as_str().map(VersionId::from))),
            None => Err(NotRefreshed::Rejected { detail: "the response is not a refresher report".to_owned() }),
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
    fn a_reply_names_the_current_version_or_is_an_error() {
        for (reply, expected) in [
            (Reply::Busy, Ok(Requested::Busy)),
            (
                Reply::Report(json!({"outcome": "refreshed", "versionId": "v2"})),
                Ok(Requested::Accepted(Some("v2".into()))),
            ),
            (Reply::Report(json!({"outcome": "in_progress", "versionId": "v1"})), Ok(Requested::InProgress)),
            (
                Reply::Report(json!({"outcome": "backing_off", "versionId": "v1", "retryAt": "2026-01-01T00:00:00Z"})),
                Err(NotRefreshed::BackingOff { retry_at: Some("2026-01-01T00:00:00Z".to_owned()) }),
            ),
            (
                Reply::Report(json!({"statusCode": 200})),
                Err(NotRefreshed::Rejected { detail: "the response is not a refresher report".to_owned() }),
            ),
            (
                Reply::Error { error_type: "Panicked".to_owned(), message: "m".to_owned() },
                Err(NotRefreshed::Failed { error_type: "Panicked".to_owned(), message: "m".to_owned() }),
            ),
        ] {
            assert_eq!(interpret(reply.clone(), "versionId"), expected, "{reply:?}");
        }
        for (report, expected) in [
            (json!({"outcome": "refreshed", "versionId": "v2", "publishedVersionId": "p2"}), Some("p2".into())),
            (json!({"outcome": "refreshed", "versionId": "v2"}), None),
        ] {
            assert_eq!(interpret(Reply::Report(report), "publishedVersionId"), Ok(Requested::Accepted(expected)));
        }
    }
}
