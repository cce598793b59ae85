//! Providers by name, in the binary. The addresses of profiles are those of real providers, and no test may reach them: a document names the
//! endpoint of a test, or a proxy leads to a server of the test that has a certificate for the provider's host, or to nowhere.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, outcome_of},
    support::{
        provider::{AuthMethod, CLIENT_ID, CLIENT_SECRET, Provider, Response},
        runtime_api::Outcome,
        secrets_manager::GET,
        tls_proxy::TlsProxy,
        tunnel::Tunnel,
    },
};

/// A proxy that nobody listens at.
const CLOSED: (&str, &str) = ("HTTPS_PROXY", "http://127.0.0.1:9");

/// The way to the provider of a bench, under the address of a real one.
struct Way {
    tls: TlsProxy,
    tunnel: Tunnel,
}

impl Way {
    async fn to(bench: &Bench, host: &str) -> Self {
        let tls = TlsProxy::as_host(host, &bench.provider.url()).await;
        let tunnel = Tunnel::to(tls.url()).await;
        Self { tls, tunnel }
    }

    fn settings(&self) -> [(&str, &str); 2] {
        [("SSL_CERT_FILE", self.tls.authority_file()), ("HTTPS_PROXY", self.tunnel.url())]
    }
}

const XERO: &str = "identity.xero.com";

impl Bench {
    /// A due token of this provider, which is at its own address.
    fn due_token_at(&self, provider: &str) -> Value {
        self.due_token_of(provider, &json!({"tokenEndpoint": null}))
    }

    /// A due token of this provider.
    fn due_token_of(&self, provider: &str, changes: &Value) -> Value {
        let mut token = self.due_token_but(&json!({"provider": provider}));
        for (name, value) in changes.as_object().expect("an object") {
            token[name] = value.clone();
        }
        token.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        token
    }
}

fn basic(provider: Provider) -> Provider {
    provider.with_client(CLIENT_ID, CLIENT_SECRET, AuthMethod::ClientSecretBasic)
}

