//! What is in the store for a token: a staged version, a recorded refusal, the newest claim. Reads only.

use chrono::{DateTime, Utc};

use super::{
    Error, Run, TokenVersion, decision,
    ids::{ClientDigest, TokenKey},
    record::{Claim, Record, RecordRead},
};
use crate::{
    oauth::response::ErrorResponse,
    store::{Label, SecretStore, Selector},
};

/// A secret has no room for more claims than this.
const MAX_CLAIMS: u32 = 100;

/// The newest claim on a token.
pub(super) struct NewestClaim {
    pub(super) claim: Claim,
    pub(super) created: DateTime<Utc>,
    /// Whether its run recorded a refusal: then it did not end with new tokens in memory.
    pub(super) refused: bool,
}

impl<S: SecretStore> Run<'_, S> {
    /// The staged version: the tokens that the ones with this key were exchanged for.
    pub(super) async fn staged(&self, key: &TokenKey) -> Result<Option<TokenVersion>, Error> {
        self.find(Selector::Id(&key.staged())).await?.map(|version| self.token_version(version)).transpose()
    }

    /// The last tokens in the chain of staged versions: an old copy may have been pasted back long afterwards.
    pub(super) async fn newest_staged(&self, mut staged: TokenVersion) -> Result<TokenVersion, Error> {
        for _ in 0..self.refresher.store.limits().versions {
            match self.staged(&staged.key()).await? {
                Some(next) => staged = next,
                None => break,
            }
        }
        Ok(staged)
    }

    /// The recorded refusal of these tokens to this client in the current six hours.
    pub(super) async fn refusal(&self, key: &TokenKey, client: ClientDigest) -> Result<Option<ErrorResponse>, Error> {
        let id = key.refusal(client, self.now());
        let version = self.find(Selector::Id(&id)).await?;
        Ok(version.and_then(|version| match Record::read(&version.body, key) {
            RecordRead::Record(Record::Refusal { refusal, .. }) => Some(refusal),
            _ => None,
        }))
    }

    /// The newest claim on these tokens. The label names it, unless a record of other tokens or a refusal came after it; then the
    /// ids are tried one by one. `None`: it cannot be read yet.
    pub(super) async fn newest_claim(&self, key: &TokenKey) -> Result<Option<NewestClaim>, Error> {
        let labelled = self.find(Selector::Label(Label::Claim)).await?;
        let (mut refused, mut of_later_version) = (None, None);
        if let Some(version) = labelled {
            match Record::read(&version.body, key) {
                RecordRead::Record(Record::Claim(claim)) => {
                    return Ok(Some(NewestClaim { claim, created: version.created, refused: false }));
                }
                RecordRead::Record(Record::Refusal { attempt, .. }) => refused = Some(attempt),
                RecordRead::OfLaterVersion => of_later_version = Some(version),
                RecordRead::Other => {}
            }
        }
        let mut newest = None;
        let first = refused.unwrap_or(0);
        for attempt in first..first.saturating_add(MAX_CLAIMS) {
            let Some(version) = self.find(Selector::Id(&key.claim(attempt))).await? else { break };
            let claim = match Record::read(&version.body, key) {
                RecordRead::Record(Record::Claim(claim)) => claim,
                _ => decision::claim_of_unknown_content(attempt, version.created),
            };
            newest = Some(NewestClaim { claim, created: version.created, refused: refused == Some(attempt) });
        }
        if let (Some(newest), Some(version)) = (&mut newest, of_later_version) {
            // Its content is unknown, but it was put last: the lease counts from then.
            newest.claim = decision::claim_of_unknown_content(newest.claim.attempt, version.created);
            newest.created = version.created;
        }
        Ok(newest)
    }
}
