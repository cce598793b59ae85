//! An HTTP client for the AWS SDK, on top of reqwest. Does not know what is sent.

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;

use super::read_bounded;

/// Responses of Secrets Manager are shorter: a page of 100 versions, or 64 KiB of text with every character escaped.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// A batch has 20 such texts.
const MAX_BATCH_RESPONSE_BYTES: usize = 8 * MAX_RESPONSE_BYTES;

/// An HTTP client for the AWS SDK, on top of reqwest. Without it the SDK links a second HTTP client.
#[derive(Clone, Debug)]
pub struct SdkHttpClient(pub reqwest::Client);

impl HttpClient for SdkHttpClient {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SdkHttpClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { send(&client, request).await })
    }
}

async fn send(client: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
    let (parts, body) = request.into_parts();
    let is_batch =
        parts.headers.get("x-amz-target").is_some_and(|target| target == "secretsmanager.BatchGetSecretValue");
    let max_bytes = if is_batch { MAX_BATCH_RESPONSE_BYTES } else { MAX_RESPONSE_BYTES };
    let body = body.bytes().unwrap_or_default().to_vec();
    let request = reqwest::Request::try_from(http::Request::from_parts(parts, body))
        .map_err(|e| ConnectorError::user(e.into()))?;
    let response = client.execute(request).await.map_err(|error| {
        let error = error.without_url();
        match (error.is_timeout(), error.is_connect()) {
            (true, _) => ConnectorError::timeout(error.into()),
            (false, true) => ConnectorError::io(error.into()).never_connected(),
            (false, false) => ConnectorError::io(error.into()),
        }
    })?;
    let mut head = http::Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    let body = read_bounded(response, max_bytes).await.map_err(|e| ConnectorError::io(e.into()))?;
    HttpResponse::try_from(head.map(|()| SdkBody::from(body.as_slice())))
        .map_err(|e| ConnectorError::other(e.into(), None))
}
