//! A file system without room and a read-only one, where the machine lets us mount them; a limit to the size of files
//! anywhere.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Stdio},
};

use token_refresher::store::{Label, SecretStore, StoreError};

use crate::{
    act::{Act, ended, process},
    scene::{NAME, Scene, TestClock, block_on, id},
    summary,
};

/// Runs a process behind a shell's preparations.
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

/// Puts versions until there is no room, and tells what was said then.
pub async fn fill(scene: &Scene) -> String {
    let store = scene.store(&TestClock::new());
    for n in 4.. {
        let before = scene.shape();
        match store.put(NAME, &id(n), Label::Staged, &"x".repeat(3000).into()).await {
            Ok(()) => assert_ne!(scene.shape(), before),
            Err(StoreError::Unavailable { detail, .. }) => {
                assert_eq!(scene.shape(), before, "the old state stands");
                scene.assert_private(false);
                assert!(n > 4, "there was room for a few");
                assert_eq!(store.list(NAME).await.expect("it is still read").len(), n - 1);
                return detail;
            }
            Err(error) => return format!("another error: {error}"),
        }
    }
    unreachable!("a disk without end")
}

#[test]
fn a_file_that_may_not_grow_is_left_as_it_was_whether_the_process_survives_it_or_not() {
    let before = block_on(Scene::new());
    block_on(before.store(&TestClock::new()).put(NAME, &id(9), Label::Claim, &"x".repeat(4000).into()))
        .expect("a version");
    for (preparations, survives) in [("trap '' XFSZ; ulimit -f 1", true), ("ulimit -c 0; ulimit -f 1", false)] {
        let scene = before.copy();
        let status = run_after(preparations, &[], &process(&scene, &format!("{:?}", Act::PutStaged), 0));
        let said = ended(&scene, 0);
        if survives {
            let path = scene.file("json");
            assert_eq!(said, Some(format!("Unavailable: write: {}: File too large (os error 27)", path.display())));
        } else {
            assert!(said.is_none() && status.signal().is_some(), "SIGXFSZ ends it: {status}");
            assert!(scene.file("tmp").exists(), "half a file is left");
        }
        assert_eq!(scene.shape(), before.shape());
        scene.assert_private(!survives);
        assert_eq!(block_on(Act::PutStaged.perform(&scene)), "ok");
        scene.assert_private(false);
    }
}

/// A way to mount what ends with the process; `None`: this machine has none for us.
fn mounting() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--map-root-user", "--mount"]];
    ways.into_iter().find(|way| {
        let probe = [*way, &["sh", "-c", "mount -t tmpfs tmpfs /tmp"]].concat();
        let probed = Command::new(probe[0]).args(&probe[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        probed.is_ok_and(|status| status.success())
    })
}

#[test]
fn a_full_file_system_and_a_read_only_one_are_named_and_the_secret_is_still_read() {
    let Some(mounting) = mounting() else {
        return summary("directory: no file system of its own: nothing may be mounted here");
    };
    let before = block_on(Scene::new());
    let (file, lock) = (before.file("json"), before.file("lock"));
    let mount = format!(
        "mount -t tmpfs -o size=32k,mode=700 tmpfs {1} && cp -p {0}/stash/* {1}",
        before.beside("").display(),
        before.folder().display()
    );
    fs::create_dir(before.beside("stash")).expect("a folder");
    fs::copy(&file, before.beside("stash").join(file.file_name().expect("a name"))).expect("a copy");
    for (part, what, and_then, expected) in [
        (1, "Fill", "", format!("{}: No space left on device (os error 28)", file.display())),
        (
            2,
            "PutValue",
            "&& mount -o remount,ro tmpfs FOLDER",
            format!("AccessDenied: not allowed to write: {}: Read-only file system (os error 30)", lock.display()),
        ),
    ] {
        let and_then = and_then.replace("FOLDER", &before.folder().display().to_string());
        let status = run_after(&format!("{mount} {and_then}"), mounting, &process(&before, what, part));
        assert!(status.success(), "{what}: {status}");
        assert_eq!(ended(&before, part), Some(expected), "{what}");
    }
}
