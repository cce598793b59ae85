//! Where secrets are read from: one type, and behind it Secrets Manager, an agent on this machine, a directory, or a
//! function of the caller's. Knows nothing of tokens and caches.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use zeroize::Zeroizing;

#[cfg(feature = "secrets-manager")]
use crate::store::secrets_manager::SecretsManager;
#[cfg(any(feature = "directory", feature = "secrets-manager"))]
use crate::store::{Label, Selector};
#[cfg(feature = "directory")]
use crate::store::{SecretStore, directory::DirectoryStore};
use crate::{
    secret::Secret,
    store::{Content, StoreError, VersionId},
};

#[cfg(feature = "extension")]
mod local_http;
#[cfg(feature = "extension")]
use local_http::LocalHttp;

/// Where secrets are read from. A clone is the same source.
///
/// | made by | feature | reads |
/// |---|---|---|
/// | `secrets_manager_from_env`, `secrets_manager` | `secrets-manager` | AWS Secrets Manager, through the AWS SDK |
/// | `extension_from_env`, `extension` | `extension` | the AWS Parameters and Secrets Lambda Extension |
/// | `agent_from_env`, `agent` | `extension` | the aws-secretsmanager-agent |
/// | `directory` | `directory` | a directory store on this machine |
/// | [`Source::from_fn`] | | whatever the function says |
///
/// ```
/// use token_refresher::reader::{SecretVersion, Source};
///
/// let source = Source::from_fn(|_query| async { Ok(SecretVersion::text("v1", r#"{"accessToken": "…"}"#)) });
/// ```
#[derive(Clone)]
pub struct Source(Kind);

type Reading = Pin<Box<dyn Future<Output = Result<SecretVersion, StoreError>> + Send>>;

#[derive(Clone)]
enum Kind {
    Function(Arc<dyn Fn(Query) -> Reading + Send + Sync>),
    #[cfg(feature = "secrets-manager")]
    SecretsManager(SecretsManager),
    #[cfg(feature = "extension")]
    LocalHttp(LocalHttp),
    #[cfg(feature = "directory")]
    Directory(DirectoryStore),
}

/// What a source is asked for. See [`Source::from_fn`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The secret's name or ARN.
    pub secret_id: String,
    /// Which version of it.
    pub wanted: Wanted,
}

/// Which version is wanted. See [`Source::from_fn`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The one labelled AWSCURRENT; a cache on the way may answer.
    Current,
    /// The one labelled AWSCURRENT, now: past every cache that lets itself be passed.
    CurrentNow,
    /// The one labelled AWSPREVIOUS: what was current before.
    Previous,
    /// The one with this id.
    Version(VersionId),
}

/// A version of a secret as a source gives it.
///
/// ```
/// use token_refresher::reader::SecretVersion;
///
/// let version = SecretVersion::text("v1", "hunter2");
/// assert_eq!(format!("{version:?}"), r#"SecretVersion { id: VersionId("v1"), content: Text(..) }"#);
/// ```
#[derive(Clone, Debug)]
pub struct SecretVersion {
    /// Its id.
    pub id: VersionId,
    /// What it holds.
    pub content: Content,
}

impl SecretVersion {
    /// A version that holds text.
    #[must_use]
    pub fn text(id: impl Into<String>, text: impl Into<Secret>) -> Self {
        Self { id: VersionId::from(id), content: Content::Text(text.into()) }
    }

    /// A version that holds bytes.
    #[must_use]
    pub fn bytes(id: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { id: VersionId::from(id), content: Content::Bytes(Zeroizing::new(bytes)) }
    }
}

