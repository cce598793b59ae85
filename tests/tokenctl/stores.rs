//! The stores: AWS Secrets Manager with its options, and the guarded write in it.

use std::fs;

use serde_json::{Value, json};
use token_refresher::{protocol::ids::TokenKey, store::VersionId, token_secret::TokenSecret};
use tokio::process::Command;

use crate::{
    process::{Waiting, With, command, run},
    server::{ACCESS_TOKEN, REFRESH_TOKEN},
    support::secrets_manager::{CREATE, Effect, FakeSecretsManager, Fault, GET, LIST, MOVE, PUT},
    world::{PUBLIC, SECRET, World},
};

const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "unseen-aws-secret-access-key")];

/// The program with Secrets Manager.
fn tokenctl(world: &World, aws: &FakeSecretsManager, arguments: &[&str]) -> Command {
    let mut command =
        command(world.path()).with(["--region", "eu-west-1", "--endpoint-url", aws.url()]).with(arguments);
    command.envs(KEYS);
    command
}

async fn start(world: &World, aws: &FakeSecretsManager, arguments: &[&str]) -> Waiting {
    let login = tokenctl(world, aws, &["login", SECRET, "--issuer", &world.server.issuer]);
    Waiting::start(login.with(PUBLIC).with(arguments)).await
}

async fn consent(world: &World, waiting: &Waiting) -> (u16, String) {
    let issuer = form_urlencoded::byte_serialize(world.server.issuer.as_bytes()).collect::<String>();
    waiting.call(&format!("code=c&state=STATE&iss={issuer}")).await
}

fn document(aws: &FakeSecretsManager) -> Value {
    serde_json::from_str(&aws.current(SECRET).1).unwrap()
}

