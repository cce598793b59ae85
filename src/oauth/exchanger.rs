//! A way to exchange grants: over HTTP, or a function of the caller's. Decides only whether the same request may be sent again.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};

use super::{
    assertion::{Key, Purpose, SignedJwts, Signer},
    body,
    client::Client,
    grant::Grant,
    jwt,
    response::{self, ErrorResponse, TokenResponse, TransportError},
};
use crate::{
    clock::Clock,
    error::root_cause,
    http_client::read_bounded,
    kms::{Kms, SigningError},
    sanitize::{redact, sanitize_line},
    secret::Secret,
};

/// How much of a transport error's cause is printed.
const MAX_CAUSE_CHARS: usize = 300;

/// The time that the provider has at least after KMS has signed: a single-use grant must not be sent shortly before the end.
const TIME_FOR_PROVIDER: TimeDelta = TimeDelta::seconds(2);

/// The pause, the connection and the way to the provider must fit into a grace period.
const GRACE_MARGIN: TimeDelta = TimeDelta::seconds(3);

/// How many times the same request is sent at most.
const MAX_TRIES: u32 = 3;

/// The pause after a 429 without `Retry-After`, and after no response in time; the shortest and the longest pause.
const PAUSE: Duration = Duration::from_mins(1);
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(15);

/// One exchange to make.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The client.
    pub client: Client,
    /// The grant.
    pub grant: Grant,
    /// The current access token: the provider knows it and must not make us print it.
    pub access_token: Option<Secret>,
    /// When to give up waiting for the response.
    pub deadline: DateTime<Utc>,
}

type Exchanging = Pin<Box<dyn Future<Output = TokenResponse> + Send>>;

/// A way to exchange grants. A clone is the same.
#[derive(Clone)]
pub struct Exchanger {
    exchange: Arc<dyn Fn(Exchange) -> Exchanging + Send + Sync>,
    pauses: Pauses,
}

/// Which endpoints have asked to wait, and until when.
#[derive(Clone, Debug, Default)]
struct Pauses(Arc<Mutex<HashMap<String, DateTime<Utc>>>>);

impl Pauses {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, DateTime<Utc>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, client: &Client, retry_after: Option<Duration>, now: DateTime<Utc>) {
        let pause = retry_after.unwrap_or(PAUSE).clamp(MIN_PAUSE, MAX_PAUSE);
        let until = now + TimeDelta::from_std(pause).unwrap_or_default();
        let mut pauses = self.lock();
        pauses.retain(|_, until| *until > now);
        let pause = pauses.entry(client.endpoint_without_query()).or_insert(until);
        *pause = until.max(*pause);
    }
}

impl Exchanger {
    /// Exchanges over HTTP. `kms` signs for clients whose key is there.
    #[must_use]
    pub fn over_http(http: reqwest::Client, kms: Option<Kms>, clock: Clock) -> Self {
        Self::over_http_with(MAX_TRIES, http, kms, clock)
    }

    /// The same, and sends each request only once: for grants that are not in the store and that a second request would revoke, such as an
    /// authorization code (RFC 6749 section 4.1.2).
    #[must_use]
    pub fn over_http_once(http: reqwest::Client, kms: Option<Kms>, clock: Clock) -> Self {
        Self::over_http_with(1, http, kms, clock)
    }

    fn over_http_with(max_tries: u32, http: reqwest::Client, kms: Option<Kms>, clock: Clock) -> Self {
        let over_http = Arc::new(OverHttp { max_tries, http, kms, clock, pauses: Pauses::default() });
        let pauses = over_http.pauses.clone();
        let exchanger = Self::from_fn(move |exchange| {
            let over_http = over_http.clone();
            async move { over_http.exchange(&exchange).await }
        });
        Self { pauses, ..exchanger }
    }