impl Source {
    /// A source of the caller's making: another store, or a test's.
    ///
    /// The function answers a version, or a [`StoreError`]: `Unavailable` where asking again may help, anything else where it
    /// will not. It is dropped where it stands after ten seconds. Another content must have another id.
    ///
    /// ```
    /// # use token_refresher::reader::{ReadError, Remedy, SecretReader, SecretVersion, Source, Wanted};
    /// # use token_refresher::store::StoreError;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
    /// let source = Source::from_fn(|query| async move {
    ///     match (query.secret_id.as_str(), query.wanted) {
    ///         ("key", Wanted::Current) => Ok(SecretVersion::text("v2", "new")),
    ///         ("key", Wanted::Previous) => Ok(SecretVersion::text("v1", "old")),
    ///         _ => Err(StoreError::NotFound { said: "there is only `key`".to_owned() }),
    ///     }
    /// });
    /// assert_eq!(SecretReader::text(source.clone(), "key").get().await?.expose().as_str(), "new");
    /// let error = SecretReader::text(source, "clef").get().await.unwrap_err();
    /// assert_eq!(error.remedy(), Remedy::FixSetting);
    /// # Ok(()) }
    /// ```
    pub fn from_fn<F>(read: impl Fn(Query) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<SecretVersion, StoreError>> + Send + 'static,
    {
        Self(Kind::Function(Arc::new(move |query| Box::pin(read(query)))))
    }

    /// Secrets Manager, as the AWS SDK's own settings say (`AWS_REGION`, credentials, `AWS_ENDPOINT_URL_SECRETS_MANAGER`, …).
    /// Makes no call. Needs `secretsmanager:GetSecretValue` on what is read.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::setting::InvalidSetting) when no Region is set, or a setting cannot be one.
    ///
    /// ```no_run
    /// # use token_refresher::{Reader, reader::Source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reader = Reader::new(Source::secrets_manager_from_env().await?, "myapp/prod/upwork");
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "secrets-manager")]
    pub async fn secrets_manager_from_env() -> Result<Self, crate::setting::InvalidSetting> {
        let http = crate::http_client::HttpClients::new(|name| std::env::var(name).ok())?;
        Ok(SecretsManager::from_env(http.store).await?.into())
    }

    /// Secrets Manager, as an SDK configuration of the caller's says, its HTTP client and retries included.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::setting::InvalidSetting) when it has no Region, or one that cannot be one.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// # use aws_config::{BehaviorVersion, Region, SdkConfig};
    /// // `aws_config::load_defaults(…).await`, as everywhere.
    /// let config = SdkConfig::builder()
    ///     .behavior_version(BehaviorVersion::v2026_01_12())
    ///     .region(Region::new("eu-central-1"))
    ///     .build();
    /// assert_eq!(format!("{:?}", Source::secrets_manager(&config).unwrap()), "Source(Secrets Manager)");
    /// ```
    #[cfg(feature = "secrets-manager")]
    pub fn secrets_manager(config: &aws_config::SdkConfig) -> Result<Self, crate::setting::InvalidSetting> {
        Ok(SecretsManager::new(config)?.into())
    }

    /// A directory store of this machine.
    ///
    /// ```
    /// # use token_refresher::{Reader, clock::Clock, reader::Source, store::directory::DirectoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::TempDir::new()?;
    /// # let folder = folder.path();
    /// let store = DirectoryStore::open(folder, Clock::system())?;
    /// store.create("crm/oauth", &r#"{"accessToken": "t0ps3cret", "expiresAt": 4070908800000}"#.into()).await?;
    /// let reader = Reader::new(Source::directory(store), "crm/oauth");
    /// assert_eq!(reader.access_token().await?.expose(), "t0ps3cret");
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "directory")]
    #[must_use]
    pub fn directory(store: DirectoryStore) -> Self {
        Self(Kind::Directory(store))
    }

    /// Reads one version.
    pub(super) async fn read(&self, query: Query) -> Result<SecretVersion, StoreError> {
        match &self.0 {
            Kind::Function(read) => read(query).await,
            #[cfg(feature = "secrets-manager")]
            Kind::SecretsManager(store) => {
                let (id, content) = store.read(&query.secret_id, selector(&query.wanted)).await?;
                Ok(SecretVersion { id, content })
            }
            #[cfg(feature = "extension")]
            Kind::LocalHttp(agent) => agent.read(&query).await,
            #[cfg(feature = "directory")]
            Kind::Directory(store) => {
                let version = store.get(&query.secret_id, selector(&query.wanted)).await?;
                Ok(SecretVersion { id: version.id, content: Content::Text(version.body) })
            }
        }
    }
}

#[cfg(feature = "secrets-manager")]
impl From<SecretsManager> for Source {
    fn from(store: SecretsManager) -> Self {
        Self(Kind::SecretsManager(store))
    }
}

#[cfg(any(feature = "directory", feature = "secrets-manager"))]
fn selector(wanted: &Wanted) -> Selector<'_> {
    match wanted {
        Wanted::Current | Wanted::CurrentNow => Selector::Label(Label::Current),
        Wanted::Previous => Selector::Label(Label::Previous),
        Wanted::Version(id) => Selector::Id(id),
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Function(_) => "Source(function)",
            #[cfg(feature = "secrets-manager")]
            Kind::SecretsManager(_) => "Source(Secrets Manager)",
            #[cfg(feature = "extension")]
            Kind::LocalHttp(agent) => return write!(f, "Source({agent})"),
            #[cfg(feature = "directory")]
            Kind::Directory(_) => "Source(directory)",
        })
    }
}
