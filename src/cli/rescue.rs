//! Tokens that could not be stored: a file that only its owner may read, and what to do with it. A consent, or an exchange, must not be lost.

use std::path::{Path, PathBuf};

use super::{Context, failure::Failure};
use crate::{
    protocol::{Unstored, UnstoredContent},
    secret::Secret,
    store::VersionId,
};

/// Files with what could not be stored.
pub(super) struct Rescue {
    files: Vec<PathBuf>,
    /// Where it is, and what to do.
    pub advice: String,
}

impl Rescue {
    /// Writes files.
    pub(super) fn of(context: &Context, unstored: Vec<Unstored>) -> Self {
        let mut files = Vec::new();
        let mut advice = Vec::new();
        for Unstored { secret_id, content, .. } in unstored {
            let (UnstoredContent::TokenSecret(body) | UnstoredContent::Record(body)) = &content;
            let file = match write_file(&secret_id, body) {
                Ok(file) => file,
                Err(error) => {
                    advice.push(no_file(&error));
                    continue;
                }
            };
            advice.push(match content {
                UnstoredContent::TokenSecret(_) => adopt_file(context, &secret_id, &file),
                UnstoredContent::Record(_) => format!(
                    "THE RESPONSE OF THE PROVIDER IS IN THE FILE {}, as `response`, and only you can read that: find the tokens in it, set \
                     accessToken and refreshToken in a copy of the document of secret `{secret_id}`, store that with `tokenctl adopt`, and \
                     delete the file",
                    file.display()
                ),
            });
            files.push(file);
        }
        Self { files, advice: advice.join("\n") }
    }

    /// Removes the files: all is stored.
    pub(super) fn remove(self) {
        for file in self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// The failure of a write, with the place where the tokens are now.
pub(super) fn rescued(context: &Context, secret_id: &str, failure: &Failure, body: Result<Secret, Failure>) -> Failure {
    let advice = match body.map(|body| write_file(secret_id, &body)) {
        Ok(Ok(path)) => adopt_file(context, secret_id, &path),
        Ok(Err(error)) => no_file(&error),
        Err(_) => "log in again".to_owned(),
    };
    Failure::person(format!("{}\n{advice}", failure.message))
}

fn adopt_file(context: &Context, secret_id: &str, path: &Path) -> String {
    let file = path.display();
    let command = context.store.command(&format!("adopt {secret_id} --yes < {file}"));
    format!(
        "THE TOKENS ARE IN THE FILE {file}, which only you can read. When the cause is corrected, run this, and delete the file:\n  {command}"
    )
}

fn no_file(error: &std::io::Error) -> String {
    format!("the tokens could not be written to a file either ({error}): log in again")
}

/// Writes a document that could not be stored into a file that only its owner may read: here, or else in the home directory or that for
/// temporary files. Returns its path.
pub(super) fn write_file(secret_id: &str, body: &Secret) -> std::io::Result<PathBuf> {
    const MAX_NAME: usize = 60;
    let name: String =
        secret_id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(MAX_NAME).collect();
    let name = format!("tokenctl-{name}-{}.json", VersionId::random());
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut result = Err(std::io::ErrorKind::NotFound.into());
    for folder in [Some(PathBuf::new()), home, Some(std::env::temp_dir())].into_iter().flatten() {
        let path = folder.join(&name);
        result = write_private(&path, body).map(|()| path);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn write_private(path: &Path, body: &Secret) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(body.expose().as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}
