//! Where secrets are read from: a store, an agent on this machine, or a function that the caller provides. Knows nothing about
//! tokens and caches.

#[cfg(feature = "directory")]
use std::path::{Path, PathBuf};
use std::{fmt, future::Future, pin::Pin, sync::Arc};

use zeroize::Zeroizing;

#[cfg(feature = "directory")]
use crate::store::directory::DirectoryStore;
#[cfg(feature = "secrets-manager")]
use crate::store::secrets_manager::SecretsManager;
use crate::{
    error::Advice,
    secret::Secret,
    store::{Content, Label, Operation, SecretStore, Selector, StoreError, VersionId},
};

#[cfg(feature = "extension")]
mod local_http;
#[cfg(feature = "extension")]
use local_http::LocalHttp;

/// Where secrets are read from. A clone is the same source.
///
/// | constructor | feature | reads |
/// |---|---|---|
/// | `secrets_manager_from_env`, `secrets_manager` | `secrets-manager` | AWS Secrets Manager, through the AWS SDK |
/// | `extension_from_env`, `extension` | `extension` | the AWS Parameters and Secrets Lambda Extension |
/// | `agent_from_env`, `agent` | `extension` | the aws-secretsmanager-agent |
/// | `directory` | `directory` | a directory store on this machine |
/// | [`Source::from_store`] | | any other store |
/// | [`Source::from_fn`] | | through the given function |
///
/// ```
/// use token_refresher::reader::{SecretVersion, Source};
///
/// let source = Source::from_fn(|_query| async { Ok(SecretVersion::text("v1", r#"{"accessToken": "…"}"#)) });
/// ```
#[derive(Clone)]
pub struct Source(Kind);

type ReadFuture = Pin<Box<dyn Future<Output = Result<SecretVersion, StoreError>> + Send>>;

#[derive(Clone)]
enum Kind {
    Function(Arc<dyn Fn(Query) -> ReadFuture + Send + Sync>),
    /// A store, and its name for `Debug`.
    Store(Arc<dyn ReadableStore>, &'static str),
    #[cfg(feature = "extension")]
    LocalHttp(LocalHttp),
}

/// The part of a [`SecretStore`] that reads, as a trait object.
trait ReadableStore: Send + Sync {
    fn read<'a>(
        &'a self,
        query: &'a Query,
    ) -> Pin<Box<dyn Future<Output = Result<SecretVersion, StoreError>> + Send + 'a>>;

    fn action(&self) -> &'static str;

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice;
}

impl<S: SecretStore> ReadableStore for S {
    fn read<'a>(
        &'a self,
        query: &'a Query,
    ) -> Pin<Box<dyn Future<Output = Result<SecretVersion, StoreError>> + Send + 'a>> {
        Box::pin(async {
            let (id, content) = SecretStore::read(self, &query.secret_id, selector(&query.wanted)).await?;
            Ok(SecretVersion { id, content })
        })
    }

    fn action(&self) -> &'static str {
        SecretStore::action(self, Operation::Get)
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        SecretStore::advice(self, error, secret_id)
    }
}

/// A request to a source. See [`Source::from_fn`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The secret's name or ARN.
    pub secret_id: String,
    /// The version to read.
    pub wanted: Wanted,
}

/// The version to read. See [`Source::from_fn`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The version labelled AWSCURRENT; a cached one is accepted.
    Current,
    /// The version labelled AWSCURRENT, bypassing every cache that a request can bypass.
    CurrentNow,
    /// The version labelled AWSPREVIOUS: the one that was current before.
    Previous,
    /// The version with this id.
    Version(VersionId),
}

/// A version of a secret as a source returns it.
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
    /// Its content.
    pub content: Content,
}

impl SecretVersion {
    /// A version that contains text.
    #[must_use]
    pub fn text(id: impl Into<String>, text: impl Into<Secret>) -> Self {
        Self { id: VersionId::from(id), content: Content::Text(text.into()) }
    }

    /// A version that contains bytes.
    #[must_use]
    pub fn bytes(id: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { id: VersionId::from(id), content: Content::Bytes(Zeroizing::new(bytes)) }
    }
}

impl Source {
    /// A source that the caller provides: another store, or a test double.
    ///
    /// The function returns a version, or a [`StoreError`]: `Unavailable` if a retry may help, any other error if not. Its future
    /// is dropped after ten seconds. It must not block its thread. Different content must have a different id.
    ///
    /// ```
    /// # use token_refresher::reader::{ReadError, Remedy, SecretReader, SecretVersion, Source, Wanted};
    /// # use token_refresher::store::StoreError;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
    /// let source = Source::from_fn(|query| async move {
    ///     match (query.secret_id.as_str(), query.wanted) {
    ///         ("key", Wanted::Current) => Ok(SecretVersion::text("v2", "new")),
    ///         ("key", Wanted::Previous) => Ok(SecretVersion::text("v1", "old")),
    ///         _ => Err(StoreError::NotFound { detail: "there is only `key`".to_owned() }),
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

