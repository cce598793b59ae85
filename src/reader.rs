//! Reading what the refresher writes: an access token in memory, handed out without a lock while it is good, read again before
//! it expires, and replaced when the provider rejects it. Exchanges nothing by itself.
//!
//! | module | knows |
//! |---|---|
//! | `source` | where secrets are read from |
//! | `policy` | for how long something read may be used, and when to look again |
//! | `entry`, `cache` | one version in memory; one secret in memory, and that one load runs at a time |
//! | `load` | what a load does: read, ask the refresher, wait for the new version |
//! | `refresher_function` | how the refresher is asked |
//! | `access_token`, `secret_reader` | what is handed out |
//! | `send` | a request with the token, and one more after a 401 |

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
mod policy;
mod refresher_function;
mod secret_reader;
#[cfg(feature = "reqwest")]
mod send;
mod source;

use access_token::HeldToken;
use cache::{Cache, Decode, Settings, Unusable};

pub use access_token::AccessToken;
pub use error::{NotRefreshed, ReadError, Remedy};
pub use refresher_function::{RefresherFunction, Reply};
pub use secret_reader::{SecretBytes, SecretReader, SecretReaderBuilder, SecretText, SecretValue};
#[cfg(feature = "reqwest")]
pub use send::SendError;
pub use source::{Query, SecretVersion, Source, Wanted};

/// For how long a new version is waited for, once it was asked for: the refresher's exchange takes 30 s at most.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

/// Reads the access token of one token secret. Make one for the life of the process; a clone is the same reader.
///
/// - The token is handed out from memory until shortly before it expires: 10 s, or a tenth of its lifetime where that is less. That
///   takes no lock, no allocation and no waiting.
/// - From the time on when the refresher should have delivered a new one (`refreshMarginSeconds`, or 900 s, or a third of the lifetime,
///   before expiry) the secret is looked at in the background, about ten times until then, and more often at the end.
/// - Whatever the number of tasks that ask, one load runs at a time. It goes on when the task that caused it goes away.
/// - A source that throttles, fails or cannot be reached is bridged with the token in memory while that is good. What will not
///   pass (no permission, no secret, not a token secret) is told. An error is remembered for a second.
/// - A token whose secret has no `expiresAt` is read again after a minute.
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
pub struct Reader(Cache<HeldToken>);

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
        let (refresher, patience, clock) = (None, DEFAULT_PATIENCE, Clock::system());
        ReaderBuilder { source, secret_id: secret_id.into(), refresher, patience, clock }
    }

    /// A token that is good now: from memory where there is one, else from the source.
    ///
    /// # Errors
    ///
    /// [`ReadError`], by what mends it; [`ReadError::NoToken`] where the secret holds none that is good, and the refresher function,
    /// if one is named, brought none within its time. It takes ten seconds at most, and the [patience](ReaderBuilder::patience)
    /// besides where a refresher is asked; a caller with less time can drop the future, and the load goes on.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, when the secret has to be read.
    pub async fn access_token(&self) -> Result<AccessToken, ReadError> {
        self.0.get().await.map(AccessToken)
    }

    /// Tells that the provider answered 401 to this token.
    ///
    /// The next [`Self::access_token`] reads past the cache, once for all who ask. Where the version is still the same, and a
    /// refresher function is named, that is asked for one refresh of just this version, and the new one is waited for; without one
    /// the same token is answered. Where all this brings no new version, further rejections of the same one do nothing for
    /// five seconds, or thirty where the refresher was asked; a rejection of a version that is no longer in memory does nothing
    /// either. So a thousand tasks with the same 401 cause one read and one refresh. And a reader has one token replaced in ten
    /// minutes: an API that refuses every token would otherwise use up the versions that the secret may have in a day.
    ///
    /// The Lambda extension cannot be told to read past its own cache (`SECRETS_MANAGER_TTL`, 300 s): behind it a token that
    /// someone else has replaced is found that late. After a refresh that was asked for here the new version is read by its
    /// id, which no cache has yet.
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

    /// The secret that is read.
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
    clock: Clock,
}

impl ReaderBuilder {
    /// Names a refresher to ask for a new token when the provider has rejected one, or the secret holds none that is good.
    #[must_use]
    pub fn refresher(self, refresher: RefresherFunction) -> Self {
        Self { refresher: Some(refresher), ..self }
    }

    /// For how long a new version is waited for, once the refresher was asked: 30 s, unless said otherwise.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Goes by another clock than the machine's.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The reader. Makes no call.
    #[must_use]
    pub fn build(self) -> Reader {
        let decode: Decode<HeldToken> = Box::new(decode);
        let Self { source, secret_id, refresher, patience, clock } = self;
        let (first, again) = (Wanted::Current, Wanted::CurrentNow);
        Reader(Cache::new(Settings { source, secret_id, first, again, decode, refresher, patience, clock }))
    }
}

/// A token secret's text as a token that is good now.
fn decode(
    content: Content,
    now: chrono::DateTime<chrono::Utc>,
    jitter: f64,
) -> Result<(HeldToken, policy::Times), Unusable> {
    let Content::Text(text) = content else { return Err(Unusable::Invalid(SecretProblem::Binary.to_string())) };
    let mut secret = ReadableToken::parse(text.expose()).map_err(|problem| Unusable::Invalid(problem.to_string()))?;
    let Some(access_token) = secret.access_token.take() else { return Err(Unusable::NoToken(None)) };
    let times = policy::of_token(secret.expires_at, secret.refreshed_at, secret.refresh_margin, now, jitter);
    let times = times.ok_or(Unusable::NoToken(secret.expires_at))?;
    Ok((HeldToken { access_token, secret }, times))
}
