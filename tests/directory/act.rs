//! What a process does to the folder, by its name, and how a process of its own is told to. Knows no harm that comes to it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use token_refresher::{
    protocol::Error,
    protocol::outcome::Completed,
    store::{Label, SecretStore, StoreError},
};

use crate::scene::{NAME, Scene, TestClock, block_on, id, run};

/// Each operation of the store that writes, and a whole refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Create,
    PutClaim,
    PutStaged,
    MoveCurrent,
    PutValue,
    RollBack,
    Refresh,
}

impl Act {
    pub const OPERATIONS: [Self; 6] =
        [Self::Create, Self::PutClaim, Self::PutStaged, Self::MoveCurrent, Self::PutValue, Self::RollBack];

    /// The folder before it.
    pub fn scene(self) -> Scene {
        match self {
            Self::Create => Scene::empty(),
            _ => block_on(Scene::new()),
        }
    }

    /// Does it, and tells how it ended: a line for each try.
    pub async fn perform(self, scene: &Scene) -> String {
        let clock = TestClock::new();
        if self == Self::Refresh {
            return refresh(scene, &clock).await;
        }
        match self.operate(scene, &clock).await {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("{}: {error}", kind(&error)),
        }
    }

    async fn operate(self, scene: &Scene, clock: &TestClock) -> Result<(), StoreError> {
        let store = scene.open(clock)?;
        match self {
            Self::Create => store.create(NAME, &"one".into()).await.map(drop),
            Self::PutClaim => store.put(NAME, &id(4), Label::Claim, &"claim".into()).await,
            Self::PutStaged => store.put(NAME, &id(4), Label::Staged, &"new".into()).await,
            Self::MoveCurrent => store.move_current(NAME, &id(2), &id(3)).await,
            Self::PutValue => store.put_value(NAME, &"a person's".into()).await.map(drop),
            Self::RollBack => store.roll_back(NAME).await.map(drop),
            Self::Refresh => unreachable!("not one operation"),
        }
    }
}

/// One run; and where it could not store the tokens it obtained, the process's next one, which finds the disk mended.
async fn refresh(scene: &Scene, clock: &TestClock) -> String {
    let refresher = match scene.open(clock) {
        Ok(store) => scene.refresher(store, clock),
        Err(error) => return format!("{}: {error}", kind(&error)),
    };
    let told = |ended: &Result<Completed, Error>| match ended {
        Ok(report) => format!("{:?}", report.outcome),
        Err(error) => format!("{}: {error}", error.error_type().as_str()),
    };
    let ended = run(&refresher, clock).await;
    let first = told(&ended);
    if !matches!(ended, Err(Error::TokenNotStored { .. })) {
        return first;
    }
    fs::write(scene.beside("mended"), "").expect("a note");
    format!("{first}\n{}", told(&run(&refresher, clock).await))
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::NotFound { .. } => "NotFound",
        StoreError::AccessDenied { .. } => "AccessDenied",
        StoreError::Unavailable { .. } => "Unavailable",
        StoreError::Rejected { .. } => "Rejected",
        StoreError::Exists | StoreError::Moved | StoreError::Quota { .. } | StoreError::Binary => "another",
    }
}

/// This program again, as a process that does something to the folder: `what` names it, and `part` who it is.
pub fn process(scene: &Scene, what: &str, part: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["act::every_act_ends_well_undisturbed", "--exact", "--nocapture"])
        .env("SCENE", scene.beside(""))
        .env("ACT", what)
        .env("PART", part.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// How the process ended that played this part; `None`: before its end.
pub fn ended(scene: &Scene, part: u64) -> Option<String> {
    fs::read_to_string(scene.beside(&format!("ended {part}"))).ok()
}

/// A process that was told what to do does that instead.
#[test]
fn every_act_ends_well_undisturbed() {
    if let Ok(beside) = std::env::var("SCENE") {
        let var = |name| std::env::var(name).expect("what it is told");
        return perform_as_told(
            &Scene::at(&PathBuf::from(beside)),
            &var("ACT"),
            var("PART").parse().expect("a number"),
        );
    }
    for (act, versions) in Act::OPERATIONS.into_iter().zip([1, 4, 4, 3, 4, 3]) {
        let scene = act.scene();
        assert_eq!(block_on(act.perform(&scene)), "ok", "{act:?}");
        assert_eq!(scene.shape().expect("a secret").len(), versions, "{act:?}");
        scene.assert_private(false);
    }
    let scene = Act::Refresh.scene();
    assert_eq!(block_on(Act::Refresh.perform(&scene)), "Refreshed");
    assert_eq!((scene.generation().as_str(), scene.senders_of("refresh-1").len()), ("refresh-2", 1));
    scene.assert_private(false);
}

fn perform_as_told(scene: &Scene, what: &str, part: u64) {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    if std::env::var_os("TRACED").is_some() {
        crate::traced::tracer::offer_to_be_traced();
    }
    let acts = Act::OPERATIONS.into_iter().chain([Act::Refresh]);
    let ended = match acts.into_iter().find(|act| format!("{act:?}") == what) {
        Some(act) => block_on(act.perform(scene)),
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        None if what == "Race" => block_on(crate::traced::together::race(scene, part)),
        None if what == "Fill" => block_on(crate::disks::fill(scene)),
        None => panic!("no such act: {what}"),
    };
    fs::write(scene.beside(&format!("ended {part}")), ended).expect("word");
}
