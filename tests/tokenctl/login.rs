//! `tokenctl login` with a redirect: to the loopback interface, or pasted back.

use std::{net::TcpListener, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use token_refresher::store::{Label, SecretStore};

use crate::{
    process::{Waiting, With, run},
    server::{ACCESS_TOKEN, CODE, REFRESH_TOKEN, challenge},
    support::{tls_proxy::TlsProxy, tunnel::Tunnel},
    world::{PUBLIC, SECRET, World},
};

/// The redirect of a person who has consented.
fn consented(world: &World) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("code={}&state=STATE&iss={}", encode(CODE), encode(&world.server.issuer))
}

#[tokio::test]
async fn a_login_stores_tokens_settings_and_the_way_to_the_next_login() {
    let world = World::new().await;
    let waiting = world.start(&["--scope", "orders.read", "--parameter", "audience=https://api.example"]).await;
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "public"),
        ("scope", "orders.read openid offline_access"),
        ("prompt", "consent"),
        ("audience", "https://api.example"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(waiting.parameter(name).as_deref(), Some(value), "{name}");
    }
    let (status, page) = waiting.call(&consented(&world)).await;
    assert_eq!(status, 200);
    assert!(page.contains("Logged in") && page.contains(SECRET), "{page}");
    assert!(world.exists().await, "the page came before the tokens were stored");

    let exchange = world.server.received("/token").pop().unwrap();
    for (name, value) in [
        ("grant_type", "authorization_code".to_owned()),
        ("code", CODE.to_owned()),
        ("client_id", "public".to_owned()),
        ("redirect_uri", waiting.parameter("redirect_uri").unwrap()),
    ] {
        assert_eq!(exchange.parameter(name), Some(value), "{name}");
    }
    let verifier = exchange.parameter("code_verifier").unwrap();
    assert_eq!(Some(challenge(&verifier)), waiting.parameter("code_challenge"));

    let ended = waiting.end().await.done();
    assert!(ended.stderr.contains("Secret `myapp/prod/crm` is created"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Its access token expires in 59 min."), "{}", ended.stderr);
    let document = world.document().await;
    assert_eq!(document["accessToken"], ACCESS_TOKEN);
    assert_eq!(document["refreshToken"], REFRESH_TOKEN);
    assert!(document["expiresAt"].is_i64(), "{:?}", document["expiresAt"]);
    assert_eq!(document["tokenEndpoint"], format!("{}/token", world.server.issuer));
    assert_eq!(
        document["loginSettings"],
        json!({"issuer": world.server.issuer, "scope": "orders.read", "parameters": {"audience": "https://api.example"}})
    );

    // The next login needs no options.
    let again = Waiting::start(world.tokenctl(&["login", SECRET, "--yes"])).await;
    assert_eq!(again.parameter("audience").as_deref(), Some("https://api.example"));
    assert_eq!(again.call(&consented(&world)).await.0, 200);
    again.end().await.done();
    assert_eq!(world.files(), Vec::<String>::new());
}

#[tokio::test]
async fn only_the_redirect_of_this_login_counts_and_only_once() {
    let world = World::new().await;
    world.server.delay(Duration::from_millis(300));
    let waiting = world.start(&[]).await;
    for (query, status, text) in [
        ("code=c&state=other", 400, "does not belong to the login"),
        ("error=access_denied", 400, "does not belong to the login"),
        ("", 400, "does not belong to the login"),
    ] {
        let (found, page) = waiting.call(query).await;
        assert!(found == status && page.contains(text), "{query}: {found} {page}");
    }
    let mut elsewhere = waiting.redirect("code=c&state=STATE");
    elsewhere.set_path("/favicon.ico");
    assert_eq!(crate::process::get(&elsewhere).await.0, 404);
    // A browser that sends the redirect twice, at once and later.
    let query = consented(&world);
    let ((first, _), (second, page)) = tokio::join!(waiting.call(&query), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        waiting.call(&query).await
    });
    assert_eq!((first, second), (200, 409));
    assert!(page.contains("has already received this redirect"), "{page}");
    assert_eq!(world.server.received("/token").len(), 1);
    waiting.end().await.done();
}

