//! A full file system and a read-only one, if the machine allows a mount; a limit on the size of files.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Stdio},
};

use token_refresher::store::{Label, SecretStore, StoreError};

use crate::{
    action::{Action, process, result},
    summary,
    world::{NAME, TestClock, World, block_on, id},
};

/// Runs a command after some shell commands.
fn run_after(preparations: &str, launcher: &[&str], command: &Command) -> ExitStatus {
    let script = format!(r#"{preparations}; exec "$0" "$@""#);
    let words = [launcher, &["sh", "-c", &script]].concat();
    Command::new(words[0])
        .args(&words[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdout(Stdio::null())
        .status()
        .expect("a shell")
}

/// Puts versions until the file system is full. Returns the detail of the error.
pub async fn fill(world: &World) -> String {
    let store = world.store(&TestClock::new());
    for n in 4.. {
        let before = world.shape();
        match store.put(NAME, &id(n), Label::Staged, &"x".repeat(3000).into()).await {
            Ok(()) => assert_ne!(world.shape(), before),
            Err(StoreError::Unavailable { detail, .. }) => {
                assert_eq!(world.shape(), before, "the old state is unchanged");
                world.assert_private(false);
                assert!(n > 4, "there was room for some versions");
                assert_eq!(store.list(NAME).await.expect("the secret can still be read").len(), n - 1);
                return detail;
            }
            Err(error) => return format!("another error: {error}"),
        }
    }
    unreachable!("the disk is never full")
}

#[test]
fn a_file_at_its_size_limit_is_unchanged_whether_or_not_the_process_survives() {
    let before = block_on(World::new());
    block_on(before.store(&TestClock::new()).put(NAME, &id(9), Label::Claim, &"x".repeat(4000).into()))
        .expect("a version");
    for (preparations, survives) in [("trap '' XFSZ; ulimit -f 1", true), ("ulimit -c 0; ulimit -f 1", false)] {
        let world = before.copy();
        let status = run_after(preparations, &[], &process(&world, &format!("{:?}", Action::PutStaged), 0));
        let result = result(&world, 0);
        if survives {
            let path = world.file("json");
            assert_eq!(result, Some(format!("Unavailable: write: {}: File too large (os error 27)", path.display())));
        } else {
            assert!(result.is_none() && status.signal().is_some(), "SIGXFSZ kills the process: {status}");
            assert!(world.file("tmp").exists(), "half of the file remains");
        }
        assert_eq!(world.shape(), before.shape());
        world.assert_private(!survives);
        assert_eq!(block_on(Action::PutStaged.perform(&world)), "ok");
        world.assert_private(false);
    }
}

/// The command for a mount that ends with the process. `None` if this machine does not allow it.
fn mounting() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--map-root-user", "--mount"]];
    ways.into_iter().find(|way| {
        let probe = [*way, &["sh", "-c", "mount -t tmpfs tmpfs /tmp"]].concat();
        let probed = Command::new(probe[0]).args(&probe[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        probed.is_ok_and(|status| status.success())
    })
}

#[test]
fn a_full_or_read_only_file_system_is_reported_and_the_secret_can_still_be_read() {
    let Some(mounting) = mounting() else {
        return summary("directory: full and read-only file systems not tested: no mount is allowed here");
    };
    let before = block_on(World::new());
    let (file, lock) = (before.file("json"), before.file("lock"));
    let mount = format!(
        "mount -t tmpfs -o size=32k,mode=700 tmpfs {1} && cp -p {0}/stash/* {1}",
        before.path("").display(),
        before.folder().display()
    );
    fs::create_dir(before.path("stash")).expect("a folder");
    fs::copy(&file, before.path("stash").join(file.file_name().expect("a name"))).expect("a copy");
    for (number, what, and_then, expected) in [
        (1, "Fill", "", format!("{}: No space left on device (os error 28)", file.display())),
        (
            2,
            "PutValue",
            "&& mount -o remount,ro tmpfs FOLDER",
            format!("AccessDenied: not allowed to write: {}: Read-only file system (os error 30)", lock.display()),
        ),
    ] {
        let and_then = and_then.replace("FOLDER", &before.folder().display().to_string());
        let status = run_after(&format!("{mount} {and_then}"), mounting, &process(&before, what, number));
        assert!(status.success(), "{what}: {status}");
        assert_eq!(result(&before, number), Some(expected), "{what}");
    }
}
