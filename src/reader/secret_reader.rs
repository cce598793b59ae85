//! Reads any other secret through the same cache: text, bytes, or JSON of the caller's type. Knows nothing about tokens.

use std::{fmt, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{
    cache::{Cache, Decode, Settings, Unusable},
    entry::Entry,
    error::ReadError,
    policy,
    source::{Source, Wanted},
};
use crate::{
    clock::Clock,
    store::{Content, VersionId},
    token_secret::SecretProblem,
};

/// How long a secret is used before it is read again.
const DEFAULT_TTL: Duration = Duration::from_mins(5);

/// Reads one secret that is not a token secret, and caches it for five minutes (see [`SecretReaderBuilder::ttl`]). A clone shares
/// the same cache.
///
/// - In the last fifth of that time the secret is read again in the background.
/// - If the source throttles, fails or cannot be reached, the cached value is used further. Permanent errors (access denied, no
///   such secret, invalid content) are returned at once.
/// - An agent has its own cache: behind it the two times add up.
///
/// ```
/// # use token_refresher::reader::{ReadError, SecretReader, SecretVersion, Source};
/// #[derive(serde::Deserialize)]
/// struct Database {
///     host: String,
///     password: String,
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
/// let source = Source::from_fn(|_| async {
///     Ok(SecretVersion::text("v1", r#"{"host": "db.example", "password": "t0ps3cret"}"#))
/// });
///
/// let reader = SecretReader::<Database>::json(source.clone(), "crm/database");
/// let database = reader.get().await?;
/// assert_eq!(database.expose().host, "db.example");
/// assert_eq!(database.expose().password.len(), 9);
/// assert!(!format!("{database:?}").contains("t0ps3cret"));
///
/// let text = SecretReader::text(source, "crm/database").get().await?;
/// assert!(text.expose().starts_with('{'));
/// # Ok(()) }
/// ```
pub struct SecretReader<T>(Cache<T>);

/// Text that is wiped from memory on drop. Its `Debug` prints the text: never print it.
pub type SecretText = Zeroizing<String>;

/// Bytes that are wiped from memory on drop. Their `Debug` prints the bytes: never print them.
pub type SecretBytes = Zeroizing<Vec<u8>>;

impl SecretReader<SecretText> {
    /// Reads a secret of text (`SecretString`).
    ///
    /// ```
    /// # use token_refresher::reader::{ReadError, SecretReader, SecretVersion, Source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
    /// let source = Source::from_fn(|_| async { Ok(SecretVersion::text("v1", "whsec_t0ps3cret")) });
    /// let key = SecretReader::text(source, "crm/webhook").get().await?;
    /// assert!(key.expose().starts_with("whsec_"));
    /// # Ok(()) }
    /// ```
    pub fn text(source: Source, secret_id: impl Into<String>) -> Self {
        Self::builder(source, secret_id).text()
    }

    /// A reader with more settings.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use token_refresher::reader::{ReadError, SecretReader, SecretVersion, Source, Wanted};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
    /// # let source = Source::from_fn(|query| async move {
    /// #     Ok(SecretVersion::bytes("v1", if query.wanted == Wanted::Previous { vec![1] } else { vec![2] }))
    /// # });
    /// // The signing key of a webhook, and the previous one: the sender uses both while it changes keys.
    /// let current = SecretReader::builder(source.clone(), "crm/webhook").ttl(Duration::from_secs(60)).bytes();
    /// let previous = SecretReader::builder(source, "crm/webhook").ttl(Duration::from_secs(60)).previous().bytes();
    /// assert_eq!((current.get().await?.expose()[0], previous.get().await?.expose()[0]), (2, 1));
    /// # Ok(()) }
    /// ```
    pub fn builder(source: Source, secret_id: impl Into<String>) -> SecretReaderBuilder {
        #[cfg(feature = "_https")]
        crate::http_client::set_default_crypto_provider();
        let (ttl, wanted, clock) = (DEFAULT_TTL, Wanted::Current, Clock::system());
        SecretReaderBuilder { source, secret_id: secret_id.into(), ttl, wanted, clock }
    }
}

impl SecretReader<SecretBytes> {
    /// Reads a secret of bytes (`SecretBinary`). For a secret of text (`SecretString`), the bytes of the text.
    ///
    /// ```
    /// # use token_refresher::reader::{ReadError, SecretReader, SecretVersion, Source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
    /// let source = Source::from_fn(|_| async { Ok(SecretVersion::bytes("v1", vec![0; 32])) });
    /// assert_eq!(SecretReader::bytes(source, "crm/key").get().await?.expose().len(), 32);
    /// # Ok(()) }
    /// ```
    pub fn bytes(source: Source, secret_id: impl Into<String>) -> Self {
        SecretReader::builder(source, secret_id).bytes()
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> SecretReader<T> {
    /// Reads a secret of JSON into the caller's type. Memory is wiped only if the type wipes it: use field types that do. See
    /// [`SecretReader`] for an example.
    pub fn json(source: Source, secret_id: impl Into<String>) -> Self {
        SecretReader::builder(source, secret_id).json()
    }
}

impl<T: Send + Sync + 'static> SecretReader<T> {
    /// The secret: the cached value while it is fresh (no waiting, lock or allocation), else one from the source.
    ///
    /// # Errors
    ///
    /// A [`ReadError`] with its [remedy](ReadError::remedy).
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, when the secret has to be read.
    pub async fn get(&self) -> Result<SecretValue<T>, ReadError> {
        self.0.get().await.map(SecretValue)
    }
}

impl<T> Clone for SecretReader<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for SecretReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretReader").field(&self.0).finish()
    }
}

