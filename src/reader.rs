//! Reads what the refresher writes. An access token is cached in memory and returned without a lock. It is read again before it
//! expires, and replaced when the provider rejects it. Never exchanges tokens itself.
//!
//! | module | contains |
//! |---|---|
//! | `source` | where secrets are read from |
//! | `policy` | how long a value may be used, and when to read it again |
//! | `entry` | one cached version |
//! | `cache` | one cached secret |
//! | `single_flight` | one load at a time: whether one runs, and whether it is alive |
//! | `pause` | a pause that a clock set back cannot prolong for long |
//! | `load` | the steps of a load: read, request a new token, wait for the new version |
//! | `refresher_function` | how a new token is requested from the refresher |
//! | `access_token`, `secret_reader` | the values that callers get |
//! | `send` | a request with the token, and a second request after a 401 |

use std::{fmt, time::Duration};

use crate::{
    clock::Clock,
    store::Content,
    token_secret::{SecretProblem, readable::ReadableToken},
};

mod access_token;
mod cache;
mod entry;
mod error;
mod load;
mod pause;
mod policy;
mod refresher_function;
mod secret_reader;
#[cfg(feature = "reqwest")]
mod send;
mod single_flight;
mod source;

use access_token::DecodedToken;
use cache::{Cache, Decode, Settings, Unusable};

pub use crate::token_secret::member_names::MemberNames;
pub use access_token::AccessToken;
pub use error::{NotRefreshed, ReadError, Remedy};
pub use refresher_function::{RefresherFunction, Reply};
pub use secret_reader::{SecretBytes, SecretReader, SecretReaderBuilder, SecretText, SecretValue};
#[cfg(feature = "reqwest")]
pub use send::SendError;
#[cfg(feature = "directory")]
pub use source::Directory;
pub use source::{Query, SecretVersion, Source, Wanted};

/// How long to wait for a new version after it was requested. A provider that has not responded by then will hardly do so.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

/// No calculation with it overflows.
const MAX_PATIENCE: Duration = Duration::from_hours(24);

/// Reads the access token of one token secret. Make one for the life of the process; a clone shares the same cache.
///
/// - The cached token is returned until 10 s before it expires, or a tenth of its lifetime if that is less. This takes no lock,
///   no allocation and no waiting.
/// - The refresher should write a new token `refreshMarginSeconds` (900 s by default, or a third of the lifetime if that is less)
///   before expiry. From then on the secret is read in the background, about ten times until the token expires, and more often
///   at the end.
/// - One load runs at a time, however many tasks call. The load continues if the task that started it is dropped. If its runtime
///   ends or is not driven, or the process was frozen, the next caller starts another one.
/// - If the source throttles, fails or cannot be reached, the cached token is used until it expires. Permanent errors (no
///   permission, no secret, not a token secret) are returned at once. An error is cached for a second.
/// - If the secret has no `expiresAt`, it is read again after a minute.
///
/// ```
/// # use std::sync::atomic::{AtomicUsize, Ordering};
/// # use token_refresher::{Reader, reader::{ReadError, SecretVersion, Source}};
/// # static READS: AtomicUsize = AtomicUsize::new(0);
/// # let source = Source::from_fn(|query| async move {
/// #     assert_eq!(query.secret_id, "myapp/prod/upwork");
/// #     READS.fetch_add(1, Ordering::Relaxed);
/// #     Ok(SecretVersion::text("v1", r#"{"accessToken": "t0ps3cret", "expiresAt": 4070908800000}"#))
/// # });
/// # #[tokio::main(flavor = "current_thread")] async fn run(source: Source) -> Result<(), ReadError> {
/// // `Source::secrets_manager_from_env().await?`, `Source::extension_from_env()?`, …
/// let reader = Reader::new(source, "myapp/prod/upwork");
///
/// for _ in 0..1000 {
///     let token = reader.access_token().await?;
///     let header = format!("Bearer {}", token.expose());
/// #   assert_eq!(header, "Bearer t0ps3cret");
/// }
/// # assert_eq!(READS.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// # run(source).unwrap();
/// ```
#[derive(Clone)]
pub struct Reader(Cache<DecodedToken>);

impl Reader {
    /// A reader of the token secret with this name or ARN.
    #[must_use]
    pub fn new(source: Source, secret_id: impl Into<String>) -> Self {
        Self::builder(source, secret_id).build()
    }

    /// A reader with more settings.
    ///
    /// ```
    /// # use token_refresher::reader::{RefresherFunction, Reply};
    /// use std::time::Duration;
    /// use token_refresher::{Reader, reader::Source};
    ///
    /// # let source = Source::from_fn(|_| async { unimplemented!() });
    /// # let refresher = RefresherFunction::from_fn("token-refresher", |_| async { Ok(Reply::Busy) });
    /// let reader = Reader::builder(source, "myapp/prod/upwork")
    ///     .refresher(refresher) // such as `RefresherFunction::lambda("token-refresher")?`
    ///     .patience(Duration::from_secs(10))
    ///     .build();
    /// ```
    pub fn builder(source: Source, secret_id: impl Into<String>) -> ReaderBuilder {
        #[cfg(feature = "_https")]
        crate::http_client::set_default_crypto_provider();
        ReaderBuilder {
            source,
            secret_id: secret_id.into(),
            refresher: None,
            patience: DEFAULT_PATIENCE,
            member_names: MemberNames::default(),
            clock: Clock::system(),
        }
    }