    /// Secrets Manager, with the AWS SDK's own settings from the environment (`AWS_REGION`, credentials,
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`, …). Makes no call. Needs `secretsmanager:GetSecretValue` on the secrets to read.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::error::InvalidSetting) if a setting is missing or invalid.
    ///
    /// ```no_run
    /// # use token_refresher::{Reader, reader::Source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reader = Reader::new(Source::secrets_manager_from_env().await?, "myapp/prod/upwork");
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "secrets-manager")]
    pub async fn secrets_manager_from_env() -> Result<Self, crate::error::InvalidSetting> {
        let http = crate::http_client::HttpClients::new(|name| std::env::var(name).ok())?;
        Ok(SecretsManager::from_env(http.store).await?.into())
    }

    /// Secrets Manager, with the given SDK configuration, including its HTTP client and retries.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::error::InvalidSetting) if the configuration has no Region or an invalid one.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// # use aws_config::{BehaviorVersion, Region, SdkConfig};
    /// // Usually `aws_config::load_defaults(…).await`.
    /// let config = SdkConfig::builder()
    ///     .behavior_version(BehaviorVersion::v2026_01_12())
    ///     .region(Region::new("eu-central-1"))
    ///     .build();
    /// assert_eq!(format!("{:?}", Source::secrets_manager(&config).unwrap()), "Source(Secrets Manager)");
    /// ```
    #[cfg(feature = "secrets-manager")]
    pub fn secrets_manager(config: &aws_config::SdkConfig) -> Result<Self, crate::error::InvalidSetting> {
        Ok(SecretsManager::new(config)?.into())
    }

    /// A directory store on this machine, by its path or opened. A path that does not exist is not created: then no secret is found.
    ///
    /// ```
    /// # use token_refresher::{Reader, clock::Clock, reader::Source, store::directory::DirectoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::TempDir::new()?;
    /// # let folder = folder.path();
    /// # let store = DirectoryStore::open(folder, Clock::system())?;
    /// # store.create("crm/oauth", &r#"{"accessToken": "t0ps3cret", "expiresAt": 4070908800000}"#.into()).await?;
    /// let reader = Reader::new(Source::directory(folder), "crm/oauth"); // such as "/var/lib/tokens"
    /// assert_eq!(reader.access_token().await?.expose(), "t0ps3cret");
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "directory")]
    #[must_use]
    pub fn directory(directory: impl Into<Directory>) -> Self {
        Self(Kind::Store(Arc::new(directory.into().0), "directory"))
    }

    /// Any store.
    ///
    /// ```
    /// # use token_refresher::{Reader, clock::Clock, reader::Source, store::directory::DirectoryStore};
    /// # let folder = tempfile::TempDir::new().unwrap();
    /// let store = DirectoryStore::open(folder.path(), Clock::system()).unwrap();
    /// let reader = Reader::new(Source::from_store(store), "crm/oauth");
    /// ```
    #[must_use]
    pub fn from_store(store: impl SecretStore + 'static) -> Self {
        Self(Kind::Store(Arc::new(store), "store"))
    }

    /// Reads one version.
    pub(super) async fn read(&self, query: Query) -> Result<SecretVersion, StoreError> {
        match &self.0 {
            Kind::Function(read) => read(query).await,
            Kind::Store(store, _) => store.read(&query).await,
            #[cfg(feature = "extension")]
            Kind::LocalHttp(agent) => agent.read(&query).await,
        }
    }

    /// The name of a read, for messages.
    pub(super) fn action(&self) -> &'static str {
        match &self.0 {
            Kind::Function(_) => "read",
            Kind::Store(store, _) => store.action(),
            #[cfg(feature = "extension")]
            Kind::LocalHttp(_) => crate::store::aws::GET,
        }
    }

    /// What to do about an error of this source, in words.
    pub(super) fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        match &self.0 {
            Kind::Function(_) => match error {
                StoreError::AccessDenied { action, .. } => Advice::new(format!("allow {action}")),
                _ => Advice::new("check the name, and give the secret a value"),
            },
            Kind::Store(store, _) => store.advice(error, secret_id),
            #[cfg(feature = "extension")]
            Kind::LocalHttp(_) => {
                crate::store::aws::advice(error, secret_id, &std::env::var("AWS_REGION").unwrap_or_default())
            }
        }
    }
}

/// A directory to read from: a path, or an opened [`DirectoryStore`]. See [`Source::directory`] for an example.
#[cfg(feature = "directory")]
#[derive(Clone, Debug)]
pub struct Directory(DirectoryStore);

#[cfg(feature = "directory")]
impl From<DirectoryStore> for Directory {
    fn from(store: DirectoryStore) -> Self {
        Self(store)
    }
}

#[cfg(feature = "directory")]
impl From<&Path> for Directory {
    fn from(path: &Path) -> Self {
        Self(DirectoryStore::to_read(path))
    }
}

#[cfg(feature = "directory")]
impl From<&str> for Directory {
    fn from(path: &str) -> Self {
        Path::new(path).into()
    }
}

#[cfg(feature = "directory")]
impl From<String> for Directory {
    fn from(path: String) -> Self {
        path.as_str().into()
    }
}

#[cfg(feature = "directory")]
impl From<PathBuf> for Directory {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

#[cfg(feature = "directory")]
impl From<&PathBuf> for Directory {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

#[cfg(feature = "secrets-manager")]
impl From<SecretsManager> for Source {
    fn from(store: SecretsManager) -> Self {
        Self(Kind::Store(Arc::new(store), "Secrets Manager"))
    }
}

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
            Kind::Store(_, name) => return write!(f, "Source({name})"),
            #[cfg(feature = "extension")]
            Kind::LocalHttp(agent) => return write!(f, "Source({agent})"),
        })
    }
}
