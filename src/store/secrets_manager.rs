//! AWS Secrets Manager as a [`SecretStore`]: each method is one call of the AWS SDK. [`aws`] interprets its errors.

use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::{
    Client,
    config::StalledStreamProtectionConfig,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_secret_value::GetSecretValueOutput,
    primitives::DateTime as SdkDateTime,
    types::{Filter, FilterNameStringType, SecretValueEntry},
};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;

use super::{
    BATCH, Content, Found, Label, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version,
    VersionId,
    aws::{self, GET, GET_BATCH, LIST, MOVE, PUT},
};
use crate::{
    error::{Advice, InvalidSetting, root_cause},
    http_client::SdkHttpClient,
    region,
    sanitize::redact_document,
    secret::Secret,
};

#[cfg(feature = "cli")]
mod create;

/// The timeout of one attempt of a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// The most attempts of a call if the service throttles or fails.
const MAX_ATTEMPTS: u32 = 3;

/// How much of the service's text a message contains.
const MAX_DETAIL_CHARS: usize = 500;

/// [`BATCH`] in the SDK's type.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "it is 20")]
const MAX_BATCH: i32 = BATCH as i32;

/// The most pages of a list that are read: enough for ten times the quota of versions.
const MAX_PAGES: usize = 10;

/// Secrets Manager in one Region.
#[derive(Clone, Debug)]
pub struct SecretsManager {
    client: Client,
    /// For advice on permissions.
    region: String,
}