#[tokio::test]
async fn a_login_that_fails_says_so_on_the_page_and_in_the_terminal() {
    let issuer = |world: &World| form_urlencoded::byte_serialize(world.server.issuer.as_bytes()).collect::<String>();
    for (query, response, code, text) in [
        (
            "error=access_denied&error_description=no%20thanks&state=STATE&iss=ISSUER",
            None,
            1,
            "did not grant access (access_denied: no thanks)",
        ),
        ("code=c&state=STATE&iss=https%3A%2F%2Fevil.example", None, 1, "is from the issuer https://evil.example"),
        ("code=c&state=STATE", None, 1, "does not name its issuer"),
        ("state=STATE&iss=ISSUER", None, 1, "has no code"),
        (
            "code=c&state=STATE&iss=ISSUER",
            Some((400, json!({"error": "invalid_grant", "error_description": "PKCE failed"}))),
            1,
            "refused the code (status 400, invalid_grant: PKCE failed)",
        ),
        (
            "code=c&state=STATE&iss=ISSUER",
            Some((401, json!({"error": "invalid_client"}))),
            1,
            "check clientId, clientSecret and tokenEndpointAuthMethod",
        ),
        ("code=c&state=STATE&iss=ISSUER", Some((503, json!({}))), 2, "answered 503; run the command again"),
        (
            "code=c&state=STATE&iss=ISSUER",
            Some((200, json!({"access_token": ACCESS_TOKEN, "expires_in": 60}))),
            1,
            "but no refresh token: nothing was stored",
        ),
    ] {
        let world = World::new().await;
        if let Some((status, body)) = response {
            world.server.respond_next(status, body);
        }
        let waiting = world.start(&[]).await;
        let (status, page) = waiting.call(&query.replace("ISSUER", &issuer(&world))).await;
        assert!(status == 200 && page.contains("The login failed"), "{query}: {page}");
        waiting.end().await.failed(code, text);
        assert!(!world.exists().await, "{query}: something was stored");
        assert!(world.server.received("/token").len() <= 1, "{query}: a code was sent twice");
    }
}