    /// Exchanges through a function: a simulation, or a test.
    pub fn from_fn<F>(exchange: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = TokenResponse> + Send + 'static,
    {
        Self { exchange: Arc::new(move |request| Box::pin(exchange(request))), pauses: Pauses::default() }
    }

    /// The endpoints (without their queries) to which no request should be sent now, and until when.
    #[must_use]
    pub fn pauses(&self, now: DateTime<Utc>) -> HashMap<String, DateTime<Utc>> {
        let longest = TimeDelta::from_std(MAX_PAUSE).unwrap_or_default();
        let pauses = self.pauses.lock();
        // A later end is one of before the clock was set back.
        let holds = |until: DateTime<Utc>| until > now && until - now <= longest;
        pauses.iter().filter(|(_, until)| holds(**until)).map(|(endpoint, until)| (endpoint.clone(), *until)).collect()
    }

    /// Exchanges a grant.
    pub async fn exchange(&self, exchange: Exchange) -> TokenResponse {
        (self.exchange)(exchange).await
    }
}

impl fmt::Debug for Exchanger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchanger")
    }
}

/// What an exchange over HTTP needs.
struct OverHttp {
    max_tries: u32,
    http: reqwest::Client,
    kms: Option<Kms>,
    clock: Clock,
    pauses: Pauses,
}

impl OverHttp {
    /// Sends the request, and again while there is time, if that is safe.
    async fn exchange(&self, exchange: &Exchange) -> TokenResponse {
        let clock = &self.clock;
        let (started, mut tries) = (clock.now(), 1);
        // The provider may have spent a single-use grant, and its response is lost. Only a complete response changes that.
        let mut lost: Option<TransportError> = None;
        loop {
            let response = self.sign_and_send(exchange).await;
            let TokenResponse::Failed(error) = response else { return response };
            match &error {
                TransportError::Busy { status: 429, retry_after, .. } => {
                    self.pauses.add(&exchange.client, *retry_after, clock.now());
                }
                // It hung until the deadline: the next request would, too.
                TransportError::MaybeSpent { responded: false, .. } if clock.now() >= exchange.deadline => {
                    self.pauses.add(&exchange.client, None, clock.now());
                }
                _ => {}
            }
            if let Some(lost) = lost {
                return TokenResponse::Failed(lost);
            }
            let wait = wait_before_retry(&error, exchange, tries, clock.now() - started);
            let in_time =
                |wait: &Duration| TimeDelta::from_std(*wait).is_ok_and(|wait| clock.now() + wait < exchange.deadline);
            let Some(wait) = wait.filter(in_time).filter(|_| tries < self.max_tries) else {
                return TokenResponse::Failed(error);
            };
            if exchange.grant.is_single_use() && matches!(error, TransportError::MaybeSpent { .. }) {
                lost = Some(error);
            }
            tries += 1;
            clock.sleep(wait).await;
        }
    }

    /// Each try has JWTs of its own: a provider may accept each only once.
    async fn sign_and_send(&self, exchange: &Exchange) -> TokenResponse {
        match self.sign(exchange).await {
            Ok(jwts) => send(&self.http, &self.clock, exchange, &jwts).await,
            Err(problem) => TokenResponse::Failed(problem),
        }
    }

    async fn sign(&self, exchange: &Exchange) -> Result<SignedJwts, TransportError> {
        let Exchange { client, grant, .. } = exchange;
        let Some(signer) = &client.signer else { return Ok(SignedJwts::default()) };
        let mut jwts = SignedJwts::default();
        if client.signs(grant) {
            jwts.grant = Some(self.jwt(signer, Purpose::Grant, exchange).await?);
        }
        if client.auth_method.needs_jwt() {
            jwts.client = Some(self.jwt(signer, Purpose::Client, exchange).await?);
        }
        Ok(jwts)
    }

    async fn jwt(&self, signer: &Signer, purpose: Purpose, exchange: &Exchange) -> Result<Secret, TransportError> {
        let input = signer.input(purpose, &exchange.client, &exchange.grant, self.clock.now());
        let algorithm = signer.key.algorithm();
        let signature = match &signer.key {
            Key::Private(key) => key.sign(&input),
            Key::Kms { id, algorithm } => {
                let not_configured =
                    || SigningError::NotConfigured { detail: "there are no AWS credentials".to_owned() };
                let kms = self.kms.as_ref().ok_or_else(not_configured).map_err(TransportError::NotSigned)?;
                let signature = kms.sign(id, *algorithm, &input, exchange.deadline - TIME_FOR_PROVIDER).await;
                Some(signature.map_err(TransportError::NotSigned)?)
            }
        };
        let jwt = signature.and_then(|signature| jwt::token(&input, algorithm, signature));
        jwt.ok_or_else(|| TransportError::NotSent("was not asked, because no JWT could be signed".to_owned()))
    }
}

