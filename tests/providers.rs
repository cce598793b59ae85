//! Recorded responses of providers (`tests/fixtures/answers`), through the real exchange, over a socket, into a token secret.

mod support;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use support::{
    output::assert_no_secret,
    provider::{CLIENT_ID, CLIENT_SECRET, Provider, Response},
};
use token_refresher::{
    clock::Clock,
    error::Advice,
    http_client::HttpClients,
    oauth::{
        client::Client,
        exchanger::{Exchange, Exchanger},
        grant::Grant,
        response::{TokenResponse, TransportError},
    },
    protocol::{Error, error::History},
    token_secret::{TokenSecret, client_settings::ClientSettings},
};

const OLD_ACCESS: &str = "unseen-old-access-token-of-the-test";
const OLD_REFRESH: &str = "unseen-old-refresh-token-of-the-test";

/// When the request was sent, seconds since the epoch.
const SENT_AT: i64 = 1_767_225_900;

/// The expected members of the token secret after a response, besides the tokens.
struct Written {
    /// Whether the response has a new refresh token.
    rotates: bool,
    expires_in: i64,
    token_type: &'static str,
    scope: Option<&'static str>,
    refresh_token_expires_in: Option<i64>,
    /// The JSON text of `tokenResponse`.
    rest: Option<&'static str>,
}

const BEARER: Written = Written {
    rotates: true,
    expires_in: 3600,
    token_type: "Bearer",
    scope: None,
    refresh_token_expires_in: None,
    rest: None,
};

const LOWER_CASE: Written = Written { token_type: "bearer", ..BEARER };

