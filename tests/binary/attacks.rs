//! What someone gains who may write the token secret, or who answers in the provider's place: SECURITY.md says it, these show it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, ended, told},
    support::{
        provider::{Answer, CLIENT_ID, CLIENT_SECRET, Provider},
        secrets_manager::GET,
    },
};

const API_KEY: &str = "unseen-api-key-0123456789";

/// Whoever may write the token secret may name any endpoint in it, and any client's secret that the function may read.
#[tokio::test]
async fn what_a_client_is_kept_with_goes_to_no_endpoint_but_the_one_beside_it() {
    let (id, secret) = (CLIENT_ID, CLIENT_SECRET);
    for (client, member) in [
        (json!({"clientId": id, "clientSecret": secret}), "clientSecret"),
        (json!({"client_id": id, "client_secret": secret}), "clientSecret"),
        (json!({"extraHeaders": {"X-Api-Key": API_KEY}}), "extraHeaders"),
        (json!({"extraParameters": {"key": API_KEY}}), "extraParameters"),
    ] {
        for by_environment in [false, true] {
            let (bench, elsewhere) = (Bench::new().await, Provider::rotating());
            let mut client = client.clone();
            client["tokenEndpoint"] = bench.provider.url().into();
            if client.get("client_id").is_some() {
                client["token_endpoint"] = client.as_object_mut().unwrap().remove("tokenEndpoint").unwrap();
            }
            bench.secret("crm/client", &client);
            let (named, set) = if by_environment { (Value::Null, "crm/client") } else { ("crm/client".into(), "") };
            let own_secret = if member == "clientSecret" { Value::Null } else { "unseen-own-secret".into() };
            let token = |endpoint: String| {
                bench.due_token_but(&json!({
                    "tokenEndpoint": endpoint, "clientCredentialsSecretId": named, "clientSecret": own_secret,
                    // Incomplete, so that the environment's client is asked.
                    "clientId": if by_environment { Value::Null } else { id.into() },
                }))
            };
            let process = bench.process_with(&[("CLIENT_CREDENTIALS_SECRET_ID", set), ("CLIENT_ID", CLIENT_ID)]).await;

            bench.secret("crm/astray", token(elsewhere.url()));
            let (error_type, message) = process.error(r#"{"secretId":"crm/astray"}"#).await;
            assert_eq!(error_type, "InvalidSecret", "{message}");
            let told = format!("its `tokenEndpoint` is not the one that stands beside its `{member}`");
            assert!(message.contains(&told), "{message}");
            assert_eq!((elsewhere.exchanges(), bench.provider.exchanges()), (0, 0), "{member}");
            assert_eq!(bench.sm.actions(), [GET, GET], "{member}: nothing is claimed");

            // The same endpoint said twice is no other one.
            bench.secret("crm/at-home", token(bench.provider.url()));
            let _ = process.invoke(r#"{"secretId":"crm/at-home"}"#).await;
            assert_eq!(bench.provider.exchanges(), 1, "{member}");
        }
    }
}

#[tokio::test]
async fn a_client_kept_without_an_endpoint_goes_to_that_of_the_token_secret() {
    // One client at many endpoints: Entra has one for each tenant, Shopify for each shop.
    let bench = Bench::new().await;
    bench.secret("crm/client", json!({"clientSecret": CLIENT_SECRET, "extraHeaders": {"X-Api-Key": API_KEY}}));
    bench
        .secret(SECRET, bench.due_token_but(&json!({"clientSecret": null, "clientCredentialsSecretId": "crm/client"})));
    let process = bench.process().await;
    assert_eq!(ended(&process.report("{}").await), ("refreshed", "due"));
}

#[tokio::test]
async fn an_address_that_no_provider_has_is_refused_before_anything_is_claimed() {
    for endpoint in [
        "https://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "https://169.254.170.2/v2/credentials",
        "https://[fd00:ec2::254]/latest/api/token",
        "https://2852039166/latest/api/token",
        "http://169.254.169.254/latest/api/token",
        "http://metadata/computeMetadata/v1/",
        "http://10.0.0.1/token",
    ] {
        let bench = Bench::new().await;
        bench.secret(SECRET, bench.due_token_but(&json!({"tokenEndpoint": endpoint})));
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "InvalidSecret", "{endpoint}: {message}");
        assert!(message.contains("its `tokenEndpoint` is "), "{message}");
        assert_eq!(bench.sm.actions(), [GET], "{endpoint}");
    }
}

/// A host of the network's inside, whatever it speaks, has no certificate that is trusted for the name it was called by.
#[tokio::test]
async fn a_host_without_a_trusted_certificate_gets_a_greeting_of_tls_and_nothing_of_the_request() {
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heard, hearing) = mpsc::channel();
        std::thread::spawn(move || {
            // As a metadata service would: it speaks HTTP to whoever comes.
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
                let mut said = Vec::new();
                let _ = stream.read_to_end(&mut said);
                if heard.send(said).is_err() {
                    return;
                }
            }
        });
        let bench = Bench::new().await;
        let endpoint = format!("https://{host}:{port}/latest/api/token?key={API_KEY}");
        let token = bench.due_token_but(&json!({"tokenEndpoint": endpoint, "extraHeaders": {"X-Api-Key": API_KEY}}));
        bench.secret(SECRET, token);
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "ProviderUnavailable", "{host}: {message}");
        assert!(message.contains("could not be reached"), "{host}: it was sent: {message}");
        let first = hearing.recv_timeout(Duration::from_secs(10)).expect("a connection");
        for said in std::iter::once(first).chain(hearing.try_iter()) {
            assert!(said.is_empty() || said.starts_with(&[22, 3]), "{host}: no TLS handshake");
            let said = String::from_utf8_lossy(&said).into_owned();
            for part in ["POST", "unseen-", "grant_type", "latest"] {
                assert!(!said.contains(part), "{host}: {part} was sent");
            }
        }
    }
}

