//! Signed requests to AWS services for which a single operation does not justify their SDK. Knows no operation.

use std::time::SystemTime;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};

use crate::{
    error::{InvalidSetting, root_cause},
    region,
    sanitize::sanitize_line,
};

/// How much of a service's text a message contains.
pub(crate) const MAX_DETAIL_CHARS: usize = 300;

/// A service in one Region.
#[derive(Clone)]
pub(crate) struct AwsService {
    pub http: reqwest::Client,
    /// Its name in signatures, such as `events`.
    pub name: &'static str,
    pub region: String,
    pub credentials: SharedCredentialsProvider,
}

impl AwsService {
    /// The service in the Region and with the credentials of an SDK configuration. `None`: it has none.
    #[cfg(feature = "refresher")]
    pub fn of_config(name: &'static str, config: &aws_config::SdkConfig, http: reqwest::Client) -> Option<Self> {
        let (region, credentials) = (config.region()?.to_string(), config.credentials_provider()?);
        Some(Self { http, name, region, credentials })
    }

    /// A POST with a signature.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    pub async fn signed_post(
        &self,
        url: &str,
        headers: &[(&'static str, &'static str)],
        body: String,
    ) -> Result<reqwest::Request, &'static str> {
        let credentials = self.credentials.provide_credentials().await.map_err(|_| "there are no credentials")?;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| "the request cannot be signed")?
            .into();
        let signed = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()))
            .and_then(|request| sign(request, &params));
        let (instructions, _) = signed.map_err(|_| "the request cannot be signed")?.into_parts();
        let request =
            headers.iter().fold(http::Request::post(url), |request, (name, value)| request.header(*name, *value));
        let mut request = request.body(body).map_err(|_| "the request cannot be made")?;
        instructions.apply_to_request_http1x(&mut request);
        reqwest::Request::try_from(request).map_err(|_| "the request cannot be made")
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// Why the service, which `service` names, cannot be reached.
    pub async fn send(&self, service: &str, request: reqwest::Request) -> Result<reqwest::Response, String> {
        self.http.execute(request).await.map_err(|error| {
            let error = error.without_url();
            let cause = root_cause(&error).to_string();
            format!("{service} cannot be reached: {}", sanitize_line(&cause, MAX_DETAIL_CHARS))
        })
    }
}

/// The address of a service that the environment names, without a `/` at the end: `AWS_ENDPOINT_URL_` and `variable`, else
/// `AWS_ENDPOINT_URL`. An empty variable counts as not set.
///
/// # Errors
///
/// [`InvalidSetting`] if it is not a URL.
pub(crate) fn endpoint_from_vars(
    variable: &str,
    var: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, InvalidSetting> {
    let names = [format!("AWS_ENDPOINT_URL_{variable}"), "AWS_ENDPOINT_URL".to_owned()];
    let set = |name: &String| Some((name.clone(), var(name).filter(|value| !value.trim().is_empty())?));
    let Some((name, url)) = names.iter().find_map(set) else { return Ok(None) };
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(InvalidSetting::found(&name, &url, "an https or http URL"));
    }
    Ok(Some(url.trim_end_matches('/').to_owned()))
}

/// The public address of a service in a Region.
pub(crate) fn regional_endpoint(service: &str, region: &str) -> String {
    format!("https://{service}.{region}.{}", region::domain(region))
}

/// Where a service of the function is.
#[cfg(feature = "refresher")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Where AWS has it.
    Regional,
    /// At this address, without a `/` at the end.
    At(String),
    /// Nowhere: only Secrets Manager has an address of its own, and a test must not reach the real service.
    None,
}

#[cfg(feature = "refresher")]
impl Address {
    /// Reads [`endpoint_from_vars`].
    pub fn from_vars(variable: &str, var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        Ok(match endpoint_from_vars(variable, &var)? {
            Some(endpoint) => Self::At(endpoint),
            None if endpoint_from_vars("SECRETS_MANAGER", var)?.is_some() => Self::None,
            None => Self::Regional,
        })
    }
}

/// An error of a service whose protocol is AWS JSON 1.1.
#[cfg(feature = "refresher")]
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct ServiceError {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message")]
    message: String,
}

#[cfg(feature = "refresher")]
impl ServiceError {
    /// Reads a response. A body of another form gives an error without a code.
    pub fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Its code, such as `AccessDeniedException`, without the namespace.
    pub fn code(&self) -> &str {
        self.code.rsplit('#').next().unwrap_or_default()
    }

    /// Whether a permission is missing.
    pub fn is_access_denied(&self) -> bool {
        matches!(self.code(), "AccessDeniedException" | "AccessDenied")
    }

    /// Code and message, for a sentence of ours.
    pub fn text(&self) -> String {
        let code = if self.code().is_empty() { "without a code" } else { self.code() };
        format!("{}: {}", sanitize_line(code, 64), sanitize_line(&self.message, MAX_DETAIL_CHARS))
    }
}