const ISSUED: [(&str, Written); 21] = [
    // `expires_in` is in milliseconds.
    ("apps-script-milliseconds", LOWER_CASE),
    ("atlassian-refresh", Written { scope: Some("offline_access read:jira-work"), ..BEARER }),
    (
        "auth0-refresh",
        Written {
            expires_in: 86_400,
            scope: Some("openid profile offline_access"),
            rest: Some(r#"{"id_token":"eyJhbGciOiJSUzI1NiJ9.invented-auth0-id-payload.096fc4a3"}"#),
            ..BEARER
        },
    ),
    (
        "entra-refresh",
        Written {
            expires_in: 4711,
            scope: Some("https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/.default"),
            rest: Some(r#"{"ext_expires_in":4711}"#),
            ..BEARER
        },
    ),
    // Numbers as strings.
    (
        "entra-v1-string-expires-in",
        Written {
            expires_in: 3599,
            scope: Some("user_impersonation"),
            rest: Some(
                r#"{"ext_expires_in":"3599","expires_on":"1767229199","not_before":"1767225300","resource":"https://management.azure.com/"}"#,
            ),
            ..BEARER
        },
    ),
    // A form, although the request asked for JSON. An empty scope counts as none.
    (
        "github-app-refresh-form",
        Written { expires_in: 28_800, refresh_token_expires_in: Some(15_897_600), ..LOWER_CASE },
    ),
    (
        "github-app-refresh-json",
        Written { expires_in: 28_800, refresh_token_expires_in: Some(15_897_600), ..LOWER_CASE },
    ),
    // No refresh token: the old one stays.
    (
        "google-refresh",
        Written {
            rotates: false,
            expires_in: 3599,
            scope: Some("openid https://www.googleapis.com/auth/userinfo.email"),
            rest: Some(r#"{"id_token":"eyJhbGciOiJSUzI1NiJ9.invented-google-id-payload.c1d94e07"}"#),
            ..BEARER
        },
    ),
    ("hubspot-refresh", Written { expires_in: 1800, ..LOWER_CASE }),
    // `refresh_expires_in` is 0: the refresh token never expires.
    (
        "keycloak-refresh-offline",
        Written {
            expires_in: 300,
            scope: Some("profile offline_access email"),
            rest: Some(r#"{"not-before-policy":0,"session_state":"80a96e21-0942-447e-b1d7-21da55d3ff4a"}"#),
            ..BEARER
        },
    ),
    (
        "okta-refresh",
        Written {
            scope: Some("offline_access openid"),
            rest: Some(r#"{"id_token":"eyJraWQiOiJva3RhIn0.invented-okta-id-payload.30f9a2d4"}"#),
            ..BEARER
        },
    ),
    (
        "paypal-string-expires-in",
        Written {
            rotates: false,
            expires_in: 28_800,
            scope: Some("openid email https://uri.paypal.com/services/paypalattributes"),
            ..BEARER
        },
    ),
    // Its own name for the lifetime of the refresh token.
    ("quickbooks-refresh", Written { refresh_token_expires_in: Some(8_726_400), ..LOWER_CASE }),
    // No lifetime, and the `instance_url` that every reader of the token needs.
    (
        "salesforce-refresh",
        Written {
            rotates: false,
            scope: Some("refresh_token api"),
            rest: Some(
                r#"{"signature":"aW52ZW50ZWQtc2lnbmF0dXJlLW9mLXNhbGVzZm9yY2U=","instance_url":"https://acme.my.salesforce.com","id":"https://login.salesforce.com/id/00D5g00000ABCDEEA4/0055g00000FGHIJAA2","issued_at":"1767225900123"}"#,
            ),
            ..BEARER
        },
    ),
    // The end of the token as a date.
    (
        "square-refresh",
        Written {
            expires_in: 30 * 86_400,
            rest: Some(r#"{"merchant_id":"MLINVENTED","short_lived":false}"#),
            ..LOWER_CASE
        },
    ),
    (
        "slack-refresh",
        Written {
            expires_in: 43_200,
            token_type: "bot",
            scope: Some("chat:write,channels:read"),
            rest: Some(
                r#"{"ok":true,"app_id":"A0INVENTED0","authed_user":{"id":"U0INVENTED1"},"bot_user_id":"U0INVENTED2","team":{"id":"T0INVENTED0","name":"Acme"},"enterprise":null,"is_enterprise_install":false}"#,
            ),
            ..BEARER
        },
    ),
    ("upwork-refresh", Written { expires_in: 86_399, ..BEARER }),
    (
        "xero-refresh",
        Written {
            expires_in: 1800,
            scope: Some("openid profile email accounting.transactions offline_access"),
            rest: Some(r#"{"id_token":"eyJhbGciOiJSUzI1NiJ9.invented-xero-id-payload.4d7be019"}"#),
            ..BEARER
        },
    ),
    (
        "zoom-refresh",
        Written {
            expires_in: 3599,
            scope: Some("meeting:read:meeting user:read:user"),
            rest: Some(r#"{"api_url":"https://api.zoom.us"}"#),
            ..LOWER_CASE
        },
    ),
    // No token type.
    (
        "linkedin-refresh",
        Written {
            expires_in: 5_183_999,
            token_type: "",
            scope: Some("r_basicprofile,w_member_social"),
            refresh_token_expires_in: Some(31_535_999),
            ..BEARER
        },
    ),
    (
        "shopify-refresh",
        Written {
            token_type: "",
            scope: Some("read_orders,write_products"),
            refresh_token_expires_in: Some(7_776_000),
            ..BEARER
        },
    ),
];

/// The name of the fixture, the error type, and the part of the message that is from the response.
const REFUSED: [(&str, &str, &str); 22] = [
    (
        "strava-400-errors",
        "ReauthorizationRequired",
        "(status 400, invalid: RefreshToken refresh_token invalid; Bad Request)",
    ),
    ("firebase-token-expired", "ReauthorizationRequired", "(status 400, INVALID_ARGUMENT: TOKEN_EXPIRED)"),
    ("zoho-200-invalid-code", "ReauthorizationRequired", "(status 200, invalid_code)"),
    ("google-deleted-client", "ClientRejected", "(status 401, deleted_client: The OAuth client was deleted.)"),
    ("tiktok-200-code-and-message", "ReauthorizationRequired", "(status 200, 40105: refresh_token is invalid)"),
    ("withings-200-invalid-params", "ReauthorizationRequired", "(status 200, Invalid Params: invalid refresh_token)"),
    (
        "schwab-inner-error",
        "ReauthorizationRequired",
        "authenticating refresh token [tokenDigest=R8QK=, Exception=Failed refresh token authentication]",
    ),
    (
        "atlassian-403-invalid-grant",
        "ReauthorizationRequired",
        "(status 403, invalid_grant: Unknown or invalid refresh token.)",
    ),
    (
        "auth0-403-invalid-grant",
        "ReauthorizationRequired",
        "(status 403, invalid_grant: Unknown or invalid refresh token.)",
    ),
    (
        "entra-invalid-grant",
        "ReauthorizationRequired",
        "(status 400, invalid_grant: AADSTS700082: The refresh token has expired due to inactivity. The token was issued \
         on 2025-07-31T08:00:26.4486159Z and was inactive for 90.00:00:00. Trace ID: 7481cb06-28be-4b36-8333-b717d54d6800 Co…)",
    ),
    ("generic-401-empty", "ProviderRejected", "(status 401 without an OAuth error)"),
    // GitHub sends errors with status 200.
    (
        "github-app-200-bad-refresh-token",
        "ReauthorizationRequired",
        "(status 200, bad_refresh_token: The refresh token passed is incorrect or expired.)",
    ),
    (
        "github-app-200-incorrect-client-credentials",
        "ClientRejected",
        "(status 200, incorrect_client_credentials: The client_id and/or client_secret passed are incorrect.)",
    ),
    (
        "google-invalid-grant",
        "ReauthorizationRequired",
        "(status 400, invalid_grant: Token has been expired or revoked.)",
    ),
    // Members that are not those of OAuth.
    (
        "hubspot-bad-refresh-token",
        "ReauthorizationRequired",
        "(status 400, BAD_REFRESH_TOKEN: missing or unknown refresh token)",
    ),
    ("keycloak-invalid-grant", "ReauthorizationRequired", "(status 400, invalid_grant: Session not active)"),
    (
        "quickbooks-invalid-grant",
        "ReauthorizationRequired",
        "(status 400, invalid_grant: Incorrect or invalid refresh token)",
    ),
    (
        "salesforce-invalid-grant-expired",
        "ReauthorizationRequired",
        "(status 400, invalid_grant: expired access/refresh token)",
    ),
    ("slack-200-invalid-refresh-token", "ReauthorizationRequired", "(status 200, invalid_refresh_token)"),
    (
        "upwork-invalid-grant",
        "ReauthorizationRequired",
        "(status 400, invalid_grant: Refresh token is expired or revoked or not registered)",
    ),
    ("xero-invalid-grant", "ReauthorizationRequired", "(status 400, invalid_grant)"),
    ("zoom-error-reason", "ReauthorizationRequired", "(status 400, invalid_grant: Invalid Token!)"),
];

/// The name of the fixture, the description of an unusable response, and whether the token may have been spent.
const UNAVAILABLE: [(&str, &str, bool); 7] = [
    ("exact-online-not-expired", "answered 400, access_denied: Rate limit exceeded: access_token not expired", false),
    ("segment-being-processed", "answered 400, invalid_grant: token request is already being processed", false),
    (
        "generic-200-html",
        "answered 200 without an access token that could be read (it is a web page: is tokenEndpoint right?)",
        true,
    ),
    (
        "generic-400-temporarily-unavailable",
        "answered 400, temporarily_unavailable: the server is undergoing maintenance",
        false,
    ),
    ("generic-429-retry-after", "answered 429, too_many_requests: rate limit exceeded", false),
    ("generic-503-html", "answered 503", true),
    ("slack-200-ratelimited", "answered 200, ratelimited", false),
];

fn sent_at() -> DateTime<Utc> {
    DateTime::from_timestamp(SENT_AT, 0).unwrap()
}

fn client(provider: &Provider) -> Client {
    let settings = ClientSettings {
        token_endpoint: Some(provider.url().into()),
        client_id: Some(CLIENT_ID.into()),
        client_secret: Some(CLIENT_SECRET.into()),
        ..ClientSettings::default()
    };
    Client::new(settings, &Grant::RefreshToken("r".into())).unwrap()
}

/// One exchange with a provider that sends a recorded response. Returns the provider's address and the result.
async fn exchanged(name: &str) -> (String, TokenResponse) {
    let provider = Provider::always(Response::recorded(name));
    let client = client(&provider);
    let endpoint = client.endpoint_without_query();
    let request = Exchange {
        client,
        grant: Grant::RefreshToken(OLD_REFRESH.into()),
        access_token: Some(OLD_ACCESS.into()),
        // Too little time to ask again after the two seconds that one fixture names.
        deadline: Utc::now() + TimeDelta::milliseconds(1_900),
    };
    let http = HttpClients::new(|_| None).unwrap().provider;
    let response = Exchanger::over_http(http, None, Clock::system()).exchange(request).await;
    assert_eq!(provider.exchanges(), 1, "{name}");
    (endpoint, response)
}

/// The text of a token secret after a refresh with a recorded response.
async fn refreshed(name: &str, secret: &str) -> String {
    let (_, response) = exchanged(name).await;
    let TokenResponse::Issued(issued) = response else { panic!("{name}: {response:?}") };
    let new = issued.into_new_tokens(sent_at(), std::time::Duration::from_hours(1));
    let text = TokenSecret::parse(secret).unwrap().with_new_tokens(&new, 60_000);
    text.expose().to_owned()
}

/// A member of a recorded response, in JSON or in a form.
fn recorded(name: &str, member: &str) -> Option<String> {
    let Response::Fixed { body, .. } = Response::recorded(name) else { unreachable!() };
    match serde_json::from_str::<serde_json::Value>(&body) {
        Ok(response) => response.get(member)?.as_str().map(str::to_owned),
        Err(_) => {
            form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == member).map(|(_, value)| value.into())
        }
    }
}

#[test]
fn every_recorded_response_is_in_a_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/answers");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files.collect();
    let names = ISSUED.map(|(name, _)| name).into_iter();
    let names = names.chain(REFUSED.map(|(name, ..)| name)).chain(UNAVAILABLE.map(|(name, ..)| name));
    let tables: BTreeSet<_> = names.map(|name| format!("{name}.http")).collect();
    assert_eq!(files, tables);
}

#[tokio::test]
async fn issued_tokens_are_written_in_the_style_and_the_time_form_of_the_secret() {
    let milliseconds = |time: i64| (time * 1000).to_string();
    let seconds = |time: i64| time.to_string();
    let rfc3339 =
        |time: i64| format!("\"{}\"", DateTime::from_timestamp(time, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ"));
    let written: [(bool, &dyn Fn(i64) -> String); 3] = [(false, &milliseconds), (true, &seconds), (true, &rfc3339)];
    for (name, expected) in ISSUED {
        for (snake, time) in written {
            let member = |camel: &str, snake_case: &str| if snake { snake_case.to_owned() } else { camel.to_owned() };
            let tokens = |access: &str, refresh: &str, expires_at: i64| {
                format!(
                    r#""{}":"{access}","note":1.50,"{}":"{refresh}","{}":{}"#,
                    member("accessToken", "access_token"),
                    member("refreshToken", "refresh_token"),
                    member("expiresAt", "expires_at"),
                    time(expires_at)
                )
            };
            let before = format!("{{{}}}", tokens(OLD_ACCESS, OLD_REFRESH, SENT_AT - 60));

            let after = refreshed(name, &before).await;

            let access = recorded(name, "access_token").expect("an access token");
            let refresh = recorded(name, "refresh_token");
            assert_eq!(refresh.is_some(), expected.rotates, "{name}");
            let mut wanted = tokens(&access, refresh.as_deref().unwrap_or(OLD_REFRESH), SENT_AT + expected.expires_in);
            let mut add = |name: &str, value: &str| wanted.extend([",\"", name, "\":", value]);
            if !expected.token_type.is_empty() {
                add(&member("tokenType", "token_type"), &format!("\"{}\"", expected.token_type));
            }
            if let Some(scope) = expected.scope {
                add("scope", &format!("\"{scope}\""));
            }
            add(&member("refreshedAt", "refreshed_at"), &time(SENT_AT));
            if let Some(seconds) = expected.refresh_token_expires_in {
                add(&member("refreshTokenExpiresAt", "refresh_token_expires_at"), &time(SENT_AT + seconds));
            }
            if let Some(rest) = expected.rest {
                add(&member("tokenResponse", "token_response"), rest);
            }
            assert_eq!(after, format!("{{{wanted}}}"), "{name}");
            assert!(TokenSecret::parse(&after).is_ok(), "{name}: the result is not a token secret");
        }
    }
}

#[tokio::test]
async fn members_of_an_earlier_response_stay_unless_they_are_out_of_date() {
    let kept = "1770000000000";
    for (name, refresh_token_ends, response) in [
        // The response after the consent names the company, later responses do not.
        ("quickbooks-refresh", "1775952300000", r#"{"realmId":"4620816365","instance_url":"https://old"}"#),
        (
            "keycloak-refresh-offline",
            "null",
            r#"{"realmId":"4620816365","instance_url":"https://old","not-before-policy":0,"session_state":"80a96e21-0942-447e-b1d7-21da55d3ff4a"}"#,
        ),
        // Another refresh token, without its expiry.
        ("upwork-refresh", "null", r#"{"realmId":"4620816365","instance_url":"https://old"}"#),
        // The same refresh token.
        ("paypal-string-expires-in", kept, r#"{"realmId":"4620816365","instance_url":"https://old"}"#),
        (
            "salesforce-refresh",
            kept,
            r#"{"realmId":"4620816365","instance_url":"https://acme.my.salesforce.com","signature":"aW52ZW50ZWQtc2lnbmF0dXJlLW9mLXNhbGVzZm9yY2U=","id":"https://login.salesforce.com/id/00D5g00000ABCDEEA4/0055g00000FGHIJAA2","issued_at":"1767225900123"}"#,
        ),
    ] {
        let before = format!(
            r#"{{"refreshToken":"{OLD_REFRESH}","refreshTokenExpiresAt":{kept},"tokenResponse":{{"realmId":"4620816365","instance_url":"https://old"}},"accessToken":"{OLD_ACCESS}","expiresAt":1700000000000}}"#
        );
        let after = refreshed(name, &before).await;
        assert!(after.contains(&format!(r#""refreshTokenExpiresAt":{refresh_token_ends},"#)), "{name}: {after}");
        assert!(after.contains(&format!(r#""tokenResponse":{response},"#)), "{name}: {after}");
    }
}

#[tokio::test]
async fn a_refusal_is_reported_with_its_remedy_and_without_a_token() {
    for (name, error_type, shown) in REFUSED {
        let (endpoint, response) = exchanged(name).await;
        let TokenResponse::Refused(refusal) = response else { panic!("{name}: {response:?}") };
        let error = Error::Refused {
            secret_id: "crm".to_owned(),
            endpoint,
            refusal: Box::new(refusal),
            history: History::First,
            client_advice: Advice::new("check the client"),
            grant_advice: Advice::new("consent again"),
        };
        assert_eq!(error.error_type().as_str(), error_type, "{name}");
        assert!(error.to_string().contains(shown), "{name}: {error}");
        assert_shows_no_token(name, &format!("{error} {error:?}"));
    }
}

#[tokio::test]
async fn an_unusable_response_is_reported_without_a_token() {
    for (name, shown, maybe_spent) in UNAVAILABLE {
        let (_, response) = exchanged(name).await;
        let TokenResponse::Failed(error) = response else { panic!("{name}: {response:?}") };
        let (description, spent) = match &error {
            TransportError::MaybeSpent { what, .. } => (what, true),
            TransportError::NotSent(what) | TransportError::Busy { what, .. } => (what, false),
            TransportError::NotSigned(problem) => panic!("{problem:?}"),
        };
        assert_eq!((description.as_str(), spent), (shown, maybe_spent), "{name}");
        assert_shows_no_token(name, &format!("{error:?}"));
    }
}

fn assert_shows_no_token(name: &str, message: &str) {
    let own = [OLD_ACCESS, OLD_REFRESH, CLIENT_SECRET].map(str::to_owned);
    assert_no_secret(message, &[own.to_vec(), Response::recorded(name).tokens()].concat());
}
