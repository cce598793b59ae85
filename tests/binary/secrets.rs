//! Secrets that cannot be used: the error names the problem, the secret is unchanged, and nothing is exchanged.

use serde_json::{Value, json};
use token_refresher::store::versions::Versions;

use crate::{
    bench::{Bench, LONG_AGO_MS, SECRET, outcome_of},
    support::{
        provider::{AuthMethod, CLIENT_ID, CLIENT_SECRET, Provider},
        secrets_manager::{GET, PUT},
    },
};

/// The error of a run. Fails if the run writes or exchanges anything, or if force or a dry run returns another error.
async fn error_without_effect(bench: &Bench, case: &str) -> (String, String) {
    let before = bench.sm.edit(SECRET, |versions, _| versions.clone());
    let process = bench.process().await;
    let error = process.error("{}").await;
    assert_eq!(process.error(r#"{"force":true}"#).await, error, "{case}: the same error with force");
    assert_eq!(process.error(r#"{"dryRun":true}"#).await, error, "{case}: the same error in a dry run");
    assert_eq!(bench.sm.edit(SECRET, |versions, _| versions.clone()), before, "{case}: nothing is written");
    assert!(bench.sm.actions().iter().all(|action| action == GET), "{case}: {:?}", bench.sm.actions());
    assert_eq!(bench.provider.exchanges(), 0, "{case}: no exchange");
    error
}

fn invalid(problem: impl std::fmt::Display) -> (String, String) {
    ("InvalidSecret".to_owned(), format!("secret `{SECRET}` cannot be used: {problem}"))
}

#[tokio::test]
async fn a_missing_secret_is_not_found() {
    let bench = Bench::new().await;
    let process = bench.process().await;
    for (event, name) in [("{}", SECRET), (r#"{"secretId":"no/such","force":true}"#, "no/such")] {
        let expected = format!(
            "secret `{name}` was not found (ResourceNotFoundException: Secrets Manager can't find the specified secret.); \
             check the name, the Region (eu-west-1) and the account, and give the secret a value (a published secret needs none); a secret of another account \
             needs its whole ARN"
        );
        assert_eq!(process.error(event).await, ("SecretNotFound".to_owned(), expected));
    }
    assert_eq!(bench.provider.exchanges(), 0);
}

#[tokio::test]
async fn the_error_of_a_secret_without_a_value_asks_for_one() {
    let bench = Bench::new().await;
    bench.sm.create_empty(SECRET);
    let (error_type, message) = error_without_effect(&bench, "no value").await;
    assert_eq!(error_type, "SecretNotFound");
    assert!(message.contains("staging label: AWSCURRENT") && message.contains("give the secret a value"), "{message}");
}

#[tokio::test]
async fn the_error_of_a_secret_scheduled_for_deletion_mentions_it() {
    let bench = Bench::new().await;
    bench.due_secret();
    bench.sm.schedule_deletion(SECRET);
    let (error_type, message) = error_without_effect(&bench, "pending deletion").await;
    assert_eq!(error_type, "SecretNotFound");
    assert!(message.contains("it was marked for deletion"), "{message}");
}

#[tokio::test]
async fn a_text_that_is_not_a_json_object_is_described_but_not_shown() {
    for (text, problem) in [
        ("correct horse battery staple", "it is not JSON (from line 1, column 1 on)"),
        (r#"{"refreshToken":"unseen-correct-horses""#, "it is not JSON (from line 1, column 39 on)"),
        (r#"{"refreshToken":"unseen-correct-horses"} and so on"#, "it is not JSON (from line 1, column 42 on)"),
        ("{\n\"refreshToken\": unseen-correct-horses}", "it is not JSON (from line 2, column 17 on)"),
        (r#"["unseen-correct-horses"]"#, "it is an array, where a JSON object is wanted"),
        (r#""unseen-correct-horses""#, "it is a string, where a JSON object is wanted"),
        ("12345678901234567890", "it is a number, where a JSON object is wanted"),
        ("true", "it is a boolean, where a JSON object is wanted"),
        ("null", "it is null, where a JSON object is wanted"),
        (" \n", "it is empty"),
    ] {
        let bench = Bench::new().await;
        bench.hide("correct horse battery staple");
        bench.hide("unseen-correct-horses");
        let version = bench.secret(SECRET, text);
        assert_eq!(error_without_effect(&bench, text).await, invalid(format!("{problem} (version {version})")));
    }
}

#[tokio::test]
async fn an_empty_text_is_rejected_although_no_api_can_write_one() {
    let bench = Bench::new().await;
    bench.secret(SECRET, "to be emptied");
    bench.sm.edit(SECRET, |versions, _| {
        let text = serde_json::to_string(versions).unwrap().replace("to be emptied", "");
        *versions = serde_json::from_str::<Versions>(&text).unwrap();
    });
    let (error_type, message) = error_without_effect(&bench, "empty").await;
    assert_eq!(error_type, "InvalidSecret");
    assert!(message.starts_with("secret `crm/oauth` cannot be used: it is "), "{message}");
}

#[tokio::test]
async fn a_binary_secret_is_reported_as_binary() {
    let bench = Bench::new().await;
    bench.sm.create_binary(SECRET, b"\x00\xffbytes");
    assert_eq!(
        error_without_effect(&bench, "binary").await,
        invalid("it is binary, where text (SecretString) is wanted")
    );
}

#[tokio::test]
async fn a_member_of_the_wrong_type_is_named_and_its_value_is_not_shown() {
    // A member's name in both styles, and the expected type.
    let members = [
        ("accessToken", "access_token", "a string"),
        ("refreshToken", "refresh_token", "a string"),
        ("expiresAt", "expires_at", "milliseconds or seconds since the epoch"),
        ("tokenEndpoint", "token_endpoint", "a string"),
        ("clientId", "client_id", "a string"),
        ("clientSecret", "client_secret", "a string"),
        ("clientCredentialsSecretId", "client_credentials_secret_id", "a string"),
        ("tokenEndpointAuthMethod", "token_endpoint_auth_method", "one of \"client_secret_post\""),
        ("extraParameters", "extra_parameters", "an object of strings"),
        ("extraHeaders", "extra_headers", "an object of strings"),
        ("refreshMarginSeconds", "refresh_margin_seconds", "a whole number of seconds"),
        ("defaultLifetimeSeconds", "default_lifetime_seconds", "a whole number of seconds"),
        ("tokenType", "token_type", "a string"),
        ("scope", "scope", "a string"),
        ("refreshTokenExpiresAt", "refresh_token_expires_at", "milliseconds or seconds since the epoch"),
        ("refreshedAt", "refreshed_at", "milliseconds or seconds since the epoch"),
        ("tokenResponse", "token_response", "an object"),
    ];
    let values = [
        (json!(98_765.432_1), "a number"),
        (json!(true), "a boolean"),
        (json!("unseen-correct-horses"), "a string"),
        (json!(["unseen-correct-horses"]), "an array"),
        (json!({"inner": ["unseen-correct-horses"]}), "an object"),
    ];
    for (camel, snake, wanted) in members {
        let bench = Bench::new().await;
        bench.hide("unseen-correct-horses");
        let process = bench.process().await;
        let mut number = 0;
        for (name, other) in [(camel, snake), (snake, camel)] {
            for (value, found) in &values {
                // Skip the types that the member allows.
                if wanted.starts_with(*found) && *found != "an object"
                    || wanted.contains("epoch") && *found == "a number"
                {
                    continue;
                }
                if wanted == "an object" && *found == "an object" || name == "scope" && *found == "an array" {
                    continue;
                }
                let mut token = bench.due_token();
                token.as_object_mut().unwrap().remove(other);
                token[name] = value.clone();
                number += 1;
                let secret = format!("tokens/{number}");
                let version = bench.secret(&secret, &token);

                let (error_type, message) = process.error(&json!({"secretId": secret}).to_string()).await;

                // A wrong value inside an object of strings is named with its path.
                let inner = *found == "an object" && wanted == "an object of strings";
                let (path, found, wanted) = if inner {
                    (format!("{name}.inner"), "an array", "a string")
                } else {
                    (name.to_owned(), *found, wanted)
                };
                let expected =
                    format!("secret `{secret}` cannot be used: its member `{path}` is {found}, where {wanted}");
                assert_eq!(error_type, "InvalidSecret", "{name}: {value}");
                assert!(
                    message.starts_with(&expected) && message.contains(version.as_str()),
                    "{name}: {value}: {message}"
                );
                assert!(!message.contains("98765"), "{name}: {message}");
                assert_eq!(bench.sm.current(&secret), (version, token.to_string()));
            }
        }
        assert!(number >= 6, "{camel}");
        assert!(bench.sm.actions().iter().all(|action| action == GET) && bench.provider.exchanges() == 0, "{camel}");
    }
}

#[tokio::test]
async fn values_out_of_range_are_rejected() {
    for (name, value, wanted) in [
        ("refreshMarginSeconds", json!(-1), "a whole number of seconds from 0 to 315576000"),
        ("refreshMarginSeconds", json!(1.5), "a whole number of seconds from 0 to 315576000"),
        ("refreshMarginSeconds", json!(315_576_001), "a whole number of seconds from 0 to 315576000"),
        ("defaultLifetimeSeconds", json!(-1), "a whole number of seconds from 0 to 315576000"),
        (
            "tokenEndpointAuthMethod",
            json!("tls_client_auth"),
            "one of \"client_secret_post\", \"client_secret_basic\", \"client_secret_basic_raw\", \"none\"",
        ),
        ("expiresAt", json!("next week"), "an RFC 3339 string such as \"2026-01-01T00:00:00Z\""),
        ("defaultLifetimeSeconds", json!("an hour"), "a whole number of seconds from 0 to 315576000"),
        ("expiresAt", json!(" "), "an RFC 3339 string such as \"2026-01-01T00:00:00Z\""),
        ("expiresAt", json!("2026-01-01"), "an RFC 3339 string such as \"2026-01-01T00:00:00Z\""),
        ("expiresAt", json!(1e300), "an RFC 3339 string such as \"2026-01-01T00:00:00Z\""),
    ] {
        let bench = Bench::new().await;
        bench.secret(SECRET, bench.due_token_but(&json!({name: value})));
        let (error_type, message) = error_without_effect(&bench, name).await;
        assert_eq!(error_type, "InvalidSecret", "{name}: {value}");
        assert!(message.contains(&format!("its member `{name}` is ")) && message.contains(wanted), "{message}");
        assert!(!message.contains("tls_client_auth") && !message.contains("next week"), "{message}");
    }
}

#[tokio::test]
async fn a_refresh_token_that_is_missing_null_or_empty_is_missing() {
    for (token, name) in [
        (json!({"accessToken": "an access token"}), "refreshToken"),
        (json!({"access_token": "an access token"}), "refresh_token"),
        (json!({}), "refreshToken"),
        (json!({"accessToken": "an access token", "refreshToken": null}), "refreshToken"),
        (json!({"accessToken": "an access token", "refreshToken": ""}), "refreshToken"),
        (json!({"access_token": "an access token", "refresh_token": ""}), "refresh_token"),
        // A document as Secrets Manager's rotation templates write it.
        (json!({"username": "crm", "password": "unseen-correct-horses"}), "refreshToken"),
    ] {
        let bench = Bench::new().await;
        bench.hide("unseen-correct-horses");
        let version = bench.secret(SECRET, &token);
        let expected = invalid(format!(
            "its member `{name}` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\" (version {version})"
        ));
        assert_eq!(error_without_effect(&bench, name).await, expected, "{token}");
    }
}

#[tokio::test]
async fn a_duplicate_member_is_named() {
    for (members, problem) in [
        (
            r#""accessToken":"a","access_token":"a","refreshToken":"r""#,
            "it has both `accessToken` and `access_token`; take one out",
        ),
        (r#""refreshToken":"r","refresh_token":"r""#, "it has both `refreshToken` and `refresh_token`; take one out"),
        (
            r#""refreshToken":"r","expiresAt":1,"expires_at":1"#,
            "it has both `expiresAt` and `expires_at`; take one out",
        ),
        (r#""refreshToken":"r","refreshToken":"r""#, "its member `refreshToken` is there twice; take one out"),
        (
            r#""refreshToken":"r","clientId":"c","client_id":"c""#,
            "it has both `clientId` and `client_id`; take one out",
        ),
        (
            r#""refreshToken":"r","tokenResponse":{},"token_response":{}"#,
            "it has both `tokenResponse` and `token_response`; take one out",
        ),
    ] {
        let bench = Bench::new().await;
        let version = bench.secret(SECRET, format!("{{{members}}}"));
        assert_eq!(error_without_effect(&bench, members).await, invalid(format!("{problem} (version {version})")));
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_not_allowed_is_rejected_before_the_claim() {
    const ALLOWED: &str = "allowed is https, or http to a loopback address";
    for (endpoint, problem) in [
        ("http://id.example/token", format!("its `tokenEndpoint` is http to id.example; {ALLOWED}")),
        ("http://10.0.0.1/token", format!("its `tokenEndpoint` is http to 10.0.0.1; {ALLOWED}")),
        ("http://169.254.169.254/token", format!("its `tokenEndpoint` is http to 169.254.169.254; {ALLOWED}")),
        ("http://localhost.evil.example/", format!("its `tokenEndpoint` is http to localhost.evil.example; {ALLOWED}")),
        ("http://127.0.0.1@evil.example/", format!("its `tokenEndpoint` is http to evil.example; {ALLOWED}")),
        ("file:///etc/passwd", format!("its `tokenEndpoint` is file, neither https nor http; {ALLOWED}")),
        ("/token", format!("its `tokenEndpoint` is not a URL (relative URL without a base); {ALLOWED}")),
        (
            "https://crm:unseen-correct-horses@id.example/token",
            "its `tokenEndpoint` has a user name or password in it; use clientId and clientSecret".to_owned(),
        ),
        (
            "https://id.example/token#access",
            "its `tokenEndpoint` has a fragment (#...), which RFC 6749 section 3.2 forbids".to_owned(),
        ),
    ] {
        let bench = Bench::new().await;
        bench.hide("unseen-correct-horses");
        bench.secret(SECRET, bench.due_token_but(&json!({"tokenEndpoint": endpoint})));
        assert_eq!(error_without_effect(&bench, endpoint).await, invalid(problem));
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_reported_before_the_claim() {
    for (changes, problem) in [
        (
            json!({"tokenEndpoint": null}),
            "`tokenEndpoint` is neither in it, nor in its `clientCredentialsSecretId`, nor set as TOKEN_ENDPOINT",
        ),
        (
            json!({"clientId": ""}),
            "`clientId` is neither in it, nor in its `clientCredentialsSecretId`, nor set as CLIENT_ID",
        ),
        (
            json!({"clientSecret": null}),
            "`clientSecret` is neither in it, nor in its `clientCredentialsSecretId`, nor set as CLIENT_SECRET; a public client, which \
             has no secret, needs `tokenEndpointAuthMethod` \"none\"",
        ),
        (
            json!({"extraParameters": {"grant_type": "x"}}),
            "its `extraParameters.grant_type` is in the request already; take it out",
        ),
        (
            json!({"extraParameters": {"client_secret": "x"}}),
            "its `extraParameters.client_secret` is in the request already; take it out",
        ),
        (
            json!({"extraHeaders": {"Host": "evil.example"}}),
            "its `extraHeaders.Host` belongs to the request itself; take it out",
        ),
        (json!({"extraHeaders": {"a b": "x"}}), "its `extraHeaders.a b` is not a header name"),
        (
            json!({"extraHeaders": {"X-Key": "correct\r\nhorse: battery"}}),
            "its `extraHeaders.X-Key` has a character that no header may have",
        ),
    ] {
        let bench = Bench::new().await;
        bench.secret(SECRET, bench.due_token_but(&changes));
        assert_eq!(error_without_effect(&bench, problem).await, invalid(problem));
    }
}

#[tokio::test]
async fn a_public_client_needs_no_client_secret() {
    let bench = Bench::with(Provider::rotating().with_client(CLIENT_ID, "", AuthMethod::None)).await;
    bench.secret(SECRET, bench.due_token_but(&json!({"clientSecret": null, "tokenEndpointAuthMethod": "none"})));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
}

#[tokio::test]
async fn the_error_names_a_clients_secret_that_is_missing_or_invalid() {
    let of = "(it is the clientCredentialsSecretId of `crm/oauth`)";
    let invalid = |problem: &str| ("InvalidSecret", format!("secret `crm/client` cannot be used: {problem} {of}"));
    let missing =
        "secret `crm/oauth` cannot be used: `clientSecret` is neither in it, nor in its `clientCredentialsSecretId`";
    let cases: [(Option<Value>, (&str, String)); 7] = [
        (None, ("SecretNotFound", "; it is the clientCredentialsSecretId of `crm/oauth`);".to_owned())),
        (Some(json!([1])), invalid("it is an array, where a JSON object is wanted")),
        (Some(json!("unseen-correct-horses")), invalid("it is a string, where a JSON object is wanted")),
        (Some(json!({"clientSecret": 5})), invalid("its member `clientSecret` is a number, where a string is wanted")),
        (
            Some(json!({"clientId": "a", "client_id": "b"})),
            invalid("it has both `clientId` and `client_id`; take one out"),
        ),
        (Some(json!({"clientId": CLIENT_ID})), ("InvalidSecret", missing.to_owned())),
        (
            Some(json!({"clientSecret": CLIENT_SECRET, "tokenEndpoint": "http://id.example/"})),
            invalid("its `tokenEndpoint` is http to id.example; allowed is https, or http to a loopback address"),
        ),
    ];
    for (client, (error_type, expected)) in cases {
        let bench = Bench::new().await;
        bench.hide("unseen-correct-horses");
        if let Some(client) = client {
            bench.secret("crm/client", client);
        }
        let token = bench.due_token_but(&json!({"clientSecret": null, "clientCredentialsSecretId": "crm/client"}));
        bench.secret(SECRET, token);
        let (found, message) = error_without_effect(&bench, &expected).await;
        assert_eq!(found, error_type);
        assert!(message.contains(&expected), "{expected}: {message}");
    }
}

#[tokio::test]
async fn a_binary_clients_secret_is_reported_as_binary() {
    let bench = Bench::new().await;
    bench.sm.create_binary("crm/client", b"\x00\xff");
    bench
        .secret(SECRET, bench.due_token_but(&json!({"clientSecret": null, "clientCredentialsSecretId": "crm/client"})));
    let (error_type, message) = error_without_effect(&bench, "binary").await;
    assert_eq!(error_type, "InvalidSecret");
    assert_eq!(
        message,
        "secret `crm/client` cannot be used: it is binary, where text (SecretString) is wanted (it is the \
         clientCredentialsSecretId of `crm/oauth`)"
    );
}

#[tokio::test]
async fn a_secret_too_long_for_new_tokens_is_rejected_before_the_claim() {
    // A refresh needs 4096 of the 65,536 bytes free for new tokens.
    for (bytes, fits) in [(61_440, true), (61_441, false), (65_536, false)] {
        let bench = Bench::new().await;
        let mut token = bench.due_token_but(&json!({"padding": ""}));
        let padding = bytes - token.to_string().len();
        token["padding"] = "x".repeat(padding).into();
        bench.secret(SECRET, token);
        if fits {
            let process = bench.process().await;
            assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{bytes}");
            bench.assert_alive(SECRET);
        } else {
            let process = bench.process().await;
            let (error_type, message) = process.error("{}").await;
            assert_eq!(error_type, "InvalidSecret", "{bytes}");
            assert!(
                message.contains(&format!("it is {bytes} bytes long, too long for new tokens to fit")),
                "{message}"
            );
            assert!(!bench.sm.actions().contains(&PUT.to_owned()) && bench.provider.exchanges() == 0, "{bytes}");
        }
    }
}

#[tokio::test]
async fn null_members_count_as_missing() {
    let bench = Bench::new().await;
    let mut token = bench.due_token();
    for name in [
        "clientCredentialsSecretId",
        "tokenEndpointAuthMethod",
        "extraParameters",
        "extraHeaders",
        "refreshMarginSeconds",
        "defaultLifetimeSeconds",
        "tokenType",
        "scope",
        "refreshTokenExpiresAt",
        "refreshedAt",
        "tokenResponse",
    ] {
        token[name] = Value::Null;
    }
    token["expiresAt"] = LONG_AGO_MS.into();
    bench.secret(SECRET, token);
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    bench.assert_alive(SECRET);
}
