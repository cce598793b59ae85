//! Dynamic client registration (RFC 7591).

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::{
    Method, Request, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use serde_json::json;

use super::{Context, device::DEVICE_CODE, failure::Failure, fetch, server::AuthorizationServer};
use crate::{secret::Secret, token_secret::client_settings::TokenEndpointAuthMethod};

/// A registered client.
pub(super) struct Registration {
    pub client_id: Secret,
    pub client_secret: Option<Secret>,
    /// RFC 3339.
    pub client_secret_expires_at: Option<String>,
    pub auth_method: String,
    /// With these two the client can be changed and deleted (RFC 7592).
    pub client_uri: Option<Secret>,
    pub access_token: Option<Secret>,
}

/// The method that a client of this server uses. RFC 8414 section 2: without a list, it is `client_secret_basic`.
pub(super) fn preferred_method(server: &AuthorizationServer, has_secret: bool) -> Option<&'static str> {
    let supported = server.auth_methods.as_ref()?;
    let by_preference: &[&str] = if has_secret { &["client_secret_basic", "client_secret_post"] } else { &["none"] };
    let first = by_preference.iter().find(|method| supported.iter().any(|own| own == *method));
    Some(first.copied().unwrap_or(by_preference[0]))
}

/// Registers a client. `redirect_uri`: `None` for the device flow.
pub(super) async fn register(
    context: &Context,
    server: &AuthorizationServer,
    endpoint: &Url,
    redirect_uri: Option<&str>,
) -> Result<Registration, Failure> {
    let supported = server.auth_methods.as_deref().unwrap_or_default();
    let is_supported = |method: &&&str| supported.iter().any(|own| own == **method);
    let method = ["client_secret_basic", "client_secret_post", "none"];
    let method = method.iter().find(is_supported).copied().unwrap_or("client_secret_basic");
    let mut body = json!({"client_name": "token-refresher", "token_endpoint_auth_method": method});
    if let Some(redirect_uri) = redirect_uri {
        body["redirect_uris"] = json!([redirect_uri]);
        body["grant_types"] = json!(["authorization_code", "refresh_token"]);
        body["response_types"] = json!(["code"]);
        body["application_type"] = json!(if redirect_uri.starts_with("https://") { "web" } else { "native" });
    } else {
        body["redirect_uris"] = json!([]);
        body["grant_types"] = json!([DEVICE_CODE, "refresh_token"]);
        body["response_types"] = json!([]);
        body["application_type"] = json!("native");
    }
    let scope = server.scope();
    if !scope.is_empty() {
        body["scope"] = json!(scope);
    }
    let mut request = Request::new(Method::POST, endpoint.clone());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.to_string().into());
    let who = format!("the registration endpoint {endpoint}");
    let fetched = fetch::fetch(&context.http.provider, request, &who).await?;
    let Some(client_id) = fetch::text(&fetched.document, "client_id").filter(|_| (200..300).contains(&fetched.status))
    else {
        return Err(Failure::person(format!(
            "{who} did not register a client ({}): register one by hand, and pass --client-id",
            fetch::error(&fetched, &[])
        )));
    };
    let document = &fetched.document;
    let client_secret = fetch::text(document, "client_secret");
    let method = fetch::text(document, "token_endpoint_auth_method").map(|method| method.expose().to_owned());
    let method = method.filter(|method| TokenEndpointAuthMethod::read(method).is_some());
    // RFC 7591 section 2: without the member it is `client_secret_basic`.
    let fallback = if client_secret.is_some() { "client_secret_basic" } else { "none" };
    let ends_at = document
        .get("client_secret_expires_at")
        .and_then(|json| json.parse::<i64>().ok())
        .filter(|seconds| *seconds > 0);
    Ok(Registration {
        client_id,
        auth_method: method.unwrap_or_else(|| fallback.to_owned()),
        client_secret,
        client_secret_expires_at: ends_at
            .and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0))
            .map(|end| end.to_rfc3339_opts(SecondsFormat::Secs, true)),
        client_uri: fetch::text(document, "registration_client_uri"),
        access_token: fetch::text(document, "registration_access_token"),
    })
}
