//! A running `tokenctl`, and its output.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Url;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{server::SECRETS, support::output::assert_no_secret};

/// Enough for every step on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How a command has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Fails if the command has not succeeded.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// Fails unless the command has ended with this exit code and an error with this text.
    #[track_caller]
    pub fn failed(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stderr.contains(text), "\"{text}\" is not in: {}", self.stderr);
        self
    }
}

/// The program without the settings of this machine.
pub fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenctl"));
    command.env_clear().env("HOME", directory).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // No browser, and no metadata service of a cloud.
    command.env("BROWSER", "false").env("AWS_EC2_METADATA_DISABLED", "true");
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn run(mut command: Command, stdin: &str) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("tokenctl");
    let mut input = child.stdin.take().expect("its standard input");
    // A program that fails early reads nothing.
    let _ = input.write_all(stdin.as_bytes()).await;
    drop(input);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("an end").expect("its output");
    ended(output.status.code(), &output.stdout, &output.stderr)
}

pub fn ended(code: Option<i32>, stdout: &[u8], stderr: &[u8]) -> Ended {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let ended = Ended { code: code.expect("an exit code"), stdout: text(stdout), stderr: text(stderr) };
    assert_no_secret(&format!("{}{}", ended.stdout, ended.stderr), &SECRETS.map(str::to_owned));
    ended
}

/// A command that waits for a person.
pub struct Waiting {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// The address that it has printed.
    pub address: Url,
}

impl Waiting {
    /// Starts a command, and waits for its address.
    pub async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        Self::start_with_own_input(command).await
    }

    /// The same with the standard input that the command has.
    pub async fn start_with_own_input(mut command: Command) -> Self {
        let mut child = command.spawn().expect("tokenctl");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("its standard output"));
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await.expect("an address").expect("its output");
        let Ok(address) = Url::parse(line.trim()) else {
            let output = child.wait_with_output().await.expect("its output");
            panic!("no address: {}", String::from_utf8_lossy(&output.stderr));
        };
        Self { child, stdin, stdout, address }
    }

    /// A parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.address.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
    }

    /// The redirect address with this query, in which `STATE` stands for the state.
    pub fn redirect(&self, query: &str) -> Url {
        let mut address = Url::parse(&self.parameter("redirect_uri").expect("a redirect address")).expect("an address");
        let query = query.replace("STATE", &self.parameter("state").expect("a state"));
        address.set_query(Some(&query));
        address
    }

    /// Calls the redirect address, as a browser does. Returns status and page.
    pub async fn call(&self, query: &str) -> (u16, String) {
        get(&self.redirect(query)).await
    }

    /// Writes a line to standard input.
    pub async fn write_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its standard input");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("its standard input");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("a running process");
        kill(Pid::from_raw(id), signal).expect("a signal");
    }

    /// Waits for the end.
    pub async fn end(mut self) -> Ended {
        let mut stdout = self.address.to_string().into_bytes();
        let work = async {
            self.stdout.read_to_end(&mut stdout).await.expect("its output");
            self.child.wait_with_output().await.expect("its output")
        };
        let output = tokio::time::timeout(PATIENCE, work).await.expect("an end");
        ended(output.status.code(), &stdout, &output.stderr)
    }
}

/// Gets a page.
pub async fn get(address: &Url) -> (u16, String) {
    let http = token_refresher::http_client::HttpClients::new(|_| None).expect("an HTTP client").provider;
    let response = http.get(address.clone()).send().await.expect("a response");
    let status = response.status().as_u16();
    let policy = response.headers().get("content-security-policy").is_some();
    assert!(policy, "a page without a security policy");
    (status, response.text().await.expect("a page"))
}

/// Adds arguments.
pub trait With {
    fn with<I: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = I>) -> Self;
}

impl With for Command {
    fn with<I: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = I>) -> Self {
        self.args(arguments);
        self
    }
}