impl SecretsManager {
    /// Makes a client with the settings that the AWS SDK reads from the environment (`AWS_REGION`, credentials,
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`, …). Makes no call.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] if no Region is set, or if the Region or the endpoint is invalid.
    pub async fn from_env(http: reqwest::Client) -> Result<Self, InvalidSetting> {
        Self::new(&Self::config_from_env(http).await)
    }

    /// The configuration that [`Self::from_env`] uses. Makes no call.
    pub async fn config_from_env(http: reqwest::Client) -> SdkConfig {
        Self::config_loader(http).load().await
    }

    /// The same, for a caller that sets more: a profile, a Region, an endpoint.
    #[must_use]
    pub fn config_loader(http: reqwest::Client) -> ConfigLoader {
        aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(SdkHttpClient(http))
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(MAX_ATTEMPTS)
                    .with_initial_backoff(Duration::from_millis(100)),
            )
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
    }

    /// Makes a client with this configuration. Makes no call.
    ///
    /// # Errors
    ///
    /// The same as those of [`Self::from_env`].
    pub fn new(config: &SdkConfig) -> Result<Self, InvalidSetting> {
        region::check(config.region().map_or("", |region| region.as_ref()), "the secret")?;
        let mut settings = aws_sdk_secretsmanager::config::Builder::from(config);
        for name in ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"] {
            match std::env::var(name).as_deref().map(str::trim) {
                Err(_) => {}
                // The SDK accepts an empty endpoint and panics at the first call.
                Ok("") => {
                    settings.set_endpoint_url(config.endpoint_url().filter(|url| !url.is_empty()).map(str::to_owned));
                }
                // Without this check the SDK would return an error at every call.
                Ok(found) if !Url::parse(found).is_ok_and(|url| matches!(url.scheme(), "https" | "http")) => {
                    return Err(InvalidSetting::found(name, found, "an https or http URL"));
                }
                Ok(_) => break,
            }
        }
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        Ok(Self { client: Client::from_conf(settings.build()), region })
    }

    async fn get_secret_value(&self, secret_id: &str, which: Selector<'_>) -> Result<GetSecretValueOutput, StoreError> {
        let call = self.client.get_secret_value().secret_id(secret_id);
        let call = match which {
            Selector::Label(label) => call.version_stage(label.as_str()),
            Selector::Id(id) => call.version_id(id.as_str()),
        };
        let sent = signed_again(|| call.clone().send()).await;
        sent.map_err(|error| store_error(GET, &error, None))
    }
}

/// One secret of a batch, if it has a text.
fn version(entry: SecretValueEntry) -> Option<Version> {
    Some(Version {
        arn: entry.arn?,
        id: entry.version_id?.into(),
        // The API Reference says: of the secret. Only the date of a version that was read by itself decides anything.
        created: entry.created_date.and_then(|date| time(&date)).unwrap_or(DateTime::<Utc>::MAX_UTC),
        labels: entry.version_stages.unwrap_or_default().into_iter().collect(),
        body: entry.secret_string.map(Secret::from)?,
    })
}

fn missing(member: &str) -> StoreError {
    StoreError::Unavailable { action: GET, detail: format!("an answer without {member}") }
}

impl SecretStore for SecretsManager {
    fn limits(&self) -> Limits {
        Limits::SECRETS_MANAGER
    }

    fn action(&self, operation: Operation) -> &'static str {
        aws::action(operation)
    }

    fn advice(&self, error: &StoreError, secret_id: &str) -> Advice {
        aws::advice(error, secret_id, &self.region)
    }

    fn place(&self) -> String {
        format!("the Region {}", self.region)
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        let got = self.get_secret_value(secret_id, which).await?;
        Ok(Version {
            arn: got.arn.ok_or_else(|| missing("ARN"))?,
            id: got.version_id.ok_or_else(|| missing("VersionId"))?.into(),
            created: got.created_date.and_then(|date| time(&date)).ok_or_else(|| missing("CreatedDate"))?,
            labels: got.version_stages.unwrap_or_default().into_iter().collect(),
            body: got.secret_string.map(Secret::from).ok_or(StoreError::Binary)?,
        })
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        let call = self.client.put_secret_value().secret_id(secret_id).client_request_token(id.as_str());
        let call = call.version_stages(label.as_str()).secret_string(body.expose());
        match signed_again(|| call.clone().send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(store_error(PUT, &error, Some(body))),
        }
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        let call = self.client.update_secret_version_stage().secret_id(secret_id).version_stage(label.as_str());
        let call = call.set_remove_from_version_id(from.map(ToString::to_string)).move_to_version_id(to.as_str());
        match signed_again(|| call.clone().send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(store_error(MOVE, &error, None)),
        }
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        let call = self.client.update_secret_version_stage().secret_id(secret_id).version_stage(label.as_str());
        let call = call.remove_from_version_id(from.as_str());
        match signed_again(|| call.clone().send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(store_error(MOVE, &error, None)),
        }
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        let mut next_token = None;
        for _ in 0..MAX_PAGES {
            let call = self.client.list_secret_version_ids().secret_id(secret_id).include_deprecated(true);
            let call = call.max_results(100).set_next_token(next_token);
            let page = signed_again(|| call.clone().send()).await;
            let page = page.map_err(|error| store_error(LIST, &error, None))?;
            listed.extend(page.versions.unwrap_or_default().into_iter().filter_map(|version| {
                Some(Listed {
                    id: version.version_id?.into(),
                    // A version without a date counts as young.
                    created: version.created_date.and_then(|date| time(&date)).unwrap_or(DateTime::<Utc>::MAX_UTC),
                    labels: version.version_stages.unwrap_or_default().into_iter().collect(),
                })
            }));
            next_token = page.next_token;
            if next_token.is_none() {
                break;
            }
        }
        Ok(listed)
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        let ids = secret_ids.iter().map(|id| (*id).to_owned()).collect();
        let call = self.client.batch_get_secret_value().set_secret_id_list(Some(ids));
        let got = signed_again(|| call.clone().send()).await.map_err(|error| store_error(GET_BATCH, &error, None))?;
        let mut entries = got.secret_values.unwrap_or_default();
        let take = |id: &&str| {
            let is_it =
                |entry: &SecretValueEntry| entry.arn.as_deref() == Some(*id) || entry.name.as_deref() == Some(*id);
            let index = entries.iter().position(is_it)?;
            version(entries.swap_remove(index))
        };
        Ok(secret_ids.iter().map(take).collect())
    }

    async fn find(&self, prefix: &str, page: Option<&str>) -> Result<Page, StoreError> {
        let filter = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
        let call = self.client.batch_get_secret_value().filters(filter).max_results(MAX_BATCH);
        let call = call.set_next_token(page.map(str::to_owned));
        let got = signed_again(|| call.clone().send()).await.map_err(|error| store_error(GET_BATCH, &error, None))?;
        let values = got.secret_values.unwrap_or_default().into_iter().filter_map(|entry| {
            let secret_id = entry.name.clone().or_else(|| entry.arn.clone())?;
            Some(Found { secret_id, version: version(entry) })
        });
        let errors = got.errors.unwrap_or_default().into_iter();
        let errors = errors.filter_map(|error| Some(Found { secret_id: error.secret_id?, version: None }));
        Ok(Page { found: values.chain(errors).collect(), next: got.next_token.filter(|token| !token.is_empty()) })
    }

    async fn read(&self, secret_id: &str, which: Selector<'_>) -> Result<(VersionId, Content), StoreError> {
        let got = self.get_secret_value(secret_id, which).await?;
        let id = got.version_id.ok_or_else(|| missing("VersionId"))?.into();
        let content = match (got.secret_string, got.secret_binary) {
            (Some(text), _) => Content::Text(text.into()),
            (None, Some(bytes)) => Content::Bytes(bytes.into_inner().into()),
            (None, None) => return Err(missing("SecretString")),
        };
        Ok((id, content))
    }
}

fn time(date: &SdkDateTime) -> Option<DateTime<Utc>> {
    // Durations are added to times: the last representable time would overflow.
    DateTime::from_timestamp(date.secs(), date.subsec_nanos())
        .filter(|time| *time < DateTime::<Utc>::MAX_UTC - TimeDelta::days(1))
}

/// Translates an error of the SDK. `body`: the document that was sent. It is redacted from the service's text.
fn store_error<E: ProvideErrorMetadata>(
    action: &'static str,
    error: &SdkError<E>,
    body: Option<&Secret>,
) -> StoreError {
    let SdkError::ServiceError(response) = error else {
        if has_no_credentials(error) {
            return StoreError::NotConfigured { detail: format!("no AWS credentials ({})", innermost(error)) };
        }
        return StoreError::Unavailable { action, detail: format!("no answer: {}", innermost(error)) };
    };
    let status = response.raw().status();
    let code = response.err().code().unwrap_or_default();
    let message = response.err().message().unwrap_or_default();
    let detail = match code {
        "" => format!("an answer of status {} that could not be read", status.as_u16()),
        code => redact_document(&format!("{code}: {message}"), body, MAX_DETAIL_CHARS),
    };
    aws::meaning(action, status.as_u16(), code, message, detail)
}

/// Sends a call, and once more if its credentials or its signature had just expired: each try is signed again.
async fn signed_again<T, E: ProvideErrorMetadata, F: Future<Output = Result<T, SdkError<E>>>>(
    send: impl Fn() -> F,
) -> Result<T, SdkError<E>> {
    let result = send().await;
    let has_expired = match &result {
        Err(SdkError::ServiceError(response)) => response.err().code().is_some_and(aws::needs_new_signature),
        _ => false,
    };
    if has_expired { send().await } else { result }
}

/// Whether no AWS credentials were found: then no call was made.
fn has_no_credentials<E>(error: &SdkError<E>) -> bool {
    let SdkError::DispatchFailure(failure) = error else { return false };
    let mut cause = failure.as_connector_error().map(|error| error as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
            );
        }
        cause = error.source();
    }
    false
}

/// The innermost cause of a failure without a response: "Connection refused", "no credentials", ….
fn innermost<E>(error: &SdkError<E>) -> String {
    let outer: &dyn std::error::Error = match error {
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) => error,
            None => return "the request could not be sent".to_owned(),
        },
        SdkError::TimeoutError(_) => return format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
        SdkError::ConstructionFailure(_) => return "the request could not be made".to_owned(),
        _ => return "an answer that could not be read".to_owned(),
    };
    redact_document(&root_cause(outer).to_string(), None, MAX_DETAIL_CHARS)
}
