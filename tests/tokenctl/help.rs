//! Help, completions, manual pages, and what no option may be.

use std::fs;

use crate::{
    process::{With, command, run},
    world::World,
};

const COMMANDS: [&str; 10] =
    ["login", "adopt", "status", "history", "refresh", "run", "token", "doctor", "completions", "man"];

#[tokio::test]
async fn each_command_has_examples_and_exit_codes_are_explained() {
    let world = World::new().await;
    let help = run(command(world.path()).with(["--help"]), "").await.done().stdout;
    for part in ["Exit codes:", "130", "login", "adopt"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    for name in COMMANDS {
        let help = run(command(world.path()).with([name, "--help"]), "").await.done().stdout;
        assert!(help.contains("Examples:\n  tokenctl "), "{name}: {help}");
    }
    let version = run(command(world.path()).with(["--version"]), "").await.done().stdout;
    assert_eq!(version, format!("tokenctl {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn no_option_takes_a_secret() {
    let world = World::new().await;
    for name in COMMANDS {
        let help = run(command(world.path()).with([name, "--help"]), "").await.done().stdout;
        for line in help.lines().map(str::trim).filter(|line| line.starts_with("--")) {
            let option = line.split_whitespace().next().unwrap_or_default();
            let may_name_one = option.contains("secret") || option.contains("token") || option.contains("password");
            let is_no_secret = option.ends_with("-stdin")
                || option.ends_with("-id")
                || option.ends_with("-at")
                || option.ends_with("-endpoint")
                || option.ends_with("-auth-method");
            assert!(!may_name_one || is_no_secret, "{name} {option}");
        }
    }
}

#[tokio::test]
async fn completions_are_accepted_by_their_shell() {
    let world = World::new().await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(command(world.path()).with(["completions", shell]), "").await.done().stdout;
        assert!(script.contains("client-secret-stdin"), "{shell}");
        if shell == "bash" {
            let check = format!("{script}\ncomplete -p tokenctl");
            let mut bash = tokio::process::Command::new("bash");
            bash.args(["--norc", "-c", &check]).stdin(std::process::Stdio::null());
            let output = bash.output().await.expect("bash");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    run(command(world.path()).with(["completions", "csh"]), "").await.failed(2, "invalid value 'csh'");
}

#[tokio::test]
async fn each_command_has_a_manual_page() {
    let world = World::new().await;
    let pages = world.path().join("man1");
    fs::create_dir(&pages).unwrap();
    run(command(world.path()).with(["man", "man1"]), "").await.done();
    for name in ["tokenctl", "tokenctl-login", "tokenctl-adopt"] {
        let page = fs::read_to_string(pages.join(format!("{name}.1"))).expect(name);
        assert!(page.contains(".SH OPTIONS") && page.contains(".TH"), "{name}");
    }
    run(command(world.path()).with(["man", "nowhere"]), "").await.failed(2, "the pages cannot be written to nowhere");
}
