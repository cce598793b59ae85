//! The function's environment: which settings are rejected at the start, and what each setting does.

use std::process::Command;

use chrono::Utc;
use serde_json::json;

use crate::{
    bench::{Bench, SECRET, binary, error, outcome_of},
    support::{
        provider::{AuthMethod, CLIENT_ID, CLIENT_SECRET, Provider},
        runtime_api::Deadline,
        secrets_manager::{GET, LIST, MOVE, PUT},
    },
};

#[tokio::test]
async fn an_invalid_setting_stops_the_start_with_its_name_its_value_and_the_allowed_values() {
    const ENDPOINT: &str = "allowed is https, or http to a loopback address";
    const MARGIN: &str = "allowed is a whole number of seconds from 60 to 86400";
    const METHOD: &str =
        "allowed is one of \"client_secret_post\", \"client_secret_basic\", \"client_secret_basic_raw\", \"none\"";
    const LEVEL: &str = "allowed is TRACE, DEBUG, INFO, WARN, ERROR or FATAL";
    for (name, value, found, allowed) in [
        ("REFRESH_MARGIN_SECONDS", "59", "is \"59\"", MARGIN),
        ("REFRESH_MARGIN_SECONDS", "86401", "is \"86401\"", MARGIN),
        ("REFRESH_MARGIN_SECONDS", "15m", "is \"15m\"", MARGIN),
        ("REFRESH_MARGIN_SECONDS", "-900", "is \"-900\"", MARGIN),
        ("CLAIM", "sometimes", "is \"sometimes\"", "allowed is \"always\" or \"never\""),
        ("CLAIM", "Never", "is \"Never\"", "allowed is \"always\" or \"never\""),
        ("TOKEN_ENDPOINT", "http://id.example/token", "is http to id.example", ENDPOINT),
        ("TOKEN_ENDPOINT", "id.example/token", "is not a URL", ENDPOINT),
        ("TOKEN_ENDPOINT", "ftp://id.example/token", "is ftp, neither https nor http", ENDPOINT),
        (
            "TOKEN_ENDPOINT",
            "https://me:hunter2hunter2@id.example/",
            "has a user name or password in it",
            "clientSecret",
        ),
        ("TOKEN_ENDPOINT", "https://id.example/token#x", "has a fragment", "RFC 6749 section 3.2 forbids"),
        ("TOKEN_ENDPOINT_AUTH_METHOD", "basic", "is \"basic\"", METHOD),
        ("TOKEN_ENDPOINT_AUTH_METHOD", "tls_client_auth", "is \"tls_client_auth\"", METHOD),
        ("AWS_LAMBDA_LOG_FORMAT", "XML", "is \"XML\"", "allowed is JSON or Text"),
        ("AWS_LAMBDA_LOG_LEVEL", "LOUD", "is \"LOUD\"", LEVEL),
        ("SSL_CERT_FILE", "/no/such/file", "is \"/no/such/file\"", "allowed is a PEM file of trusted certificates"),
        ("SSL_CERT_FILE", "/dev/null", "which holds no certificate", "allowed is a PEM file of trusted certificates"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "no URL", "is \"no URL\"", "allowed is an https or http URL"),
        ("AWS_REGION", "", "is not set", "such as \"eu-central-1\""),
        ("AWS_REGION", "my region", "is \"my region\"", "allowed is the name of a Region, such as \"eu-central-1\""),
    ] {
        let bench = Bench::new().await;
        bench.hide("hunter2hunter2");
        let process = bench.process_with(&[(name, value), ("AWS_EC2_METADATA_DISABLED", "true")]).await;
        let (error_type, message) = process.init_error().await;
        assert_eq!(error_type, "InvalidConfiguration", "{name}={value}: {message}");
        assert!(
            message.starts_with(&format!("{name} {found}")) || message.contains(found),
            "{name}={value}: {message}"
        );
        assert!(message.starts_with(name) && message.contains(allowed), "{name}={value}: {message}");
        assert!(bench.sm.actions().is_empty(), "{name}={value}");
    }
}

