//! What an attacker gains who can write the token secret, or who can respond in place of the provider. SECURITY.md states it; these
//! tests show it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, log_lines, outcome_of},
    support::{
        provider::{CLIENT_ID, CLIENT_SECRET, Provider, Response},
        secrets_manager::GET,
    },
};

const API_KEY: &str = "unseen-api-key-0123456789";

/// A person who can write the token secret can name any endpoint in it, and any client's secret that the function can read.
#[tokio::test]
async fn credentials_in_a_clients_secret_are_sent_only_to_the_endpoint_in_that_secret() {
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
                    // Incomplete, so that the client's secret of the environment is read.
                    "clientId": if by_environment { Value::Null } else { id.into() },
                }))
            };
            let process = bench.process_with(&[("CLIENT_CREDENTIALS_SECRET_ID", set), ("CLIENT_ID", CLIENT_ID)]).await;

            bench.secret("crm/astray", token(elsewhere.url()));
            let (error_type, message) = process.error(r#"{"secretId":"crm/astray"}"#).await;
            assert_eq!(error_type, "InvalidSecret", "{message}");
            let expected = format!("its `tokenEndpoint` is not the endpoint that its `{member}` belongs to");
            assert!(message.contains(&expected), "{message}");
            assert_eq!((elsewhere.exchanges(), bench.provider.exchanges()), (0, 0), "{member}");
            assert_eq!(bench.sm.actions(), [GET, GET], "{member}: nothing is claimed");

            // An endpoint in both secrets is accepted if it is the same.
            bench.secret("crm/at-home", token(bench.provider.url()));
            let _ = process.invoke(r#"{"secretId":"crm/at-home"}"#).await;
            assert_eq!(bench.provider.exchanges(), 1, "{member}");
        }
    }
}

#[tokio::test]
async fn a_clients_secret_without_an_endpoint_is_used_with_the_endpoint_of_the_token_secret() {
    // One client can have many endpoints: Entra has one for each tenant, Shopify one for each shop.
    let bench = Bench::new().await;
    bench.secret("crm/client", json!({"clientSecret": CLIENT_SECRET, "extraHeaders": {"X-Api-Key": API_KEY}}));
    bench
        .secret(SECRET, bench.due_token_but(&json!({"clientSecret": null, "clientCredentialsSecretId": "crm/client"})));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
}

#[tokio::test]
async fn an_endpoint_on_an_internal_address_is_rejected_before_the_claim() {
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

/// A host inside the network has no certificate that is trusted for the name in the URL, whatever protocol it speaks.
#[tokio::test]
async fn a_host_without_a_trusted_certificate_receives_a_tls_handshake_and_no_part_of_the_request() {
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (received_sender, received) = mpsc::channel();
        std::thread::spawn(move || {
            // Like a metadata service: it speaks HTTP on every connection.
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                if received_sender.send(bytes).is_err() {
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
        let first = received.recv_timeout(Duration::from_secs(10)).expect("a connection");
        for bytes in std::iter::once(first).chain(received.try_iter()) {
            assert!(bytes.is_empty() || bytes.starts_with(&[22, 3]), "{host}: not a TLS handshake");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            for part in ["POST", "unseen-", "grant_type", "latest"] {
                assert!(!text.contains(part), "{host}: {part} was sent");
            }
        }
    }
}

#[tokio::test]
async fn names_in_a_secret_cannot_forge_log_lines() {
    let forged = "crm\n2026-01-01T00:00:00.000Z  INFO run ended\r\u{1b}[31m";
    for (changes, named) in [
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
            assert!(message.contains(named) && !message.contains(char::is_control), "{message:?}");
            let output = process.function.output();
            assert_eq!(log_lines(&output).len(), 1, "{format}: {output}");
            assert!(!output.contains(['\u{1b}', '\r']), "{format}: {output:?}");
        }
    }
}

#[tokio::test]
async fn a_hostile_response_adds_one_log_line_that_shows_no_token() {
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
            bench.provider.respond_next(Response::Fixed { status, headers, body: body.to_string() });
            let process = bench.process_with(&[("AWS_LAMBDA_LOG_FORMAT", format)]).await;
            let (_, message) = process.error("{}").await;
            let output = process.function.output();
            assert_eq!(log_lines(&output).len(), 1, "{place}, {format}: {output}");
            assert!(message.len() < 1200 && log_lines(&output)[0].len() < 2000, "{place}, {format}: {}", output.len());
            for sign in ['\u{1b}', '\r', '\u{7}', '\u{202e}', '\u{2028}', '\u{85}'] {
                assert!(!output.contains(sign) && !message.contains(sign), "{place}, {format}: {sign:?}");
            }
        }
    }
}

#[tokio::test]
async fn text_that_comes_with_tokens_is_stored_unchanged_and_not_logged() {
    let bench = Bench::new().await;
    bench.due_secret();
    let hostile = "Bearer\n\u{1b}[31m\",\"refreshToken\":\"unseen-not-the-providers\"";
    bench.hide("unseen-not-the-providers");
    let (access, refresh) = bench.provider.issue();
    let body = json!({"access_token": access, "refresh_token": refresh, "token_type": hostile, "scope": hostile,
                      "refreshToken": "unseen-not-the-providers", "expires_in": 3600});
    bench.provider.respond_next(Response::fixed(200, "application/json", &body.to_string()));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let current = bench.current(SECRET);
    assert_eq!((current["tokenType"].as_str(), current["scope"].as_str()), (Some(hostile), Some(hostile)));
    assert_eq!(current["refreshToken"].as_str(), Some(refresh.as_str()));
    assert_eq!(log_lines(&process.function.output()).len(), 1);
}
