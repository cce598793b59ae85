//! The store that the options name, and the guarded write: a version is put beside the current one, and becomes current only if that one
//! has not changed since it was read.

use std::time::Duration;

use aws_config::{Region, profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig};
use aws_credential_types::provider::SharedCredentialsProvider;

use super::{Context, failure::Failure};
use crate::{
    http_client::SdkHttpClient,
    kms::Kms,
    lambda::settings::Settings,
    oauth::exchanger::Exchanger,
    protocol::{Error, ROOM_FOR_TOKENS, Refresher, ids::TokenKey, options::Options},
    secret::Secret,
    store::{
        Label, SecretStore, Selector, StoreError, Version, VersionId, named::NamedStore,
        secrets_manager::SecretsManager,
    },
    token_secret::{
        SecretProblem, TokenSecret, check_publication, client_settings::ClientSettings, document::Document,
        member_names::MemberNames,
    },
};

/// Attempts of a write that another write overtakes.
const MAX_TRIES: u32 = 5;

/// Before it begins anew: a read may lag behind a write.
const PAUSE: Duration = Duration::from_millis(500);

/// An open store, and what signs with a key in KMS.
pub(super) struct Store {
    pub secrets: NamedStore,
    pub kms: Option<Kms>,
    profile: Option<String>,
}

/// A version that is current now.
pub(super) struct Written {
    pub id: VersionId,
    /// The version that was current before; `None`: the secret is new, or had no value.
    pub replaced: Option<VersionId>,
    /// Where the secret is, for messages.
    place: String,
}

impl Written {
    /// What was done, in a sentence.
    pub(super) fn summary(&self, secret_id: &str) -> String {
        let Self { id, place, .. } = self;
        match &self.replaced {
            Some(_) => format!("Secret `{secret_id}` is updated (version {id})."),
            None => format!("Secret `{secret_id}` is created in {place} (version {id})."),
        }
    }
}

impl Store {
    /// Opens the store that the options name.
    pub(super) async fn open(context: &Context) -> Result<Self, Failure> {
        let options = &context.store;
        if let Some(name) =
            options.store.as_deref().filter(|name| !matches!(*name, "secretsmanager" | "secretsmanager:"))
        {
            return Ok(Self { secrets: NamedStore::directory(name, context.clock.clone())?, kms: None, profile: None });
        }
        let mut loader = SecretsManager::config_loader(context.http.store.clone());
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &options.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let mut config = loader.load().await;
        if let Some(profile) = &options.profile {
            // As for the AWS CLI, a profile that is named comes before credentials in the environment.
            let settings = ProviderConfig::without_region().with_region(config.region().cloned());
            let settings = settings.with_http_client(SdkHttpClient(context.http.store.clone()));
            let credentials =
                ProfileFileCredentialsProvider::builder().configure(&settings).profile_name(profile).build();
            config = config.into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        }
        if config.region().is_none() {
            return Err(Failure::usage(if options.profile.is_some() {
                "no AWS Region is set: pass --region, or check the profile's name (`aws configure list-profiles`) and its region"
            } else if options.store.is_some() || options.endpoint_url.is_some() {
                "no AWS Region is set: pass --region, or set AWS_REGION"
            } else {
                "no store is set: for AWS Secrets Manager pass --region or --profile, or set AWS_REGION; for a directory on this machine pass \
                 --store dir:PATH"
            }));
        }
        let store = SecretsManager::new(&config)?;
        let var = |name: &str| std::env::var(name).ok();
        let kms = Kms::new(&config, context.http.store.clone(), context.clock.clone(), var)?;
        Ok(Self { secrets: NamedStore::SecretsManager(store), kms, profile: options.profile.clone() })
    }

    /// The current version. `None`: there is no such secret, or it has no value.
    pub(super) async fn current(&self, secret_id: &str) -> Result<Option<Version>, Failure> {
        match self.secrets.get(secret_id, Selector::Label(Label::Current)).await {
            Ok(version) => Ok(Some(version)),
            Err(error) if may_be_created(secret_id, &error) => Ok(None),
            Err(error) => Err(self.failure(secret_id, error)),
        }
    }