    /// A valid token: the cached one if there is one, else one from the source.
    ///
    /// Takes about ten seconds at most, plus the [patience](ReaderBuilder::patience) if a refresher is set. A caller with less time can
    /// drop the future; the load continues.
    ///
    /// Outside a Tokio runtime it returns the cached token while that is fresh.
    ///
    /// # Errors
    ///
    /// A [`ReadError`] with its [remedy](ReadError::remedy). [`ReadError::NoToken`]: the secret contains no valid token, and no
    /// refresher function is set or it was asked less than 30 s ago.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with its timer, when the secret has to be read.
    pub async fn access_token(&self) -> Result<AccessToken, ReadError> {
        self.0.get().await.map(AccessToken)
    }

    /// Reports that the provider responded with 401 to this token.
    ///
    /// The next [`Self::access_token`] bypasses the cache and reads the secret, once for all callers:
    ///
    /// - The secret has a new version: its token is returned.
    /// - The version is the same, and a refresher function is set: the reader requests one refresh of this version and waits for
    ///   the new one.
    /// - The version is the same, and no refresher function is set: the same token is returned.
    ///
    /// A thousand tasks with the same 401 cause one read and one refresh:
    ///
    /// - If there is no new version, further rejections of the same one are ignored for five seconds, or for thirty if a refresher
    ///   function is set and the call failed.
    /// - A rejection of a version that is no longer cached is ignored. A version that was rejected and replaced is not returned again.
    /// - A reader requests one replacement in ten minutes. Otherwise an API that refuses every token would use up the versions
    ///   that the secret may have in a day.
    ///
    /// The Lambda extension has its own cache (`SECRETS_MANAGER_TTL`, 300 s), which a request cannot bypass. Behind it, a token
    /// that another process replaced is found up to that much later. After a refresh that this reader requested, the new version
    /// is read by its id, which is not in the extension's cache yet.
    ///
    /// ```
    /// # use token_refresher::{Reader, reader::{ReadError, SecretVersion, Source}};
    /// # use std::sync::atomic::{AtomicUsize, Ordering};
    /// # static READS: AtomicUsize = AtomicUsize::new(0);
    /// # async fn call_the_api(token: &str) -> u16 { if token == "new" { 200 } else { 401 } }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
    /// # let reader = Reader::new(Source::from_fn(|_| async {
    /// #     let (id, token) = if READS.fetch_add(1, Ordering::Relaxed) == 0 { ("v1", "old") } else { ("v2", "new") };
    /// #     Ok(SecretVersion::text(id, format!(r#"{{"accessToken": "{token}", "expiresAt": 4070908800000}}"#)))
    /// # }), "crm");
    /// let mut token = reader.access_token().await?;
    /// let mut status = call_the_api(token.expose()).await;
    /// if status == 401 {
    ///     reader.rejected(&token);
    ///     token = reader.access_token().await?;
    ///     status = call_the_api(token.expose()).await;
    /// }
    /// assert_eq!(status, 200);
    /// # Ok(()) }
    /// ```
    pub fn rejected(&self, token: &AccessToken) {
        self.0.reject(token.version_id());
    }

    /// The name or ARN of the secret.
    #[must_use]
    pub fn secret_id(&self) -> &str {
        self.0.secret_id()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.0).finish()
    }
}

/// The settings of a [`Reader`]. See [`Reader::builder`] for an example.
#[derive(Clone, Debug)]
pub struct ReaderBuilder {
    source: Source,
    secret_id: String,
    refresher: Option<RefresherFunction>,
    patience: Duration,
    member_names: MemberNames,
    clock: Clock,
}

impl ReaderBuilder {
    /// Sets the refresher. A new token is requested from it if the provider rejects one, or if the secret contains no valid token.
    /// Default: none.
    #[must_use]
    pub fn refresher(self, refresher: RefresherFunction) -> Self {
        Self { refresher: Some(refresher), ..self }
    }

    /// How long to wait for a new version after a request to the refresher: a day at most. Default: 30 s.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience: patience.min(MAX_PATIENCE), ..self }
    }

    /// Where the members are, as the refresher's setting `MEMBER_NAMES` says. Not needed where the secret has `memberNames`.
    #[must_use]
    pub fn member_names(self, member_names: MemberNames) -> Self {
        Self { member_names, ..self }
    }

    /// Sets the clock. Default: the machine's.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Builds the reader. Makes no call.
    #[must_use]
    pub fn build(self) -> Reader {
        let Self { source, secret_id, refresher, patience, member_names, clock } = self;
        let decode: Decode<DecodedToken> =
            Box::new(move |content, now, jitter| decode(&member_names, content, now, jitter));
        let (first_read, later_reads) = (Wanted::Current, Wanted::CurrentNow);
        Reader(Cache::new(Settings { source, secret_id, first_read, later_reads, decode, refresher, patience, clock }))
    }
}

/// Compiles the Rust code of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../docs/readers.md")]
mod documentation {}

/// Decodes the text of a token secret into a token that is valid now.
fn decode(
    member_names: &MemberNames,
    content: Content,
    now: chrono::DateTime<chrono::Utc>,
    jitter: f64,
) -> Result<(DecodedToken, policy::Times), Unusable> {
    let Content::Text(text) = content else { return Err(Unusable::Invalid(SecretProblem::Binary.to_string())) };
    let mut secret = ReadableToken::parse_with(text.expose(), member_names)
        .map_err(|problem| Unusable::Invalid(problem.to_string()))?;
    let Some(access_token) = secret.access_token.take() else { return Err(Unusable::NoToken(None)) };
    let times = policy::token_times(secret.expires_at, secret.refreshed_at, secret.refresh_margin, now, jitter);
    let times = times.ok_or(Unusable::NoToken(secret.expires_at))?;
    Ok((DecodedToken { access_token, secret }, times))
}
