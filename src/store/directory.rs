//! Secrets in a local directory, one JSON file each, with the semantics of [`Versions`]: for machines without AWS. Knows nothing of
//! what a secret means; the files are in `state_file`.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::{
    BATCH, Found, Label, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version, VersionId,
    versions::{LIMITS, Versions},
};
use crate::{clock::Clock, error::Advice, secret::Secret};

mod state_file;
use state_file::{StateFile, failed};

const CURRENT: &str = Label::Current.as_str();

/// How long a write waits for another write of the same secret, which takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// A directory of secrets. Several processes on this machine may use it at once.
///
/// A secret has a state file `NAME.json` (`/` in the name becomes `%2F`), a lock file `NAME.lock`, which writers hold, and after a
/// crash perhaps `NAME.tmp`, which the next write removes. A write that was started continues when its future is dropped.
///
/// A file that is not a state file, or an inconsistent one, is rejected and not changed. There is no checksum: a crash cannot damage
/// a file that is replaced by renaming, and a person may repair or edit one by hand.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: Arc<Path>,
    clock: Clock,
    lock_patience: Duration,
}

impl DirectoryStore {
    /// Opens the directory, and creates it (mode 0700) if it is missing. `clock` dates the versions.
    pub fn open(root: impl Into<PathBuf>, clock: Clock) -> Result<Self, StoreError> {
        Self::open_with(&root.into(), clock, LOCK_PATIENCE)
    }

    /// A directory to read from. Nothing is created, also if it is missing.
    pub(crate) fn to_read(root: &Path) -> Self {
        Self { root: root.into(), clock: Clock::system(), lock_patience: LOCK_PATIENCE }
    }

    /// Creates a secret with its first version. [`StoreError::Rejected`] if one of that name exists.
    pub async fn create(&self, name: &str, body: &Secret) -> Result<VersionId, StoreError> {
        let id = VersionId::random();
        self.create_as(name, &id, body).await.map(|()| id)
    }

    /// As [`DirectoryStore::create`], with the id of the first version.
    pub async fn create_as(&self, name: &str, id: &VersionId, body: &Secret) -> Result<(), StoreError> {
        let (name, id, body) = (name.to_owned(), id.clone(), body.clone());
        self.blocking("write", move |store| {
            let state = StateFile::of(&store.root, &name)?;
            let _lock = state.lock(store.lock_patience)?;
            if fs::symlink_metadata(&state.path).is_ok() {
                let detail = format!("there is a secret {name} already ({})", state.path.display());
                return Err(StoreError::Rejected { action: "write", detail });
            }
            state.write(&Versions::create(state.arn(), &id, &body, store.clock.now())?)
        })
        .await
    }

    /// Puts a version as a person does: it becomes the current one.
    pub async fn put_value(&self, name: &str, body: &Secret) -> Result<VersionId, StoreError> {
        let body = body.clone();
        self.change(name, move |versions, now| {
            let id = VersionId::random();
            versions.put(&id, &body, None, now).map(|()| id)
        })
        .await
    }

    /// Makes the previous version current again, and returns its id.
    pub async fn roll_back(&self, name: &str) -> Result<VersionId, StoreError> {
        self.change(name, |versions, _| versions.roll_back()).await
    }

    fn open_with(root: &Path, clock: Clock, lock_patience: Duration) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|error| failed("write", root, &error))?;
        let root = root.canonicalize().map_err(|error| failed("read", root, &error))?;
        Ok(Self { root: root.into(), clock, lock_patience })
    }

    async fn read<T: Send + 'static>(
        &self,
        name: &str,
        look: impl FnOnce(&Versions) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let name = name.to_owned();
        // Without the lock: a write replaces the file by renaming.
        self.blocking("read", move |store| look(&StateFile::of(&store.root, &name)?.read()?)).await
    }

    async fn change<T: Send + 'static>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Versions, DateTime<Utc>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let name = name.to_owned();
        self.blocking("write", move |store| {
            let state = StateFile::of(&store.root, &name)?;
            // Checked before a lock file is created: a mistyped name leaves nothing behind.
            state.length()?;
            let _lock = state.lock(store.lock_patience)?;
            let mut versions = state.read()?;
            let done = change(&mut versions, store.clock.now())?;
            // Also if nothing changed: the put that is repeated here may have failed before it was on the disk.
            state.write(&versions)?;
            Ok(done)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or_else(|_| {
            // Not the join error's own text: a panic's message could hold anything.
            let detail = format!("the work on a file in {} was cut short", self.root.display());
            Err(StoreError::Unavailable { action, detail })
        })
    }
}