fn labels(aws: &FakeSecretsManager) -> Vec<String> {
    aws.edit(SECRET, |versions, _| {
        versions
            .list(true)
            .into_iter()
            .flat_map(|version| version.labels.names().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    })
}

#[tokio::test]
async fn a_secret_is_created_and_updated_beside_what_others_write() {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    let waiting = start(&world, &aws, &[]).await;
    assert!(consent(&world, &waiting).await.1.contains("Logged in"));
    waiting.end().await.done();
    assert_eq!(document(&aws)["refreshToken"], REFRESH_TOKEN);
    assert_eq!(labels(&aws), ["AWSCURRENT"]);

    // A person edits the secret right before the version becomes current: the edit is kept, and the tokens are new.
    world.server.respond_next(
        200,
        json!({"access_token": ACCESS_TOKEN, "refresh_token": "unseen-second-refresh-token", "expires_in": 60}),
    );
    aws.before(MOVE, 1, |versions, now| {
        let mut edited: Value =
            serde_json::from_str(versions.get(None, Some("AWSCURRENT")).unwrap().body.expose()).unwrap();
        edited["edited"] = json!(true);
        let id = VersionId::from("00000000-0000-4000-8000-000000000001");
        versions.put(&id, &edited.to_string().into(), None, now).unwrap();
    });
    let waiting = start(&world, &aws, &["--yes"]).await;
    consent(&world, &waiting).await;
    waiting.end().await.done();
    let stored = document(&aws);
    assert_eq!((&stored["edited"], &stored["refreshToken"]), (&json!(true), &json!("unseen-second-refresh-token")));
    assert!(!labels(&aws).contains(&"OAUTH_ENTERED".to_owned()));
}

#[tokio::test]
async fn a_lost_response_and_a_secret_without_a_value_are_no_obstacle() {
    for (fault, is_created) in [
        (Fault::on(CREATE, Effect::DropAfter), false),
        (Fault::on(PUT, Effect::DropAfter), true),
        (Fault::on(MOVE, Effect::DropAfter), true),
        (Fault::on(MOVE, Effect::DropAfter).times(3), true),
        (Fault::on(GET, Effect::Throttle), true),
    ] {
        let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
        if is_created {
            aws.create(SECRET, world.token(&json!({})));
        }
        let waiting = start(&world, &aws, &["--yes"]).await;
        aws.fault(fault);
        consent(&world, &waiting).await;
        waiting.end().await.done();
        assert_eq!(document(&aws)["refreshToken"], REFRESH_TOKEN);
        assert_eq!(aws.faults_left(), 0);
    }
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    aws.create_empty(SECRET);
    let waiting = start(&world, &aws, &[]).await;
    consent(&world, &waiting).await;
    waiting.end().await.done();
    assert_eq!(document(&aws)["refreshToken"], REFRESH_TOKEN);

    // Whoever may not create secrets may give one its first value.
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    aws.fault(Fault::on(CREATE, Effect::AccessDenied).always());
    let waiting = start(&world, &aws, &[]).await;
    consent(&world, &waiting).await;
    waiting.end().await.failed(1, "not allowed to secretsmanager:CreateSecret");
    aws.create_empty(SECRET);
    let waiting = start(&world, &aws, &[]).await;
    consent(&world, &waiting).await;
    waiting.end().await.done();
    assert_eq!(document(&aws)["refreshToken"], REFRESH_TOKEN);
}

/// The response of a write is lost, and the function refreshes the new tokens at once: its tokens must not be replaced by the spent ones.
/// That needs no permission to list.
#[tokio::test]
async fn a_refresh_right_after_a_lost_response_is_not_undone() {
    // The call before which the function is at work, once the version is current: the move again, or the second read.
    for (lost, is_created, times, next) in [(MOVE, true, 1, MOVE), (CREATE, false, 3, GET)] {
        let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
        if is_created {
            aws.create(SECRET, world.token(&json!({})));
        }
        aws.fault(Fault::on(LIST, Effect::AccessDenied).always());
        let waiting = start(&world, &aws, &["--yes"]).await;
        aws.fault(Fault::on(lost, Effect::DropAfter).times(times));
        aws.before(next, 2, |versions, now| {
            let current = versions.get(None, Some("AWSCURRENT")).unwrap();
            let token = TokenSecret::parse(current.body.expose()).unwrap();
            let staged = TokenKey::of(&current.arn, &token.tokens, &token.client).staged();
            let refreshed = current.body.expose().replace(REFRESH_TOKEN, "unseen-refreshed-token");
            versions.put(&staged, &refreshed.into(), Some(&["OAUTH_STAGED".to_owned()]), now).unwrap();
            versions.move_label("AWSCURRENT", Some(&current.id), &staged).unwrap();
        });
        consent(&world, &waiting).await;
        let ended = waiting.end().await.done();
        assert_eq!(document(&aws)["refreshToken"], "unseen-refreshed-token", "{lost}");
        assert!(!ended.stderr.contains("somebody else"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_whole_document_does_not_replace_what_others_have_just_written() {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    aws.create(SECRET, world.token(&json!({})));
    aws.before(MOVE, 1, |versions, now| {
        let mut edited: Value =
            serde_json::from_str(versions.get(None, Some("AWSCURRENT")).unwrap().body.expose()).unwrap();
        edited["publishTo"] = json!("readers");
        let id = VersionId::from("00000000-0000-4000-8000-000000000001");
        versions.put(&id, &edited.to_string().into(), None, now).unwrap();
    });
    let text = world.token(&json!({"refreshToken": REFRESH_TOKEN})).to_string();
    run(tokenctl(&world, &aws, &["adopt", SECRET, "--yes"]), &text).await.failed(2, "was changed meanwhile");
    assert_eq!(document(&aws)["publishTo"], "readers");
    run(tokenctl(&world, &aws, &["adopt", SECRET, "--yes"]), &text).await.done();
    assert_eq!(document(&aws)["refreshToken"], REFRESH_TOKEN);
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_is_asked_again() {
    for (action, is_created) in [(CREATE, false), (PUT, true), (MOVE, true)] {
        let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
        if is_created {
            aws.create(SECRET, world.token(&json!({})));
        }
        let waiting = start(&world, &aws, &["--yes"]).await;
        aws.fault(Fault::on(action, Effect::InternalError).times(4));
        consent(&world, &waiting).await;
        waiting.end().await.done();
        assert_eq!(document(&aws)["refreshToken"], REFRESH_TOKEN, "{action}");
    }
    // What it said is the message, not that somebody else wrote.
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    let waiting = start(&world, &aws, &[]).await;
    aws.fault(Fault::on(CREATE, Effect::InternalError).always());
    consent(&world, &waiting).await;
    waiting.end().await.failed(1, "secretsmanager:CreateSecret failed").failed(1, "THE TOKENS ARE IN THE FILE");
}

#[tokio::test]
async fn tokens_that_cannot_be_written_are_in_a_file_that_adopt_takes() {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    aws.create(SECRET, world.token(&json!({})));
    let waiting = start(&world, &aws, &["--yes"]).await;
    aws.fault(Fault::on(PUT, Effect::AccessDenied).always());
    let (_, page) = consent(&world, &waiting).await;
    assert!(page.contains("The login failed"), "{page}");
    let ended = waiting.end().await.failed(1, "THE TOKENS ARE IN THE FILE tokenctl-myapp-prod-crm-");
    assert!(ended.stderr.contains("allow it to the AWS identity that you use"), "{}", ended.stderr);
    let [file] = &world.files()[..] else { panic!("{:?}", world.files()) };
    let adopt = format!("\n  tokenctl --region eu-west-1 --endpoint-url {} adopt {SECRET} --yes < {file}\n", aws.url());
    assert!(ended.stderr.contains(&adopt), "{}", ended.stderr);
    aws.clear_faults();
    let text = fs::read_to_string(world.path().join(file)).unwrap();
    run(tokenctl(&world, &aws, &["adopt", SECRET, "--yes"]), &text).await.done();
    assert_eq!(document(&aws)["refreshToken"], REFRESH_TOKEN);
}

#[tokio::test]
async fn profile_region_and_endpoint_come_from_the_aws_configuration_or_from_options() {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    let folder = world.path().join(".aws");
    fs::create_dir(&folder).unwrap();
    let config = format!(
        "[profile here]\nregion = eu-west-1\nendpoint_url = {0}\n[profile nowhere]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:9\n",
        aws.url()
    );
    fs::write(folder.join("config"), config).unwrap();
    let keys = "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = unseen-aws-secret-access-key\n";
    fs::write(folder.join("credentials"), format!("[here]\n{keys}[nowhere]\n{keys}")).unwrap();
    let text = world.token(&json!({})).to_string();
    let wrong = [("AWS_ACCESS_KEY_ID", "unseen-wrong-key"), ("AWS_SECRET_ACCESS_KEY", "unseen-wrong-secret")];
    for (name, arguments, settings) in [
        // As for the AWS CLI, a profile that is named comes before keys in the environment.
        ("e", &["--profile", "here"][..], &wrong[..]),
        ("a", &["--profile", "here"][..], &[][..]),
        ("b", &[], &[("AWS_PROFILE", "here")]),
        ("c", &["--profile", "nowhere", "--endpoint-url", aws.url()], &[]),
        ("d", &["--store", "secretsmanager"], &[("AWS_PROFILE", "here")]),
    ] {
        let mut adopt = command(world.path()).with(arguments).with(["adopt", name]);
        adopt.envs(settings.iter().copied());
        run(adopt, &text).await.done();
        assert_eq!(aws.current(name).1, text, "{name}");
        assert_eq!(aws.access_key().as_deref(), Some("AKIDEXAMPLE"), "{name}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_store_is_said_before_anybody_consents() {
    let (world, aws) = (World::new().await, FakeSecretsManager::start().await);
    let login = |arguments: &[&str]| {
        let mut login = command(world.path()).with(["login", SECRET, "--issuer", &world.server.issuer]).with(PUBLIC);
        login.envs(KEYS);
        login.with(arguments)
    };
    let region = ["--region", "eu-west-1", "--endpoint-url"];
    for (command, code, text) in [
        (
            login(&[]),
            2,
            "no store is set: for AWS Secrets Manager pass --region or --profile, or set AWS_REGION; for a directory",
        ),
        (login(&["--store", "secretsmanager"]), 2, "no AWS Region is set"),
        (login(&["--store", "vault"]), 2, "the store is \"vault\"; allowed is \"secretsmanager\" or \"dir:PATH\""),
        (login(&region).with(["http://127.0.0.1:9"]), 2, "secretsmanager:GetSecretValue failed"),
    ] {
        run(command, "").await.failed(code, text);
    }
    aws.fault(Fault::on(GET, Effect::AccessDenied).always());
    run(login(&region).with([aws.url()]), "").await.failed(1, "not allowed to secretsmanager:GetSecretValue");
    aws.clear_faults();
    aws.create(SECRET, "{}");
    aws.schedule_deletion(SECRET);
    run(login(&region).with([aws.url()]), "").await.failed(1, "restore it: `aws secretsmanager restore-secret");
    assert!(world.server.received("/token").is_empty());
    let mut login = command(world.path()).with(region).with([aws.url()]);
    login.args(["login", SECRET, "--issuer", &world.server.issuer]).args(PUBLIC);
    run(login, "").await.failed(2, "no AWS credentials");
}

#[tokio::test]
async fn a_recorded_refusal_needs_no_question() {
    use token_refresher::{
        clock::Clock,
        oauth::{exchanger::Exchanger, response},
        protocol::{
            Mode, Refresher, Request,
            observation::Observation,
            options::{ClaimMode, Options},
        },
        store::directory::DirectoryStore,
        token_secret::{client_settings::ClientSettings, member_names::MemberNames},
    };
    let world = World::new().await;
    world.create(&world.token(&json!({"expiresAt": 0}))).await;
    let exchanger = Exchanger::from_fn(|_| async {
        response::read(400, None, br#"{"error":"invalid_grant"}"#, chrono::Utc::now(), &[])
    });
    let options = Options {
        refresh_margin: std::time::Duration::from_mins(15),
        claim: ClaimMode::Always,
        client: ClientSettings::default(),
        member_names: MemberNames::default(),
    };
    let store = DirectoryStore::open(world.path().join("tokens"), Clock::system()).unwrap();
    let refresher = Refresher::new(store, exchanger, Clock::system(), options);
    let deadline = chrono::Utc::now() + chrono::TimeDelta::seconds(30);
    let request = Request { secret_id: SECRET, mode: &Mode::Scheduled, deadline };
    let error = refresher.run(request, &Observation::default()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("`tokenctl login {SECRET}`")), "{error}");

    let waiting = world.start(&[]).await;
    consent(&world, &waiting).await;
    waiting.end().await.done();
}