#[tokio::test]
async fn a_profile_brings_address_authentication_and_lifetimes() {
    let bench = Bench::with(basic(Provider::rotating())).await;
    let way = Way::to(&bench, XERO).await;
    bench.secret(SECRET, bench.due_token_at("xero"));
    let report = bench.process_with(&way.settings()).await.report("{}").await;
    assert_eq!(outcome_of(&report), ("refreshed", "due"));
    bench.assert_alive(SECRET);
    assert_eq!(bench.provider.requests()[0].path, "/connect/token");
    // 60 days without use.
    let ends = bench.current(SECRET)["refreshTokenExpiresAt"].as_i64().and_then(DateTime::from_timestamp_millis);
    let days = ends.unwrap() - Utc::now();
    assert!(days > TimeDelta::days(59) && days <= TimeDelta::days(60), "{days}");

    // At another address, nothing is known of refresh tokens.
    bench.secret("other", bench.due_token_of("xero", &json!({})));
    let report = bench.process().await.report(r#"{"secretId": "other"}"#).await;
    assert_eq!((outcome_of(&report).0, bench.current("other").get("refreshTokenExpiresAt")), ("refreshed", None));

    // The response names no lifetime.
    let response = r#"{"access_token": "unseen-access-of-xero", "refresh_token": "unseen-refresh-of-xero"}"#;
    let bench = Bench::responding(Response::fixed(200, "application/json", response)).await;
    bench.secret(SECRET, bench.due_token_of("xero", &json!({})));
    assert_eq!(bench.process().await.report("{}").await["expiresInSeconds"], 1799);
}

#[tokio::test]
async fn what_the_secret_says_itself_comes_before_the_profile_and_that_before_the_environment() {
    for (changes, settings, basic_header) in [
        (json!({}), vec![], true),
        (json!({"tokenEndpointAuthMethod": "client_secret_post"}), vec![], false),
        (json!({}), vec![("TOKEN_ENDPOINT_AUTH_METHOD", "client_secret_post")], true),
    ] {
        let bench = Bench::new().await;
        bench.secret(SECRET, bench.due_token_of("xero", &changes));
        drop(bench.process_with(&settings).await.invoke("{}").await);
        let request = bench.provider.requests().pop().unwrap();
        assert_eq!(request.header("authorization").is_some(), basic_header, "{changes} {settings:?}");
    }
}

#[tokio::test]
async fn a_profile_brings_parameters_headers_and_the_format_of_requests() {
    let response = r#"{"access_token": "unseen-access-of-provider", "expires_in": 3600}"#;
    let bench = Bench::responding(Response::fixed(200, "application/json", response)).await;
    bench.secret("notion", bench.due_token_of("notion", &json!({})));
    bench
        .secret("own", bench.due_token_of("notion", &json!({"extraHeaders": {"notion-version": "own", "x-own": "1"}})));
    bench.secret("withings", bench.due_token_of("withings", &json!({"extraParameters": {"own": "1"}})));
    bench.secret(
        "zoom",
        bench.due_token_of(
            "zoom-server-to-server",
            &json!({"refreshToken": null, "grantType": "account_credentials", "providerParameters": {"account": "7"}}),
        ),
    );
    let process = bench.process().await;
    for name in ["notion", "own", "withings", "zoom"] {
        let report = process.report(&json!({"secretId": name}).to_string()).await;
        assert_eq!(outcome_of(&report), ("refreshed", "due"), "{name}");
    }
    let [notion, own, withings, zoom] = &bench.provider.requests()[..] else { panic!("four requests") };
    assert_eq!(notion.header("content-type"), Some("application/json"));
    assert!(notion.header("notion-version").is_some_and(|version| version.starts_with("20")));
    assert_eq!((own.header("notion-version"), own.header("x-own")), (Some("own"), Some("1")));
    assert_eq!((withings.field("action"), withings.field("own")), (Some("requesttoken"), Some("1")));
    assert_eq!((zoom.field("grant_type"), zoom.field("account_id")), (Some("account_credentials"), Some("7")));
}

#[tokio::test]
async fn the_addresses_of_a_profile_are_filled() {
    let bench = Bench::new().await;
    let process = bench.process_with(&[CLOSED]).await;
    for (provider, parameters, endpoint) in [
        ("xero", json!(null), "https://identity.xero.com/connect/token"),
        ("Xero", json!(null), "https://identity.xero.com/connect/token"),
        (
            "microsoft-entra",
            json!({"tenant": "contoso.onmicrosoft.com"}),
            "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token",
        ),
        ("okta", json!({"domain": "dev-1.okta.com"}), "https://dev-1.okta.com/oauth2/v1/token"),
        ("zoho", json!(r#"{"accounts": "accounts.zoho.eu"}"#), "https://accounts.zoho.eu/oauth/v2/token"),
    ] {
        bench.secret(
            provider,
            bench.due_token_of(provider, &json!({"tokenEndpoint": null, "providerParameters": parameters})),
        );
        let (error_type, message) = process.error(&json!({"secretId": provider}).to_string()).await;
        assert_eq!(error_type, "ProviderUnavailable");
        assert!(message.contains(&format!("{endpoint} could not be reached")), "{message}");
    }
}

#[tokio::test]
async fn a_provider_or_a_variable_that_does_not_fit_is_named_before_anything_is_sent() {
    for (provider, parameters, problem) in [
        ("okta", json!(null), "its member `providerParameters.domain` is missing: "),
        ("okta", json!({"domain": "evil.example/x"}), "its member `providerParameters.domain` is not allowed: "),
        ("microsoft-entra", json!({"tenant": ".."}), "its member `providerParameters.tenant` is not allowed: "),
        (
            "zoho",
            json!({"accounts": "accounts.evil.example"}),
            "its member `providerParameters.accounts` is not allowed: ",
        ),
        (
            "okta",
            json!({"domain": "id.example", "server": "a"}),
            "its member `providerParameters.server` is no variable of this provider; it has domain",
        ),
        (
            "xero",
            json!({"tenant": "a"}),
            "its member `providerParameters.tenant` is no variable of this provider; it has none",
        ),
        ("box-ccg", json!({"type": "user"}), "its member `providerParameters.id` is missing: "),
        ("okta", json!({"domain": 5}), "its member `providerParameters.domain` is a number, where a string is wanted"),
        (
            "xerox",
            json!(null),
            "its `provider` \"xerox\" is not one of those in docs/providers.md (is \"xero\" meant?), and there is no `tokenEndpoint`",
        ),
        (
            "somebody",
            json!(null),
            "its `provider` \"somebody\" is not one of those in docs/providers.md, and there is no `tokenEndpoint`",
        ),
    ] {
        let bench = Bench::new().await;
        let changes = json!({"tokenEndpoint": null, "providerParameters": parameters});
        bench.secret(SECRET, bench.due_token_of(provider, &changes));
        let (error_type, message) = bench.process_with(&[CLOSED]).await.error("{}").await;
        assert_eq!(error_type, "InvalidSecret");
        assert!(message.contains(problem), "{message}");
        assert_eq!(bench.sm.actions(), [GET]);
    }
}

#[tokio::test]
async fn an_unknown_provider_beside_an_endpoint_is_a_warning_and_other_values_are_another_programs() {
    for (provider, warning) in [
        (
            json!("somebody"),
            Some(
                "the `provider` \"somebody\" of the token secret has no effect: it is not one of those in docs/providers.md",
            ),
        ),
        (json!("google"), None),
        (json!({"name": "xero"}), None),
        (json!(5), None),
        (json!(""), None),
    ] {
        let bench = Bench::new().await;
        bench.secret(SECRET, bench.due_token_but(&json!({"provider": provider})));
        let report = bench.process().await.report("{}").await;
        assert_eq!(outcome_of(&report), ("refreshed", "due"), "{provider}");
        assert_eq!(report["warnings"][0].as_str(), warning, "{provider}");
        bench.assert_alive(SECRET);
    }
}

#[tokio::test]
async fn a_response_that_was_lost_is_asked_for_once_more_where_the_provider_allows_it() {
    let lost = || Response::CloseBeforeProcessing;
    let busy = r#"{"error": "invalid_grant", "error_description": "token request is already being processed"}"#;
    for (provider, host, responses, requests, is_refreshed) in [
        ("xero", XERO, vec![lost()], 2, true),
        ("xero", XERO, vec![lost(), lost()], 2, false),
        ("xero", XERO, vec![lost(), Response::fixed(400, "application/json", busy)], 2, false),
        ("xero", XERO, vec![lost(), Response::RetryAfter429(1)], 2, false),
        // No grace period is known.
        ("hubspot", "api.hubapi.com", vec![lost()], 1, false),
        // A complete response was not lost.
        ("xero", XERO, vec![Response::fixed(500, "text/plain", "")], 1, false),
    ] {
        let bench = Bench::with(basic(Provider::rotating())).await;
        let way = Way::to(&bench, host).await;
        let what = format!("{provider} {responses:?}");
        let was_lost = matches!(responses[0], Response::CloseBeforeProcessing);
        for response in responses {
            bench.provider.respond_next(response);
        }
        let mut document = bench.due_token_at(provider);
        document["tokenEndpointAuthMethod"] = json!("client_secret_basic");
        bench.secret(SECRET, document);
        let process = bench.process_with(&way.settings()).await;
        if is_refreshed {
            assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
            bench.assert_alive(SECRET);
        } else {
            let (error_type, message) = process.error("{}").await;
            assert_eq!(error_type, "ProviderUnavailable", "{what}");
            let grace = "; the provider may have spent the refresh token; if it did, it still accepts it for 1800 s";
            assert_eq!(message.contains(grace), provider == "xero", "{what}: {message}");
            // The claim of a run whose response was lost lasts: nobody else sends the token meanwhile.
            let next = process.invoke("{}").await;
            let is_waiting = matches!(&next, Outcome::Response(report) if report["outcome"] == "in_progress");
            assert_eq!(is_waiting, was_lost, "{what}: {next:?}");
        }
        let of_next_run = usize::from(!is_refreshed && !was_lost);
        assert_eq!(bench.provider.exchanges(), requests + of_next_run, "{what}");
    }
}

#[tokio::test]
async fn the_client_of_a_profile_is_bound_to_its_endpoint() {
    for (own, of_client, is_bound) in [
        (json!({}), json!({"provider": "xero"}), true),
        (json!({"tokenEndpoint": null, "provider": "hubspot"}), json!({"provider": "xero"}), true),
        (json!({"tokenEndpoint": null, "provider": "xero"}), json!({"provider": "xero"}), false),
        (json!({"tokenEndpoint": null}), json!({"provider": "xero"}), false),
        (
            json!({"tokenEndpoint": null, "provider": "xero"}),
            json!({"tokenEndpoint": "https://identity.xero.com/connect/token"}),
            false,
        ),
    ] {
        let bench = Bench::new().await;
        let mut client = of_client.clone();
        client["clientSecret"] = json!(CLIENT_SECRET);
        bench.secret("client", client);
        let mut document = bench.due_token_but(&json!({"clientSecret": null, "clientCredentialsSecretId": "client"}));
        document.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        bench.secret(SECRET, document);
        let (error_type, message) = bench.process_with(&[CLOSED]).await.error("{}").await;
        let expected = if is_bound { "InvalidSecret" } else { "ProviderUnavailable" };
        assert_eq!(error_type, expected, "{own} {of_client}: {message}");
        let text = if is_bound { "belongs to" } else { "https://identity.xero.com/connect/token could not be reached" };
        assert!(message.contains(text), "{message}");
        assert_eq!(bench.provider.exchanges(), 0);
    }
}

#[tokio::test]
async fn no_secret_goes_to_an_endpoint_of_another_place() {
    let other = "https://id.example/token";
    for (own, of_client, settings, expected) in [
        // A variable is missing: the address of no other place stands in for it.
        (
            json!({"provider": "okta"}),
            json!(null),
            vec![("TOKEN_ENDPOINT", other)],
            "its member `providerParameters.domain` is missing",
        ),
        (
            json!({"provider": "okta"}),
            json!({"tokenEndpoint": other}),
            vec![],
            "its member `providerParameters.domain` is missing",
        ),
        (
            json!({}),
            json!({"provider": "okta"}),
            vec![("TOKEN_ENDPOINT", other)],
            "secret `client` cannot be used: its member `providerParameters.domain` is missing",
        ),
        // The token secret's own provider comes before the client's secret and the environment.
        (
            json!({"provider": "hubspot"}),
            json!({"tokenEndpoint": other, "clientId": "other"}),
            vec![],
            "https://api.hubapi.com/",
        ),
        (json!({"provider": "hubspot"}), json!(null), vec![("TOKEN_ENDPOINT", other)], "https://api.hubapi.com/"),
        // Almost the name of a profile: no other endpoint stands in.
        (json!({"provider": "hubspt"}), json!(null), vec![("TOKEN_ENDPOINT", other)], "(is \"hubspot\" meant?)"),
        (
            json!({}),
            json!({"provider": "hubspt"}),
            vec![("TOKEN_ENDPOINT", other)],
            "secret `client` cannot be used: its `provider` \"hubspt\"",
        ),
        // The client of the environment is that of the endpoint of the environment.
        (
            json!({"provider": "hubspot", "clientSecret": null}),
            json!(null),
            vec![("TOKEN_ENDPOINT", other), ("CLIENT_SECRET", CLIENT_SECRET)],
            "`clientSecret` is neither in it",
        ),
        (
            json!({"provider": "hubspot", "clientSecret": null}),
            json!(null),
            vec![("CLIENT_SECRET", CLIENT_SECRET)],
            "https://api.hubapi.com/",
        ),
        // A name without a profile hides no profile.
        (
            json!({"provider": "somebody"}),
            json!({"provider": "hubspot"}),
            vec![("TOKEN_ENDPOINT", other)],
            "https://api.hubapi.com/",
        ),
    ] {
        let bench = Bench::new().await;
        let mut document = bench.due_token_but(&json!({"tokenEndpoint": null}));
        document.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        document.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        if !of_client.is_null() {
            bench.secret("client", &of_client);
            document["clientCredentialsSecretId"] = json!("client");
        }
        bench.secret(SECRET, document);
        let (_, message) = bench.process_with(&[&[CLOSED], settings.as_slice()].concat()).await.error("{}").await;
        assert!(message.contains(expected), "{own} {of_client} {settings:?}: {message}");
    }
}

#[tokio::test]
async fn a_persons_own_end_of_a_refresh_token_stays() {
    let response = r#"{"access_token": "unseen-access-of-xero", "expires_in": 1800}"#;
    let bench = Bench::responding(Response::fixed(200, "application/json", response)).await;
    let way = Way::to(&bench, XERO).await;
    let own = Utc::now().timestamp_millis() + 20 * 86_400_000;
    let mut document = bench.due_token_at("xero");
    document["refreshTokenExpiresAt"] = json!(own);
    bench.secret(SECRET, document);
    bench.secret("other", bench.due_token_at("xero"));
    let process = bench.process_with(&way.settings()).await;
    // One that the function has written moves with each refresh.
    let mut ends = Vec::new();
    for _ in 0..2 {
        assert_eq!(outcome_of(&process.report(r#"{"force": true}"#).await).0, "refreshed");
        assert_eq!(bench.current(SECRET)["refreshTokenExpiresAt"], own);
        assert_eq!(outcome_of(&process.report(r#"{"secretId": "other", "force": true}"#).await).0, "refreshed");
        ends.push(bench.current("other")["refreshTokenExpiresAt"].as_i64().unwrap());
    }
    assert!(ends[1] > ends[0], "{ends:?}");
}

#[tokio::test]
async fn a_document_of_another_program_with_an_object_under_this_name_is_read_as_before() {
    let bench = Bench::new().await;
    let tokens = bench.due_token();
    let document = json!({
        "provider": {"access_token": tokens["accessToken"], "refresh_token": tokens["refreshToken"], "expires_at": 1},
        "tokenEndpoint": bench.provider.url(), "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET,
    });
    bench.secret(SECRET, document);
    assert_eq!(outcome_of(&bench.process().await.report("{}").await), ("refreshed", "due"));
    assert!(bench.current(SECRET)["provider"]["refresh_token"].is_string());
}
