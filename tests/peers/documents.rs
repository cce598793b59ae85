//! The token documents of OAuth libraries that are in real use: the library writes its document, the refresher refreshes it, and the
//! library reads it back. The programs are in `documents/`.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    functions::Lambda,
    outcome, peer,
    providers::Provider,
    secrets::Secrets,
    support::{
        output::assert_no_secret,
        provider::{self, AuthMethod},
    },
    text,
};

const WRITE: &str = "write";
const READ: &str = "read";

/// How far the end that a library reads may be from the true one, in seconds.
const TOLERANCE: f64 = 30.0;

/// The time between two refreshes, in seconds: so long that a library that rounds to seconds finds two different ends.
const PAUSE: f64 = 2.0;

/// A library's program for its documents.
#[derive(Clone, Copy)]
enum Program {
    Python,
    Node,
}

use Program::{Node, Python};

/// A provider with rotation and reuse detection, and how a client authenticates there.
enum Source {
    /// oidc-provider. Its access tokens live for one minute.
    OneMinute(Provider),
    /// The provider of the other tests. Its access tokens live for one hour: for libraries that do not use a token in its last minutes.
    OneHour(provider::Provider, &'static str),
}

/// A client of oidc-provider.
fn one_minute(client_id: &'static str) -> Source {
    Source::OneMinute(Provider::oidc(client_id))
}

fn one_hour(method: AuthMethod) -> Source {
    let name = match method {
        AuthMethod::ClientSecretPost => "client_secret_post",
        AuthMethod::ClientSecretBasicRaw => "client_secret_basic_raw",
        AuthMethod::ClientSecretBasic => "client_secret_basic",
        AuthMethod::None => "none",
    };
    let provider = provider::Provider::rotating().with_client(provider::CLIENT_ID, provider::CLIENT_SECRET, method);
    Source::OneHour(provider, name)
}

impl Source {
    const fn lifetime(&self) -> f64 {
        match self {
            Self::OneMinute(_) => 60.0,
            Self::OneHour(..) => 3600.0,
        }
    }

    /// The token endpoint, the client's id and secret, and how it authenticates.
    fn client(&self) -> [String; 4] {
        let client = match self {
            Self::OneMinute(provider) => [
                &provider.token_endpoint,
                provider.client_id,
                provider.client_secret.expect("a client with a secret"),
                provider.auth_method,
            ],
            Self::OneHour(provider, method) => {
                return [&provider.url(), provider::CLIENT_ID, provider::CLIENT_SECRET, method].map(str::to_owned);
            }
        };
        client.map(str::to_owned)
    }