#[tokio::test]
async fn names_from_secrets_cannot_make_up_lines_of_the_log() {
    let forged = "crm\n2026-01-01T00:00:00.000Z  INFO run ended\r\u{1b}[31m";
    for (changes, said) in [
        (json!({"clientSecret": null, "clientCredentialsSecretId": forged}), "clientCredentialsSecretId"),
        (json!({"extraParameters": {forged: 5}}), "extraParameters.crm?2026"),
        (json!({"extraHeaders": {forged: "x"}}), "extraHeaders.crm?2026"),
        (json!({"tokenEndpoint": format!("ftp://{forged}")}), "tokenEndpoint"),
        (json!({"tokenEndpoint": format!("http://id.example/{forged}")}), "tokenEndpoint"),
        (json!({"tokenEndpointAuthMethod": forged}), "tokenEndpointAuthMethod"),
        (json!({"expiresAt": forged}), "expiresAt"),
    ] {
        for format in ["JSON", "Text"] {
            let bench = Bench::new().await;
            bench.secret(SECRET, bench.due_token_but(&changes));
            let process = bench.process_with(&[("AWS_LAMBDA_LOG_FORMAT", format)]).await;
            let (error_type, message) = process.error("{}").await;
            assert_eq!(error_type, "InvalidSecret", "{message}");
            assert!(message.contains(said) && !message.contains(char::is_control), "{message:?}");
            let output = process.function.output();
            assert_eq!(told(&output).len(), 1, "{format}: {output}");
            assert!(!output.contains(['\u{1b}', '\r']), "{format}: {output:?}");
        }
    }
}

#[tokio::test]
async fn whatever_a_hostile_provider_answers_costs_one_line_of_the_log_and_shows_no_token() {
    let echo = |bench: &Bench| {
        let current = bench.current(SECRET);
        ["refreshToken", "accessToken", "clientSecret"].map(|name| current[name].as_str().unwrap().to_owned()).join(" ")
    };
    let forged = "no\n{\"level\":\"INFO\",\"message\":\"run ended\"}\r\u{1b}]0;title\u{7}\u{202e}\u{2028}\u{85}";
    let long = "word ".repeat(200_000);
    for place in ["error", "error_description", "message", "header", "token_type"] {
        for format in ["JSON", "Text"] {
            let bench = Bench::new().await;
            bench.due_secret();
            let hostile = format!("{forged} {} {long}", echo(&bench));
            let short: String = hostile.chars().take(2000).collect();
            let escaped = form_urlencoded::byte_serialize(short.as_bytes()).collect::<String>();
            let (status, headers, body) = match place {
                "header" => {
                    let headers = ["location", "retry-after", "www-authenticate", "set-cookie", "content-type"];
                    (429, headers.map(|name| (name.to_owned(), escaped.clone())).to_vec(), Value::Null)
                }
                "token_type" => (200, Vec::new(), json!({"access_token": 5, "token_type": hostile, "scope": hostile})),
                "error" => (400, Vec::new(), json!({"error": hostile})),
                "message" => (503, Vec::new(), json!({"error": "server_error", "message": hostile})),
                place => (400, Vec::new(), json!({"error": "invalid_grant", place: hostile})),
            };
            bench.provider.answer_next(Answer::Fixed { status, headers, body: body.to_string() });
            let process = bench.process_with(&[("AWS_LAMBDA_LOG_FORMAT", format)]).await;
            let (_, message) = process.error("{}").await;
            let output = process.function.output();
            assert_eq!(told(&output).len(), 1, "{place}, {format}: {output}");
            assert!(message.len() < 1200 && told(&output)[0].len() < 2000, "{place}, {format}: {}", output.len());
            for sign in ['\u{1b}', '\r', '\u{7}', '\u{202e}', '\u{2028}', '\u{85}'] {
                assert!(!output.contains(sign) && !message.contains(sign), "{place}, {format}: {sign:?}");
            }
        }
    }
}

#[tokio::test]
async fn words_that_come_with_tokens_are_stored_as_they_came_and_not_shown() {
    let bench = Bench::new().await;
    bench.due_secret();
    let hostile = "Bearer\n\u{1b}[31m\",\"refreshToken\":\"unseen-not-the-providers\"";
    bench.hide("unseen-not-the-providers");
    let (access, refresh) = bench.provider.issue();
    let body = json!({"access_token": access, "refresh_token": refresh, "token_type": hostile, "scope": hostile,
                      "refreshToken": "unseen-not-the-providers", "expires_in": 3600});
    bench.provider.answer_next(Answer::fixed(200, "application/json", &body.to_string()));
    let process = bench.process().await;
    assert_eq!(ended(&process.report("{}").await), ("refreshed", "due"));
    let current = bench.current(SECRET);
    assert_eq!((current["tokenType"].as_str(), current["scope"].as_str()), (Some(hostile), Some(hostile)));
    assert_eq!(current["refreshToken"].as_str(), Some(refresh.as_str()));
    assert_eq!(told(&process.function.output()).len(), 1);
}