    pub(super) fn failure(&self, secret_id: &str, error: StoreError) -> Failure {
        if let StoreError::Unavailable { detail, .. } = &error
            && detail.contains("SSO")
        {
            let profile = self.profile.as_ref().map(|profile| format!(" --profile {profile}")).unwrap_or_default();
            return Failure::person(format!("secret `{secret_id}`: {detail}; log in: `aws sso login{profile}`"));
        }
        Error::of_store(&self.secrets, secret_id, error, None).into()
    }

    /// The function's way to exchange grants.
    pub(super) fn exchanger(&self, context: &Context) -> Exchanger {
        Exchanger::over_http(context.http.provider.clone(), self.kms.clone(), context.clock.clone())
    }

    /// The function's own code over this store.
    pub(super) fn refresher(&self, context: &Context, options: Options) -> Refresher<NamedStore> {
        Refresher::new(self.secrets.clone(), self.exchanger(context), context.clock.clone(), options)
    }

    /// Whether the current version is a token secret, or is meant as one.
    pub(super) async fn is_token_secret(&self, secret_id: &str, names: &MemberNames) -> Result<bool, Failure> {
        let version = match self.secrets.get(secret_id, Selector::Label(Label::Current)).await {
            Ok(version) => version,
            Err(StoreError::NotFound { .. } | StoreError::Binary) => return Ok(false),
            Err(error) => return Err(self.failure(secret_id, error)),
        };
        let text = version.body.expose();
        Ok(match TokenSecret::parse_with(text, names) {
            Ok(_) => true,
            Err(problem) => problem.is_of_token_secret(text) && check_publication(text).is_err(),
        })
    }

    /// The settings in the client's secret that a token secret names.
    pub(super) async fn client_secret(&self, secret_id: &str) -> Result<ClientSettings, Failure> {
        let version = self.secrets.get(secret_id, Selector::Label(Label::Current)).await;
        let version = version.map_err(|error| self.failure(secret_id, error))?;
        let document = Document::parse(version.body.expose()).map_err(SecretProblem::NotADocument);
        document
            .and_then(|document| ClientSettings::read(&document))
            .map_err(|problem| Failure::unusable(secret_id, problem))
    }

    /// Makes the text that `render` returns the current version. `render` gets the current version, again whenever it has changed.
    pub(super) async fn write(
        &self,
        context: &Context,
        secret_id: &str,
        render: impl Fn(Option<&Version>) -> Result<Secret, Failure>,
    ) -> Result<Written, Failure> {
        let mut put: Option<VersionId> = None;
        let mut replaced: Option<VersionId> = None;
        let mut last: Option<StoreError> = None;
        for _ in 0..MAX_TRIES {
            let current = self.current(secret_id).await?;
            if let (Some(current), Some(put)) = (&current, &put)
                && (current.id == *put || self.was_current(secret_id, put).await?)
            {
                // It is done, and the response was lost. The function may have refreshed the tokens since.
                return Ok(self.written(secret_id, put.clone(), replaced).await);
            }
            replaced = current.as_ref().map(|current| current.id.clone());
            let body = render(current.as_ref())?;
            let (length, limit) = (body.expose().len(), self.max_document_bytes());
            if length > limit {
                return Err(Failure::person(format!("the document has {length} bytes, and {limit} are allowed")));
            }
            let attempt = match current {
                Some(current) => self.replace(secret_id, &current.id, &body).await?,
                // The same id each time: the store then takes it once.
                None => self.create(secret_id, put.take().unwrap_or_else(VersionId::random), &body).await?,
            };
            match attempt {
                Attempt::Done(written) => return Ok(written),
                Attempt::TryAgain { put: id, error } => (put, last) = (Some(id), error),
            }
            context.clock.sleep(PAUSE).await;
        }
        Err(match last {
            None | Some(StoreError::Moved { .. }) => {
                Failure::later(format!("secret `{secret_id}` changed during each of five writes; try again"))
            }
            Some(error) => self.failure(secret_id, error),
        })
    }

