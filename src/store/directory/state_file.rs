//! The file of one secret: names, the lock, reading, and replacing by renaming. Knows permissions and limits, not what a secret means.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use crate::store::{
    StoreError,
    versions::{LIMITS, Versions},
};

/// How often a lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// The longest state file: as many versions as there may be, with every character escaped (`\u0001`).
const MAX_STATE_BYTES: usize = LIMITS.versions * (6 * LIMITS.version_bytes + 1024);

/// The file of one secret, and the files beside it.
pub(super) struct StateFile {
    pub(super) path: PathBuf,
    lock: PathBuf,
    temporary: PathBuf,
}

impl StateFile {
    pub(super) fn of(root: &Path, name: &str) -> Result<Self, StoreError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte);
        if !(1..=512).contains(&name.len()) || !name.bytes().all(allowed) {
            let detail = format!("a secret's name is 1 to 512 letters, digits or /_+=.@-, unlike {name:?}");
            return Err(StoreError::Rejected { action: "read", detail });
        }
        // Always with an extension: a secret may be called `..`.
        let file = |ending| root.join(format!("{}.{ending}", name.replace('/', "%2F")));
        Ok(Self { path: file("json"), lock: file("lock"), temporary: file("tmp") })
    }

    pub(super) fn arn(&self) -> String {
        format!("local:{}", self.path.display())
    }

    pub(super) fn read(&self) -> Result<Versions, StoreError> {
        let text = self.text()?;
        let versions: Versions = serde_json::from_slice(&text).map_err(|error| {
            // Not the error's own text: it quotes what it could not parse.
            self.refused(&format!("line {}, column {}", error.line(), error.column()))
        })?;
        versions.check().map_err(|problem| self.refused(problem))?;
        Ok(versions)
    }

    fn text(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let most = self.length()?.min(MAX_STATE_BYTES) + 1;
        // Allocated at its full length: a vector that grows leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(most));
        let read = File::open(&self.path).and_then(|file| file.take(MAX_STATE_BYTES as u64 + 1).read_to_end(&mut text));
        match read {
            Ok(..=MAX_STATE_BYTES) => Ok(text),
            Ok(_) => Err(self.refused(&format!("over {MAX_STATE_BYTES} bytes"))),
            Err(error) => Err(failed("read", &self.path, &error)),
        }
    }

    /// The length of the file; an error if it does not exist.
    pub(super) fn length(&self) -> Result<usize, StoreError> {
        let found = fs::symlink_metadata(&self.path).map_err(|error| failed("read", &self.path, &error))?;
        if !found.is_file() {
            // A write would replace a link by a file, and a read of a pipe might never end.
            return Err(self.refused("a folder, a link or a device"));
        }
        Ok(usize::try_from(found.len()).unwrap_or(usize::MAX))
    }

    fn refused(&self, what: &str) -> StoreError {
        let path = self.path.display();
        let detail = format!(
            "{path} is not a secret's state file, or a damaged one ({what}); \
             repair it or replace it by a copy; it was not changed"
        );
        StoreError::Rejected { action: "read", detail }
    }

    /// Excludes other writers until the returned file is dropped or the process ends.
    pub(super) fn lock(&self, patience: Duration) -> Result<File, StoreError> {
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.lock);
        let file = opened.map_err(|error| failed("write", &self.lock, &error))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => {
                    let path = self.lock.display();
                    let detail = format!("another process holds the lock {path} for over {patience:?}; try again");
                    return Err(StoreError::Unavailable { action: "write", detail });
                }
                Err(TryLockError::Error(error)) => return Err(failed("write", &self.lock, &error)),
            }
        }
    }

    /// Replaces the file, or leaves it unchanged. Only under the lock: the temporary file has a fixed name.
    pub(super) fn write(&self, versions: &Versions) -> Result<(), StoreError> {
        let replaced = serde_json::to_vec(versions).map_err(io::Error::from).map(Zeroizing::new).and_then(|text| {
            // Opened first: after the file is replaced, no error may claim that it is unchanged.
            let folder = self.path.parent().map(File::open).transpose()?;
            remove_if_there(&self.temporary)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            Ok(folder)
        });
        let folder = replaced.map_err(|error| {
            // Best effort, for a full disk: the next write would remove it.
            let _ = fs::remove_file(&self.temporary);
            failed("write", &self.path, &error)
        })?;
        // The renaming must survive a power cut, too.
        folder.map_or(Ok(()), |folder| folder.sync_all()).map_err(|error| {
            let detail = format!("{}: written, but not safe from a power cut: {error}", self.path.display());
            StoreError::Unavailable { action: "write", detail }
        })
    }
}

/// The first `most` names of secrets in a folder that `is_wanted` accepts, in alphabetical order. Memory does not grow with the number
/// of files.
pub(super) fn names(root: &Path, most: usize, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, StoreError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root).map_err(|error| failed("read", root, &error))? {
        let entry = entry.map_err(|error| failed("read", root, &error))?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")) else { continue };
        let name = name.replace("%2F", "/");
        // Not a file of ours if its name cannot be that of a secret.
        if is_wanted(&name) && StateFile::of(root, &name).is_ok_and(|state| state.path.file_name() == Some(&file)) {
            names.insert(name);
        }
        if names.len() > most {
            names.pop_last();
        }
    }
    Ok(names.into_iter().collect())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn failed(action: &'static str, path: &Path, error: &io::Error) -> StoreError {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound { detail },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::AccessDenied { action, detail },
        ErrorKind::InvalidFilename | ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            StoreError::Rejected { action, detail }
        }
        _ => StoreError::Unavailable { action, detail },
    }
}
