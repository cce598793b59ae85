//! Publishing: writes what readers need of the tokens to a second secret, so that readers never hold the refresh token.
//!
//! It comes before the promotion, so that readers do not get the new token later than the token secret. The token secret decides: a
//! publication that fails delays no promotion. What may go wrong, and what repairs it:
//!
//! | event | the published secret | repaired by |
//! |---|---|---|
//! | a run dies between publication and promotion | is ahead: new tokens, valid | the next run, which promotes them |
//! | the published secret cannot be written | is behind | the next run, which checks |
//! | a person puts other tokens into the token secret | is behind | the next run, which checks |
//! | a run publishes after other runs have gone on | is behind | the next run, which checks |
//!
//! So each run that skips the token checks the publication: one call more.

use chrono::{DateTime, Utc};

use super::{Error, Run, TokenVersion, decision};
use crate::{
    secret::Secret,
    store::{Label, Operation, SecretStore, Selector, StoreError, VersionId},
    token_secret,
};

/// How many times a publication is tried before it is left to the next run: other runs may publish at the same time.
const MAX_TRIES: usize = 3;

/// What is to be published, and where.
struct Publication<'a> {
    /// The published secret.
    secret_id: &'a str,
    /// The version id there.
    id: VersionId,
    text: Secret,
}

impl TokenVersion {
    fn publication(&self) -> Option<Publication<'_>> {
        let secret_id = self.token.publish_to.as_deref()?;
        let text = self.token.publication()?;
        Some(Publication { secret_id, id: self.key().published(&text), text })
    }

    /// The version id of the publication of these tokens.
    pub(super) fn published_as(&self) -> Option<VersionId> {
        self.publication().map(|publication| publication.id)
    }

    /// Whether this is the version that a caller knows by this id: its own, or that of its publication.
    pub(super) fn is_known_as(&self, id: &str) -> bool {
        id == self.id.as_str() || self.published_as().is_some_and(|published| id == published.as_str())
    }
}

/// What is in the published secret.
enum Published {
    /// This publication.
    UpToDate,
    /// Another version, or none yet.
    Outdated(Option<VersionId>),
}

impl<S: SecretStore> Run<'_, S> {
    /// Checks the publication of a token that is skipped, and repairs it. Returns the staged tokens if the publication is of those:
    /// then they must be promoted first.
    pub(super) async fn keep_published(&self, current: &TokenVersion) -> Result<Option<TokenVersion>, Error> {
        let Some(publication) = current.publication() else { return Ok(None) };
        let give_up_at = self.publishing_ends();
        let Published::Outdated(found) = self.check_publication(current, &publication, give_up_at).await? else {
            return Ok(None);
        };
        if let Some(staged) = self.staged(&current.key()).await? {
            return Ok(Some(staged));
        }
        // Read again: other runs may have gone on since, and published that.
        if self.read_current().await?.id == current.id {
            self.put_publication(&publication, found.as_ref(), self.publishing_ends()).await?;
        }
        Ok(None)
    }

    /// Whether tokens are to be published and nothing is published yet.
    pub(super) async fn needs_a_first_publication(&self, current: &TokenVersion) -> Result<bool, Error> {
        let Some(publication) = current.publication() else { return Ok(false) };
        let published = self.check_publication(current, &publication, self.publishing_ends()).await?;
        Ok(matches!(published, Published::Outdated(None)))
    }

    /// Publishes tokens that are current or about to be.
    pub(super) async fn publish(&self, tokens: &TokenVersion) -> Result<(), Error> {
        let Some(publication) = tokens.publication() else { return Ok(()) };
        let give_up_at = self.publishing_ends();
        for _ in 0..MAX_TRIES {
            match self.check_publication(tokens, &publication, give_up_at).await? {
                Published::Outdated(found)
                    if !self.put_publication(&publication, found.as_ref(), give_up_at).await? => {}
                Published::UpToDate | Published::Outdated(_) => break,
            }
        }
        Ok(())
    }

    async fn check_publication(
        &self,
        tokens: &TokenVersion,
        publication: &Publication<'_>,
        give_up_at: DateTime<Utc>,
    ) -> Result<Published, Error> {
        let invalid = |problem: String| {
            let secret_id = publication.secret_id.to_owned();
            Err(Error::InvalidSecret { secret_id, problem: format!("{problem} ({})", self.whose_publication()) })
        };
        let get = self.refresher.store.get(publication.secret_id, Selector::Label(Label::Current));
        match self.in_time_until(give_up_at, Operation::Get, get).await {
            Ok(version) if version.arn == tokens.arn => invalid("it is the token secret itself".to_owned()),
            Ok(version) if version.body == publication.text => Ok(Published::UpToDate),
            Ok(version) => match token_secret::check_publication(version.body.expose()) {
                Ok(()) => Ok(Published::Outdated(Some(version.id))),
                Err(problem) => invalid(format!("{problem}; give the readers a secret of their own")),
            },
            // It has no value yet, or does not exist: the put will show which.
            Err(StoreError::NotFound { .. }) => Ok(Published::Outdated(None)),
            Err(error) => Err(self.publish_error(publication.secret_id, error)),
        }
    }

    /// Puts the publication in place of what was found. Returns whether it is certainly current now: another run may have been first.
    async fn put_publication(
        &self,
        publication: &Publication<'_>,
        found: Option<&VersionId>,
        give_up_at: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let Publication { secret_id, id, text } = publication;
        let put = self.refresher.store.put(secret_id, id, Label::Staged, text);
        let put = self.in_time_until(give_up_at, Operation::Put, put).await;
        put.map_err(|error| self.publish_error(publication.secret_id, error))?;
        // A secret's first version becomes current by itself.
        let Some(found) = found else { return Ok(false) };
        let moved = self.refresher.store.move_label(secret_id, Label::Current, Some(found), id);
        match self.in_time_until(give_up_at, Operation::MoveLabel, moved).await {
            Ok(()) => Ok(true),
            Err(StoreError::Moved { .. }) => Ok(false),
            Err(error) => Err(self.publish_error(publication.secret_id, error)),
        }
    }

    pub(super) fn publish_error(&self, secret_id: &str, error: StoreError) -> Error {
        Error::of_store(&self.refresher.store, secret_id, error.adding(&self.whose_publication()), None)
    }

    fn whose_publication(&self) -> String {
        format!("it is the publishTo of `{}`, whose own tokens are safe", self.secret_id)
    }

    /// When publishing is given up: all its calls together must not use up the time that the promotion needs.
    fn publishing_ends(&self) -> DateTime<Utc> {
        (self.now() + decision::MAX_PROMOTION).min(self.deadline - self.time_for_writes())
    }
}
