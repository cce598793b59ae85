//! The release binary with servers that others wrote: moto as Secrets Manager, authorization servers that are in real use, and
//! cargo-lambda's Runtime API. `tests/run` starts them.

mod support;

#[path = "peers/documents.rs"]
mod documents;
#[path = "peers/functions.rs"]
mod functions;
#[path = "peers/kms.rs"]
mod kms;
#[path = "peers/providers.rs"]
mod providers;
#[path = "peers/proxy.rs"]
mod proxy;
#[path = "peers/reader.rs"]
mod reader;
#[path = "peers/readers.rs"]
mod readers;
#[path = "peers/secrets.rs"]
mod secrets;
#[path = "peers/tokenctl.rs"]
mod tokenctl;
#[path = "peers/webhooks.rs"]
mod webhooks;

use functions::{CargoLambda, Failure, Lambda};
use providers::Provider;
use proxy::{Forwarding, Proxy};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm};
use secrets::Secrets;
use serde_json::{Value, json};
use support::{jwt, runtime_api::Deadline};
use tokio::task::JoinSet;

/// Enough time for a run. Its lease ends seven seconds after its start.
const SHORT: Deadline = Deadline::InMs(4_000);

/// The address or the program of a peer, from a variable that `tests/peers/run.py` sets.
fn peer(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run tests/run"))
}

/// A member of a document or report. Fails if it is not a string.
fn text(document: &Value, member: &str) -> String {
    document[member].as_str().unwrap_or_else(|| panic!("no text {member}")).to_owned()
}

/// The outcome, or the error type.
fn outcome(result: &Result<Value, Failure>) -> &str {
    match result {
        Ok(report) => report["outcome"].as_str().expect("a text"),
        Err(failure) => &failure.error_type,
    }
}

