//! The process of a function under test: its environment, its output, its exit status.

use std::{
    env,
    io::Write,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::RuntimeApi;

/// The function's process and all its output. The process is killed when this is dropped.
pub struct Function {
    child: Arc<Mutex<Child>>,
    output: NamedTempFile,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl Function {
    /// Starts the program with this environment, the variables that Lambda sets, and no others.
    pub fn spawn(binary: impl AsRef<Path>, runtime_api: &RuntimeApi, environment: &[(&str, &str)]) -> Self {
        Self::run(Command::new(binary.as_ref()), runtime_api, environment)
    }

    /// Like [`Function::spawn`], for a program with arguments.
    pub fn run(mut command: Command, runtime_api: &RuntimeApi, environment: &[(&str, &str)]) -> Self {
        // A file keeps all output in order, even if the process is killed. A pipe would have to be read all the time.
        let output = NamedTempFile::new().expect("a file for the output");
        let stdout = output.reopen().expect("the output file");
        let stderr = stdout.try_clone().expect("the output file");
        let child = command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api.address())
            .env("AWS_LAMBDA_FUNCTION_NAME", "token-refresher")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/token-refresher")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            // The most verbose level: all output is searched for secrets.
            .env("AWS_LAMBDA_LOG_LEVEL", "TRACE")
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        runtime_api.state.processes.send_modify(|processes| processes.started += 1);
        let child = Arc::new(Mutex::new(child));
        let (exit, status) = watch::channel(None);
        std::thread::spawn({
            let (child, state) = (Arc::clone(&child), Arc::clone(&runtime_api.state));
            move || {
                // A blocking wait would hold the lock that `kill` needs.
                let status = loop {
                    match child.lock().expect("no thread panicked").try_wait() {
                        Ok(None) => {}
                        Ok(status) => break status,
                        Err(error) => panic!("waiting for the function: {error}"),
                    }
                    std::thread::sleep(Duration::from_millis(2));
                };
                state.processes.send_modify(|processes| processes.exited += 1);
                exit.send_replace(status);
            }
        });
        Self { child, output, status }
    }

    /// All output so far, to stdout and stderr.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(self.output.path()).expect("the output file");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends SIGKILL, as Lambda does, and waits until the process has exited.
    pub async fn kill(&self) {
        self.child.lock().expect("no thread panicked").kill().expect("a process of ours");
        assert!(self.exited(Duration::from_secs(10)).await.is_some(), "the function survived SIGKILL");
    }

    /// Waits for the exit status. `None` if the process does not exit within this time.
    pub async fn exited(&self, timeout: Duration) -> Option<ExitStatus> {
        let mut status = self.status.clone();
        let exited = tokio::time::timeout(timeout, status.wait_for(Option::is_some)).await;
        exited.ok()?.ok().and_then(|status| *status)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        // `tests/check-no-secrets` and `tests/template` read this log after all tests.
        if let Some(log) = env::var_os("FUNCTIONS_LOG") {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
            // The last line of a killed process may be incomplete.
            let _ = log.and_then(|mut log| log.write_all(&[&std::fs::read(self.output.path())?[..], b"\n"].concat()));
        }
    }
}
