//! Publishing: a second secret is told what readers need of the tokens, so that readers never hold the refresh token.
//!
//! It comes before the promotion, so that readers are not told later than the token secret says; but the token secret is what
//! counts, and a publication that fails holds no promotion up. Who may interfere, and what mends it:
//!
//! | then | the published secret | mended by |
//! |---|---|---|
//! | died between publication and promotion | is ahead: new tokens, alive | the next run, which promotes them |
//! | the published secret cannot be written | is behind | the next run, which looks |
//! | a person puts other tokens into the token secret | is behind | the next run, which looks |
//! | a run publishes after others have gone on | is behind | the next run, which looks |
//!
//! So each run that leaves the token alone looks, too: one call more.

use super::{Held, Run};
use crate::{
    error::Error,
    policy,
    secret::Secret,
    store::{Label, SecretStore, Selector, StoreError, VersionId, action},
    token_secret,
};

/// How often readers are told before it is left to the next run: others may tell them at the same time.
const MAX_TRIES: usize = 3;

/// What is to be told, and to whom.
struct Publication<'a> {
    /// The secret that readers read.
    secret_id: &'a str,
    /// The version that says it, there.
    id: VersionId,
    text: Secret,
}

impl Held {
    fn publication(&self) -> Option<Publication<'_>> {
        let secret_id = self.token.publish_to.as_deref()?;
        let text = self.token.publication()?;
        Some(Publication { secret_id, id: self.key().published(&text), text })
    }

    /// The id of the version that tells readers of these tokens.
    pub(super) fn published_as(&self) -> Option<VersionId> {
        self.publication().map(|publication| publication.id)
    }

    /// Whether this is the version that someone knows by this id: by its own, or by that of its publication.
    pub(super) fn is_known_as(&self, id: &str) -> bool {
        id == self.id.as_str() || self.published_as().is_some_and(|published| id == published.as_str())
    }
}

/// What stands in the published secret.
enum Published {
    /// What is to be there, or nothing is to be published.
    InPlace,
    /// Another version, or none yet.
    Otherwise(Option<VersionId>),
}

impl<S: SecretStore, X> Run<'_, S, X> {
    /// Sees to it that readers are told of a token that is left alone. Tokens that are staged and not yet current, if that is
    /// what they were told of: those come first.
    pub(super) async fn keep_published(&self, current: &Held) -> Result<Option<Held>, Error> {
        let Some(publication) = current.publication() else { return Ok(None) };
        let Published::Otherwise(found) = self.look(current, &publication).await? else { return Ok(None) };
        if let Some(staged) = self.successor(&current.key()).await? {
            return Ok(Some(staged));
        }
        // Looked at again: others may have gone on since, and told readers so.
        if self.read_current().await?.id == current.id {
            self.tell(&publication, found.as_ref()).await?;
        }
        Ok(None)
    }

    /// Tells readers of tokens that are about to be current, or are.
    pub(super) async fn publish(&self, held: &Held) -> Result<(), Error> {
        let Some(publication) = held.publication() else { return Ok(()) };
        for _ in 0..MAX_TRIES {
            match self.look(held, &publication).await? {
                Published::Otherwise(found) if !self.tell(&publication, found.as_ref()).await? => {}
                Published::InPlace | Published::Otherwise(_) => break,
            }
        }
        Ok(())
    }

    async fn look(&self, held: &Held, publication: &Publication<'_>) -> Result<Published, Error> {
        let invalid = |problem: String| {
            let secret_id = publication.secret_id.to_owned();
            Err(Error::InvalidSecret { secret_id, problem: format!("{problem} ({})", self.whose_readers()) })
        };
        let get = self.refresher.store.get(publication.secret_id, Selector::Label(Label::Current));
        match self.in_publishing_time(action::GET, get).await {
            Ok(version) if version.arn == held.arn => invalid("it is the token secret itself".to_owned()),
            Ok(version) if version.body == publication.text => Ok(Published::InPlace),
            Ok(version) => match token_secret::check_publication(version.body.expose()) {
                Ok(()) => Ok(Published::Otherwise(Some(version.id))),
                Err(problem) => invalid(format!("{problem}; give the readers a secret of their own")),
            },
            // It has no value yet, or is not there: putting one will tell.
            Err(StoreError::NotFound { .. }) => Ok(Published::Otherwise(None)),
            Err(error) => Err(self.unpublished(publication, error)),
        }
    }

    /// Puts the publication in the place of what was found there. Whether it certainly stands there now: others may have come
    /// first.
    async fn tell(&self, publication: &Publication<'_>, found: Option<&VersionId>) -> Result<bool, Error> {
        let Publication { secret_id, id, text } = publication;
        let put = self.refresher.store.put(secret_id, id, Label::Staged, text);
        let put = self.in_publishing_time(action::PUT, put).await;
        put.map_err(|error| self.unpublished(publication, error))?;
        // A secret's first version is current by itself.
        let Some(found) = found else { return Ok(false) };
        let moved = self.refresher.store.move_current(secret_id, found, id);
        match self.in_publishing_time(action::MOVE, moved).await {
            Ok(()) => Ok(true),
            Err(StoreError::Moved) => Ok(false),
            Err(error) => Err(self.unpublished(publication, error)),
        }
    }

    fn unpublished(&self, publication: &Publication<'_>, error: StoreError) -> Error {
        Error::of_store(publication.secret_id, error.adding(&self.whose_readers()), None)
    }

    fn whose_readers(&self) -> String {
        format!("it is the publishTo of `{}`, whose own tokens are safe", self.secret_id)
    }

    /// A call to the published secret: it may not take the time that the promotion needs.
    async fn in_publishing_time<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let give_up_at = (self.now() + policy::MAX_PROMOTION).min(self.deadline - policy::TWO_WRITES);
        self.in_time_until(give_up_at, action, call).await
    }
}