/// How long to wait before the same request is sent again. `None`: it must not be.
///
/// A request that the provider did not receive, or that it asked to receive again later, is safe to repeat. One that it may have
/// processed is safe only if its grant is not single-use. If the response was lost, it is safe once more for a provider that still
/// accepts a refresh token for some time after its exchange. `passed`: the time since the first request.
fn wait_before_retry(error: &TransportError, exchange: &Exchange, tries: u32, passed: TimeDelta) -> Option<Duration> {
    let pause = Duration::from_millis(250) * tries;
    let is_within_grace = exchange
        .client
        .refresh_tokens()
        .grace
        .is_some_and(|grace| TimeDelta::from_std(grace).is_ok_and(|grace| passed + GRACE_MARGIN < grace));
    match error {
        TransportError::Busy { retry_after, .. } => *retry_after,
        TransportError::NotSigned(
            SigningError::AccessDenied { .. } | SigningError::Rejected { .. } | SigningError::NotConfigured { .. },
        ) => None,
        TransportError::MaybeSpent { responded: false, .. } if tries == 1 && is_within_grace => Some(pause),
        TransportError::MaybeSpent { .. } if exchange.grant.is_single_use() => None,
        TransportError::NotSent(_)
        | TransportError::NotSigned(SigningError::Unavailable { .. })
        | TransportError::MaybeSpent { .. } => Some(pause),
    }
}