#[tokio::test]
async fn tokens_in_an_unknown_form_are_kept_in_a_file() {
    let world = World::new().await;
    world
        .server
        .respond_next(200, json!({"result": [{"accessTokenValue": ACCESS_TOKEN, "refreshTokenValue": REFRESH_TOKEN}]}));
    let waiting = world.start(&[]).await;
    waiting.call(&consented(&world)).await;
    waiting
        .end()
        .await
        .failed(1, "answered with tokens in an unknown form (members: `result`); it is in the file tokenctl-response-");
    let [file] = &world.files()[..] else { panic!("{:?}", world.files()) };
    let text = std::fs::read_to_string(world.path().join(file)).unwrap();
    assert!(text.contains(REFRESH_TOKEN));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(world.path().join(file)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_port_that_is_taken_and_a_consent_that_never_comes_end_the_login() {
    let world = World::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = run(world.login(&PUBLIC).with(["--port", &port]), "").await;
    ended.failed(2, &format!("port {port} of 127.0.0.1 cannot be used"));

    let mut waiting = world.start(&["--timeout", "1"]).await;
    waiting.close_stdin();
    waiting.end().await.failed(1, "nobody consented within 1 s");
    assert!(!world.exists().await);
}

#[tokio::test]
async fn the_port_and_the_redirect_address_are_those_of_the_options() {
    let world = World::new().await;
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (option, uri) in [
        (["--port".to_owned(), "PORT".to_owned()], "http://127.0.0.1:PORT/callback"),
        (["--redirect-uri".to_owned(), "http://localhost:PORT/a/b".to_owned()], "http://localhost:PORT/a/b"),
        (["--redirect-uri".to_owned(), "http://127.0.0.1:PORT".to_owned()], "http://127.0.0.1:PORT"),
    ] {
        let port = free().to_string();
        let option = option.map(|text| text.replace("PORT", &port));
        let waiting = world.start(&[&option[0], &option[1], "--yes"]).await;
        assert_eq!(waiting.parameter("redirect_uri"), Some(uri.replace("PORT", &port)));
        assert_eq!(waiting.call(&consented(&world)).await.0, 200, "{uri}");
        waiting.end().await.done();
        assert_eq!(world.document().await["loginSettings"]["redirectUri"], uri.replace("PORT", &port));
    }
}

#[tokio::test]
async fn the_address_that_the_browser_ended_at_can_be_pasted() {
    let world = World::new().await;
    let mut waiting = world.start(&["--redirect-uri", "https://client.example/callback?tenant=1"]).await;
    assert_eq!(waiting.parameter("redirect_uri").as_deref(), Some("https://client.example/callback?tenant=1"));
    waiting.write_line("").await;
    waiting.write_line("https://client.example/callback?code=c&state=other").await;
    let address = waiting.redirect(&consented(&world));
    waiting.write_line(&format!("  {address} ")).await;
    let ended = waiting.end().await.done();
    assert!(ended.stderr.contains("This is not the address of this login"), "{}", ended.stderr);
    assert_eq!(world.document().await["refreshToken"], REFRESH_TOKEN);

    let mut waiting = world.start(&["--redirect-uri", "RuName-of-a-provider", "--yes"]).await;
    waiting.close_stdin();
    waiting.end().await.failed(2, "the input ended before the address was pasted");
}

#[tokio::test]
async fn the_clients_secret_comes_from_standard_input_or_another_secret() {
    let world = World::new().await;
    let client_secret = "unseen-secret-of-client";
    // From standard input; the methods of the server decide how it is sent.
    let file = world.path().join("secret");
    std::fs::write(&file, format!("{client_secret}\n")).unwrap();
    let shell = |arguments: &str| {
        let mut shell = tokio::process::Command::new("bash");
        shell.arg("-c").arg(format!("exec {} {arguments} < secret", env!("CARGO_BIN_EXE_tokenctl")));
        shell.current_dir(world.path()).env("BROWSER", "false");
        shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        shell
    };
    let issuer = &world.server.issuer;
    let login =
        format!("--store dir:tokens login {SECRET} --issuer {issuer} --client-id confidential --client-secret-stdin");
    let waiting = Waiting::start_with_own_input(shell(&login)).await;
    waiting.call(&consented(&world)).await;
    waiting.end().await.done();
    let document = world.document().await;
    assert_eq!(document["clientSecret"], client_secret);
    assert_eq!(document["tokenEndpointAuthMethod"], "client_secret_basic");
    let sent = world.server.received("/token").pop().unwrap();
    assert!(sent.authorization.unwrap().starts_with("Basic "));

    // From another secret.
    world
        .store
        .create("client", &json!({"clientId": "shared", "clientSecret": client_secret}).to_string().into())
        .await
        .unwrap();
    let waiting = Waiting::start(world.tokenctl(&[
        "login",
        "other",
        "--issuer",
        issuer,
        "--client-credentials-secret-id",
        "client",
    ]))
    .await;
    assert_eq!(waiting.parameter("client_id").as_deref(), Some("shared"));
    waiting.call(&consented(&world)).await;
    waiting.end().await.done();
    let version = world.store.get("other", token_refresher::store::Selector::Label(Label::Current)).await.unwrap();
    assert!(!version.body.expose().contains(client_secret));

    let missing = run(
        world
            .login(&["--client-id", "confidential", "--yes", "--token-endpoint-auth-method", "client_secret_post"])
            .with(["--store", "dir:empty"]),
        "",
    )
    .await;
    missing.failed(2, "no client secret: pass --client-secret-stdin");
}

#[tokio::test]
async fn a_secret_keeps_its_form_and_its_other_members() {
    for (document, refresh_token, own) in [
        (
            json!({"own": [1.10], "tokenEndpoint": "TOKEN", "clientId": "public", "tokenEndpointAuthMethod": "none"}),
            "/refreshToken",
            "/own/0",
        ),
        (
            json!({"client_id": "public", "token_endpoint": "TOKEN", "token_endpoint_auth_method": "none", "own": [1.10], "refresh_token": "r"}),
            "/refresh_token",
            "/own/0",
        ),
        (
            json!({"credentials": {"refresh_token": "r", "own": [1.10]}, "tokenEndpoint": "TOKEN", "clientId": "public",
                   "tokenEndpointAuthMethod": "none"}),
            "/credentials/refresh_token",
            "/credentials/own/0",
        ),
        (
            json!({"memberNames": {"refreshToken": "/myRefresh", "accessToken": "/myAccess"}, "myRefresh": "r", "tokenEndpoint": "TOKEN",
                   "clientId": "public", "tokenEndpointAuthMethod": "none", "own": [1.10]}),
            "/myRefresh",
            "/own/0",
        ),
    ] {
        let world = World::new().await;
        let document = document.to_string().replace("TOKEN", &format!("{}/token", world.server.issuer));
        world.create(&serde_json::from_str(&document).unwrap()).await;
        let waiting = Waiting::start(world.tokenctl(&[
            "login",
            SECRET,
            "--yes",
            "--authorization-endpoint",
            &format!("{}/authorize", world.server.issuer),
        ]))
        .await;
        waiting.call("code=c&state=STATE").await;
        waiting.end().await.done();
        let stored = world.document().await;
        assert_eq!(stored.pointer(refresh_token), Some(&Value::from(REFRESH_TOKEN)), "{document}");
        assert_eq!(stored.pointer(own), Some(&json!(1.10)), "{document}");
        // What the secret has already is not written a second time.
        assert_eq!(stored.to_string().matches("/token\"").count(), 1, "{document}");
    }
}

#[tokio::test]
async fn tokens_in_a_secret_are_replaced_only_after_a_question() {
    let world = World::new().await;
    world.create(&world.token(&json!({}))).await;
    let ended = run(world.login(&PUBLIC), "").await;
    ended
        .failed(2, "secret `myapp/prod/crm` has a refresh token, and its access token is good for")
        .failed(2, "; pass --yes");
    assert_eq!(world.server.received("/token").len(), 0);
}

#[tokio::test]
async fn another_server_and_another_client_get_nothing_of_the_one_before() {
    let world = World::new().await;
    let other = crate::server::AuthorizationServer::start().await;
    let before = json!({
        "tokenEndpoint": format!("{}/token", other.issuer), "clientId": "other", "clientSecret": "unseen-secret-of-other", "own": 1,
        "tokenEndpointAuthMethod": "client_secret_basic", "extraParameters": {"key": "unseen-key-of-other"}, "scope": "of.other",
        "loginSettings": {"issuer": other.issuer, "scope": "of.other", "redirectUri": "https://other.example/"},
        "registrationAccessToken": "unseen-registration-of-other",
    });
    world.create(&before).await;
    let waiting = world.start(&[]).await;
    assert_eq!(waiting.parameter("scope").as_deref(), Some("openid offline_access"));
    assert!(waiting.parameter("redirect_uri").unwrap().starts_with("http://127.0.0.1:"));
    waiting.call(&consented(&world)).await;
    let ended = waiting.end().await.done();
    assert!(ended.stderr.contains("was for another authorization server"), "{}", ended.stderr);
    let sent = format!("{:?}", world.server.received("/token"));
    assert!(!sent.contains("of-other"), "the server got a secret of another one");
    let document = world.document().await;
    for member in ["clientSecret", "extraParameters", "registrationAccessToken"] {
        assert_eq!(document.get(member), None, "{member}");
    }
    assert_eq!((&document["clientId"], &document["own"]), (&json!("public"), &json!(1)));

    // Another client at the same server.
    let mut before = world.document().await;
    before["clientSecret"] = json!("unseen-secret-of-public");
    before["tokenEndpointAuthMethod"] = json!("client_secret_basic");
    before["extraParameters"] = json!({"client_secret": "unseen-secret-of-public"});
    world.store.put_value(SECRET, &before.to_string().into()).await.unwrap();
    let command = world.login(&["--client-id", "second", "--yes", "--token-endpoint-auth-method", "none"]);
    let waiting = Waiting::start(command).await;
    waiting.call(&consented(&world)).await;
    waiting.end().await.done();
    assert_eq!(world.server.received("/token").pop().unwrap().authorization, None);
    for member in ["clientSecret", "extraParameters"] {
        assert_eq!(world.document().await.get(member), None);
    }
}

#[tokio::test]
async fn the_scopes_that_were_granted_are_asked_for_again() {
    for (scope, expected) in [
        (json!("orders.read offline_access"), "orders.read offline_access openid"),
        (json!(["orders.read", "b"]), "orders.read b openid offline_access"),
        (json!(null), "openid offline_access"),
    ] {
        let world = World::new().await;
        world.create(&world.token(&json!({"scope": scope}))).await;
        let waiting = world.start(&["--yes"]).await;
        assert_eq!(waiting.parameter("scope").as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_reader_that_closes_its_end_is_no_obstacle() {
    let world = World::new().await;
    let shell = |command: &str| {
        let mut shell = tokio::process::Command::new("bash");
        shell.args(["-c", &format!("set -o pipefail; {} {command} | head -c 0", env!("CARGO_BIN_EXE_tokenctl"))]);
        shell.current_dir(world.path()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        shell
    };
    run(shell("completions bash"), "").await.done();
    let login = format!(
        "--store dir:tokens login a --issuer {} {} --no-browser --timeout 1",
        world.server.issuer,
        PUBLIC.join(" ")
    );
    run(shell(&login), "").await.failed(1, "nobody consented within 1 s");
}

#[tokio::test]
async fn a_standard_error_that_cannot_be_written_does_not_stop_a_login() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let world = World::new().await;
    let mut wrong = world.tokenctl(&["login", "a", "--provider", "nobody"]);
    wrong.stderr(full());
    assert_eq!(run(wrong, "").await.code, 2);

    world.server.delay(Duration::from_millis(700));
    let mut login = world.login(&PUBLIC);
    login.stderr(full());
    let waiting = Waiting::start(login).await;
    let query = consented(&world);
    tokio::join!(waiting.call(&query), async {
        while world.server.received("/token").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        waiting.signal(Signal::SIGHUP);
    });
    waiting.end().await.done();
    assert_eq!(world.document().await["refreshToken"], REFRESH_TOKEN);
}

#[tokio::test]
async fn a_shared_client_is_sent_only_to_its_own_server() {
    let world = World::new().await;
    let evil = crate::server::AuthorizationServer::start().await;
    let own = json!({"tokenEndpoint": format!("{}/token", world.server.issuer), "clientId": "shared", "clientSecret": "unseen-shared-secret"});
    world.store.create("shared", &own.to_string().into()).await.unwrap();
    // Who may write the token secret, and not read the client's secret.
    let device = json!({"device": true, "deviceAuthorizationEndpoint": format!("{}/device", evil.issuer)});
    world.create(&json!({"clientCredentialsSecretId": "shared", "loginSettings": device})).await;
    run(world.tokenctl(&["login", SECRET]), "").await.failed(2, "the device authorization endpoint is at 127.0.0.1");
    evil.change_metadata(json!({"token_endpoint": format!("{}/token", world.server.issuer)}));
    let ended = run(world.tokenctl(&["login", SECRET, "--issuer", &evil.issuer, "--device"]), "").await;
    ended.failed(2, "the device authorization endpoint is at 127.0.0.1");
    assert!(evil.received("/device").is_empty(), "the client's secret was sent to another server");
    world
        .store
        .put_value(
            SECRET,
            &json!({"clientCredentialsSecretId": "shared", "tokenEndpoint": format!("{}/token", evil.issuer)})
                .to_string()
                .into(),
        )
        .await
        .unwrap();
    let authorize = format!("{}/authorize", evil.issuer);
    let ended = run(world.tokenctl(&["login", SECRET, "--authorization-endpoint", &authorize]), "").await;
    ended.failed(1, "is not the endpoint that its `clientSecret` belongs to");
}

#[tokio::test]
async fn a_client_of_its_own_takes_the_place_of_a_shared_one() {
    let world = World::new().await;
    let shared = json!({"tokenEndpoint": format!("{}/token", world.server.issuer), "clientId": "shared", "clientSecret": "unseen-shared-secret"});
    world.store.create("shared", &shared.to_string().into()).await.unwrap();
    world.create(&json!({"clientCredentialsSecretId": "shared"})).await;
    let waiting = world.start(&[]).await;
    waiting.call(&consented(&world)).await;
    waiting.end().await.done();
    assert_eq!(world.document().await.get("clientCredentialsSecretId"), None);
    assert!(
        !format!("{:?}", world.server.received("/token")).contains("unseen-shared-secret"),
        "the shared secret was sent"
    );
}

#[tokio::test]
async fn a_login_refuses_names_of_members_from_the_environment() {
    let world = World::new().await;
    let mut login = world.login(&[]);
    login.env("MEMBER_NAMES", r#"{"refreshToken":"/a/b"}"#);
    run(login, "").await.failed(2, "set `memberNames` in the secret");
}

#[tokio::test]
async fn a_scope_that_was_not_granted_is_a_warning() {
    let world = World::new().await;
    world.server.respond_next(
        200,
        json!({"access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN, "scope": "orders.read"}),
    );
    let waiting = world.start(&["--scope", "orders.read ordres.write"]).await;
    waiting.call(&consented(&world)).await;
    let ended = waiting.end().await.done();
    assert!(
        ended.stderr.contains("warning: the provider did not grant `ordres.write`: check the scopes"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_secret_that_others_change_during_a_login_is_not_damaged() {
    // Another person logs in.
    let world = World::new().await;
    let (first, second) = (world.start(&[]).await, world.start(&[]).await);
    first.call(&consented(&world)).await;
    first.end().await.done();
    second.call(&consented(&world)).await;
    let ended = second.end().await.done();
    assert!(ended.stderr.contains("warning: somebody else wrote the secret while you logged in"), "{}", ended.stderr);

    // It is deleted, or it is for another server then: the tokens go to a file.
    for elsewhere in [None, Some("https://elsewhere.example/token")] {
        let world = World::new().await;
        world.create(&world.token(&json!({}))).await;
        let waiting = world.start(&["--yes"]).await;
        match elsewhere {
            None => std::fs::remove_file(world.path().join("tokens/myapp%2Fprod%2Fcrm.json")).unwrap(),
            Some(endpoint) => {
                let document = world.token(&json!({"tokenEndpoint": endpoint})).to_string();
                world.store.put_value(SECRET, &document.into()).await.unwrap();
            }
        }
        waiting.call(&consented(&world)).await;
        waiting.end().await.failed(1, "while you logged in").failed(1, "THE TOKENS ARE IN THE FILE");
        assert_eq!(world.files().len(), 1);
    }
}

#[tokio::test]
async fn tokens_do_not_go_to_a_client_that_others_have_set_meanwhile() {
    let elsewhere = "https://elsewhere.example/token";
    for (before, meanwhile, is_stored) in [
        // What this login sets itself is no conflict.
        (Some(json!({})), json!({"tokenEndpoint": "SAME"}), true),
        (Some(json!({})), json!({"tokenEndpoint": "SAME", "clientId": "public"}), true),
        (None, json!({"note": 1}), true),
        (None, json!({"tokenEndpoint": elsewhere, "clientId": "public"}), false),
        (None, json!({"provider": "xero", "clientId": "public"}), false),
        (Some(json!({})), json!({"clientId": "somebody"}), false),
        (Some(json!({"clientId": "before"})), json!({"clientId": "somebody"}), false),
        (Some(json!({"clientId": "before"})), json!({"clientId": "before", "note": 1}), true),
        (Some(json!({})), json!({"clientCredentialsSecretId": "shared"}), false),
    ] {
        let world = World::new().await;
        let document = |value: &serde_json::Value| {
            let own = format!("{}/token", world.server.issuer);
            token_refresher::secret::Secret::from(value.to_string().replace("SAME", &own))
        };
        if let Some(before) = &before {
            world.store.create(SECRET, &document(before)).await.unwrap();
        }
        let waiting = world.start(&["--yes"]).await;
        match before {
            Some(_) => world.store.put_value(SECRET, &document(&meanwhile)).await.unwrap(),
            None => world.store.create(SECRET, &document(&meanwhile)).await.unwrap(),
        };
        waiting.call(&consented(&world)).await;
        let ended = waiting.end().await;
        let stored = world.document().await["refreshToken"] == REFRESH_TOKEN;
        assert_eq!((stored, world.files().is_empty()), (is_stored, is_stored), "{meanwhile}: {}", ended.stderr);
    }
}

/// The server that a client belongs to may be known only in another way than by a `tokenEndpoint`.
#[tokio::test]
async fn a_client_of_a_server_that_is_known_otherwise_is_not_sent_to_another_one() {
    for before in [
        json!({"clientCredentialsSecretId": "shared", "clientSecret": "unseen-secret-of-other", "refreshToken": "unseen-r"}),
        json!({"token_uri": "OTHER/token", "client_id": "c", "client_secret": "unseen-secret-of-other", "refresh_token": "unseen-r"}),
        json!({"provider": "google", "clientId": "c", "clientSecret": "unseen-secret-of-other", "refreshToken": "unseen-r"}),
        json!({"loginSettings": {"authorizationEndpoint": "OTHER/authorize"}, "clientId": "c", "clientSecret": "unseen-secret-of-other"}),
    ] {
        let world = World::new().await;
        let other = "https://other.example";
        let shared = json!({"tokenEndpoint": format!("{other}/token"), "clientId": "c"});
        world.store.create("shared", &shared.to_string().into()).await.unwrap();
        world.store.create(SECRET, &before.to_string().replace("OTHER", other).into()).await.unwrap();
        let waiting = world.start(&["--yes"]).await;
        waiting.call(&consented(&world)).await;
        let ended = waiting.end().await.done();
        assert!(ended.stderr.contains("was for another authorization server"), "{}", ended.stderr);
        let sent = format!("{:?}", world.server.received("/token"));
        assert!(!sent.contains("of-other"), "the server got a secret of another one");
    }
}

#[tokio::test]
async fn a_secret_for_another_grant_and_a_provider_without_a_login_are_refused() {
    let world = World::new().await;
    world.create(&json!({"grantType": "client_credentials", "clientId": "c", "clientSecret": "unseen-secret"})).await;
    run(world.login(&[]), "").await.failed(1, "has the `grantType` \"client_credentials\", which needs no login");
    for (arguments, text) in [
        (&["login", "a", "--provider", "google-service-account"][..], "needs no login: its grant is"),
        (
            &["login", "a", "--provider", "xer0"],
            "the provider \"xer0\" is not one of those in docs/providers.md (is \"xero\" meant?)",
        ),
        (&["login", "a", "--provider", "zendesk"], "the variable `subdomain` of Zendesk (Support) is missing"),
        (&["login", "a", "--client-id", "c"], "secret `a` does not exist in /"),
        (&["login", "a", "--authorization-endpoint", "http://id.example/authorize"], "is http to id.example"),
        (&["login", "a", "--issuer", "http://127.0.0.1:9"], "did not answer"),
        (&["login", "a", "--token-endpoint-auth-method", "basic"], "allowed is one of"),
        (&["login", "a", "--provider", "slack", "--device"], "no device authorization endpoint is known"),
    ] {
        run(world.tokenctl(arguments), "").await.failed(2, text);
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_is_refused() {
    let world = World::new().await;
    world.server.change_metadata(json!({"issuer": "https://evil.example"}));
    run(world.login(&PUBLIC), "").await.failed(1, "names another issuer, \"https://evil.example\"");
    world.server.change_metadata(json!({"token_endpoint": null}));
    run(world.login(&PUBLIC), "").await.failed(1, "has no `token_endpoint`");
    world.server.change_metadata(json!({"token_endpoint": "http://evil.example/token"}));
    run(world.login(&PUBLIC), "").await.failed(1, "its `token_endpoint` is http to evil.example");
}

/// A provider by name, at its own address: a proxy leads to the server of the test, which has a certificate for that host.
#[tokio::test]
async fn a_named_provider_brings_its_addresses_and_keeps_what_its_redirect_says() {
    let world = World::new().await;
    let tls = TlsProxy::as_host("oauth.platform.intuit.com", &world.server.issuer).await;
    let tunnel = Tunnel::to(tls.url()).await;
    world.server.respond_next(404, json!({}));
    let mut command = world.tokenctl(&[
        "login",
        SECRET,
        "--provider",
        "quickbooks",
        "--client-id",
        "c",
        "--scope",
        "com.intuit.quickbooks.accounting",
        "--client-credentials-secret-id",
        "client",
    ]);
    world.store.create("client", &json!({"clientSecret": "unseen-secret-of-client"}).to_string().into()).await.unwrap();
    command.env("SSL_CERT_FILE", tls.authority_file()).env("HTTPS_PROXY", tunnel.url());
    let waiting = Waiting::start(command).await;
    assert_eq!(waiting.address.host_str(), Some("appcenter.intuit.com"));
    waiting.call("code=c&state=STATE&realmId=4620816365").await;
    // The address of the profile, which the test's server does not have.
    waiting.end().await.failed(1, "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer");
    assert_eq!(world.server.received("/oauth2/v1/tokens/bearer").len(), 1);
}

#[tokio::test]
async fn parameters_of_the_redirect_are_kept_on_request() {
    let world = World::new().await;
    let waiting = world.start(&["--keep-from-redirect", "realmId"]).await;
    waiting.call(&format!("{}&realmId=4620816365&other=1", consented(&world))).await;
    let ended = waiting.end().await.done();
    assert!(ended.stderr.contains("Stored from the redirect: realmId."), "{}", ended.stderr);
    assert_eq!(world.document().await["tokenResponse"], json!({"realmId": "4620816365"}));
}

#[tokio::test]
async fn pkce_is_off_where_an_option_says_so() {
    let world = World::new().await;
    let waiting = world.start(&["--no-pkce"]).await;
    assert_eq!(waiting.parameter("code_challenge"), None);
    waiting.call(&consented(&world)).await;
    waiting.end().await.done();
    assert_eq!(world.server.received("/token").pop().unwrap().parameter("code_verifier"), None);
    assert_eq!(world.document().await["loginSettings"]["noPkce"], json!(true));
}

#[tokio::test]
async fn ctrl_c_stores_nothing_before_the_exchange_and_everything_from_it_on() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let world = World::new().await;
        let waiting = world.start(&[]).await;
        waiting.signal(signal);
        waiting.end().await.failed(130, "interrupted; nothing was stored");
        assert!(!world.exists().await);

        let world = World::new().await;
        world.server.delay(Duration::from_millis(700));
        let waiting = world.start(&[]).await;
        let query = consented(&world);
        let (page, ()) = tokio::join!(waiting.call(&query), async {
            while world.server.received("/token").is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            waiting.signal(signal);
        });
        assert_eq!(page.0, 200);
        let ended = waiting.end().await.done();
        assert!(ended.stderr.contains("Storing the tokens first"), "{}", ended.stderr);
        assert_eq!(world.document().await["refreshToken"], REFRESH_TOKEN);
    }
}