/// The settings of a [`SecretReader`]. See [`SecretReader::builder`] for an example.
#[derive(Clone, Debug)]
pub struct SecretReaderBuilder {
    source: Source,
    secret_id: String,
    ttl: Duration,
    wanted: Wanted,
    clock: Clock,
}

impl SecretReaderBuilder {
    /// How long a value is used before it is read again. Default: five minutes. A longer time than a day counts as a day.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// Reads the version labelled AWSPREVIOUS instead of the current one: for the time in which the old and the new value are both
    /// in use.
    #[must_use]
    pub fn previous(self) -> Self {
        Self { wanted: Wanted::Previous, ..self }
    }

    /// Sets the clock. Default: the machine's.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Builds a reader of text.
    #[must_use]
    pub fn text(self) -> SecretReader<SecretText> {
        self.reader(|content| match content {
            Content::Text(text) => Ok(Zeroizing::new(text.expose().to_owned())),
            Content::Bytes(_) => Err(SecretProblem::Binary.to_string()),
        })
    }

    /// Builds a reader of bytes.
    #[must_use]
    pub fn bytes(self) -> SecretReader<SecretBytes> {
        self.reader(|content| match content {
            Content::Text(text) => Ok(Zeroizing::new(text.expose().as_bytes().to_vec())),
            Content::Bytes(bytes) => Ok(bytes),
        })
    }

    /// Builds a reader of JSON.
    #[must_use]
    pub fn json<T: DeserializeOwned + Send + Sync + 'static>(self) -> SecretReader<T> {
        self.reader(|content| {
            let read = match &content {
                Content::Text(text) => serde_json::from_str(text.expose()),
                Content::Bytes(bytes) => serde_json::from_slice(bytes),
            };
            // The error's own text is not used: it quotes the content.
            read.map_err(|error| {
                let what = if error.is_data() { "JSON, but not of the requested type" } else { "not JSON" };
                format!("it is {what} (line {}, column {})", error.line(), error.column())
            })
        })
    }

    fn reader<T: Send + Sync + 'static>(self, decode: fn(Content) -> Result<T, String>) -> SecretReader<T> {
        let ttl = self.ttl;
        let decode: Decode<T> = Box::new(move |content, now, jitter| {
            let value = decode(content).map_err(Unusable::Invalid)?;
            Ok((value, policy::secret_times(ttl, now, jitter)))
        });
        let Self { source, secret_id, wanted, clock, .. } = self;
        let (first_read, later_reads, refresher, patience) = (wanted.clone(), wanted, None, Duration::ZERO);
        let settings = Settings { source, secret_id, first_read, later_reads, decode, refresher, patience, clock };
        SecretReader(Cache::new(settings))
    }
}

/// A secret as read. A clone shares the same value. See [`SecretReader`] for an example.
pub struct SecretValue<T>(Arc<Entry<T>>);

impl<T> SecretValue<T> {
    /// The value.
    #[must_use]
    pub fn expose(&self) -> &T {
        &self.0.value
    }

    /// The version of the secret that contains it.
    #[must_use]
    pub fn version_id(&self) -> &VersionId {
        &self.0.version_id
    }
}

impl<T> Clone for SecretValue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for SecretValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretValue").field("version_id", self.version_id()).finish_non_exhaustive()
    }
}
