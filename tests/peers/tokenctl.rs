//! `tokenctl` with oidc-provider, a real Chromium and moto; and the transcripts of `docs/first-token.md`.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use super::{functions::CargoLambda, peer, secrets::Secrets, support::output::assert_no_secret, text};

/// A browser that starts on a loaded machine, and a person who clicks.
const PATIENCE: Duration = Duration::from_secs(90);

/// The redirect address of the clients that a test cannot reach.
const UNREACHABLE: &str = "https://client.example/callback";

/// The folder of the screenshots. CI keeps none; `docs/` has copies of two.
fn screenshot(name: &str) -> String {
    let folder = format!("{}/screenshots", peer("PEER_NODE_FOLDER"));
    std::fs::create_dir_all(&folder).expect("a folder");
    format!("{folder}/{name}.png")
}

/// The end of a visit in Chromium. The address may have a code, so no message shows it.
struct Visit(Value);

impl Visit {
    fn title(&self) -> String {
        text(&self.0, "title")
    }

    fn address(&self) -> String {
        text(&self.0, "address")
    }

    /// Fails unless the last page has this title, and no error in the browser's console.
    #[track_caller]
    fn assert_shows(&self, title: &str) {
        assert_eq!(self.title(), title);
        assert_eq!(self.0["console"], serde_json::json!([]), "the browser found errors in the page");
    }
}

/// Opens an address in Chromium as a person who consents or denies.
async fn visit(action: &str, address: &str, picture: &str) -> Visit {
    let script = format!("{}/browser.mjs", peer("PEER_NODE_FOLDER"));
    let mut browser = Command::new(peer("PEER_NODE"));
    browser.args([&script, action, address, &screenshot(picture)]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, browser.output()).await.expect("an end").expect("the browser");
    assert!(output.status.success(), "the browser failed: {}", String::from_utf8_lossy(&output.stderr));
    Visit(serde_json::from_slice(&output.stdout).expect("one line of JSON"))
}

/// A login that waits for a person.
struct Login {
    child: Child,
    address: String,
}

impl Login {
    /// Starts a login with moto as the store.
    async fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenctl"));
        command.args(["--region", "eu-central-1", "--endpoint-url", &peer("PEER_MOTO_URL")]);
        command.args(["login", name, "--no-browser"]).args(arguments);
        command.env_clear().envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("tokenctl");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address = lines.next_line().await.expect("its output").unwrap_or_default();
        Self { child, address }
    }

    async fn paste(&mut self, address: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        stdin.write_all(format!("{address}\n").as_bytes()).await.expect("its input");
    }

    /// Waits for the end. Returns exit code and messages.
    async fn end(self) -> (i32, String) {
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.expect("an end");
        let output = output.expect("its output");
        let messages = String::from_utf8(output.stderr).expect("UTF-8");
        println!("{messages}");
        (output.status.code().expect("an exit code"), messages)
    }
}

