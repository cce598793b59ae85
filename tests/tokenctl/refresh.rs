//! `tokenctl refresh` and `tokenctl token`.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::{
    process::{With, command, ended, run},
    server::{ACCESS_TOKEN, REFRESH_TOKEN},
    support::secrets_manager::{Effect, FakeSecretsManager, Fault, PUT},
    world::{SECRET, World},
};

#[tokio::test]
async fn a_token_is_refreshed_if_it_is_due_or_by_force() {
    let world = World::new().await;
    world.create(&world.token(&json!({}))).await;
    let ended = run(world.tokenctl(&["refresh", SECRET]), "").await.done();
    assert!(
        ended.stdout.starts_with("myapp/prod/crm: skipped, it is not due; the access token expires in "),
        "{}",
        ended.stdout
    );
    let ended = run(world.tokenctl(&["refresh", SECRET, "--dry-run"]), "").await.done();
    assert!(ended.stdout.contains("skipped"), "{}", ended.stdout);
    assert!(world.server.received("/token").is_empty());
    let ended = run(world.tokenctl(&["refresh", SECRET, "--force"]), "").await.done();
    assert_eq!(ended.stdout, "myapp/prod/crm: refreshed; the access token expires in 59 min\n");
    let sent = world.server.received("/token").pop().unwrap();
    assert_eq!(sent.parameter("refresh_token").as_deref(), Some("unseen-old-refresh-token"));

    world.store.create("myapp/prod/due", &world.token(&json!({"expiresAt": 0})).to_string().into()).await.unwrap();
    world.store.create("myapp/prod/other", &json!({"password": "unseen"}).to_string().into()).await.unwrap();
    let ended = run(world.tokenctl(&["refresh", "myapp/*", "--dry-run"]), "").await.done();
    assert!(
        ended.stdout.contains("myapp/prod/due: would be refreshed") && !ended.stdout.contains("other"),
        "{}",
        ended.stdout
    );
    let ended = run(world.tokenctl(&["refresh", "myapp/*"]), "").await.done();
    assert!(
        ended.stdout.contains("myapp/prod/due: refreshed") && ended.stdout.contains("myapp/prod/crm: skipped"),
        "{}",
        ended.stdout
    );
    run(world.tokenctl(&["refresh", "myapp/*", "--force"]), "").await.failed(2, "--force needs the names of secrets");
    run(world.tokenctl(&["refresh", "nobody"]), "").await.failed(1, "was not found");
    run(world.tokenctl(&["refresh", "nobody/*"]), "").await.failed(2, "no secret was found");
}

#[tokio::test]
async fn the_settings_of_the_function_are_read_from_the_environment() {
    let world = World::new().await;
    world.create(&json!({"refreshToken": "unseen-old-refresh-token"})).await;
    let endpoint = format!("{}/token", world.server.issuer);
    let mut refresh = world.tokenctl(&["refresh", SECRET]);
    refresh.envs([
        ("TOKEN_ENDPOINT", endpoint.as_str()),
        ("CLIENT_ID", "of-environment"),
        ("TOKEN_ENDPOINT_AUTH_METHOD", "none"),
    ]);
    run(refresh, "").await.done();
    assert_eq!(
        world.server.received("/token").pop().unwrap().parameter("client_id").as_deref(),
        Some("of-environment")
    );
    let mut wrong = world.tokenctl(&["refresh", SECRET]);
    wrong.env("CLAIM", "sometimes");
    run(wrong, "").await.failed(2, "CLAIM is \"sometimes\"");
}

#[tokio::test]
async fn two_refreshes_at_once_exchange_a_token_once() {
    for _ in 0..5 {
        let world = World::new().await;
        world.server.delay(Duration::from_millis(200));
        world.create(&world.token(&json!({"expiresAt": 0}))).await;
        let both =
            tokio::join!(run(world.tokenctl(&["refresh", SECRET]), ""), run(world.tokenctl(&["refresh", SECRET]), ""));
        let outputs = [both.0.done().stdout, both.1.done().stdout];
        assert!(outputs.iter().any(|output| output.contains("refreshed")), "{outputs:?}");
        assert_eq!(world.server.received("/token").len(), 1, "{outputs:?}");
    }
}

#[tokio::test]
async fn ctrl_c_lets_an_exchange_end() {
    let world = World::new().await;
    world.server.delay(Duration::from_millis(700));
    world.create(&world.token(&json!({"expiresAt": 0}))).await;
    let child = world.tokenctl(&["refresh", SECRET]).spawn().unwrap();
    while world.server.received("/token").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    let ended = ended(output.status.code(), &output.stdout, &output.stderr).done();
    assert!(ended.stderr.contains("Finishing the run first"), "{}", ended.stderr);
    assert_eq!(world.document_with_labels().await.0["refreshToken"], REFRESH_TOKEN);
}

