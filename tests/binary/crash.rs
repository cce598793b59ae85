//! A process that crashes because of a bug leaves no secret behind: no core dump, no panic text.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    bench::{binary, error},
    support::runtime_api::{Deadline, Function, RuntimeApi},
};

/// Starts the binary with this address as Runtime API, in this folder, with core dumps allowed.
fn start(address: &str, folder: &std::path::Path) -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -S -c $(ulimit -H -c) && exec \"$0\"", &binary()]);
    command.env_clear().env("AWS_LAMBDA_RUNTIME_API", address).env("AWS_REGION", "eu-west-1");
    command.envs([("AWS_LAMBDA_FUNCTION_NAME", "f"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]);
    command.envs([
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("CLIENT_SECRET", "unseen-client-secret"),
        ("RUST_BACKTRACE", "full"),
    ]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary")
}

#[test]
fn an_aborted_process_leaves_no_core_dump() {
    let folder = tempfile::TempDir::new().unwrap();
    let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut process = start(&api.local_addr().unwrap().to_string(), folder.path());
    // The process asks for its first event, so its start is complete.
    let (mut stream, _) = api.accept().unwrap();
    let _ = stream.read(&mut [0; 1024]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let cores: Vec<_> = limits.lines().filter(|line| line.starts_with("Max core file size")).collect();
    assert_eq!(cores.len(), 1);
    assert_eq!(cores[0].split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{}", cores[0]);
    kill_process(Pid::from_child(&process), Signal::ABORT).unwrap();
    let status = process.wait().unwrap();
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&status), "{status}");
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "the process left a file in its folder");
}

/// A response of the Runtime API without an invocation's id is one of the few things that make the process panic.
#[test]
fn a_panic_prints_its_place_in_the_code_and_nothing_else() {
    let folder = tempfile::TempDir::new().unwrap();
    let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let process = start(&api.local_addr().unwrap().to_string(), folder.path());
    let (mut stream, _) = api.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.read(&mut [0; 1024]);
    let event = json!({"secretId": "unseen-in-the-event"}).to_string();
    write!(stream, "HTTP/1.1 200 OK\r\nx-secret: unseen-header\r\ncontent-length: {}\r\n\r\n{event}", event.len())
        .unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let place = printed.strip_prefix("Panicked: at ").expect(&printed);
    assert!(place.contains("lambda_runtime") && place.ends_with('\n'), "{printed}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
}

/// `lambda_runtime` alone would return the text of the panic.
#[tokio::test]
async fn a_run_that_panics_returns_an_error_without_the_panic_text_and_the_next_event_is_handled() {
    let api = RuntimeApi::start().await;
    // The SDK panics at its first call if a profile names an empty endpoint.
    let profile = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(profile.path(), "[default]\nendpoint_url =\n").unwrap();
    let function = Function::spawn(
        binary(),
        &api,
        &[
            ("SECRET_ID", "crm/oauth"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "unseen-secret-access-key"),
            ("AWS_CONFIG_FILE", profile.path().to_str().unwrap()),
        ],
    );
    for runs in 1..=2 {
        let (error_type, message) = error(api.invoke("{}", Deadline::InMs(5_000)).await);
        assert_eq!(error_type, "Panicked");
        assert!(message.contains("a bug in token-refresher") && !message.contains("URL was unset"), "{message}");
        let output = function.output();
        assert_eq!(output.lines().filter(|line| line.starts_with("Panicked: at ")).count(), runs, "{output}");
        assert_eq!(output.lines().filter(|line| line.contains(r#""ErrorType":"Panicked""#)).count(), runs, "{output}");
        assert!(!output.contains("URL was unset"), "{output}");
    }
}
