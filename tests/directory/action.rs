//! What a process does to the folder, and how to start a separate process that does it. Injects no faults.

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

use crate::world::{NAME, TestClock, World, block_on, id, run};

/// Each operation of the store that writes, and a whole refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    PutClaim,
    PutStaged,
    MoveCurrent,
    PutValue,
    RollBack,
    Refresh,
}

impl Action {
    pub const OPERATIONS: [Self; 6] =
        [Self::Create, Self::PutClaim, Self::PutStaged, Self::MoveCurrent, Self::PutValue, Self::RollBack];

    /// The world before the action.
    pub fn world(self) -> World {
        match self {
            Self::Create => World::empty(),
            _ => block_on(World::new()),
        }
    }

    /// Performs the action. Returns its result: a line for each attempt.
    pub async fn perform(self, world: &World) -> String {
        let clock = TestClock::new();
        if self == Self::Refresh {
            return refresh(world, &clock).await;
        }
        match self.operate(world, &clock).await {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("{}: {error}", kind(&error)),
        }
    }

    async fn operate(self, world: &World, clock: &TestClock) -> Result<(), StoreError> {
        let store = world.open(clock)?;
        match self {
            Self::Create => store.create(NAME, &"one".into()).await.map(drop),
            Self::PutClaim => store.put(NAME, &id(4), Label::Claim, &"claim".into()).await,
            Self::PutStaged => store.put(NAME, &id(4), Label::Staged, &"new".into()).await,
            Self::MoveCurrent => store.move_current(NAME, &id(2), &id(3)).await,
            Self::PutValue => store.put_value(NAME, &"a person's".into()).await.map(drop),
            Self::RollBack => store.roll_back(NAME).await.map(drop),
            Self::Refresh => unreachable!("not a single operation"),
        }
    }
}

/// One run. If it could not store its new tokens, also the next run of the process, with the disk repaired.
async fn refresh(world: &World, clock: &TestClock) -> String {
    let refresher = match world.open(clock) {
        Ok(store) => world.refresher(store, clock),
        Err(error) => return format!("{}: {error}", kind(&error)),
    };
    let describe = |result: &Result<Completed, Error>| match result {
        Ok(report) => format!("{:?}", report.outcome),
        Err(error) => format!("{}: {error}", error.error_type().as_str()),
    };
    let result = run(&refresher, clock).await;
    let first = describe(&result);
    if !matches!(result, Err(Error::TokenNotStored { .. })) {
        return first;
    }
    // The tracer stops its fault when it sees this file.
    fs::write(world.path("repaired"), "").expect("a file");
    format!("{first}\n{}", describe(&run(&refresher, clock).await))
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::NotFound { .. } => "NotFound",
        StoreError::AccessDenied { .. } => "AccessDenied",
        StoreError::Unavailable { .. } => "Unavailable",
        StoreError::Rejected { .. } => "Rejected",
        _ => "another",
    }
}

/// Runs this program again as a process with this number, which performs the action `what` on the folder.
pub fn process(world: &World, what: &str, number: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["action::every_action_succeeds_without_faults", "--exact", "--nocapture"])
        .env("TEST_WORLD", world.path(""))
        .env("TEST_ACTION", what)
        .env("TEST_PROCESS", number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// The result of the process with this number. `None` if it did not finish.
pub fn result(world: &World, number: u64) -> Option<String> {
    fs::read_to_string(world.path(&format!("result {number}"))).ok()
}

/// If the environment names an action, as in the processes of [`process`], this performs only that action.
#[test]
fn every_action_succeeds_without_faults() {
    if let Ok(path) = std::env::var("TEST_WORLD") {
        let var = |name| std::env::var(name).expect("a variable of `process`");
        return perform_in_process(
            &World::at(&PathBuf::from(path)),
            &var("TEST_ACTION"),
            var("TEST_PROCESS").parse().expect("a number"),
        );
    }
    for (action, versions) in Action::OPERATIONS.into_iter().zip([1, 4, 4, 3, 4, 3]) {
        let world = action.world();
        assert_eq!(block_on(action.perform(&world)), "ok", "{action:?}");
        assert_eq!(world.shape().expect("a secret").len(), versions, "{action:?}");
        world.assert_private(false);
    }
    let world = Action::Refresh.world();
    assert_eq!(block_on(Action::Refresh.perform(&world)), "Refreshed");
    assert_eq!((world.generation().as_str(), world.senders_of("refresh-1").len()), ("refresh-2", 1));
    world.assert_private(false);
}

fn perform_in_process(world: &World, what: &str, number: u64) {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    if std::env::var_os("TRACED").is_some() {
        crate::traced::tracer::request_tracing();
    }
    let actions = Action::OPERATIONS.into_iter().chain([Action::Refresh]);
    let result = match actions.into_iter().find(|action| format!("{action:?}") == what) {
        Some(action) => block_on(action.perform(world)),
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        None if what == "Race" => block_on(crate::traced::concurrency::race(world, number)),
        None if what == "Fill" => block_on(crate::disks::fill(world)),
        None => panic!("no such action: {what}"),
    };
    fs::write(world.path(&format!("result {number}")), result).expect("a file");
}