fn with_aws(world: &World, aws: &FakeSecretsManager, arguments: &[&str]) -> Command {
    let mut command =
        command(world.path()).with(["--region", "eu-west-1", "--endpoint-url", aws.url()]).with(arguments);
    command.envs([("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "unseen-aws-key-of-test")]);
    command
}

#[tokio::test]
async fn new_tokens_that_the_store_refuses_for_a_while_are_written_before_the_end() {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    aws.create(SECRET, world.token(&json!({"expiresAt": 0})));
    // The claim is written; then the store refuses for a while.
    aws.fault(Fault::on(PUT, Effect::AccessDenied).after(1).times(12));
    run(with_aws(&world, &aws, &["refresh", SECRET]), "").await.done();
    assert_eq!(world.files(), <[String; 0]>::default());
    assert!(aws.current(SECRET).1.contains(REFRESH_TOKEN));
    assert_eq!(world.server.received("/token").len(), 1);
}

#[tokio::test]
async fn tokens_that_the_store_never_takes_are_in_a_file() {
    let content = file_after_ctrl_c(None, "THE TOKENS ARE IN THE FILE tokenctl-myapp-prod-crm-").await;
    assert!(content.contains(REFRESH_TOKEN), "the file lacks the new token");
}

#[tokio::test]
async fn a_response_that_cannot_be_understood_and_that_the_store_never_takes_is_in_a_file() {
    let response = json!({"access_token": {"value": "unseen-new-access"}, "refresh_token": "unseen-new-refresh"});
    let text = "THE RESPONSE OF THE PROVIDER IS IN THE FILE tokenctl-myapp-prod-crm-";
    let content = file_after_ctrl_c(Some(response), text).await;
    assert!(content.contains("unseen-new-refresh"), "the file lacks the new token");
}

/// The store takes the claim and nothing else. The file is there after the first try, which takes a minute, and Ctrl-C ends the others.
async fn file_after_ctrl_c(response: Option<serde_json::Value>, text: &str) -> String {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    aws.create(SECRET, world.token(&json!({"expiresAt": 0})));
    if let Some(response) = response {
        world.server.respond_next(200, response);
    }
    aws.fault(Fault::on(PUT, Effect::AccessDenied).after(1).always());
    let child = with_aws(&world, &aws, &["refresh", SECRET]).spawn().unwrap();
    while world.files().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let id = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    ended(output.status.code(), &output.stdout, &output.stderr).failed(1, text);
    let [file] = &world.files()[..] else { panic!("{:?}", world.files()) };
    std::fs::read_to_string(world.path().join(file)).unwrap()
}

#[tokio::test]
async fn a_token_is_printed_only_if_it_is_good_for_long_enough() {
    let world = World::new().await;
    for (seconds, arguments, expected) in [
        (3600, &[][..], Ok(format!("{ACCESS_TOKEN}\n"))),
        (3600, &["--header"], Ok(format!("Authorization: Bearer {ACCESS_TOKEN}\n"))),
        (3600, &["--min-ttl", "3500"], Ok(format!("{ACCESS_TOKEN}\n"))),
        (3600, &["--min-ttl", "3700"], Err((2, "expires in 59 min, and 61 min are asked for"))),
        (50, &[], Err((2, "expires in 49 s, and 60 s are asked for"))),
        (50, &["--min-ttl", "0"], Ok(format!("{ACCESS_TOKEN}\n"))),
        (-5, &["--min-ttl", "0"], Err((1, "run `tokenctl --store dir:tokens refresh crm`"))),
    ] {
        let end = (Utc::now() + TimeDelta::seconds(seconds)).timestamp_millis();
        let document = world.token(&json!({"accessToken": ACCESS_TOKEN, "expiresAt": end})).to_string();
        match world.store.create("crm", &document.as_str().into()).await {
            Ok(_) => {}
            Err(_) => drop(world.store.put_value("crm", &document.into()).await.unwrap()),
        }
        // Not through `run`: the token is what the command prints.
        let output = world.tokenctl(&["token", "crm"]).with(arguments).output().await.unwrap();
        let messages = String::from_utf8(output.stderr).unwrap();
        match expected {
            Ok(expected) => assert!(output.stdout == expected.as_bytes(), "{seconds} {arguments:?}: {messages}"),
            Err((code, text)) => {
                assert_eq!(output.status.code(), Some(code), "{messages}");
                assert!(messages.contains(text) && output.stdout.is_empty(), "{messages}");
            }
        }
    }
    let document = json!({"refreshToken": REFRESH_TOKEN}).to_string();
    world.store.create("empty", &document.into()).await.unwrap();
    run(world.tokenctl(&["token", "empty"]), "").await.failed(1, "has no access token yet");
}