fn force_if(version_id: &str) -> String {
    json!({"force": true, "ifVersionId": version_id}).to_string()
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_deployed_function_refreshes_skips_and_handles_every_event() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let tokens = provider.log_in().await;
    let name = "full-path/crm/oauth";
    // An unknown member must stay unchanged: its digits and its place.
    let text_before = provider.secret(&tokens).to_string().replacen('{', r#"{"rate":1.10,"#, 1);
    let first_version = secrets.create_text(name, &text_before).await;
    let function = CargoLambda::start(1, &secrets.url, name).await;

    let dry = function.invoke(r#"{"dryRun":true}"#).await.unwrap();
    assert_eq!((&dry["outcome"], &dry["versionId"]), (&json!("would_refresh"), &json!(first_version)));
    assert_eq!(provider.times_presented(&tokens.refresh).await, 0, "a dry run sent the token to the provider");
    assert_eq!(secrets.versions(name).await.len(), 1, "a dry run wrote");

    let refreshed = function.invoke("{}").await.unwrap();
    assert_eq!(refreshed["outcome"], "refreshed");
    assert_eq!(refreshed["reason"], "due");
    assert_eq!(refreshed["secretId"], name);
    assert_eq!(refreshed["previousVersionId"], json!(first_version));
    let lifetime = refreshed["expiresInSeconds"].as_i64().unwrap();
    assert!((50..=60).contains(&lifetime), "the provider's tokens live 60 s, the report says {lifetime}");
    let (version, text_after) = secrets.labelled(name, "AWSCURRENT").await;
    assert_eq!(refreshed["versionId"], json!(version));
    assert!(text_after.starts_with(r#"{"rate":1.10,"#), "an unknown member was touched");
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);

    let skipped = function.invoke("{}").await.unwrap();
    assert_eq!((&skipped["outcome"], &skipped["reason"]), (&json!("skipped"), &json!("not_due")));
    let dry = function.invoke(r#"{"dryRun":true}"#).await.unwrap();
    assert_eq!(dry["outcome"], "skipped");

    let forced = function.invoke(r#"{"force":true}"#).await.unwrap();
    assert_eq!((&forced["outcome"], &forced["reason"]), (&json!("refreshed"), &json!("forced")));
    let old = function.invoke(&force_if(&version)).await.unwrap();
    assert_eq!((&old["outcome"], &old["reason"]), (&json!("skipped"), &json!("version_not_current")));
    assert_eq!(old["versionId"], forced["versionId"]);
    let forced_again = function.invoke(&force_if(&text(&forced, "versionId"))).await.unwrap();
    assert_eq!(forced_again["outcome"], "refreshed");

    let failure = function.invoke(r#"{"forced":true}"#).await.unwrap_err();
    assert_eq!(failure.error_type, "InvalidEvent");
    assert!(failure.message.contains("did you mean `force`?"), "{}", failure.message);

    let current = secrets.current(name).await;
    provider.refresh(&text(&current, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn cargo_lambda_invoke_prints_the_report_and_exits_with_1_for_an_error() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let name = "command-line/crm/oauth";
    secrets.create(name, &provider.secret(&provider.log_in().await)).await;
    let function = CargoLambda::start(2, &secrets.url, name).await;

    let (code, printed, _) = function.invoke_from_the_command_line("{}").await;
    assert_eq!(code, Some(0));
    let report: Value = serde_json::from_str(&printed).expect("the report as JSON");
    assert_eq!(report["outcome"], "refreshed");
    assert_eq!(report["versionId"], json!(secrets.labelled(name, "AWSCURRENT").await.0));

    let (code, printed, errors) = function.invoke_from_the_command_line(r#"{"forced":true}"#).await;
    assert_eq!((code, printed.trim()), (Some(1), ""));
    assert!(errors.contains("InvalidEvent") && errors.contains("did you mean `force`?"), "{errors}");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

/// Refreshes once, then once more with the new tokens.
async fn refreshes_twice(provider: Provider, name: &str) {
    let secrets = Secrets::connect();
    let tokens = provider.log_in().await;
    secrets.create(name, &provider.secret(&tokens)).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    for event in ["{}", r#"{"force":true}"#] {
        let before = text(&secrets.current(name).await, "accessToken");
        assert_eq!(outcome(&function.invoke(event).await), "refreshed", "{event}");
        assert_ne!(text(&secrets.current(name).await, "accessToken"), before, "{event}");
    }
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);
    provider.refresh(&text(&secrets.current(name).await, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_client_can_send_its_secret_in_the_body() {
    refreshes_twice(Provider::oidc("post"), "by-post/crm/oauth").await;
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_public_client_needs_no_secret() {
    refreshes_twice(Provider::oidc("public"), "public/crm/oauth").await;
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_client_gets_tokens_for_itself_from_both_providers() {
    for (provider, name, scope) in [
        (Provider::oidc("basic").machine(), "peers/machine-of-oidc-provider", "orders.read"),
        (Provider::toolkit_with_grace().machine(), "peers/machine-of-toolkit", "read"),
    ] {
        let secrets = Secrets::connect();
        secrets.create(name, &provider.secret_of_client(scope)).await;
        let lambda = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
        let mut access_tokens = Vec::new();
        for versions in 2..4 {
            let report = lambda.invoke(r#"{"force": true}"#).await.expect("a report");
            assert_eq!((&report["outcome"], &report["secretId"]), (&"refreshed".into(), &name.into()));
            let current = secrets.current(name).await;
            access_tokens.push(text(&current, "accessToken"));
            assert_eq!((current.get("refreshToken"), current["scope"].as_str()), (None, Some(scope)), "{name}");
            assert_eq!(secrets.versions(name).await.len(), versions, "{name}");
        }
        assert_ne!(access_tokens[0], access_tokens[1]);
        assert_eq!(lambda.invoke("{}").await.expect("a report")["outcome"], "skipped");
        lambda.assert_no_secret_shown(&secrets.all_ever_held(name).await);
    }
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn assertions_of_every_algorithm_are_accepted_by_another_implementation() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    for (algorithm, key) in
        [("RS256", jwt::RSA_PKCS1), ("PS256", jwt::RSA), ("ES256", jwt::P256_SEC1), ("EdDSA", jwt::ED25519_KEY)]
    {
        for (kind, grant) in [
            ("client", json!({"grantType": "client_credentials", "extraParameters": {"scope": "orders.read"}})),
            // Two JWTs: the grant, and one that authenticates the client.
            (
                "assertion",
                json!({"grantType": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertionClaims": {"sub": "alice"}}),
            ),
        ] {
            let name = format!("peers/{algorithm}/{kind}");
            secrets.create(&name, &provider.secret_of_signer(algorithm, key, &grant)).await;
            let lambda = Lambda::start(&secrets.url, &[("SECRET_ID", &name)]).await;
            // Twice: no JWT is accepted a second time.
            for event in ["{}", r#"{"force": true}"#] {
                assert_eq!(outcome(&lambda.invoke(event).await), "refreshed", "{algorithm} {grant}");
            }
            lambda.assert_no_secret_shown(&secrets.all_ever_held(&name).await);
        }
    }
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_wrong_key_is_refused_by_the_provider_and_recorded() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let name = "peers/wrong-key";
    let grant = json!({"grantType": "client_credentials"});
    let mut secret = provider.secret_of_signer("ES256", jwt::P256, &grant);
    secret["clientId"] = "signer-RS256".into();
    secrets.create(name, &secret).await;
    let lambda = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    for part in ["refused the refresh", "recorded this refusal"] {
        let failure = lambda.invoke("{}").await.expect_err("a refusal");
        assert_eq!(failure.error_type, "ClientRejected");
        assert!(failure.message.contains(part), "{}", failure.message);
        assert!(failure.message.contains("check clientId, the key"), "{}", failure.message);
    }
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_key_of_moto_in_kms_signs_jwts_that_its_public_key_verifies() {
    let secrets = Secrets::connect();
    let kms = kms::Kms::of_moto();
    // Not PS256: moto's salt is longer than the hash, unlike that of RFC 7518 section 3.5 and of AWS.
    for (algorithm, spec, verification) in [
        ("RS256", "RSA_2048", &RSA_PKCS1_2048_8192_SHA256 as &'static dyn VerificationAlgorithm),
        ("ES256", "ECC_NIST_P256", &ECDSA_P256_SHA256_FIXED),
    ] {
        let tokens = r#"{"access_token": "unseen-access-for-kms", "expires_in": 3600}"#;
        let provider = support::provider::Provider::responding(200, "application/json", tokens);
        let key = kms.create_key(spec).await;
        let name = format!("peers/kms/{algorithm}");
        let secret = json!({
            "grantType": "urn:ietf:params:oauth:grant-type:jwt-bearer", "tokenEndpoint": provider.url(), "clientId": "kms",
            "signingKmsKeyId": key, "signingAlgorithm": algorithm,
        });
        secrets.create(&name, &secret).await;
        let lambda = Lambda::start(&secrets.url, &[("SECRET_ID", &name), ("AWS_ENDPOINT_URL_KMS", &kms.url)]).await;
        assert_eq!(outcome(&lambda.invoke("{}").await), "refreshed", "{algorithm}");
        let request = provider.requests().pop().expect("a request");
        let jwt = jwt::verify(request.field("assertion").expect("a JWT"), verification, &kms.public_key(&key).await);
        assert_eq!((&jwt.header["alg"], &jwt.claims["iss"]), (&json!(algorithm), &json!("kms")));
    }
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_provider_can_return_the_same_refresh_token_every_time() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc_echo("basic"));
    let tokens = provider.log_in().await;
    let name = "echo/crm/oauth";
    secrets.create(name, &provider.secret(&tokens)).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;

    let mut access_tokens = vec![tokens.access];
    for event in ["{}", r#"{"force":true}"#, r#"{"force":true}"#] {
        assert_eq!(outcome(&function.invoke(event).await), "refreshed", "{event}");
        let current = secrets.current(name).await;
        assert_eq!(text(&current, "refreshToken"), tokens.refresh, "{event}");
        access_tokens.push(text(&current, "accessToken"));
    }
    access_tokens.sort();
    access_tokens.dedup();
    assert_eq!(access_tokens.len(), 4, "an access token was issued twice");
    assert_eq!(provider.times_presented(&tokens.refresh).await, 3);
    assert_eq!(outcome(&function.invoke("{}").await), "skipped");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn token_secrets_can_use_the_names_of_rfc_6749_and_share_a_client() {
    let (secrets, provider) = (Secrets::connect(), Provider::toolkit_with_grace());
    let client = "shared/client";
    let settings = json!({
        "token_endpoint": provider.token_endpoint,
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "token_endpoint_auth_method": provider.auth_method,
    });
    secrets.create(client, &settings).await;
    let function = Lambda::start(&secrets.url, &[("CLIENT_CREDENTIALS_SECRET_ID", client)]).await;

    for name in ["shared/alice", "shared/bob"] {
        let tokens = provider.log_in().await;
        let secret =
            json!({"access_token": tokens.access, "refresh_token": tokens.refresh, "expires_at": 1_700_000_000});
        secrets.create(name, &secret).await;
        assert_eq!(outcome(&function.invoke(&json!({"secretId": name}).to_string()).await), "refreshed");

        let current = secrets.current(name).await;
        let members: Vec<_> = current.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(members.iter().all(|member| !member.contains(char::is_uppercase)), "{members:?}");
        assert!(!members.contains(&"client_secret"), "readers of the token see the client's secret");
        assert!(current["expires_at"].as_u64().unwrap() < 100_000_000_000, "seconds became milliseconds");
        assert_eq!(current["token_type"], "Bearer");
        provider.refresh(&text(&current, "refresh_token")).await.expect("a refresh token that works");
        function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
    }
    function.assert_no_secret_shown(&secrets.all_ever_held(client).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn eight_runs_at_once_exchange_a_refresh_token_once() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let mut functions = Vec::new();
    for _ in 0..8 {
        functions.push(std::sync::Arc::new(Lambda::start(&secrets.url, &[]).await));
    }
    for round in 0..5 {
        let tokens = provider.log_in().await;
        let name = format!("at-once/{round}");
        let version = secrets.create(&name, &provider.secret(&tokens)).await;
        // Eight scheduled runs at once, or eight readers at once that got a 401.
        let event = match round % 2 {
            0 => json!({"secretId": name}),
            _ => json!({"secretId": name, "force": true, "ifVersionId": version}),
        };
        let mut runs = JoinSet::new();
        for function in &functions {
            let (function, event) = (function.clone(), event.to_string());
            runs.spawn(async move { function.invoke(&event).await });
        }
        let results = runs.join_all().await;
        let mut outcomes: Vec<_> = results.iter().map(outcome).collect();
        outcomes.sort_unstable();

        let refreshed = outcomes.iter().filter(|outcome| **outcome == "refreshed").count();
        assert_eq!(refreshed, 1, "{outcomes:?}");
        let known = ["refreshed", "in_progress", "skipped", "recovered"];
        assert!(outcomes.iter().all(|outcome| known.contains(outcome)), "{outcomes:?}");
        assert_eq!(provider.times_presented(&tokens.refresh).await, 1, "{outcomes:?}");
        // If a token had been sent twice, the provider would have revoked all tokens of the grant.
        let current = secrets.current(&name).await;
        provider.refresh(&text(&current, "refreshToken")).await.expect("a refresh token that works");
        let held = secrets.all_ever_held(&name).await;
        for function in &functions {
            function.assert_no_secret_shown(&held);
        }
    }
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn runs_after_a_run_killed_before_its_exchange_wait_until_its_lease_ends() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let tokens = provider.log_in().await;
    let proxy = Proxy::in_front_of(&provider.token_endpoint, Forwarding::Hold).await;
    let name = "killed/crm/oauth";
    let mut secret = provider.secret(&tokens);
    secret["tokenEndpoint"] = proxy.token_endpoint.clone().into();
    let version = secrets.create(name, &secret).await;

    let killed = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    killed.kill_during("{}", SHORT, proxy.until_request()).await;

    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    for event in ["{}".to_owned(), r#"{"force":true}"#.to_owned(), force_if(&version)] {
        let report = function.invoke(&event).await.unwrap();
        assert_eq!(report["outcome"], "in_progress", "{event}");
        assert_eq!(report["versionId"], json!(version), "{event}");
        assert!(report["retryAt"].is_string(), "{event}");
    }
    assert_eq!(provider.times_presented(&tokens.refresh).await, 0);

    // A new proxy, because the held request must never reach the provider.
    let open_proxy = Proxy::in_front_of(&provider.token_endpoint, Forwarding::Forward).await;
    secret["tokenEndpoint"] = open_proxy.token_endpoint.clone().into();
    secrets.edit(name, &secret).await;
    let report = function.invoke_after_the_lease("{}").await;
    assert_eq!(outcome(&report), "refreshed");
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);
    provider.refresh(&text(&secrets.current(name).await, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn an_edit_made_during_the_exchange_is_kept() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let tokens = provider.log_in().await;
    let proxy = Proxy::in_front_of(&provider.token_endpoint, Forwarding::Hold).await;
    let name = "edited/crm/oauth";
    let mut secret = provider.secret(&tokens);
    secret["tokenEndpoint"] = proxy.token_endpoint.clone().into();
    secret["note"] = "before".into();
    secrets.create(name, &secret).await;

    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    let edited = async {
        proxy.until_request().await;
        let mut edit = secret.clone();
        edit["note"] = "after".into();
        edit["refreshMarginSeconds"] = 120.into();
        let edited = secrets.edit(name, &edit).await;
        proxy.set(Forwarding::Forward);
        edited
    };
    let (report, edited) = tokio::join!(function.invoke("{}"), edited);
    let report = report.unwrap();
    assert_eq!(report["outcome"], "refreshed");
    assert_eq!(report["previousVersionId"], json!(edited));

    let (version, _) = secrets.labelled(name, "AWSCURRENT").await;
    assert_eq!(report["versionId"], json!(version));
    let current = secrets.current(name).await;
    assert_eq!((&current["note"], &current["refreshMarginSeconds"]), (&json!("after"), &json!(120)));
    assert_ne!(text(&current, "accessToken"), tokens.access);
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);
    provider.refresh(&text(&current, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn tokens_that_a_person_writes_during_the_exchange_stay_current() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let tokens = provider.log_in().await;
    let proxy = Proxy::in_front_of(&provider.token_endpoint, Forwarding::Hold).await;
    let name = "superseded/crm/oauth";
    let mut secret = provider.secret(&tokens);
    secret["tokenEndpoint"] = proxy.token_endpoint.clone().into();
    secrets.create(name, &secret).await;

    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    let log_in_again = async {
        proxy.until_request().await;
        let new_login = provider.log_in().await;
        secrets.edit(name, &provider.secret(&new_login)).await;
        proxy.set(Forwarding::Forward);
        new_login
    };
    let (report, new_login) = tokio::join!(function.invoke("{}"), log_in_again);
    assert_eq!(outcome(&report), "superseded");
    assert_eq!(text(&secrets.current(name).await, "refreshToken"), new_login.refresh);
    // The tokens of the run are of another login and valid. They stay staged, where a person can find them.
    let (_, staged) = secrets.labelled(name, "OAUTH_STAGED").await;
    let staged: Value = serde_json::from_str(&staged).unwrap();
    provider.refresh(&text(&staged, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_spent_token_that_is_current_again_is_replaced_by_its_new_tokens() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let tokens = provider.log_in().await;
    let name = "spent/crm/oauth";
    let mut secret = provider.secret(&tokens);
    let first = secrets.create(name, &secret).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    let refreshed = function.invoke("{}").await.unwrap();
    assert_eq!(refreshed["outcome"], "refreshed");
    let new = secrets.current(name).await;

    // The state after a run that died before it promoted.
    secrets.promote(name, &first).await;
    let report = function.invoke("{}").await.unwrap();
    assert_eq!(report["outcome"], "recovered");
    assert_eq!(report["versionId"], refreshed["versionId"]);
    assert_eq!(report["previousVersionId"], json!(first));

    // A person edits an old copy and pastes it back. The edit is kept.
    secret["note"] = "pasted".into();
    let pasted = secrets.edit(name, &secret).await;
    let report = function.invoke("{}").await.unwrap();
    assert_eq!(report["outcome"], "recovered");
    assert_eq!(report["previousVersionId"], json!(pasted));
    let current = secrets.current(name).await;
    assert_eq!(current["note"], "pasted");
    assert_eq!(text(&current, "refreshToken"), text(&new, "refreshToken"));

    // The spent token was not sent again, so the tokens are still valid.
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);
    assert_eq!(outcome(&function.invoke(r#"{"force":true}"#).await), "refreshed");
    provider.refresh(&text(&secrets.current(name).await, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_revoked_token_is_sent_once_until_a_person_consents_again() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let first = provider.log_in().await;
    let tokens = provider.refresh(&first.refresh).await.unwrap();
    // Another client sends the spent token: the provider's reuse detection revokes all tokens of the grant.
    assert_eq!(provider.refresh(&first.refresh).await.unwrap_err(), "invalid_grant");
    let name = "revoked/crm/oauth";
    let version = secrets.create(name, &provider.secret(&tokens)).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;

    let failure = function.invoke("{}").await.unwrap_err();
    assert_eq!(failure.error_type, "ReauthorizationRequired");
    for part in [name, &provider.token_endpoint, "invalid_grant", "consent again"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    for _ in 0..2 {
        let failure = function.invoke("{}").await.unwrap_err();
        assert_eq!(failure.error_type, "ReauthorizationRequired");
        assert!(failure.message.contains("an earlier run recorded this refusal"), "{}", failure.message);
    }
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);
    assert_eq!(secrets.labelled(name, "AWSCURRENT").await.0, version);

    secrets.edit(name, &provider.secret(&provider.log_in().await)).await;
    assert_eq!(outcome(&function.invoke("{}").await), "refreshed");
    provider.refresh(&text(&secrets.current(name).await, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_wrong_client_secret_is_reported_and_the_right_one_fixes_it() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let tokens = provider.log_in().await;
    let name = "wrong-client/crm/oauth";
    let right = provider.secret(&tokens);
    let mut wrong = right.clone();
    wrong["clientSecret"] = "not the client's secret".into();
    secrets.create(name, &wrong).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;

    for run in ["sends the token to the provider", "finds the recorded refusal"] {
        let failure = function.invoke_until("{}", SHORT).await.unwrap_err();
        assert_eq!(failure.error_type, "ClientRejected", "{run}: {}", failure.message);
        assert!(failure.message.contains("clientSecret"), "{run}: {}", failure.message);
    }
    assert_eq!(provider.times_presented(&tokens.refresh).await, 1);

    secrets.edit(name, &right).await;
    assert_eq!(outcome(&function.invoke_after_the_lease("{}").await), "refreshed");
    provider.refresh(&text(&secrets.current(name).await, "refreshToken")).await.expect("a refresh token that works");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_lost_response_is_repeated_within_a_providers_grace_period() {
    let (secrets, provider) = (Secrets::connect(), Provider::toolkit_with_grace());
    let tokens = provider.log_in().await;
    let proxy = Proxy::in_front_of(&provider.token_endpoint, Forwarding::LoseResponse).await;
    let name = "lost-answer/grace";
    let mut secret = provider.secret(&tokens);
    secret["tokenEndpoint"] = proxy.token_endpoint.clone().into();
    secrets.create(name, &secret).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;

    let failure = function.invoke_until("{}", SHORT).await.unwrap_err();
    assert_eq!(failure.error_type, "ProviderUnavailable");
    assert!(failure.message.contains("may have spent the refresh token"), "{}", failure.message);
    proxy.set(Forwarding::Forward);
    assert_eq!(outcome(&function.invoke("{}").await), "in_progress");

    assert_eq!(outcome(&function.invoke_after_the_lease("{}").await), "refreshed");
    let current = secrets.current(name).await;
    let replayed = provider.refresh(&tokens.refresh).await.expect("the grace period");
    assert_eq!(text(&current, "refreshToken"), replayed.refresh, "not the tokens of the lost response");
    assert_eq!(text(&current, "accessToken"), replayed.access, "not the tokens of the lost response");
    assert_eq!(outcome(&function.invoke(r#"{"force":true}"#).await), "refreshed");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_error_after_a_lost_response_without_a_grace_period_mentions_that_the_token_may_be_spent() {
    let (secrets, provider) = (Secrets::connect(), Provider::toolkit_without_reuse_detection());
    let tokens = provider.log_in().await;
    let proxy = Proxy::in_front_of(&provider.token_endpoint, Forwarding::LoseResponse).await;
    let name = "lost-answer/no-grace";
    let mut secret = provider.secret(&tokens);
    secret["tokenEndpoint"] = proxy.token_endpoint.clone().into();
    secrets.create(name, &secret).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;

    let failure = function.invoke_until("{}", SHORT).await.unwrap_err();
    assert_eq!(failure.error_type, "ProviderUnavailable");
    proxy.set(Forwarding::Forward);
    let failure = function.invoke_after_the_lease("{}").await.unwrap_err();
    assert_eq!(failure.error_type, "ReauthorizationRequired");
    let expected = "it may have spent the token without storing the response";
    assert!(failure.message.contains(expected), "{}", failure.message);
    assert_eq!(text(&secrets.current(name).await, "refreshToken"), tokens.refresh);
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_error_names_a_secret_that_is_missing_binary_or_not_json() {
    let secrets = Secrets::connect();
    secrets.create_binary("unusable/binary", &[0, 159, 146, 150]).await;
    secrets.create_text("unusable/text", "hunter2").await;
    let function = Lambda::start(&secrets.url, &[]).await;
    for (name, error_type, part) in [
        ("unusable/missing", "SecretNotFound", "ResourceNotFoundException"),
        ("unusable/binary", "InvalidSecret", "binary"),
        ("unusable/text", "InvalidSecret", "JSON"),
    ] {
        let failure = function.invoke(&json!({"secretId": name}).to_string()).await.unwrap_err();
        assert_eq!(failure.error_type, error_type, "{name}: {}", failure.message);
        assert!(failure.message.contains(name) && failure.message.contains(part), "{name}: {}", failure.message);
        assert!(!failure.message.contains("hunter2"), "the secret's text is shown");
    }
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn new_tokens_are_published_in_a_secret_for_readers() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let (name, readers) = ("published/crm/oauth", "published/crm/access");
    let mut document = provider.secret(&provider.log_in().await);
    document["publishTo"] = json!(readers);
    secrets.create(name, &document).await;
    secrets.create_empty(readers).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;
    for event in ["{}", r#"{"force":true}"#] {
        assert_eq!(outcome(&function.invoke(event).await), "refreshed", "{event}");
        let (published, current) = (secrets.current(readers).await, secrets.current(name).await);
        for member in ["accessToken", "expiresAt", "tokenType", "scope", "tokenResponse"] {
            assert!(published.get(member) == current.get(member), "{member} differs");
        }
        let never_published = ["refreshToken", "clientId", "clientSecret", "refreshedAt", "tokenEndpoint"];
        assert!(never_published.iter().all(|member| published.get(member).is_none()), "too many members are published");
    }
    let (version, _) = secrets.labelled(readers, "AWSCURRENT").await;
    assert_eq!(outcome(&function.invoke(&force_if(&version)).await), "refreshed");
    assert_eq!(outcome(&function.invoke(&force_if(&version)).await), "skipped");
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_refresh_adds_two_versions_and_each_label_is_on_one_version() {
    let (secrets, provider) = (Secrets::connect(), Provider::oidc("basic"));
    let name = "labels/crm/oauth";
    let mut previous = secrets.create(name, &provider.secret(&provider.log_in().await)).await;
    let function = Lambda::start(&secrets.url, &[("SECRET_ID", name)]).await;

    for versions_after in [3, 5] {
        let report = function.invoke(r#"{"force":true}"#).await.unwrap();
        let current = text(&report, "versionId");
        let mut versions = secrets.versions(name).await;
        assert_eq!(versions.len(), versions_after);
        assert_eq!(versions.remove(&current).unwrap(), ["AWSCURRENT", "OAUTH_STAGED"]);
        assert_eq!(versions.remove(&previous).unwrap(), ["AWSPREVIOUS"]);
        let labels: Vec<_> = versions.into_values().flatten().collect();
        assert_eq!(labels, ["OAUTH_CLAIM"], "the labels of the other versions");

        let (_, claim) = secrets.labelled(name, "OAUTH_CLAIM").await;
        let claim: Value = serde_json::from_str(&claim).unwrap();
        assert!(text(&claim, "about").contains("token-refresher"), "a claim does not name the program that wrote it");
        assert!(claim["leaseEndsAt"].is_string() && claim["holder"].is_string());
        // Readers of the token can read the claim too. It must not hold the client's secret or another token.
        support::output::assert_no_secret(&claim.to_string(), &secrets.all_ever_held(name).await);
        previous = current;
    }
    function.assert_no_secret_shown(&secrets.all_ever_held(name).await);
}
