//! `tokenctl status` and `tokenctl history`.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use token_refresher::{
    protocol::{
        ids::TokenKey,
        record::{Claim, Record, holder},
    },
    store::{Label, SecretStore, Selector, VersionId},
    token_secret::TokenSecret,
};

use crate::{
    process::{With, command, run},
    support::secrets_manager::{Effect, FakeSecretsManager, Fault, GET},
    world::World,
};

impl World {
    async fn put(&self, name: &str, document: &Value) -> TokenKey {
        let text = document.to_string();
        self.store.create(name, &text.as_str().into()).await.unwrap();
        let version = self.store.get(name, Selector::Label(Label::Current)).await.unwrap();
        let token =
            TokenSecret::parse(&text).unwrap_or_else(|_| TokenSecret::parse(r#"{"refreshToken":"none"}"#).unwrap());
        TokenKey::of(&version.arn, &token.tokens, &token.client)
    }

    async fn claim(&self, name: &str, key: &TokenKey, attempt: u32, lease: TimeDelta) {
        let claim = Claim { attempt, lease_ends_at: Utc::now() + lease, client_settings: None };
        let text = Record::Claim(claim).to_text(key, &holder());
        self.store.put(name, &key.claim(attempt), Label::Claim, &text).await.unwrap();
    }

    async fn statuses(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let ended = run(self.tokenctl(&["status", "--json"]).with(arguments), "").await;
        (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.stderr)))
    }
}

/// Milliseconds from now on.
fn in_minutes(minutes: i64) -> i64 {
    (Utc::now() + TimeDelta::minutes(minutes)).timestamp_millis()
}

