//! `tokenctl doctor`.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    process::{With, command, run},
    support::secrets_manager::{Effect, FakeSecretsManager, Fault, LIST, MOVE, PUT},
    world::{SECRET, World},
};

/// The finding and the rest of each line with this word.
fn lines<'a>(output: &'a str, what: &str) -> Vec<(&'a str, String)> {
    let words = |line: &'a str| {
        let mut words = line.split_whitespace();
        (words.next().unwrap_or_default(), words.collect::<Vec<_>>().join(" "))
    };
    output.lines().map(words).filter(|(_, rest)| rest.starts_with(what)).collect()
}

async fn doctor(world: &World, document: &Value, arguments: &[&str]) -> (i32, String) {
    world.create(document).await;
    let ended = run(world.tokenctl(&["doctor", SECRET]).with(arguments), "").await;
    (ended.code, ended.stdout)
}

#[tokio::test]
async fn a_token_that_is_all_right_has_no_remark_and_is_not_sent() {
    let world = World::new().await;
    let end = (Utc::now() + TimeDelta::minutes(50)).timestamp_millis();
    let refreshed = (Utc::now() - TimeDelta::minutes(10)).timestamp_millis();
    let (code, output) =
        doctor(&world, &world.token(&json!({"expiresAt": end, "refreshedAt": refreshed})), &["--write"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.lines().all(|line| line.starts_with("ok ")), "{output}");
    for (what, text) in [
        ("secret", "version "),
        ("document", "a token secret with a refresh token"),
        ("client", "/token, authenticates by none"),
        ("endpoint", "127.0.0.1 answers on this machine (status 200)"),
        ("permission", "may put a version"),
        ("permission", "may move a label"),
        ("expiry", "in 49 min; a token is refreshed about every 45 min"),
        ("versions", "2 of 100 used, room for 98 now; refreshes need about 64 a day"),
        ("state", "fresh"),
        ("not checked", "whether the provider accepts the tokens"),
    ] {
        assert!(lines(&output, what).iter().any(|(_, rest)| rest.contains(text)), "{what} {text}: {output}");
    }
    let sent = world.server.received("/token");
    assert!(
        sent.iter().all(|request| request.body.is_empty() && request.authorization.is_none()),
        "the token was sent"
    );
    world.document().await;
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_remedy() {
    let world = World::new().await;
    let closed = "http://127.0.0.1:9/token";
    let ago = (Utc::now() - TimeDelta::days(1)).timestamp_millis();
    let soon = (Utc::now() + TimeDelta::days(2)).timestamp_millis();
    for (changes, code, what, finding, text) in [
        (json!({"clientId": " c", "extraHeaders": 1}), 1, "document", "wrong", "`clientId` has a blank at its start"),
        (json!({"clientId": " c", "extraHeaders": 1}), 1, "document", "wrong", "`extraHeaders` is a number"),
        (json!({"refreshMarginSecond": 60}), 0, "document", "warning", "`refreshMarginSecond`"),
        (json!({"clientId": null}), 1, "client", "wrong", "`clientId` is neither in it"),
        (json!({"clientCredentialsSecretId": "nobody"}), 1, "client", "wrong", "secret `nobody` was not found"),
        (json!({"tokenEndpoint": closed}), 2, "endpoint", "unknown", "127.0.0.1 cannot be reached: Connection refused"),
        (json!({"refreshTokenExpiresAt": ago}), 1, "refresh token", "wrong", "ended 24 h ago"),
        (json!({"refreshTokenExpiresAt": soon}), 0, "refresh token", "warning", "ends in 47 h"),
        (json!({"expiresAt": null}), 0, "expiry", "warning", "no expiry is known"),
        (
            json!({"refreshedAt": Utc::now().timestamp_millis(), "expiresAt": (Utc::now() + TimeDelta::minutes(5)).timestamp_millis()}),
            1,
            "versions",
            "wrong",
            "see CLAIM=never",
        ),
    ] {
        let world_ = World::new().await;
        let (found, output) = doctor(&world_, &world.token(&changes), &[]).await;
        let lines = lines(&output, what);
        assert!(lines.iter().any(|(word, rest)| *word == finding && rest.contains(text)), "{changes}: {output}");
        assert_eq!(found, code, "{changes}: {output}");
    }
    run(world.tokenctl(&["doctor", "nobody"]), "").await.failed(1, "secret `nobody` does not exist in ");
}

#[tokio::test]
async fn permissions_that_are_missing_are_named() {
    let world = World::new().await;
    for (fault, arguments, code, text) in [
        (
            Fault::on(LIST, Effect::AccessDenied).always(),
            &[][..],
            1,
            "not allowed to secretsmanager:ListSecretVersionIds",
        ),
        (Fault::on(PUT, Effect::AccessDenied).always(), &[], 0, "to write is not tried"),
        (
            Fault::on(PUT, Effect::AccessDenied).always(),
            &["--write"],
            1,
            "not allowed to secretsmanager:PutSecretValue",
        ),
        (
            Fault::on(MOVE, Effect::AccessDenied).always(),
            &["--write"],
            1,
            "not allowed to secretsmanager:UpdateSecretVersionStage",
        ),
    ] {
        let aws = FakeSecretsManager::start().await;
        aws.create(SECRET, world.token(&json!({})));
        aws.fault(fault);
        let mut doctor =
            command(world.path()).with(["--region", "eu-west-1", "--endpoint-url", aws.url(), "doctor", SECRET]);
        doctor
            .args(arguments)
            .envs([("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "unseen-aws-key-of-test")]);
        let ended = run(doctor, "").await;
        assert!(ended.code == code && ended.stdout.contains(text), "{text}: {} {}", ended.code, ended.stdout);
    }
}