    /// Whether a version that was put has been current: another one has come after it, or its tokens were claimed.
    async fn was_current(&self, secret_id: &str, put: &VersionId) -> Result<bool, Failure> {
        let Some(version) = self.version(secret_id, put).await? else { return Ok(false) };
        if version.labels.has(Label::Previous) {
            return Ok(true);
        }
        let Ok(token) = TokenSecret::parse(version.body.expose()) else { return Ok(false) };
        let key = TokenKey::of(&version.arn, &token.tokens, &token.client);
        // One by one: whoever may write need not be allowed to list.
        for id in [key.claim(0), key.staged()] {
            if self.version(secret_id, &id).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A version, if it is there.
    async fn version(&self, secret_id: &str, id: &VersionId) -> Result<Option<Version>, Failure> {
        match self.secrets.get(secret_id, Selector::Id(id)).await {
            Ok(version) => Ok(Some(version)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure(secret_id, error)),
        }
    }

    /// How long a document may be: a refresh must find room for longer tokens.
    pub(super) fn max_document_bytes(&self) -> usize {
        self.secrets.limits().version_bytes - ROOM_FOR_TOKENS
    }

    async fn replace(&self, secret_id: &str, current: &VersionId, body: &Secret) -> Result<Attempt, Failure> {
        let id = VersionId::random();
        let attempt = self.secrets.put(secret_id, &id, Label::Entered, body).await;
        let attempt = match attempt {
            Ok(()) => self.secrets.move_current(secret_id, current, &id).await,
            Err(error) => Err(error),
        };
        match attempt {
            Ok(()) => Ok(Attempt::Done(self.written(secret_id, id, Some(current.clone())).await)),
            Err(error) => self.again(secret_id, id, error),
        }
    }

    async fn create(&self, secret_id: &str, id: VersionId, body: &Secret) -> Result<Attempt, Failure> {
        match self.secrets.create(secret_id, &id, body).await {
            Ok(()) => Ok(Attempt::Done(Written { id, replaced: None, place: self.secrets.place() })),
            Err(error @ (StoreError::Exists | StoreError::AccessDenied { .. } | StoreError::Rejected { .. })) => {
                if self.current(secret_id).await?.is_some() {
                    // Somebody was faster, or an earlier attempt of ours took effect.
                    return Ok(Attempt::TryAgain { put: id, error: None });
                }
                if matches!(error, StoreError::Rejected { .. }) {
                    return Err(self.failure(secret_id, error));
                }
                // It may be there without a value: its first version becomes current.
                match self.secrets.put(secret_id, &id, Label::Entered, body).await {
                    Ok(()) => Ok(Attempt::TryAgain { put: id, error: None }),
                    Err(StoreError::NotFound { .. }) => Err(self.failure(secret_id, error)),
                    Err(error) => self.again(secret_id, id, error),
                }
            }
            Err(error) => self.again(secret_id, id, error),
        }
    }

    /// What an error of a write means: another attempt, if it may pass.
    fn again(&self, secret_id: &str, put: VersionId, error: StoreError) -> Result<Attempt, Failure> {
        match error {
            StoreError::Moved { .. } | StoreError::Unavailable { .. } | StoreError::Throttled { .. } => {
                Ok(Attempt::TryAgain { put, error: Some(error) })
            }
            error => Err(self.failure(secret_id, error)),
        }
    }

    /// Takes the label off: a labelled version is never removed to make room. If that fails, the next write moves the label.
    async fn written(&self, secret_id: &str, id: VersionId, replaced: Option<VersionId>) -> Written {
        let _ = self.secrets.remove_label(secret_id, Label::Entered, &id).await;
        Written { id, replaced, place: self.secrets.place() }
    }
}

/// How one attempt of a write has ended.
enum Attempt {
    Done(Written),
    /// Something changed meanwhile, or the response was lost.
    TryAgain {
        /// The version that was put, perhaps.
        put: VersionId,
        error: Option<StoreError>,
    },
}

/// The function's settings in the environment.
pub(super) fn options() -> Result<Options, Failure> {
    Ok(Settings::from_vars(|name| std::env::var(name).ok())?.options)
}

/// Whether the secret is not there, and could be. One that is marked for deletion must be restored first.
fn may_be_created(secret_id: &str, error: &StoreError) -> bool {
    match error {
        StoreError::NotFound { detail } => !detail.contains("delet") && !secret_id.starts_with("arn:"),
        _ => false,
    }
}
