//! Notices an old copy of the document that a person put back after the staged versions that lead on from it are gone.

use chrono::DateTime;
use tracing::warn;

use super::{
    Due, Error, Run, TokenVersion,
    decision::{self, CopyAge},
    inventory::Inventory,
};
use crate::store::{Label, SecretStore, Selector, StoreError};

/// Whether the current document is an old copy.
pub(super) enum OldCopy {
    /// It is not, as far as its times show.
    No,
    /// It is. These tokens were staged last.
    Of(Box<TokenVersion>),
    /// It may be the version that was current before: the list shows another one.
    MaybeStaleRead,
}

impl<S: SecretStore> Run<'_, S> {
    /// The tokens that were staged last, if they show that the current ones are an old copy: those must not be sent, since a second
    /// use of a refresh token can end all tokens of the grant.
    ///
    /// An old copy has an earlier `refreshedAt` and no later expiry. New tokens that a person obtained have a later expiry, or neither
    /// of the two.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSecret`] if the document may be an old copy, and only a person can know.
    pub(super) async fn newer_than_an_old_copy(&self, due: &Due<'_>, inventory: &Inventory) -> Result<OldCopy, Error> {
        let current = due.current;
        let tokens = &current.token.tokens;
        // `expiresAt` 0 asks for a refresh and says nothing about the tokens.
        let expires_at = current.token.expires_at.filter(|time| *time != DateTime::UNIX_EPOCH);
        let says_nothing = tokens.refreshed_at.is_none() && expires_at.is_none();
        // The staged version is kept for a day at least: until then it would have been found by its id.
        let may_be_removed =
            decision::records_may_be_removed(&current.token, self.refresher.store.limits(), self.now());
        let can_be_judged = may_be_removed && !says_nothing && inventory.version_with(Label::Staged).is_some();
        if current.has_staged_label || !can_be_judged || !due.grant.is_single_use() {
            return Ok(OldCopy::No);
        }
        let staged = match self.get(Selector::Label(Label::Staged)).await {
            Ok(version) => version,
            Err(StoreError::NotFound { .. }) => return Ok(OldCopy::No),
            Err(error) => return Err(self.store_error(error)),
        };
        // A document that is not a token secret shows nothing.
        let Ok(staged) = self.token_version(&staged) else { return Ok(OldCopy::No) };
        let Some(staged_at) = staged.token.tokens.refreshed_at else { return Ok(OldCopy::No) };
        if staged.token.tokens.grant == tokens.grant {
            return Ok(OldCopy::No);
        }
        match decision::age_of_copy(tokens.refreshed_at, expires_at, staged_at, staged.token.expires_at) {
            CopyAge::NotOlder => Ok(OldCopy::No),
            CopyAge::Older => {
                warn!(
                    secretId = self.secret_id,
                    "the current document is an old copy; the tokens that were staged last are promoted"
                );
                Ok(OldCopy::Of(Box::new(staged)))
            }
            CopyAge::Unclear if inventory.version_with(Label::Current) != Some(&current.id) => Ok(OldCopy::MaybeStaleRead),
            CopyAge::Unclear => Err(self.invalid(format!(
                "it may be an old copy: its times are earlier than those of the newest tokens (version {}), and its refresh token was \
                 not sent; if it is an old copy, make that version current again; if its tokens are new, take `refreshedAt` out of \
                 it and set `expiresAt` to 0",
                staged.id
            ))),
        }
    }
}