/// The stored document. Fails if the messages show one of its secrets, or if the label `OAUTH_ENTERED` stays.
async fn assert_stored(secrets: &Secrets, name: &str, messages: &str) -> Value {
    let document = secrets.current(name).await;
    let held = secrets.all_ever_held(name).await;
    assert_no_secret(messages, &held);
    let labels = secrets.versions(name).await.into_values().flatten().collect::<Vec<_>>();
    assert!(!labels.contains(&"OAUTH_ENTERED".to_owned()), "{labels:?}");
    document
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_token_of_a_login_in_a_browser_is_refreshed_by_the_function() {
    let (secrets, name, issuer) = (Secrets::connect(), "tokenctl/loopback", peer("PEER_OIDC_ISSUER"));
    let client = ["--issuer", &issuer, "--client-id", "loopback", "--token-endpoint-auth-method", "none"];
    let login = Login::start(name, &client).await;
    visit("consent", &login.address, "logged-in").await.assert_shows("Logged in · tokenctl");
    let (code, messages) = login.end().await;
    assert_eq!(code, 0, "{messages}");
    let first = assert_stored(&secrets, name, &messages).await;

    let function = CargoLambda::start(7, &secrets.url, name).await;
    let report = function.invoke(r#"{"force":true}"#).await.unwrap();
    assert_eq!(report["outcome"], "refreshed");
    assert_ne!(secrets.current(name).await["refreshToken"], first["refreshToken"]);

    // Consent again, beside the function, with the settings of the secret alone.
    let login = Login::start(name, &["--yes"]).await;
    visit("consent", &login.address, "logged-in-again").await.assert_shows("Logged in · tokenctl");
    let (code, messages) = login.end().await;
    assert_eq!(code, 0, "{messages}");
    assert_stored(&secrets, name, &messages).await;
    let report = function.invoke(r#"{"force":true}"#).await.unwrap();
    assert_eq!(report["outcome"], "refreshed");
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_person_who_denies_sees_it_in_the_browser() {
    let issuer = peer("PEER_OIDC_ISSUER");
    let client = ["--issuer", &issuer, "--client-id", "loopback", "--token-endpoint-auth-method", "none"];
    let login = Login::start("tokenctl/denied", &client).await;
    visit("deny", &login.address, "denied").await.assert_shows("The login failed · tokenctl");
    let (code, messages) = login.end().await;
    assert!(code == 1 && messages.contains("did not grant access (access_denied"), "{code} {messages}");
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_address_that_chromium_ends_at_is_pasted_back() {
    let (secrets, name, issuer) = (Secrets::connect(), "tokenctl/pasted", peer("PEER_OIDC_ISSUER"));
    secrets.create("tokenctl/client", &serde_json::json!({"clientSecret": "unseen-s3cr+t/=& %:x"})).await;
    let client = [
        "--issuer",
        &issuer,
        "--client-id",
        "basic",
        "--client-credentials-secret-id",
        "tokenctl/client",
        "--redirect-uri",
        UNREACHABLE,
    ];
    let mut login = Login::start(name, &client).await;
    let visited = visit("consent", &login.address, "unreachable").await;
    assert!(visited.address().starts_with(UNREACHABLE));
    login.paste(&visited.address()).await;
    let (code, messages) = login.end().await;
    assert_eq!(code, 0, "{messages}");
    let document = assert_stored(&secrets, name, &messages).await;
    assert_eq!(document["clientSecret"], Value::Null);
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_device_flow_is_confirmed_or_denied_in_a_browser() {
    let (secrets, issuer) = (Secrets::connect(), peer("PEER_OIDC_ISSUER"));
    let client = ["--issuer", &issuer, "--client-id", "device", "--token-endpoint-auth-method", "none", "--device"];
    for (name, action, expected, text) in [
        ("tokenctl/device", "consent", 0, "is created"),
        ("tokenctl/device-denied", "deny", 1, "the provider did not grant access"),
    ] {
        let login = Login::start(name, &client).await;
        visit(action, &login.address, &name.replace('/', "-")).await;
        let (code, messages) = login.end().await;
        assert!(code == expected && messages.contains(text), "{code} {messages}");
        if expected == 0 {
            assert_stored(&secrets, name, &messages).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn a_client_that_tokenctl_registers_logs_in() {
    let (secrets, name, issuer) = (Secrets::connect(), "tokenctl/registered", peer("PEER_OIDC_ISSUER"));
    let login = Login::start(name, &["--issuer", &issuer]).await;
    visit("consent", &login.address, "registered").await.assert_shows("Logged in · tokenctl");
    let (code, messages) = login.end().await;
    assert_eq!(code, 0, "{messages}");
    let document = assert_stored(&secrets, name, &messages).await;
    assert!(document["registrationAccessToken"].is_string());
}

/// A command of a transcript, and the output that the page shows.
struct Step {
    command: String,
    output: String,
}

/// The steps in the `console` blocks of a page.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut is_inside, mut continues) = (false, false);
    for line in page.lines() {
        match line.trim_end() {
            "```console" => is_inside = true,
            "```" => is_inside = false,
            _ if !is_inside => {}
            line => {
                if let Some(command) = line.strip_prefix("$ ") {
                    steps.push(Step { command: command.to_owned(), output: String::new() });
                } else if let Some(step) = steps.last_mut() {
                    let text = if continues { &mut step.command } else { &mut step.output };
                    text.extend(["\n", line]);
                }
                continues = line.ends_with('\\');
            }
        }
    }
    for step in &mut steps {
        step.output = step.output.trim_start_matches('\n').to_owned();
    }
    steps
}

/// Whether the output is the expected one, in which `…` stands for any text within a line.
fn matches(expected: &str, output: &str) -> bool {
    let (expected, output): (Vec<_>, Vec<_>) = (expected.lines().collect(), output.lines().collect());
    expected.len() == output.len() && expected.iter().zip(output).all(|(expected, line)| matches_line(expected, line))
}

fn matches_line(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

async fn run_in(folder: &Path, command: &str) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_tokenctl")).parent().expect("a folder").display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec 2>&1; {command}")]).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    shell.env("PATH", path).env("BROWSER", format!("{}/browser.mjs", peer("PEER_NODE_FOLDER")));
    // The browser's own output: its last line has the code.
    shell.env("BROWSER_LOG", folder.join(".browser")).env_remove("AWS_REGION").env_remove("AWS_PROFILE");
    let output = tokio::time::timeout(PATIENCE, shell.output()).await.expect("an end").expect("bash");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
#[ignore = "needs the real peers: run tests/run"]
async fn the_transcripts_of_the_pages_are_what_the_commands_print() {
    const EXAMPLE: &str = "https://id.example.com";
    let issuer = peer("PEER_OIDC_ISSUER");
    for page in ["first-token.md"] {
        let text = std::fs::read_to_string(format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"))).expect("the page");
        let folder = TempDir::new().expect("a folder");
        let steps = steps(&text);
        assert!(steps.len() >= 5, "{page} has {} steps", steps.len());
        for Step { command, output } in steps {
            let found = run_in(folder.path(), &command.replace(EXAMPLE, &issuer)).await.replace(&issuer, EXAMPLE);
            assert!(matches(&output, found.trim_end()), "{page}: $ {command}\nexpected:\n{output}\nfound:\n{found}");
        }
    }
}

#[test]
fn an_ellipsis_of_a_transcript_stands_for_text_within_a_line() {
    for (expected, line, is_match) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…c", "abbc", true),
        ("a…c", "ac", true),
        ("a…c", "acb", false),
        ("…b…", "abc", true),
        ("a…b…c", "a1c2b3c", true),
        ("a…b…c", "a1c", false),
    ] {
        assert_eq!(matches_line(expected, line), is_match, "{expected} {line}");
    }
    let page = "text\n```console\n$ a \\\n  b\none\n\ntwo\n$ c\n```\n```sh\n$ no\n```\n";
    let steps: Vec<_> = steps(page).into_iter().map(|step| (step.command, step.output)).collect();
    assert_eq!(steps, [("a \\\n  b".to_owned(), "one\n\ntwo".to_owned()), ("c".to_owned(), String::new())]);
}