async fn send(http: &reqwest::Client, clock: &Clock, exchange: &Exchange, jwts: &SignedJwts) -> TokenResponse {
    let request = match exchange.client.request(&exchange.grant, jwts) {
        Ok(request) => request,
        Err(problem) => return TokenResponse::Failed(TransportError::NotSent(problem)),
    };
    let sent = clock.before(exchange.deadline, async {
        let response = http.execute(request).await.map_err(|error| transport_error(&error))?;
        let status = response.status().as_u16();
        let (retry_after, location) = (header(response.headers(), &RETRY_AFTER), header(response.headers(), &LOCATION));
        let body = read_bounded(response, body::MAX_BYTES).await.map_err(|problem| TransportError::MaybeSpent {
            what: format!("answered {status}, but {problem}"),
            responded: false,
        })?;
        Ok((status, retry_after, location, body))
    });
    match sent.await {
        None => {
            let what = "did not answer in time".to_owned();
            TokenResponse::Failed(TransportError::MaybeSpent { what, responded: false })
        }
        Some(Err(error)) => TokenResponse::Failed(error),
        Some(Ok((status, retry_after, location, body))) => {
            let secrets: Vec<&Secret> = exchange
                .grant
                .secrets()
                .chain(exchange.access_token.as_ref())
                .chain(exchange.client.secrets())
                .chain(&jwts.grant)
                .chain(&jwts.client)
                .collect();
            let response = response::read(status, retry_after.as_deref(), &body, clock.now(), &secrets);
            match (response, location) {
                (TokenResponse::Refused(refusal), Some(location)) if (300..400).contains(&status) => {
                    let location = redirect_target(&exchange.client.token_endpoint, &location, &secrets);
                    TokenResponse::Refused(ErrorResponse { location, ..refusal })
                }
                (response, _) => response,
            }
        }
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Where a redirect leads: without its query, which may contain what was sent.
fn redirect_target(endpoint: &Url, location: &str, secrets: &[&Secret]) -> Option<String> {
    let mut url = endpoint.join(location).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    let _ = (url.set_username(""), url.set_password(None));
    Some(redact(url.as_str(), secrets))
}

/// The error in words that contain neither the address nor anything that was sent.
fn transport_error(error: &reqwest::Error) -> TransportError {
    // The names in a certificate come from outside.
    let cause = sanitize_line(&root_cause(error).to_string(), MAX_CAUSE_CHARS);
    if error.is_connect() {
        let what = if error.is_timeout() { "the connection took too long".to_owned() } else { cause };
        TransportError::NotSent(format!("could not be reached ({what})"))
    } else {
        TransportError::MaybeSpent { what: format!("broke off before an answer ({cause})"), responded: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oauth::client::tests::settings,
        token_secret::{
            client_settings::ClientSettings,
            provider::{NamedProvider, ProfileSettings, RefreshTokenRules},
        },
    };

    #[test]
    fn a_redirect_shows_host_and_path_and_nothing_that_was_sent() {
        let endpoint = Url::parse("https://id.example/token?tenant=1").unwrap();
        let token = Secret::from("rt-0123456789abcdef");
        for (location, shown) in [
            ("https://id.example/o/token/?state=rt-0123456789abcdef", "https://id.example/o/token/"),
            ("/token/#x", "https://id.example/token/"),
            ("//me:pw@other.example/", "https://other.example/"),
            ("https://id.example/rt-0123456789abcdef", "https://id.example/[redacted]"),
        ] {
            assert_eq!(redirect_target(&endpoint, location, &[&token]).as_deref(), Some(shown), "{location}");
        }
        assert_eq!(redirect_target(&endpoint, "https://", &[]), None);
    }

    fn exchange(grace: Option<Duration>) -> Exchange {
        let grant = Grant::RefreshToken("r".into());
        let refresh_tokens = RefreshTokenRules { grace, ..RefreshTokenRules::default() };
        let profile = ProfileSettings {
            settings: ClientSettings { token_endpoint: settings().token_endpoint, ..ClientSettings::default() },
            refresh_tokens,
            ..ProfileSettings::default()
        };
        let settings = ClientSettings { provider: Some(NamedProvider::Known(Box::new(profile))), ..settings() };
        let client = Client::new(settings, &grant).unwrap();
        Exchange { client, grant, access_token: None, deadline: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn a_request_that_may_have_spent_a_single_use_grant_is_not_sent_again() {
        let busy = |seconds: Option<u64>| TransportError::Busy {
            what: "answered 429".to_owned(),
            status: 429,
            retry_after: seconds.map(Duration::from_secs),
        };
        let quarter = Some(Duration::from_millis(250));
        for (error, tries, wait) in [
            (TransportError::NotSent("refused".to_owned()), 1, quarter),
            (TransportError::NotSent("refused".to_owned()), 2, Some(Duration::from_millis(500))),
            (TransportError::NotSigned(SigningError::Unavailable { detail: String::new() }), 1, quarter),
            (TransportError::NotSigned(SigningError::AccessDenied { detail: String::new() }), 1, None),
            (busy(Some(2)), 1, Some(Duration::from_secs(2))),
            (busy(None), 1, None),
            (TransportError::MaybeSpent { what: "broke off".to_owned(), responded: false }, 1, None),
        ] {
            assert_eq!(wait_before_retry(&error, &exchange(None), tries, TimeDelta::zero()), wait, "{error:?}");
        }
    }

    #[test]
    fn a_lost_response_is_asked_for_once_more_within_the_grace_period() {
        let lost = |responded| TransportError::MaybeSpent { what: "broke off".to_owned(), responded };
        let again = Some(Duration::from_millis(250));
        for (grace, responded, tries, passed_ms, wait) in [
            (Some(10), false, 1, 0, again),
            (Some(10), false, 1, 6_999, again),
            (Some(10), false, 1, 7_000, None),
            (Some(3), false, 1, 0, None),
            (Some(10), false, 2, 0, None),
            (Some(10), true, 1, 0, None),
            (None, false, 1, 0, None),
        ] {
            let exchange = exchange(grace.map(Duration::from_secs));
            let found = wait_before_retry(&lost(responded), &exchange, tries, TimeDelta::milliseconds(passed_ms));
            assert_eq!(found, wait, "{grace:?} {responded} {tries} {passed_ms}");
        }
    }
}