    /// The refresh token of a new grant.
    async fn refresh_token(&self) -> String {
        match self {
            Self::OneMinute(provider) => provider.log_in().await.refresh,
            Self::OneHour(provider, _) => provider.issue().1,
        }
    }
}

/// What a library makes of a document.
struct Reading {
    access_token: String,
    refresh_token: String,
    is_valid: bool,
    /// In seconds since 1970.
    expires: f64,
}

/// A library, its provider, and everything that no output may show.
struct Library {
    program: Program,
    name: &'static str,
    source: Source,
    secrets: Vec<String>,
}

impl Library {
    /// Runs the library's program. Tokens are in its input and output only, never in its arguments.
    async fn run(&self, command: &str, member: &str, value: &str) -> String {
        let [endpoint, id, secret, _] = self.source.client();
        let mut input = json!({"tokenEndpoint": endpoint, "clientId": id, "clientSecret": secret});
        input[member] = value.into();
        let (program, folder, script) = match self.program {
            Python => (peer("PEER_PYTHON"), env!("CARGO_MANIFEST_DIR").to_owned(), "tests/peers/documents/python.py"),
            Node => (peer("PEER_NODE"), peer("PEER_NODE_FOLDER"), "node.mjs"),
        };
        let mut process = Command::new(program);
        process.arg(PathBuf::from(folder).join(script)).args([command, self.name]);
        // No setting of this machine: a proxy, a cache folder or a client's credentials.
        process.env_clear().env("TMPDIR", std::env::temp_dir()).env("PYTHONDONTWRITEBYTECODE", "1");
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = process.spawn().expect("a program");
        let mut stdin = process.stdin.take().expect("a pipe");
        stdin.write_all(input.to_string().as_bytes()).await.expect("a program that reads its input");
        drop(stdin);
        let output = tokio::time::timeout(Duration::from_mins(1), process.wait_with_output());
        let output = output.await.expect("an end").expect("an output");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_no_secret(&errors, &self.secrets);
        assert!(output.status.success(), "{} {command}: {errors}", self.name);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Lets the library exchange this refresh token. Returns the document that it saves.
    async fn write(&mut self, refresh_token: &str) -> String {
        self.secrets.push(refresh_token.to_owned());
        let document = self.run(WRITE, "refreshToken", refresh_token).await;
        self.learn(&document);
        document
    }

    async fn read(&self, document: &str) -> Reading {
        let reading: Value = serde_json::from_str(&self.run(READ, "document", document).await).expect("JSON");
        Reading {
            access_token: text(&reading, "accessToken"),
            refresh_token: text(&reading, "refreshToken"),
            is_valid: reading["valid"].as_bool().expect("a Boolean"),
            expires: reading["expires"].as_f64().expect("a number"),
        }
    }

    /// Remembers the tokens in a document.
    fn learn(&mut self, document: &str) {
        let document: Value = serde_json::from_str(document).expect("JSON");
        let tokens = ["token", "access_token", "refresh_token", "id_token"].map(|name| document[name].as_str());
        self.secrets.extend(tokens.into_iter().flatten().map(str::to_owned));
    }
}

/// In seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_secs_f64()
}

/// The members that a refresh writes in the documents of all these libraries.
const RENEWED: [&str; 7] =
    ["token", "access_token", "refresh_token", "id_token", "expires_at", "expiry", "expiry_date"];

/// Fails unless the refreshed document has all members of the library's own one: the others unchanged, and no type changed.
fn assert_members_kept(name: &str, own: &str, refreshed: &str) {
    let [own, refreshed] = [own, refreshed].map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    for (member, value) in own.as_object().expect("an object") {
        let new = &refreshed[member];
        let is_kept = if RENEWED.contains(&member.as_str()) {
            new != value && std::mem::discriminant(new) == std::mem::discriminant(value)
        } else {
            new == value
        };
        assert!(is_kept, "{name}: {member}");
    }
}

/// The library writes its document. It is refreshed twice, and read after each step. Then the library refreshes its document itself, as
/// it may at any time, and the refresher goes on with that.
async fn a_library_writes_a_document_and_finds_the_new_tokens_in_it(
    program: Program,
    name: &'static str,
    source: Source,
) {
    let store = Secrets::connect();
    let secret_id = format!("documents/{name}");
    let [endpoint, id, client_secret, method] = source.client();
    let function = Lambda::start(
        &store.url,
        &[
            ("SECRET_ID", secret_id.as_str()),
            ("TOKEN_ENDPOINT", &endpoint),
            ("CLIENT_ID", &id),
            ("CLIENT_SECRET", &client_secret),
            ("TOKEN_ENDPOINT_AUTH_METHOD", &method),
        ],
    )
    .await;
    let lifetime = source.lifetime();
    let mut refresh_token = source.refresh_token().await;
    let mut library = Library { program, name, source, secrets: vec![client_secret] };

    for (round, refreshes) in [("created", 2), ("written again", 1)] {
        let own = library.write(&refresh_token).await;
        let mut refreshed_at = now();
        if round == "created" {
            store.create_text(&secret_id, &own).await;
        } else {
            store.edit_text(&secret_id, &own).await;
        }
        let mut before = library.read(&own).await;
        assert!(before.is_valid, "{name}, {round}: the library's own token");
        assert!((before.expires - refreshed_at - lifetime).abs() < TOLERANCE, "{name}, {round}: {}", before.expires);

        // A token of one hour is not due, one of one minute is: the refresher reads the end in the document.
        let dry = function.invoke(r#"{"dryRun":true}"#).await.expect("a report");
        let expected = if lifetime > 900.0 { "skipped" } else { "would_refresh" };
        assert_eq!((&dry["outcome"], dry.get("warnings")), (&json!(expected), None), "{name}, {round}");

        for _ in 0..refreshes {
            // Without a pause, the end of the old token would pass for that of the new one.
            tokio::time::sleep(Duration::from_secs_f64((refreshed_at + PAUSE - now()).max(0.0))).await;
            refreshed_at = now();
            let report = function.invoke(r#"{"force":true}"#).await;
            assert_eq!(outcome(&report), "refreshed", "{name}, {round}");
            assert_eq!(report.expect("a report").get("warnings"), None, "{name}, {round}");

            let (_, document) = store.labelled(&secret_id, "AWSCURRENT").await;
            library.learn(&document);
            assert_members_kept(name, &own, &document);
            let after = library.read(&document).await;
            assert!(after.is_valid, "{name}, {round}: the library does not accept the new token");
            // Not `assert_ne`, which would show them.
            assert!(after.access_token != before.access_token, "{name}, {round}: the old access token");
            assert!(after.refresh_token != before.refresh_token, "{name}, {round}: the old refresh token");
            let (expires, expected) = (after.expires, refreshed_at + lifetime);
            assert!((expires - expected).abs() < TOLERANCE, "{name}, {round}: {expires} is not {expected}");
            assert!(expires - before.expires >= PAUSE - 1.0, "{name}, {round}: {expires} after {}", before.expires);
            before = after;
        }
        refresh_token = before.refresh_token;
    }
    // One that was used twice would have revoked the grant.
    library.write(&refresh_token).await;
    if let Source::OneHour(provider, _) = &library.source {
        assert_eq!(provider.reuses(), 0, "{name}");
    }
    function.assert_no_secret_shown(&library.secrets);
}

macro_rules! libraries {
    ($($test:ident: $program:ident $name:literal $source:expr;)*) => {
        $(
            #[tokio::test]
            #[ignore = "needs the real peers: run tests/run"]
            async fn $test() {
                a_library_writes_a_document_and_finds_the_new_tokens_in_it($program, $name, $source).await;
            }
        )*
    };
}

libraries! {
    google_auth_finds_the_new_tokens_in_its_credentials:
        Python "google-auth" one_hour(AuthMethod::ClientSecretPost);
    requests_oauthlib_finds_the_new_tokens_in_what_its_token_updater_saved:
        Python "requests-oauthlib" one_minute("post");
    authlib_finds_the_new_tokens_in_what_its_update_token_saved:
        Python "authlib" one_hour(AuthMethod::ClientSecretPost);
    spotipy_finds_the_new_tokens_in_its_cache_file:
        Python "spotipy" one_hour(AuthMethod::ClientSecretBasicRaw);
    golang_oauth2_finds_the_new_tokens_in_its_json:
        Python "golang" one_minute("basic");
    simple_oauth2_finds_the_new_tokens_in_its_json:
        Node "simple-oauth2" one_minute("basic");
    openid_client_finds_the_new_tokens_in_its_token_set_and_the_provider_accepts_them:
        Node "openid-client" one_minute("basic");
    google_auth_library_for_node_finds_the_new_tokens_in_its_credentials:
        Node "google-auth-library" one_hour(AuthMethod::ClientSecretPost);
}
