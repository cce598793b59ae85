//! The responses of a provider, and a missing response: the error message, the retries, and the state of the secret.

use std::{net::TcpListener, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, error, outcome_of},
    support::{
        provider::{AuthMethod, CLIENT_ID, CLIENT_SECRET, Provider, Response},
        runtime_api::Deadline,
    },
};

const POSSIBLY_SPENT: &str = "; the provider may have spent the refresh token; the next run tries again: if it ends \
                           with invalid_grant, a person must consent again";
const TRIES_AGAIN: &str = "; the next run tries again";

fn json_response(status: u16, body: &Value) -> Response {
    Response::fixed(status, "application/json", &body.to_string())
}

#[tokio::test]
async fn an_unusable_response_is_described_in_the_error_and_leaves_the_tokens_unchanged() {
    let plain = |status, body: &str| Response::fixed(status, "text/plain", body);
    for (response, expected) in [
        (
            Response::CloseBeforeProcessing,
            format!("broke off before an answer (connection closed before message completed){POSSIBLY_SPENT}"),
        ),
        (Response::BreaksOff, format!("answered 200, but the answer broke off{POSSIBLY_SPENT}")),
        (
            Response::Huge(2 * 1024 * 1024),
            format!("answered 200, but the answer is longer than 1048576 bytes{POSSIBLY_SPENT}"),
        ),
        (
            Response::recorded("generic-200-html"),
            format!(
                "answered 200 without an access token that could be read (it is a web page: is tokenEndpoint right?){POSSIBLY_SPENT}"
            ),
        ),
        (plain(200, "hello"), format!("answered 200 without an access token that could be read{POSSIBLY_SPENT}")),
        (
            plain(200, ""),
            format!("answered 200 without an access token that could be read (it is empty){POSSIBLY_SPENT}"),
        ),
        (
            plain(204, ""),
            format!("answered 204 without an access token that could be read (it is empty){POSSIBLY_SPENT}"),
        ),
        (
            json_response(200, &json!({"a": 1, "b": {}})),
            format!("answered 200 without an access token that could be read (its members: `a`, `b`){POSSIBLY_SPENT}"),
        ),
        (Response::recorded("generic-503-html"), format!("answered 503{POSSIBLY_SPENT}")),
        (plain(500, r#"{"error":"invalid_grant"}"#), format!("answered 500, invalid_grant{POSSIBLY_SPENT}")),
        (plain(429, "too many requests"), format!("answered 429{TRIES_AGAIN}")),
        (Response::RetryAfter429(3600), format!("answered 429{TRIES_AGAIN}")),
        (
            Response::recorded("generic-400-temporarily-unavailable"),
            format!("answered 400, temporarily_unavailable: the server is undergoing maintenance{TRIES_AGAIN}"),
        ),
    ] {
        let bench = Bench::responding(response.clone()).await;
        let version = bench.due_secret();
        let process = bench.process().await;

        let (error_type, message) = process.error("{}").await;

        assert_eq!(error_type, "ProviderUnavailable", "{response:?}");
        assert_eq!(message, format!("secret `{SECRET}`: {} {expected}", bench.provider.url()), "{response:?}");
        assert_eq!(bench.provider.exchanges(), 1, "{response:?}: a request that may have arrived is not sent again");
        assert_eq!(bench.sm.current(SECRET).0, version, "{response:?}");
        assert_eq!(bench.sm.version_count(SECRET), 2, "{response:?}: a claim and nothing else");
    }
}

#[tokio::test]
async fn a_run_with_a_provider_that_never_responds_ends_with_enough_time_for_two_writes() {
    let bench = Bench::responding(Response::NeverResponds).await;
    let version = bench.due_secret();
    let process = bench.process().await;
    let started = Instant::now();
    let (error_type, message) = error(process.invoke_until("{}", Deadline::InMs(2_600)).await);
    assert_eq!(error_type, "ProviderUnavailable");
    assert!(message.contains("did not answer in time") && message.contains(POSSIBLY_SPENT), "{message}");
    assert!(started.elapsed().as_millis() < 2_200, "{:?}", started.elapsed());
    assert_eq!((bench.sm.current(SECRET).0, bench.provider.exchanges()), (version, 1));
}

#[tokio::test]
async fn a_closed_port_is_retried_within_the_run_and_the_refresh_token_is_not_spent() {
    let bench = Bench::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/token");
    let version = bench.secret(SECRET, bench.due_token_but(&json!({"tokenEndpoint": url})));
    let process = bench.process().await;
    let (error_type, message) = process.error("{}").await;
    assert_eq!(error_type, "ProviderUnavailable");
    let expected = "could not be reached (Connection refused (os error 111)); the next run tries again";
    assert_eq!(message, format!("secret `{SECRET}`: {url} {expected}"));
    assert_eq!(bench.sm.current(SECRET).0, version);
}

#[tokio::test]
async fn a_request_that_gets_429_with_retry_after_is_retried_within_the_run_while_there_is_time() {
    for (delays, exchanges, expected) in [
        (vec![0], 2, "refreshed"),
        (vec![1], 2, "refreshed"),
        (vec![0, 0], 3, "refreshed"),
        (vec![0, 0, 0], 3, "ProviderUnavailable"),
        (vec![61], 1, "ProviderUnavailable"),
    ] {
        let bench = Bench::with(Provider::script(delays.iter().copied().map(Response::RetryAfter429))).await;
        bench.due_secret();
        let process = bench.process().await;
        if expected == "refreshed" {
            assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{delays:?}");
            bench.assert_alive(SECRET);
        } else {
            assert_eq!(process.error("{}").await.0, expected, "{delays:?}");
        }
        assert_eq!(bench.provider.exchanges(), exchanges, "{delays:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_error_names_it() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Provider::rotating();
        let response = match status {
            307 => Response::Redirect(elsewhere.url()),
            status => {
                Response::Fixed { status, headers: vec![("location".to_owned(), elsewhere.url())], body: String::new() }
            }
        };
        let bench = Bench::responding(response).await;
        let version = bench.due_secret();
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "ProviderRejected", "{status}");
        let expected =
            format!("refused the refresh (status {status}, a redirect, which is not followed); check tokenEndpoint");
        assert!(message.contains(&expected), "{message}");
        assert!(message.ends_with(&format!("; the redirect leads to {}", elsewhere.url())), "{message}");
        assert_eq!((elsewhere.exchanges(), bench.sm.current(SECRET).0), (0, version), "{status}");
    }
}

#[tokio::test]
async fn a_refusal_is_reported_with_its_remedy_and_not_requested_again() {
    for (status, body, error_type, expected) in [
        (
            400,
            json!({"error": "invalid_grant", "error_description": "the token is revoked"}),
            "ReauthorizationRequired",
            "(status 400, invalid_grant: the token is revoked); a person must consent again: `tokenctl login crm/oauth` (docs/first-token.md)",
        ),
        (
            401,
            json!({"error": "invalid_client"}),
            "ClientRejected",
            "(status 401, invalid_client); check clientId, clientSecret and tokenEndpointAuthMethod against the \
             provider's console",
        ),
        (
            400,
            json!({"error": "unauthorized_client"}),
            "ClientRejected",
            "(status 400, unauthorized_client); check clientId",
        ),
        (
            400,
            json!({"error": "invalid_scope"}),
            "ProviderRejected",
            "(status 400, invalid_scope); check tokenEndpoint",
        ),
    ] {
        let bench = Bench::responding(json_response(status, &body)).await;
        let version = bench.due_secret();
        let process = bench.process().await;

        let (found, first) = process.error("{}").await;
        assert_eq!(found, error_type);
        assert!(first.contains(&format!("{} refused the refresh {expected}", bench.provider.url())), "{first}");
        assert!(!first.contains("an earlier run"), "{first}");

        let on_record = "; an earlier run recorded this refusal, and the provider was not asked again; ";
        let (without_advice, _) = first.rsplit_once("; ").unwrap();
        for _ in 0..2 {
            let (found, next) = process.error("{}").await;
            assert_eq!(found, error_type);
            assert!(next.starts_with(&format!("{without_advice}{on_record}")), "{next}");
        }
        assert_eq!(bench.provider.exchanges(), 1);
        assert_eq!(bench.sm.current(SECRET).0, version);
    }
}

#[tokio::test]
async fn a_refusal_without_a_code_names_the_settings_that_may_be_wrong() {
    let by_status = "check tokenEndpoint, extraParameters and extraHeaders against the provider's documentation";
    let json = "; if it expects JSON, set tokenRequestFormat to \"json\"";
    for (status, body, advice) in [
        (
            401,
            "<html>",
            "check clientId, clientSecret and tokenEndpointAuthMethod against the provider's console; check tokenEndpoint, too",
        ),
        (415, "Unsupported Media Type", &format!("{by_status}{json}")),
        (400, r#"{"message":"Unexpected token g in JSON at position 0"}"#, &format!("{by_status}{json}")),
        (404, "not here", by_status),
    ] {
        let bench = Bench::responding(Response::fixed(status, "text/plain", body)).await;
        bench.due_secret();
        let (error_type, message) = bench.process().await.error("{}").await;
        assert_eq!(error_type, "ProviderRejected", "{message}");
        assert!(message.contains(&format!("; {advice}")), "{message}");
        assert_eq!(message.contains(json), advice.contains(json), "{message}");
    }
}

#[tokio::test]
async fn a_recorded_refusal_applies_until_the_tokens_or_the_client_change() {
    let refusal = json_response(400, &json!({"error": "invalid_grant"}));
    for change in ["tokens", "client"] {
        let bench = Bench::without_leases(Provider::script([refusal.clone()])).await;
        bench.due_secret();
        let process = bench.process().await;
        assert_eq!(process.error("{}").await.0, "ReauthorizationRequired");
        assert_eq!(process.error("{}").await.0, "ReauthorizationRequired");
        assert_eq!(bench.provider.exchanges(), 1, "{change}");

        let mut token = bench.current(SECRET);
        if change == "tokens" {
            let (access, refresh) = bench.provider.issue();
            token["accessToken"] = access.into();
            token["refreshToken"] = refresh.into();
        } else {
            token["extraParameters"] = json!({"audience": "https://api.example"});
        }
        bench.sm.user_put(SECRET, &token);
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{change}");
        bench.assert_alive(SECRET);
    }
}

#[tokio::test]
async fn force_exchanges_in_spite_of_a_recorded_refusal() {
    let refusal = json_response(400, &json!({"error": "invalid_grant"}));
    let bench = Bench::without_leases(Provider::script([refusal])).await;
    bench.due_secret();
    let process = bench.process().await;
    assert_eq!(process.error("{}").await.0, "ReauthorizationRequired");
    assert_eq!(outcome_of(&process.report(r#"{"force":true}"#).await), ("refreshed", "forced"));
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn a_refusal_without_an_oauth_error_is_not_recorded() {
    for status in [400, 403, 404, 410] {
        let bench = Bench::without_leases(Provider::script([Response::fixed(status, "text/html", "<html>")])).await;
        bench.due_secret();
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "ProviderRejected", "{status}");
        assert!(
            message.contains(&format!("(status {status} without an OAuth error); check tokenEndpoint")),
            "{message}"
        );
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{status}");
    }
}

#[tokio::test]
async fn the_next_run_after_a_lost_response_sends_the_old_token_once() {
    // How the provider treats the first request, the result of the second run, and how often a spent token was used.
    for (first, expected, reuses) in [
        (Response::CloseBeforeProcessing, "refreshed", 0),
        (Response::fixed(503, "text/html", ""), "refreshed", 0),
        (Response::CloseAfterProcessing, "ReauthorizationRequired", 1),
        (Response::BreaksOff, "ReauthorizationRequired", 1),
    ] {
        let bench = Bench::without_leases(Provider::script([first.clone()])).await;
        bench.due_secret();
        let process = bench.process().await;
        assert_eq!(process.error("{}").await.0, "ProviderUnavailable", "{first:?}");
        if expected == "refreshed" {
            assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{first:?}");
            bench.assert_alive(SECRET);
        } else {
            for _ in 0..2 {
                let (error_type, message) = process.error("{}").await;
                assert_eq!(error_type, expected, "{first:?}");
                assert!(message.contains("a person must consent again"), "{message}");
            }
        }
        assert_eq!((bench.provider.exchanges(), bench.provider.reuses()), (2, reuses), "{first:?}");
    }
}

#[tokio::test]
async fn the_first_refusal_after_an_interrupted_run_mentions_that_run() {
    let bench = Bench::without_leases(Provider::script([Response::CloseAfterProcessing])).await;
    bench.due_secret();
    let process = bench.process().await;
    assert_eq!(process.error("{}").await.0, "ProviderUnavailable");
    let (error_type, message) = process.error("{}").await;
    assert_eq!(error_type, "ReauthorizationRequired");
    let history =
        "; an earlier run ended after its claim: it may have spent the token without storing the response; a person";
    assert!(message.contains(history), "{message}");
}

#[tokio::test]
async fn every_shape_of_a_success_is_stored() {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let tokens = r#"{"access_token":"unseen-new-access","refresh_token":"unseen-new-refresh","expires_in":600}"#;
    let camel = r#"{"accessToken":"unseen-new-access","refreshToken":"unseen-new-refresh","expiresIn":600,"tokenType":"Bearer"}"#;
    for (status, body) in [
        (200, tokens.as_bytes().to_vec()),
        (203, tokens.as_bytes().to_vec()),
        (207, tokens.as_bytes().to_vec()),
        (200, camel.as_bytes().to_vec()),
        (200, format!(r#"{{"code":0,"message":"OK","data":{tokens}}}"#).into_bytes()),
        (200, gzip(tokens)),
        (200, format!("\u{feff}\r\n {tokens}").encode_utf16().flat_map(u16::to_le_bytes).collect()),
        (200, b"access_token=unseen-new-access&refresh_token=unseen-new-refresh&expires_in=600".to_vec()),
    ] {
        let bench = Bench::responding(Response::bytes(status, body.clone())).await;
        bench.due_secret();
        let report = bench.process().await.report("{}").await;
        assert_eq!(outcome_of(&report), ("refreshed", "due"), "{status} {}", String::from_utf8_lossy(&body));
        assert!((570..=600).contains(&report["expiresInSeconds"].as_i64().unwrap()), "{report}");
        let current = bench.current(SECRET);
        assert_eq!(
            (&current["accessToken"], &current["refreshToken"]),
            (&json!("unseen-new-access"), &json!("unseen-new-refresh"))
        );
        assert_eq!(bench.provider.requests()[0].header("accept-encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn what_looks_like_tokens_and_cannot_be_understood_is_kept_and_not_asked_for_again() {
    let body = r#"{"access_token":"unseen-new-access","expires_in":NaN,"refresh_token":"unseen-new-refresh"}"#;
    let bench = Bench::without_leases(Provider::script([Response::fixed(200, "application/json", body)])).await;
    let before = bench.due_secret();
    let process = bench.process().await;
    let (error_type, message) = process.error("{}").await;
    assert_eq!(error_type, "ProviderRejected");
    let part = "answered 200 with what looks like tokens and cannot be understood (it is not an object of JSON or of a form); \
                the response is kept as version ";
    assert!(message.contains(part), "{message}");
    let id = message.split("is kept as version ").nth(1).unwrap().split(';').next().unwrap();
    let kept: Value = serde_json::from_str(&bench.sm.version(SECRET, &id.into()).unwrap()).unwrap();
    assert_eq!((&kept["response"], &kept["v"]), (&json!(body), &json!(1)));
    // The next runs, scheduled, by a reader and dry, say so again.
    for event in [json!({}), json!({"force": true, "ifVersionId": before.as_str()}), json!({"dryRun": true})] {
        let (again, message) = process.error(&event.to_string()).await;
        assert_eq!(again, "ProviderRejected");
        let part = format!("an earlier run kept the response as version {id}, and the provider was not asked again");
        assert!(message.contains(&part), "{message}");
    }
    assert_eq!((bench.provider.exchanges(), bench.sm.current(SECRET).0), (1, before));
    // A person's force asks again.
    assert_eq!(outcome_of(&process.report(r#"{"force": true}"#).await), ("refreshed", "forced"));
}

#[tokio::test]
async fn tokens_that_do_not_fit_are_an_error_that_names_their_size() {
    let body = json!({"access_token": format!("unseen-{}", "x".repeat(70_000)), "refresh_token": "unseen-new-refresh"});
    let bench = Bench::responding(json_response(200, &body)).await;
    let before = bench.due_secret();
    let (error_type, message) = bench.process().await.error("{}").await;
    assert_eq!(error_type, "ProviderRejected");
    assert!(message.contains("issued tokens that are too long: the secret would have 70"), "{message}");
    assert!(
        message.contains("and 65536 are allowed; only its refresh token is kept; the response is kept as version "),
        "{message}"
    );
    assert!(!message.contains("invoke the function again"), "{message}");
    assert_eq!(bench.sm.current(SECRET).0, before);
}

#[tokio::test]
async fn each_refusal_means_what_its_words_say() {
    for (status, body, error_type, recorded) in [
        (
            400,
            json!({"error": "access_denied", "error_description": "Rate limit exceeded: access_token not expired"}),
            "ProviderUnavailable",
            false,
        ),
        (
            400,
            json!({"error": "invalid_grant", "error_description": "token request is already being processed"}),
            "ProviderUnavailable",
            false,
        ),
        (400, json!({"error": "internal_failure"}), "ProviderRejected", false),
        (
            403,
            json!({"error": "unauthorized_client", "error_description": "refresh_token is invalid"}),
            "ReauthorizationRequired",
            true,
        ),
        (
            400,
            json!({"message": "Bad Request", "errors": [{"resource": "RefreshToken", "field": "refresh_token", "code": "invalid"}]}),
            "ReauthorizationRequired",
            true,
        ),
        (400, json!({"message": "Bad Request", "code": "E17"}), "ProviderRejected", false),
        (
            400,
            json!({"error": {"code": 400, "message": "TOKEN_EXPIRED", "status": "INVALID_ARGUMENT"}}),
            "ReauthorizationRequired",
            true,
        ),
        (200, json!({"error": "invalid_code"}), "ReauthorizationRequired", true),
        (
            401,
            json!({"error": "deleted_client", "error_description": "The OAuth client was deleted."}),
            "ClientRejected",
            true,
        ),
        (
            200,
            json!({"code": 40105, "message": "refresh_token is invalid", "request_id": "1", "data": {}}),
            "ReauthorizationRequired",
            true,
        ),
        (
            200,
            json!({"status": 503, "body": {}, "error": "Invalid Params: invalid refresh_token"}),
            "ReauthorizationRequired",
            true,
        ),
        (200, json!({"status": 401, "body": {}}), "ProviderRejected", false),
    ] {
        let bench = Bench::without_leases(Provider::always(json_response(status, &body))).await;
        bench.due_secret();
        let process = bench.process().await;
        let (first, message) = process.error("{}").await;
        assert_eq!(first, error_type, "{body}: {message}");
        let (second, message) = process.error("{}").await;
        assert_eq!(second, error_type, "{body}: {message}");
        assert_eq!(bench.provider.exchanges(), if recorded { 1 } else { 2 }, "{body}");
        assert!(!message.contains("may have spent"), "a complete response is no interruption: {message}");
    }
}

#[tokio::test]
async fn a_provider_that_expects_json_gets_json() {
    let bench = Bench::with(Provider::rotating().taking_json()).await;
    bench.secret(SECRET, bench.due_token());
    bench.secret("crm/json", bench.due_token_but(&json!({"tokenRequestFormat": "json"})));
    let process = bench.process().await;
    assert_eq!(process.error("{}").await.0, "ProviderRejected");
    let report = process.report(r#"{"secretId": "crm/json"}"#).await;
    assert_eq!(outcome_of(&report), ("refreshed", "due"));
}

#[tokio::test]
async fn the_lifetime_in_the_token_secret_overrides_the_response() {
    for (own, expires_in) in [(json!(7200), 7200), (json!(0), 3600), (json!(null), 3600)] {
        let bench = Bench::with(Provider::rotating()).await;
        bench.secret(SECRET, bench.due_token_but(&json!({"lifetimeSeconds": own})));
        let report = bench.process().await.report("{}").await;
        let seconds = report["expiresInSeconds"].as_i64().unwrap();
        assert!((expires_in - 30..=expires_in).contains(&seconds), "{own}: {seconds}");
    }
}

#[tokio::test]
async fn a_rejected_client_whose_encoding_matters_gets_a_hint() {
    for (secret, method, hint) in [
        ("plain-secret", "client_secret_basic", false),
        ("a+b/c==", "client_secret_post", false),
        ("a+b/c==", "client_secret_basic", true),
        ("a+b/c==", "client_secret_basic_raw", true),
    ] {
        let bench = Bench::responding(json_response(401, &json!({"error": "invalid_client"}))).await;
        let own = json!({"clientId": "crm", "clientSecret": secret, "tokenEndpointAuthMethod": method});
        bench.secret(SECRET, bench.due_token_but(&own));
        let (error_type, message) = bench.process().await.error("{}").await;
        assert_eq!(error_type, "ClientRejected");
        assert_eq!(message.contains("characters that client_secret_basic encodes"), hint, "{message}");
    }
}

#[tokio::test]
async fn secrets_that_a_provider_echoes_are_not_shown() {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let escaped = |text: &str| text.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect::<Vec<_>>().concat();
    for (method, name, id, secret) in [
        (AuthMethod::ClientSecretPost, "client_secret_post", CLIENT_ID, CLIENT_SECRET),
        // A short pair: in base64 it is not longer than a trace id, and trace ids are shown.
        (AuthMethod::ClientSecretBasic, "client_secret_basic", "crm", "hunter2-hunter3"),
    ] {
        let bench = Bench::with(Provider::rotating().with_client(id, secret, method)).await;
        bench.hide(secret);
        bench.hide("unseen-api-key-0123456789");
        let token = bench.due_token_but(&json!({
            "clientId": id, "clientSecret": secret, "tokenEndpointAuthMethod": name,
            "extraHeaders": {"X-Api-Key": "unseen-api-key-0123456789"}, "extraParameters": {"key": "unseen-api-key-0123456789"},
        }));
        let process = bench.process_with(&[("AWS_LAMBDA_LOG_LEVEL", "TRACE")]).await;

        let text = |name: &str| token[name].as_str().unwrap().to_owned();
        let hidden =
            [text("refreshToken"), text("accessToken"), secret.to_owned(), "unseen-api-key-0123456789".to_owned()];
        let mut echoes = Vec::new();
        for text in hidden {
            let basic = STANDARD.encode(format!("{}:{}", encoded(id), encoded(&text)));
            echoes.extend([
                text.clone(),
                format!("\"{text}\""),
                text[..text.len() - 1].to_owned(),
                text[1..].to_owned(),
            ]);
            echoes.extend([encoded(&text), escaped(&text), STANDARD.encode(&text), format!("Basic:{basic},"), basic]);
            echoes.extend([format!("key={text}&x"), format!("client_secret={}", encoded(&text))]);
        }
        for (number, echo) in echoes.into_iter().enumerate() {
            // Every member from which the message quotes text.
            let (status, body) = match number % 3 {
                0 => (400, json!({"error": echo, "error_description": format!("bad value {echo} in\n{echo}")})),
                1 => (200, json!({"ok": false, "error": "no", "message": echo})),
                _ => (503, json!({"error": "server_error", "reason": echo})),
            };
            bench.provider.respond_next(json_response(status, &body));
            let secret = format!("tokens/{number}");
            bench.secret(&secret, &token);
            let (error_type, message) = process.error(&json!({"secretId": secret}).to_string()).await;
            assert!(["ProviderRejected", "ProviderUnavailable"].contains(&error_type.as_str()), "{error_type}");
            assert!(message.contains("[redacted]"), "echo {number} is not redacted");
        }
    }
}

#[tokio::test]
async fn a_long_description_is_shortened_and_put_on_one_line() {
    let long = "word ".repeat(1000);
    let description = format!("first\r\nsecond\u{1b}[31m\u{202e}third {long}");
    let body = json!({"error": "invalid_request", "error_description": description});
    let bench = Bench::responding(json_response(400, &body)).await;
    bench.due_secret();
    let process = bench.process().await;
    let (_, message) = process.error("{}").await;
    assert!(message.contains("invalid_request: first second [31m?third word") && message.len() < 600, "{message}");
    assert!(!message.contains(char::is_control), "{message}");
}

#[tokio::test]
async fn the_endpoint_in_a_message_has_no_query() {
    let bench = Bench::responding(Response::fixed(503, "text/html", "")).await;
    bench.hide("unseen-api-key-0123456789");
    let url = format!("{}?key=unseen-api-key-0123456789", bench.provider.url());
    bench.secret(SECRET, bench.due_token_but(&json!({"tokenEndpoint": url})));
    let process = bench.process().await;
    let (_, message) = process.error("{}").await;
    assert!(message.contains(&format!("{} answered 503", bench.provider.url())), "{message}");
}

#[tokio::test]
async fn tokens_that_fit_only_without_the_rest_of_the_response_are_stored_without_it() {
    let (access, refresh) = ("a-new-access-token".repeat(100), "a-new-refresh-token".repeat(80));
    let body =
        json!({"access_token": access, "refresh_token": refresh, "expires_in": 3600, "padding": "x".repeat(64_000)});
    let bench = Bench::responding(json_response(200, &body)).await;
    bench.due_secret();
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let current = bench.current(SECRET);
    assert_eq!((current["accessToken"].as_str(), current["refreshToken"].as_str()), (Some(&*access), Some(&*refresh)));
    assert!(current.get("tokenResponse").is_none());
}
