//! `tokenctl run`.

use std::{os::unix::net::UnixDatagram, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStderr, Command},
};

use crate::{
    process::{Ended, PATIENCE, ended, run},
    server::REFRESH_TOKEN,
    world::{SECRET, World},
};

/// A running scheduler.
struct Scheduler {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// Of its pages.
    url: String,
    messages: String,
}

impl Scheduler {
    async fn start(mut command: Command) -> Self {
        let mut child = command.args(["--listen", "0"]).spawn().expect("tokenctl");
        let mut stderr = BufReader::new(child.stderr.take().expect("its messages"));
        let mut messages = String::new();
        tokio::time::timeout(PATIENCE, stderr.read_line(&mut messages))
            .await
            .expect("a message")
            .expect("its messages");
        let url = messages.split_whitespace().find_map(|word| word.strip_suffix("/metrics"));
        let url = url.unwrap_or_else(|| panic!("no address: {messages}")).to_owned();
        Self { child, stderr, url, messages }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let http = token_refresher::http_client::HttpClients::new(|_| None).expect("an HTTP client").provider;
        let response = http.get(format!("{}{path}", self.url)).send().await.expect("a response");
        (response.status().as_u16(), response.text().await.expect("a text"))
    }

    /// Waits until the metrics have this line.
    async fn wait_for(&self, line: &str) {
        let work = async {
            while !self.get("/metrics").await.1.lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, work).await;
        assert!(found.is_ok(), "no {line} in {}", self.get("/metrics").await.1);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("a running process");
        kill(Pid::from_raw(id), signal).expect("a signal");
    }

    async fn end(mut self) -> Ended {
        let work = async {
            self.stderr.read_to_string(&mut self.messages).await.expect("its messages");
            self.child.wait().await.expect("an end")
        };
        let status = tokio::time::timeout(PATIENCE, work).await.expect("an end");
        ended(status.code(), b"", self.messages.as_bytes())
    }
}

#[tokio::test]
async fn due_tokens_are_refreshed_at_every_tick_and_the_pages_say_so() {
    let world = World::new().await;
    world.create(&world.token(&json!({"expiresAt": 0}))).await;
    world.store.create("myapp/prod/other", &json!({"password": "unseen"}).to_string().into()).await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = world.tokenctl(&["run", "--every", "1s", "myapp/*"]);
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    let scheduler = Scheduler::start(command).await;
    scheduler.wait_for("token_refresher_runs_total{outcome=\"refreshed\"} 1").await;
    scheduler.wait_for("token_refresher_runs_total{outcome=\"skipped\"} 1").await;
    scheduler.wait_for("token_refresher_failing 0").await;
    scheduler.wait_for("token_refresher_secrets 2").await;
    assert_eq!(scheduler.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(scheduler.get("/").await.0, 404);
    let metrics = scheduler.get("/metrics").await.1;
    assert!(metrics.contains("\ntoken_refresher_soonest_expiry_seconds 3"), "{metrics}");
    let mut state = [0; 32];
    let length = socket.recv(&mut state).unwrap();
    assert_eq!(&state[..length], b"READY=1");
    scheduler.signal(Signal::SIGTERM);
    scheduler.end().await.done();
    assert_eq!(world.server.received("/token").len(), 1);
    assert_eq!(world.document_with_labels().await.0["refreshToken"], REFRESH_TOKEN);
}

#[tokio::test]
async fn the_end_waits_for_an_exchange_under_way() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::new().await;
        world.server.delay(Duration::from_millis(700));
        world.create(&world.token(&json!({"expiresAt": 0}))).await;
        let scheduler = Scheduler::start(world.tokenctl(&["run", SECRET])).await;
        while world.server.received("/token").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        scheduler.signal(signal);
        let ended = scheduler.end().await.done();
        assert!(ended.stderr.contains("Finishing the run first"), "{}", ended.stderr);
        assert_eq!(world.document_with_labels().await.0["refreshToken"], REFRESH_TOKEN);
    }
}

#[tokio::test]
async fn a_scheduler_that_is_killed_at_any_moment_loses_no_token() {
    for milliseconds in (0..40).map(|step| step * 5) {
        let world = World::new().await;
        world.server.delay(Duration::from_millis(20));
        world.create(&world.token(&json!({"expiresAt": 0}))).await;
        let scheduler = Scheduler::start(world.tokenctl(&["run", SECRET])).await;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        scheduler.signal(Signal::SIGKILL);
        let mut child = scheduler.child;
        child.wait().await.unwrap();
        let document = world.document_with_labels().await.0;
        let exchanges = world.server.received("/token").len();
        if exchanges == 0 {
            assert_eq!(document["refreshToken"], "unseen-old-refresh-token", "after {milliseconds} ms");
        } else if document["refreshToken"] != REFRESH_TOKEN {
            // Killed before the promotion, or in the one window between the exchange and the write: the next run waits for the lease,
            // or promotes what was staged, and sends nothing twice before that.
            let ended = run(world.tokenctl(&["refresh", SECRET]), "").await;
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            assert_eq!(world.server.received("/token").len(), exchanges, "after {milliseconds} ms: {}", ended.stdout);
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_is_unhealthy_after_three_ticks() {
    let world = World::new().await;
    world.create(&world.token(&json!({}))).await;
    let command = world.tokenctl(&["run", "--every", "1s", SECRET, "nobody"]);
    let scheduler = Scheduler::start(command).await;
    scheduler.wait_for("token_refresher_failing 1").await;
    assert_eq!(scheduler.get("/healthz").await.0, 200, "one secret that fails is no reason to restart");
    scheduler.signal(Signal::SIGTERM);
    scheduler.end().await.done();

    let mut plain = Command::new(env!("CARGO_BIN_EXE_tokenctl"));
    plain.env_clear().envs([("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "unseen-aws-key-of-test")]);
    plain.args(["--region", "eu-west-1", "--endpoint-url", "http://127.0.0.1:9", "run", "--every", "1s", "myapp/*"]);
    plain.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let scheduler = Scheduler::start(plain).await;
    assert_eq!(scheduler.get("/healthz").await.0, 503);
    scheduler.wait_for("token_refresher_failed_ticks_total 1").await;
    assert_eq!(scheduler.get("/healthz").await.0, 503);
    scheduler.signal(Signal::SIGTERM);
    scheduler.end().await.done();
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let world = World::new().await;
    for (arguments, text) in [
        (&["run", "--every", "0s", "a"][..], "allowed is a time of 1s to 24h"),
        (&["run", "--every", "5", "a"], "allowed is a time of 1s to 24h"),
        (&["run", "--every", "25h", "a"], "allowed is a time of 1s to 24h"),
        (&["run", "*"], "selects every secret of the account"),
        (&["run", "--listen", "256.0.0.1:1", "a"], "cannot listen at 256.0.0.1:1"),
    ] {
        run(world.tokenctl(arguments), "").await.failed(2, text);
    }
}