impl SecretStore for DirectoryStore {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn action(&self, operation: Operation) -> &'static str {
        match operation {
            Operation::Get | Operation::List | Operation::GetBatch => "read",
            Operation::Put | Operation::MoveLabel => "write",
        }
    }

    fn advice(&self, error: &StoreError, _secret_id: &str) -> Advice {
        match error {
            StoreError::NotFound { .. } => Advice::new("check the name and the directory, and give the secret a value"),
            StoreError::AccessDenied { .. } => Advice::new("check who owns the file and its folder"),
            StoreError::Quota { .. } => {
                Advice::new("put fewer versions, or wait until those of the last day are older")
            }
            StoreError::Binary | StoreError::Rejected { .. } => {
                Advice::new("the same call will fail again: check the secret's name and its file")
            }
            StoreError::Exists
            | StoreError::Moved { .. }
            | StoreError::NotAuthenticated { .. }
            | StoreError::NotConfigured { .. }
            | StoreError::Throttled { .. }
            | StoreError::Unavailable { .. } => Advice::new("the next run tries again").or_at_command_line("try again"),
        }
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }

    async fn get(&self, secret_id: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        let (id, label) = match which {
            Selector::Id(id) => (Some(id.clone()), None),
            Selector::Label(label) => (None, Some(label.as_str())),
        };
        self.read(secret_id, move |versions| versions.get(id.as_ref(), label)).await
    }

    async fn put(&self, secret_id: &str, id: &VersionId, label: Label, body: &Secret) -> Result<(), StoreError> {
        let (id, labels, body) = (id.clone(), [label.as_str().to_owned()], body.clone());
        self.change(secret_id, move |versions, now| versions.put(&id, &body, Some(&labels), now)).await
    }

    async fn move_label(
        &self,
        secret_id: &str,
        label: Label,
        from: Option<&VersionId>,
        to: &VersionId,
    ) -> Result<(), StoreError> {
        let (from, to) = (from.cloned(), to.clone());
        self.change(secret_id, move |versions, _| versions.move_label(label.as_str(), from.as_ref(), &to)).await
    }

    async fn remove_label(&self, secret_id: &str, label: Label, from: &VersionId) -> Result<(), StoreError> {
        let from = from.clone();
        self.change(secret_id, move |versions, _| versions.remove_label(label.as_str(), &from)).await
    }

    async fn list(&self, secret_id: &str) -> Result<Vec<Listed>, StoreError> {
        self.read(secret_id, |versions| Ok(versions.list(true))).await
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        let names: Vec<String> = secret_ids.iter().map(|name| (*name).to_owned()).collect();
        let current = |store: &Self, name: &str| StateFile::of(&store.root, name)?.read()?.get(None, Some(CURRENT));
        self.blocking("read", move |store| Ok(names.iter().map(|name| current(store, name).ok()).collect())).await
    }

    /// A page starts after the last name of the page before, so created and deleted secrets do not shift it.
    async fn find(&self, prefix: &str, page: Option<&str>) -> Result<Page, StoreError> {
        let (prefix, after) = (prefix.to_owned(), page.map(str::to_owned));
        self.blocking("read", move |store| {
            let mut names = state_file::names(&store.root, BATCH + 1, |name| {
                name.starts_with(&prefix) && after.as_deref().is_none_or(|after| name > after)
            })?;
            let is_last = names.len() <= BATCH;
            names.truncate(BATCH);
            let next = if is_last { None } else { names.last().cloned() };
            let found = names.into_iter().map(|name| {
                let version =
                    StateFile::of(&store.root, &name).and_then(|state| state.read()?.get(None, Some(CURRENT)));
                Found { secret_id: name, version: version.ok() }
            });
            Ok(Page { found: found.collect(), next })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs::File,
        io::{self, ErrorKind},
        os::unix::fs::PermissionsExt,
        process::{Command, Stdio},
    };

    use chrono::TimeDelta;
    use tempfile::TempDir;

    use super::*;

    const NAME: &str = "crm/prod/oauth";

    fn store(directory: &TempDir) -> DirectoryStore {
        DirectoryStore::open(directory.path(), Clock::system()).unwrap()
    }

    fn file(directory: &TempDir, ending: &str) -> PathBuf {
        directory.path().canonicalize().unwrap().join(format!("crm%2Fprod%2Foauth.{ending}"))
    }

    fn id(n: usize) -> VersionId {
        format!("00000000-0000-4000-8000-{n:012}").into()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    async fn text(store: &DirectoryStore, label: Label) -> Result<String, StoreError> {
        store.get(NAME, Selector::Label(label)).await.map(|version| version.body.expose().to_owned())
    }

    #[tokio::test]
    async fn a_version_is_staged_promoted_and_rolled_back() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        let first = store.create(NAME, &"one".into()).await.unwrap();
        store.put(NAME, &id(2), Label::Staged, &"two".into()).await.unwrap();
        assert_eq!(text(&store, Label::Current).await.unwrap(), "one");
        assert_eq!(text(&store, Label::Staged).await.unwrap(), "two");
        assert!(matches!(store.move_current(NAME, &id(2), &first).await, Err(StoreError::Moved { .. })));
        store.move_current(NAME, &first, &id(2)).await.unwrap();
        assert_eq!(text(&store, Label::Current).await.unwrap(), "two");
        assert_eq!(store.roll_back(NAME).await.unwrap(), first);
        assert_eq!(text(&store, Label::Current).await.unwrap(), "one");
        let third = store.put_value(NAME, &"three".into()).await.unwrap();
        assert_eq!(store.get(NAME, Selector::Label(Label::Current)).await.unwrap().id, third);
        let listed: Vec<_> = store.list(NAME).await.unwrap().into_iter().map(|it| (it.id, it.labels.any())).collect();
        assert_eq!(listed, [(first, true), (id(2), true), (third, true)]);
    }

    #[tokio::test]
    async fn a_put_is_put_if_absent() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.create(NAME, &"one".into()).await.unwrap();
        for (body, expected) in [("two", Ok(())), ("two", Ok(())), ("other", Err(StoreError::Exists))] {
            assert_eq!(store.put(NAME, &id(2), Label::Claim, &body.into()).await, expected, "{body}");
        }
        assert_eq!(store.get(NAME, Selector::Id(&id(2))).await.unwrap().body.expose(), "two");
    }

    #[tokio::test]
    async fn versions_carry_the_time_of_the_clock_and_an_arn_of_their_secret() {
        let directory = TempDir::new().unwrap();
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let store = DirectoryStore::open(directory.path(), Clock::new(move || now, tokio::time::sleep)).unwrap();
        let mut arns = BTreeSet::new();
        for name in ["a", "a/b", "A"] {
            store.create(name, &"one".into()).await.unwrap();
            let version = store.get(name, Selector::Label(Label::Current)).await.unwrap();
            assert_eq!(version.created, now);
            arns.insert(version.arn);
        }
        let root = directory.path().canonicalize().unwrap();
        let arn = |file| format!("local:{}/{file}", root.display());
        assert_eq!(arns, BTreeSet::from([arn("a.json"), arn("a%2Fb.json"), arn("A.json")]));
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found_and_nothing_is_left_behind() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        let missing = file(&directory, "json");
        for failed in [
            store.get(NAME, Selector::Label(Label::Current)).await.map(drop),
            store.put(NAME, &id(1), Label::Claim, &"one".into()).await,
            store.put_value(NAME, &"one".into()).await.map(drop),
            store.list(NAME).await.map(drop),
        ] {
            let Err(StoreError::NotFound { detail }) = failed else { panic!("{failed:?}") };
            assert!(detail.contains(missing.to_str().unwrap()), "{detail}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let first = store.create(NAME, &"one".into()).await.unwrap();
        for failed in [
            store.get(NAME, Selector::Label(Label::Claim)).await.map(drop),
            store.get(NAME, Selector::Id(&id(9))).await.map(drop),
            store.move_current(NAME, &first, &id(9)).await,
            store.roll_back(NAME).await.map(drop),
        ] {
            assert!(matches!(failed, Err(StoreError::NotFound { .. })), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn a_secret_is_created_once() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.create(NAME, &"one".into()).await.unwrap();
        let again = store.create(NAME, &"two".into()).await;
        assert!(matches!(again, Err(StoreError::Rejected { action: "write", .. })), "{again:?}");
        assert_eq!(text(&store, Label::Current).await.unwrap(), "one");
    }

    #[tokio::test]
    async fn a_search_skips_files_that_are_not_secrets_and_shows_damaged_ones_without_a_version() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        for name in ["crm/a", "crm/b"] {
            store.create(name, &"one".into()).await.unwrap();
        }
        fs::write(directory.path().join("crm%2Fc.json"), "hunter2").unwrap();
        for other in ["crm%2Fd.txt", "crm%2F e.json", "crm%zz.json", "notes.json.bak", "crm%2fx.json"] {
            fs::write(directory.path().join(other), "{}").unwrap();
        }
        let found = store.find("crm/", None).await.unwrap().found;
        let found: Vec<_> = found.iter().map(|it| (it.secret_id.as_str(), it.version.is_some())).collect();
        assert_eq!(found, [("crm/a", true), ("crm/b", true), ("crm/c", false)]);
    }

    #[tokio::test]
    async fn names_are_those_secrets_manager_allows_and_never_lead_out_of_the_directory() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        for (name, allowed) in [
            ("", false),
            ("a", true),
            ("Az09/_+=.@-", true),
            (".", true),
            ("..", true),
            ("../outside", true),
            ("/etc/passwd", true),
            ("a%2Fb", false),
            ("a b", false),
            ("a\\b", false),
            ("a\0", false),
            ("a\n", false),
            ("é", false),
            (&"n".repeat(513), false),
        ] {
            match store.create(name, &"one".into()).await {
                Ok(_) => assert!(allowed, "{name:?}"),
                Err(error) => assert!(!allowed && matches!(error, StoreError::Rejected { .. }), "{name:?} {error:?}"),
            }
            assert_eq!(store.list(name).await.is_ok(), allowed, "{name:?}");
        }
        // One state file and one lock file each, none of them elsewhere.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2 * 6);
    }

    #[test]
    fn a_name_of_512_characters_is_allowed_by_the_service_and_perhaps_too_long_for_the_file_system() {
        assert!(StateFile::of(Path::new("/"), &"n".repeat(512)).is_ok());
        let error = io::Error::from(ErrorKind::InvalidFilename);
        assert!(matches!(failed("write", Path::new("/x"), &error), StoreError::Rejected { .. }));
    }

    #[tokio::test]
    async fn files_are_for_their_owner_alone_once_they_were_written() {
        let parent = TempDir::new().unwrap();
        let root = parent.path().join("made/here");
        let store = DirectoryStore::open(&root, Clock::system()).unwrap();
        assert_eq!(mode(&root), 0o700);
        store.create("a", &"one".into()).await.unwrap();
        let (state, lock) = (root.join("a.json"), root.join("a.lock"));
        assert_eq!((mode(&state), mode(&lock)), (0o600, 0o600));
        // Readable by others: a restored copy perhaps. It is read, and put right at the next write.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o644)).unwrap();
        let store = DirectoryStore::open(&root, Clock::system()).unwrap();
        assert!(store.list("a").await.is_ok());
        assert_eq!((mode(&root), mode(&state)), (0o755, 0o644));
        store.put_value("a", &"two".into()).await.unwrap();
        assert_eq!(mode(&state), 0o600);
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_and_left_as_it_is() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.create(NAME, &"hunter2".into()).await.unwrap();
        let path = file(&directory, "json");
        let whole = fs::read(&path).unwrap();
        let with = |from: &str, to: &str| String::from_utf8(whole.clone()).unwrap().replace(from, to).into_bytes();
        for damaged in [
            Vec::new(),
            b"hunter2".to_vec(),
            br#""hunter2""#.to_vec(),
            b"{}".to_vec(),
            b"[]".to_vec(),
            vec![0; 100],
            vec![0xff; 100],
            whole[..whole.len() - 1].to_vec(),
            whole[..whole.len() / 2].to_vec(),
            [&whole[..], b"}"].concat(),
            with("\"created\":\"", "\"created\":\"hunter2"),
            with("\"created\"", "\"body\":\"hunter2\",\"created\""),
            with("\"AWSCURRENT\":", "\"AWSCURRENT\":[\"hunter2\"],\"X\":"),
        ] {
            fs::write(&path, &damaged).unwrap();
            for failed in [
                store.get(NAME, Selector::Label(Label::Current)).await.map(drop),
                store.put(NAME, &id(2), Label::Claim, &"two".into()).await,
                store.put_value(NAME, &"two".into()).await.map(drop),
                store.roll_back(NAME).await.map(drop),
                store.create(NAME, &"two".into()).await.map(drop),
            ] {
                let Err(StoreError::Rejected { detail, .. }) = failed else { panic!("{failed:?}") };
                assert!(detail.contains(path.to_str().unwrap()) && !detail.contains("hunter2"), "{detail}");
            }
            assert!(fs::read(&path).unwrap() == damaged, "the file was changed");
        }
    }

    #[tokio::test]
    async fn a_lock_held_elsewhere_is_an_error_that_names_it_and_readers_do_not_mind() {
        let directory = TempDir::new().unwrap();
        store(&directory).create(NAME, &"one".into()).await.unwrap();
        let store = DirectoryStore::open_with(directory.path(), Clock::system(), Duration::from_millis(20)).unwrap();
        let path = file(&directory, "lock");
        let held = File::open(&path).unwrap();
        held.lock().unwrap();
        let failed = store.put_value(NAME, &"two".into()).await;
        let Err(StoreError::Unavailable { action: "write", detail }) = failed else { panic!("{failed:?}") };
        assert!(
            detail.contains("another process holds the lock") && detail.contains(path.to_str().unwrap()),
            "{detail}"
        );
        assert_eq!(text(&store, Label::Current).await.unwrap(), "one");
        drop(held);
        store.put_value(NAME, &"two".into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_write_waits_for_a_lock_that_is_let_go_in_time() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.create(NAME, &"one".into()).await.unwrap();
        let held = File::open(file(&directory, "lock")).unwrap();
        held.lock().unwrap();
        let let_go = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(held);
        };
        let body = Secret::from("two");
        let (put, ()) = tokio::join!(store.put_value(NAME, &body), let_go);
        assert!(put.is_ok(), "{put:?}");
    }

    #[tokio::test]
    async fn what_a_crash_left_behind_is_harmless_and_goes_with_the_next_write() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        let temporary = file(&directory, "tmp");
        fs::write(&temporary, "half a secr").unwrap();
        assert!(matches!(store.list(NAME).await, Err(StoreError::NotFound { .. })));
        store.create(NAME, &"one".into()).await.unwrap();
        assert!(!temporary.exists());
        fs::write(&temporary, "half a secr").unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o444)).unwrap();
        assert_eq!(text(&store, Label::Current).await.unwrap(), "one");
        store.put_value(NAME, &"two".into()).await.unwrap();
        assert!(!temporary.exists());
        assert_eq!(mode(&file(&directory, "json")), 0o600);
    }

    #[tokio::test]
    async fn a_write_that_fails_leaves_the_secret_as_it_was() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.create(NAME, &"one".into()).await.unwrap();
        // A folder where the temporary file should be: not even root can write there.
        fs::create_dir(file(&directory, "tmp")).unwrap();
        assert!(store.put_value(NAME, &"two".into()).await.is_err());
        assert_eq!(text(&store, Label::Current).await.unwrap(), "one");
        assert_eq!(store.list(NAME).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn old_unlabelled_versions_make_room_and_young_ones_do_not() {
        for (age, fits) in [
            (LIMITS.unlabelled_kept - TimeDelta::seconds(1), false),
            (LIMITS.unlabelled_kept, true),
            (LIMITS.unlabelled_kept + TimeDelta::seconds(1), true),
        ] {
            let directory = TempDir::new().unwrap();
            let start: DateTime<Utc> = "2026-01-02T03:04:05Z".parse().unwrap();
            let clock = Clock::new(move || start + age, tokio::time::sleep);
            let store = DirectoryStore::open(directory.path(), clock).unwrap();
            let mut full = Versions::create("local:full", &id(1), &"one".into(), start).unwrap();
            for n in 2..=LIMITS.versions {
                full.put(&id(n), &"unlabelled".into(), Some(&[]), start).unwrap();
            }
            StateFile::of(&store.root, NAME).unwrap().write(&full).unwrap();
            let put = store.put(NAME, &id(101), Label::Claim, &"claim".into()).await;
            assert!(if fits { put.is_ok() } else { matches!(put, Err(StoreError::Quota { .. })) }, "{age}: {put:?}");
            assert_eq!(store.list(NAME).await.unwrap().len(), LIMITS.versions);
            assert_eq!(store.get(NAME, Selector::Id(&id(2))).await.is_ok(), !fits, "{age}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_may_not_be_written_denies_access_and_is_still_read() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.create(NAME, &"one".into()).await.unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
        // Permissions do not bind root.
        let binding = fs::write(directory.path().join("probe"), "").is_err();
        let put = store.put_value(NAME, &"two".into()).await;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        if binding {
            let Err(StoreError::AccessDenied { action: "write", detail }) = put else { panic!("{put:?}") };
            assert!(detail.contains(file(&directory, "json").to_str().unwrap()), "{detail}");
            assert_eq!(text(&store, Label::Current).await.unwrap(), "one");
        } else {
            assert_eq!(text(&store, Label::Current).await.unwrap(), "two", "{put:?}");
        }
    }

    #[test]
    fn errors_of_the_system_say_what_to_mend() {
        for (kind, expected) in [
            (ErrorKind::PermissionDenied, "AccessDenied { action: \"write\""),
            (ErrorKind::ReadOnlyFilesystem, "AccessDenied { action: \"write\""),
            (ErrorKind::NotFound, "NotFound"),
            (ErrorKind::StorageFull, "Unavailable { action: \"write\""),
            (ErrorKind::QuotaExceeded, "Unavailable { action: \"write\""),
            (ErrorKind::NotADirectory, "Rejected { action: \"write\""),
        ] {
            let error = failed("write", Path::new("/secrets/a.json"), &kind.into());
            let shown = format!("{error:?}");
            assert!(shown.starts_with(expected) && shown.contains("/secrets/a.json: "), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_a_file_is_refused() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        let opened = DirectoryStore::open(&path, Clock::system());
        assert!(matches!(opened, Err(StoreError::Rejected { .. })), "{opened:?}");
    }

    #[tokio::test]
    async fn of_many_tasks_that_put_one_id_exactly_one_wins() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.create(NAME, &"one".into()).await.unwrap();
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { store.put(NAME, &id(2), Label::Claim, &format!("task {n}").into()).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (n, task) in tasks.into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(()) => winners.push(format!("task {n}")),
                lost => assert_eq!(lost, Err(StoreError::Exists)),
            }
        }
        assert_eq!(winners, [text(&store, Label::Claim).await.unwrap()]);
    }

    #[tokio::test]
    async fn of_many_tasks_that_move_current_exactly_one_wins() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        let from = store.create(NAME, &"one".into()).await.unwrap();
        for n in 2..18 {
            store.put(NAME, &id(n), Label::Staged, &"staged".into()).await.unwrap();
        }
        let tasks: Vec<_> = (2..18)
            .map(|n| {
                let (store, from) = (store.clone(), from.clone());
                tokio::spawn(async move { store.move_current(NAME, &from, &id(n)).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (n, task) in (2..18).zip(tasks) {
            match task.await.unwrap() {
                Ok(()) => winners.push(id(n)),
                lost => assert!(matches!(lost, Err(StoreError::Moved { .. })), "{lost:?}"),
            }
        }
        assert_eq!(winners, [store.get(NAME, Selector::Label(Label::Current)).await.unwrap().id]);
    }

    const ROUNDS: usize = 20;

    /// Races other processes: for ids that all put, and for AWSCURRENT, which all move to versions of their own.
    /// Answers what it won: which ids it put, and from which version it moved AWSCURRENT.
    async fn race(store: &DirectoryStore, racer: usize) -> Vec<String> {
        let mut won = Vec::new();
        for round in 1..=ROUNDS {
            match store.put(NAME, &id(round), Label::Claim, &format!("racer {racer}").into()).await {
                Ok(()) => won.push(format!("put {round}")),
                lost => assert_eq!(lost, Err(StoreError::Exists)),
            }
            let own = id(1000 * racer + round);
            store.put(NAME, &own, Label::Staged, &"staged".into()).await.unwrap();
            loop {
                let from = store.get(NAME, Selector::Label(Label::Current)).await.unwrap().id;
                match store.move_current(NAME, &from, &own).await {
                    Ok(()) => break won.push(format!("moved from {from}")),
                    lost => assert!(matches!(lost, Err(StoreError::Moved { .. })), "{lost:?}"),
                }
            }
        }
        won
    }

    #[tokio::test]
    async fn of_several_processes_exactly_one_wins() {
        // The test starts itself: with this set, it is one of the racers.
        if let Ok(racer) = std::env::var("RACER") {
            let root = PathBuf::from(std::env::var("RACE").unwrap());
            let store = DirectoryStore::open(&root, Clock::system()).unwrap();
            fs::write(root.join(format!("ready {racer}")), "").unwrap();
            while !root.join("go").exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let won = race(&store, racer.parse().unwrap()).await;
            fs::write(root.join(format!("won {racer}")), won.join("\n")).unwrap();
            return;
        }
        let directory = TempDir::new().unwrap();
        let first = store(&directory).create(NAME, &"one".into()).await.unwrap();
        let (_, here) = module_path!().split_once("::").unwrap();
        let racers: Vec<_> = (1..=2)
            .map(|racer: usize| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", &format!("{here}::of_several_processes_exactly_one_wins")])
                    .env("RACE", directory.path())
                    .env("RACER", racer.to_string())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let ready = async {
            while (1..=racers.len()).any(|racer| !directory.path().join(format!("ready {racer}")).exists()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), ready).await.expect("the racers start");
        fs::write(directory.path().join("go"), "").unwrap();
        let mut won = Vec::new();
        for (racer, mut process) in (1..).zip(racers) {
            assert!(process.wait().unwrap().success());
            let text = fs::read_to_string(directory.path().join(format!("won {racer}"))).unwrap();
            won.extend(text.lines().map(str::to_owned));
        }
        // Every id was put once, and AWSCURRENT left every version that it was on once, but for the last.
        let last = store(&directory).get(NAME, Selector::Label(Label::Current)).await.unwrap().id;
        let own = (1..=2).flat_map(|racer| (1..=ROUNDS).map(move |round| id(1000 * racer + round)));
        let left = own.chain([first]).filter(|id| *id != last).map(|id| format!("moved from {id}"));
        let mut expected: Vec<String> = (1..=ROUNDS).map(|round| format!("put {round}")).chain(left).collect();
        expected.sort();
        won.sort();
        assert_eq!(won, expected);
    }
}