#[tokio::test]
async fn settings_at_their_limits_and_empty_settings_are_accepted() {
    for (name, value) in [
        ("REFRESH_MARGIN_SECONDS", "60"),
        ("REFRESH_MARGIN_SECONDS", "86400"),
        ("REFRESH_MARGIN_SECONDS", ""),
        ("CLAIM", "always"),
        ("CLAIM", ""),
        ("TOKEN_ENDPOINT", ""),
        ("TOKEN_ENDPOINT", "https://id.example/token"),
        ("TOKEN_ENDPOINT_AUTH_METHOD", ""),
        ("PRIVATE_KEY", ""),
        ("SIGNING_ALGORITHM", ""),
        ("SIGNING_KMS_KEY_ID", ""),
        ("ASSERTION_CLAIMS", ""),
        ("AWS_LAMBDA_LOG_FORMAT", ""),
        ("AWS_LAMBDA_LOG_FORMAT", "Text"),
        ("AWS_LAMBDA_LOG_FORMAT", "json"),
        ("AWS_LAMBDA_LOG_LEVEL", "fatal"),
        ("SSL_CERT_FILE", ""),
    ] {
        let bench = Bench::new().await;
        bench.due_secret();
        let process = bench.process_with(&[(name, value)]).await;
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{name}={value:?}");
    }
}

#[tokio::test]
async fn an_empty_endpoint_of_secrets_manager_counts_as_not_set() {
    let bench = Bench::new().await;
    bench.due_secret();
    let url = bench.sm.url();
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", ""), ("AWS_ENDPOINT_URL", url)]).await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", url), ("AWS_ENDPOINT_URL", "")]).await;
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
    // Without either setting it is the endpoint of the Region. A Region that does not exist has none.
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", ""), ("AWS_REGION", "test-none-1")]).await;
    assert_eq!(error(process.invoke_until("{}", Deadline::InMs(1_500)).await).0, "StoreUnavailable");
}

