//! The device flow (RFC 8628): the person enters a code on any device, and this program asks until that is done.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;

use super::{Context, exchange::Exchanging, failure::Failure, fetch};
use crate::{
    oauth::{
        assertion::SignedJwts,
        client::Client,
        grant::Grant,
        response::{IssuedTokens, TokenResponse, TransportError},
    },
    sanitize::sanitize_line,
    secret::Secret,
};

/// The grant type (RFC 8628 section 3.4).
pub(super) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Between two requests, if the server names no interval, and what is added when it asks to slow down (RFC 8628 section 3.5).
const INTERVAL: Duration = Duration::from_secs(5);

/// The longest interval that is kept to.
const MAX_INTERVAL: u64 = 60;

/// What the server answered.
pub(super) struct DeviceAuthorization {
    device_code: Secret,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<Url>,
    pub ends_at: DateTime<Utc>,
    interval: Duration,
}

impl DeviceAuthorization {
    /// Asks for a code (RFC 8628 section 3.1).
    pub(super) async fn request(
        context: &Context,
        client: &Client,
        endpoint: &Url,
        scope: &str,
    ) -> Result<Self, Failure> {
        let mut client = client.clone();
        client.token_endpoint = endpoint.clone();
        if !scope.is_empty() {
            client.extra_parameters.push(("scope".to_owned(), scope.into()));
        }
        if client.auth_method.needs_jwt() {
            return Err(Failure::usage(
                "the device flow of tokenctl cannot sign JWTs: log in without --device, or use a client with a secret",
            ));
        }
        // Client authentication as at the token endpoint, and no grant.
        let request = client.request(&Grant::Other(String::new()), &SignedJwts::default());
        let request = request.map_err(Failure::person)?;
        let who = client.endpoint_without_query();
        let fetched = fetch::fetch(&context.http.provider, request, &who).await?;
        let document = &fetched.document;
        let line = |name: &str| fetch::line(document, name);
        // Google writes `verification_url`.
        let verification_uri = line("verification_uri").or_else(|| line("verification_url"));
        let device_code = fetch::text(document, "device_code");
        let (Some(device_code), Some(user_code), Some(verification_uri), 200) =
            (device_code, line("user_code"), verification_uri, fetched.status)
        else {
            let error = fetch::error(&fetched, &client.secrets().collect::<Vec<_>>());
            return Err(Failure::person(format!(
                "{who} returned no device code ({error}); check that the client may use the device flow"
            )));
        };
        let number = |name: &str| document.get(name).and_then(|json| json.parse::<u64>().ok());
        let seconds = i64::try_from(number("expires_in").unwrap_or(600).min(86_400)).unwrap_or(600);
        Ok(Self {
            device_code,
            user_code,
            verification_uri,
            verification_uri_complete: fetch::text(document, "verification_uri_complete")
                .and_then(|text| Url::parse(text.expose()).ok()),
            ends_at: context.clock.now() + TimeDelta::seconds(seconds),
            interval: number("interval")
                .map_or(INTERVAL, |seconds| Duration::from_secs(seconds.clamp(1, MAX_INTERVAL))),
        })
    }

    /// The address to open, with the code in it if the server has such an address. `None`: it is no web address.
    pub(super) fn address(&self) -> Option<String> {
        let url = self.verification_uri_complete.clone().or_else(|| Url::parse(&self.verification_uri).ok())?;
        matches!(url.scheme(), "https" | "http").then(|| url.into())
    }

    /// What the person has to do.
    pub(super) fn instructions(&self) -> String {
        format!("Open {} on any device, and enter the code {}", self.verification_uri, self.user_code)
    }

    /// Asks for the tokens until the person has consented.
    pub(super) async fn tokens(
        &self,
        context: &Context,
        exchanging: &Exchanging,
        ends_at: DateTime<Utc>,
    ) -> Result<(IssuedTokens, DateTime<Utc>), Failure> {
        let ends_at = ends_at.min(self.ends_at);
        let who = exchanging.client.endpoint_without_query();
        let mut interval = self.interval;
        loop {
            context.clock.sleep(interval).await;
            if context.clock.now() >= ends_at {
                return Err(Failure::person("nobody entered the code in time: run the command again"));
            }
            let sent_at = context.clock.now();
            // A response may have tokens.
            context.terminal.defer_interrupts();
            let parameters = vec![("device_code".to_owned(), self.device_code.clone())];
            match exchanging.send(context, DEVICE_CODE, parameters).await {
                TokenResponse::Issued(issued) => return Ok((issued, sent_at)),
                TokenResponse::Refused(refusal) => match refusal.error.as_deref() {
                    Some("authorization_pending") => {}
                    Some("slow_down") => interval = (interval + INTERVAL).min(Duration::from_secs(MAX_INTERVAL)),
                    Some("expired_token") => {
                        return Err(Failure::person("nobody entered the code in time: run the command again"));
                    }
                    Some("access_denied") => {
                        return Err(Failure::person("the provider did not grant access (access_denied)"));
                    }
                    _ => return Err(Failure::person(format!("{who} refused the device code ({refusal})"))),
                },
                TokenResponse::Failed(TransportError::Busy { .. }) => {
                    interval = (interval + INTERVAL).min(Duration::from_secs(MAX_INTERVAL));
                }
                // RFC 8628 section 3.5: after a time-out, ask less often.
                TokenResponse::Failed(TransportError::NotSent(what) | TransportError::MaybeSpent { what, .. }) => {
                    context.terminal.say(&format!("{who} {}; trying again", sanitize_line(&what, 200)));
                    interval = (interval * 2).min(Duration::from_secs(MAX_INTERVAL));
                }
                response => return Err(exchanging.failure(response)),
            }
            if context.terminal.is_interrupted() {
                return Err(Failure::interrupted("interrupted; nothing was stored"));
            }
            context.terminal.allow_interrupts();
        }
    }
}