#[tokio::test]
async fn each_state_of_a_token_has_its_name_and_its_exit_code() {
    let world = World::new().await;
    let token = |minutes: i64| world.token(&json!({"expiresAt": in_minutes(minutes), "refreshedAt": in_minutes(-30)}));
    world.put("app/fresh", &token(60)).await;
    world.put("app/due", &token(-9)).await;
    world.put("app/expired", &token(-11)).await;
    let key = world.put("app/claimed", &token(-1)).await;
    world.claim("app/claimed", &key, 0, TimeDelta::minutes(1)).await;
    let key = world.put("app/backing-off", &token(-1)).await;
    for attempt in 0..3 {
        world.claim("app/backing-off", &key, attempt, TimeDelta::minutes(-1)).await;
    }
    world.claim("app/backing-off", &key, 3, TimeDelta::minutes(1)).await;
    world.store.move_label("app/backing-off", Label::Ended, None, &key.claim(3)).await.unwrap();
    let key = world.put("app/staged", &token(-1)).await;
    world.store.put("app/staged", &key.staged(), Label::Staged, &token(60).to_string().into()).await.unwrap();
    world.put("app/wrong", &world.token(&json!({"tokenEndpoint": "http://id.example/token", "expiresAt": 0}))).await;
    world.put("app/other", &json!({"password": "unseen-password-of-app"})).await;

    world.put("refused", &token(-1)).await;
    world.server.respond_next(400, json!({"error": "invalid_grant"}));
    run(world.tokenctl(&["refresh", "refused"]), "").await.failed(1, "`tokenctl login refused`");

    let (code, statuses) = world.statuses(&["app/*", "refused", "app/other", "missing"]).await;
    let found: Vec<_> = statuses
        .iter()
        .map(|status| (status["secretId"].as_str().unwrap(), status["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            ("app/backing-off", "backing_off"),
            ("app/claimed", "claimed"),
            ("app/due", "due"),
            ("app/expired", "expired"),
            ("app/fresh", "fresh"),
            ("app/other", "not_a_token"),
            ("app/staged", "staged"),
            ("app/wrong", "failed"),
            ("refused", "needs_consent"),
            ("missing", "not_a_token"),
        ]
    );
    assert_eq!(code, 1);
    let fresh = &statuses[4];
    assert_eq!(
        (&fresh["provider"], &fresh["versions"], &fresh["versionLimit"]),
        (&json!("127.0.0.1"), &json!(1), &json!(100))
    );
    assert!((3500..=3600).contains(&fresh["expiresInSeconds"].as_i64().unwrap()), "{fresh}");
    assert!(statuses[1]["retryAt"].is_string() && statuses[0]["retryAt"].is_string());
    assert_eq!(statuses[8]["errorType"], "ReauthorizationRequired");
    assert!(statuses[8]["message"].as_str().unwrap().contains("`tokenctl login refused`"));

    for (secret, code) in [
        ("app/fresh", 0),
        ("app/due", 0),
        ("app/claimed", 0),
        ("app/backing-off", 0),
        ("app/staged", 0),
        ("app/expired", 1),
        ("app/wrong", 1),
        ("refused", 1),
        ("app/other", 1),
    ] {
        assert_eq!(world.statuses(&[secret]).await.0, code, "{secret}");
    }
    // Asking has changed nothing.
    assert_eq!(world.server.received("/token").len(), 1);
    run(world.tokenctl(&["status", "nothing/*"]), "").await.failed(2, "no token secret was found (nothing/*)");
    run(world.tokenctl(&["status", "*"]), "").await.failed(2, "which selects every secret of the account");
}

#[tokio::test]
async fn the_table_is_plain_in_a_pipe() {
    let world = World::new().await;
    world
        .put(
            "app/a",
            &world.token(&json!({"provider": "xero", "expiresAt": in_minutes(61), "refreshedAt": in_minutes(-31)})),
        )
        .await;
    world.put("app/longer-name", &world.token(&json!({"expiresAt": in_minutes(-61)}))).await;
    let ended = run(world.tokenctl(&["status", "app/*"]), "").await;
    assert_eq!(ended.code, 1);
    let expected = [
        "SECRET           PROVIDER   STATE    EXPIRES IN  REFRESHED   REFRESH TOKEN ENDS  VERSIONS",
        "app/a            xero       fresh    60 min      31 min ago  -                   1 of 100",
        "app/longer-name  127.0.0.1  expired  61 min ago  -           -                   1 of 100",
    ];
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), expected);
    assert!(!ended.stdout.contains('\u{1b}'));
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_is_exit_code_2() {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    aws.create("crm", world.token(&json!({})));
    let status = |name: &str| {
        let mut status =
            command(world.path()).with(["--region", "eu-west-1", "--endpoint-url", aws.url(), "status", name]);
        status.envs([("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "unseen-aws-key-of-test")]);
        status
    };
    run(status("crm"), "").await.done();
    run(status("cr*"), "").await.done();
    aws.fault(Fault::on(GET, Effect::AccessDenied).always());
    let ended = run(status("crm"), "").await;
    assert_eq!(ended.code, 2);
    assert!(ended.stdout.contains("unknown") && ended.stderr.contains("not allowed to secretsmanager:GetSecretValue"));
    aws.clear_faults();
    aws.fault(Fault::on(GET, Effect::InternalError).always());
    assert_eq!(run(status("crm"), "").await.code, 2);
}

#[tokio::test]
async fn a_timeline_tells_what_came_of_each_version() {
    let world = World::new().await;
    world.put("crm", &world.token(&json!({"expiresAt": 0}))).await;
    run(world.tokenctl(&["refresh", "crm"]), "").await.done();
    world.server.respond_next(503, json!({}));
    run(world.tokenctl(&["refresh", "crm", "--force"]), "").await.failed(2, "answered 503");
    let ended = run(world.tokenctl(&["history", "crm"]), "").await.done();
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let rows: Vec<String> =
        lines.iter().map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")).collect();
    let first = lines[1].split_whitespace().nth(1).unwrap();
    let current = lines[3].split_whitespace().nth(1).unwrap();
    assert_eq!(rows[1], "AWSPREVIOUS put by a person or another program, good until 1970-01-01T00:00:00Z");
    assert_eq!(rows[2], format!("attempt 1: a run claimed the tokens of {first}; new tokens were staged"));
    assert!(
        rows[3]
            .starts_with(&format!("AWSCURRENT OAUTH_STAGED current: new tokens in exchange for the tokens of {first}")),
        "{}",
        rows[3]
    );
    let claimed = format!(
        "OAUTH_CLAIM OAUTH_ENDED attempt 1: a run claimed the tokens of {current}; it ended without new tokens"
    );
    assert_eq!(rows[4], claimed);
    assert!(ended.stderr.contains("a refresh token is good for one exchange"), "{}", ended.stderr);
    run(world.tokenctl(&["history", "nobody"]), "").await.failed(1, "was not found");
    let unlabelled = VersionId::random();
    world.store.put("crm", &unlabelled, Label::Entered, &"not JSON".into()).await.unwrap();
    let ended = run(world.tokenctl(&["history", "crm"]), "").await.done();
    assert!(ended.stdout.contains("OAUTH_ENTERED"), "{}", ended.stdout);
}

#[tokio::test]
async fn an_output_that_nobody_takes_ends_the_command() {
    let world = World::new().await;
    world.create(&world.token(&json!({}))).await;
    for (arguments, expected) in [
        ("status myapp/* --watch=1 | head -1", "2 0"),
        ("status myapp/* --json > /dev/full", "2"),
        ("status myapp/* > /dev/full", "2"),
        ("history myapp/prod/crm > /dev/full", "2"),
    ] {
        let mut shell = tokio::process::Command::new("bash");
        let command = format!(
            "set -f; {} --store dir:tokens {arguments}; echo ${{PIPESTATUS[@]}}",
            env!("CARGO_BIN_EXE_tokenctl")
        );
        shell.args(["-c", &command]).current_dir(world.path());
        shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let ended = run(shell, "").await;
        assert_eq!(ended.stdout.lines().last(), Some(expected), "{arguments}: {}", ended.stderr);
    }
}