#[test]
fn the_binary_started_outside_lambda_prints_an_explanation_to_stderr_and_exits_with_2() {
    let output = Command::new(binary()).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!((output.status.code(), text(output.stdout)), (Some(2), String::new()));
    let printed = text(output.stderr);
    for part in ["AWS Lambda function", "AWS_LAMBDA_RUNTIME_API is not set", "aws lambda invoke", "quickstart"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[tokio::test]
async fn a_secret_with_tokens_only_works_with_the_client_in_the_environment() {
    let bench = Bench::new().await;
    let (access, refresh) = bench.provider.issue();
    bench.secret(SECRET, json!({"accessToken": access, "refreshToken": refresh, "expiresAt": 1}));
    let url = bench.provider.url();
    let process = bench
        .process_with(&[("TOKEN_ENDPOINT", &url), ("CLIENT_ID", CLIENT_ID), ("CLIENT_SECRET", CLIENT_SECRET)])
        .await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    bench.assert_alive(SECRET);
    let members: Vec<_> = bench.current(SECRET).as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        members,
        ["accessToken", "expiresAt", "refreshToken", "refreshedAt", "tokenType"],
        "no setting is stored"
    );
}

#[tokio::test]
async fn every_auth_method_works_from_the_secret_and_from_the_environment() {
    for (name, method) in [
        ("client_secret_post", AuthMethod::ClientSecretPost),
        ("client_secret_basic", AuthMethod::ClientSecretBasic),
        ("client_secret_basic_raw", AuthMethod::ClientSecretBasicRaw),
        ("none", AuthMethod::None),
    ] {
        for in_secret in [true, false] {
            let bench = Bench::with(Provider::rotating().with_client(CLIENT_ID, CLIENT_SECRET, method)).await;
            let own = if in_secret { json!({"tokenEndpointAuthMethod": name}) } else { json!({}) };
            bench.secret(SECRET, bench.due_token_but(&own));
            let setting = if in_secret { "" } else { name };
            let process = bench.process_with(&[("TOKEN_ENDPOINT_AUTH_METHOD", setting)]).await;
            assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{name} {in_secret}");
        }
    }
}

#[tokio::test]
async fn the_token_secret_overrides_the_clients_secret_and_both_override_the_environment() {
    let client = |id: &str| json!({"clientId": id, "clientSecret": CLIENT_SECRET});
    // The client id in the token secret; whether its client's secret and the environment's one hold another; the client id in the
    // environment; the one that the request must have.
    for (own, named, in_environment, environment, expected) in [
        (Some("own"), true, true, "environment", "own"),
        (None, true, true, "environment", "named"),
        (None, false, true, "environment", "environment's"),
        (None, false, false, "environment", "environment"),
    ] {
        let bench =
            Bench::with(Provider::rotating().with_client(expected, CLIENT_SECRET, AuthMethod::ClientSecretPost)).await;
        bench.secret("client/named", client("named"));
        bench.secret("client/environment", client("environment's"));
        let named = named.then_some("client/named");
        bench.secret(SECRET, bench.due_token_but(&json!({"clientId": own, "clientCredentialsSecretId": named})));
        let in_environment = if in_environment { "client/environment" } else { "" };
        let process =
            bench.process_with(&[("CLIENT_CREDENTIALS_SECRET_ID", in_environment), ("CLIENT_ID", environment)]).await;
        let report = process.report("{}").await;
        assert_eq!(outcome_of(&report), ("refreshed", "due"), "{expected}");
        assert_eq!(bench.provider.requests()[0].field("client_id"), Some(expected));
    }
}

#[tokio::test]
async fn many_tokens_can_share_one_client_without_its_secret_in_the_token_secrets() {
    let bench = Bench::new().await;
    // The client's secret may use the other style of names.
    let client = json!({
        "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "token_endpoint": bench.provider.url(),
        "extra_parameters": {"audience": "https://api.example"}, "extra_headers": {"X-Api-Key": "unseen-key-0123456789abcdef"},
        "default_lifetime_seconds": 7200,
    });
    bench.hide("unseen-key-0123456789abcdef");
    bench.secret("crm/client", client);
    let names = ["tenants/one", "tenants/two"];
    for name in names {
        let (access, refresh) = bench.provider.issue();
        let token = json!({
            "accessToken": access, "refreshToken": refresh, "expiresAt": 1, "clientCredentialsSecretId": "crm/client",
        });
        bench.secret(name, token);
    }
    let process = bench.process_with(&[("SECRET_ID", "")]).await;
    for name in names {
        let report = process.report(&json!({"secretId": name}).to_string()).await;
        assert_eq!(outcome_of(&report), ("refreshed", "due"), "{name}");
        bench.assert_alive(name);
        assert!(!bench.sm.current(name).1.contains("s3cr3t"), "{name}");
    }
    assert_eq!(bench.sm.actions(), [[GET, GET, LIST, PUT, PUT, MOVE], [GET, GET, LIST, PUT, PUT, MOVE]].concat());
    for request in bench.provider.requests() {
        assert_eq!(request.field("audience"), Some("https://api.example"));
        assert_eq!(request.header("x-api-key"), Some("unseen-key-0123456789abcdef"));
    }
}

#[tokio::test]
async fn a_refresh_takes_five_calls_and_two_versions_or_without_claims_four_calls_and_one_version() {
    for (claim, calls, versions) in
        [("always", [GET, LIST, PUT, PUT, MOVE].as_slice(), 2), ("never", [GET, LIST, PUT, MOVE].as_slice(), 1)]
    {
        let bench = Bench::new().await;
        bench.due_secret();
        let process = bench.process_with(&[("CLAIM", claim)]).await;
        // The first run, on the version that a person put, proves that it can write.
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{claim}");
        bench.sm.reset_calls();
        let before = bench.sm.version_count(SECRET);
        assert_eq!(outcome_of(&process.report(r#"{"force":true}"#).await), ("refreshed", "forced"), "{claim}");
        assert_eq!(bench.sm.actions(), calls, "{claim}");
        assert_eq!(bench.sm.version_count(SECRET), before + versions, "{claim}");
        bench.sm.reset_calls();
        assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"), "{claim}");
        assert_eq!(bench.sm.actions(), [GET], "{claim}: a skip is one call");
    }
}

#[tokio::test]
async fn the_margin_comes_from_the_secret_or_else_the_setting_and_is_at_most_a_third_of_the_lifetime() {
    let now = Utc::now().timestamp_millis();
    // Seconds until expiry, setting, member, seconds since the last refresh, due.
    for (left, setting, own, refreshed_ago, due) in [
        (880, "", None, None, true),
        (920, "", None, None, false),
        (1180, "1200", None, None, true),
        (1220, "1200", None, None, false),
        (580, "1200", Some(600), None, true),
        (620, "1200", Some(600), None, false),
        // Lifetimes of 3600 and 1800 seconds: margins of 900 and 600.
        (880, "", None, Some(2720), true),
        (580, "", None, Some(1220), true),
        (620, "", None, Some(1180), false),
    ] {
        let bench = Bench::new().await;
        let times = json!({
            "expiresAt": now + left * 1000,
            "refreshMarginSeconds": own,
            "refreshedAt": refreshed_ago.map(|seconds: i64| now - seconds * 1000),
        });
        bench.secret(SECRET, bench.due_token_but(&times));
        let process = bench.process_with(&[("REFRESH_MARGIN_SECONDS", setting)]).await;
        let expected = if due { ("would_refresh", "due") } else { ("skipped", "not_due") };
        assert_eq!(
            outcome_of(&process.report(r#"{"dryRun":true}"#).await),
            expected,
            "{left} s left, {setting} {times}"
        );
    }
}

#[tokio::test]
async fn the_lifetime_comes_from_the_secret_if_the_provider_returns_none() {
    for (own, seconds) in [(None, 3600), (Some(7200), 7200), (Some(0), 3600)] {
        let bench = Bench::with(Provider::rotating().with_lifetime(0)).await;
        bench.secret(SECRET, bench.due_token_but(&json!({"defaultLifetimeSeconds": own})));
        let process = bench.process().await;
        let report = process.report("{}").await;
        let left = report["expiresInSeconds"].as_i64().unwrap();
        assert!((seconds - 10..=seconds).contains(&left), "{own:?}: {left}");
    }
}

#[tokio::test]
async fn a_setting_that_the_secret_needs_is_named_in_the_error() {
    let bench = Bench::new().await;
    let (access, refresh) = bench.provider.issue();
    let plain = json!({"accessToken": access, "refreshToken": refresh, "expiresAt": 1});
    let url = bench.provider.url();
    let complete = [
        ("tokenEndpoint", "TOKEN_ENDPOINT", url.as_str()),
        ("clientId", "CLIENT_ID", CLIENT_ID),
        ("clientSecret", "CLIENT_SECRET", CLIENT_SECRET),
    ];
    let version = bench.secret(SECRET, &plain);
    for (member, missing, _) in complete {
        let settings: Vec<_> =
            complete.iter().filter(|(_, name, _)| *name != missing).map(|(_, name, value)| (*name, *value)).collect();
        let process = bench.process_with(&settings).await;
        let expected = format!(
            "secret `{SECRET}` cannot be used: `{member}` is neither in it, nor in its `clientCredentialsSecretId`, nor set \
             as {missing}"
        );
        let public = "; a public client, which has no secret, needs `tokenEndpointAuthMethod` \"none\"";
        let expected = if member == "clientSecret" { expected + public } else { expected };
        assert_eq!(process.error("{}").await, ("InvalidSecret".to_owned(), expected));
    }
    assert_eq!((bench.sm.current(SECRET).0, bench.provider.exchanges()), (version, 0));
    assert_eq!(bench.current(SECRET), plain);
}
