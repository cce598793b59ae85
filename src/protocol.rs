//! The protocol: read, decide, claim, exchange, stage, promote. This file is the order of its IO. What is decided without IO is in
//! [`decision`]; `docs/protocol.md` has the terms, the invariants, and what every crash and race leaves behind.
//!
//! At every `.await` the process may die, another run may act and a person may edit the secret:
//!
//! | died after | the store holds | the next run |
//! |---|---|---|
//! | read | nothing new | refreshes |
//! | claim | a claim | takes over when the lease ends |
//! | exchange | a claim; **the token is spent** | tries the old token once: the one window that remains |
//! | stage | a staged version, not yet current | recovers: promotes it, exchanges nothing |
//! | publish | the same, and readers have the new token | the same |
//! | promote | the new tokens, current | finds a token that is not due |

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::warn;

use crate::{
    clock::Clock,
    oauth::{
        client::Client,
        exchanger::{Exchange, Exchanger},
        grant::Grant,
        response::{ErrorResponse, IssuedTokens, TokenResponse, TransportError},
    },
    store::{Label, SecretStore, Selector, StoreError, Version, VersionId},
    token_secret::TokenSecret,
};

mod call;
mod claim;
mod client;
pub mod decision;
pub mod error;
pub mod ids;
mod inspect;
pub mod observation;
pub mod options;
pub mod outcome;
mod promote;
mod publish;
pub mod record;
mod stage;

use claim::{Attempt, ClaimResult};
use decision::Decision;
pub use error::Error;
use error::History;
use ids::{ClientDigest, TokenKey};
use observation::Observation;
pub use options::{Mode, Options, Request};
use outcome::{Completed, Outcome, Reason};
use record::Record;
use stage::UnstoredTokens;

/// Keeps tokens alive: one for the life of a process.
#[derive(Debug)]
pub struct Refresher<S> {
    store: S,
    exchanger: Exchanger,
    clock: Clock,
    options: Options,
    /// Tokens that were issued and that no run of this process could write yet.
    unstored: Mutex<Vec<UnstoredTokens>>,
}

/// New tokens may be longer than the old ones by this many bytes.
const ROOM_FOR_TOKENS: usize = 4096;

/// A version and the token secret in it.
#[derive(Clone, Debug)]
struct TokenVersion {
    arn: String,
    id: VersionId,
    created: DateTime<Utc>,
    /// The length of its text.
    bytes: usize,
    token: TokenSecret,
}

impl TokenVersion {
    fn key(&self) -> TokenKey {
        TokenKey::of(&self.arn, &Grant::of(&self.token), &self.token.tokens)
    }
}

impl<S: SecretStore> Refresher<S> {
    /// A refresher over a store, a way to exchange grants, and a clock.
    pub fn new(store: S, exchanger: Exchanger, clock: Clock, options: Options) -> Self {
        Self { store, exchanger, clock, options, unstored: Mutex::default() }
    }

    /// Runs once for one secret. `observation` collects what the log and the metrics need, however the run ends.
    ///
    /// # Errors
    ///
    /// [`Error`], grouped by remedy. AWSCURRENT is unchanged or holds newer tokens.
    pub async fn run(&self, request: Request<'_>, observation: &Observation) -> Result<Completed, Error> {
        let deadline = decision::deadline(request.deadline, self.clock.now());
        let run = Run { refresher: self, secret_id: request.secret_id, mode: request.mode, deadline, observation };
        if *run.mode == Mode::DryRun {
            return run.dry().await;
        }
        if let Some(completed) = run.store_unstored_tokens().await? {
            return Ok(completed);
        }
        run.refresh().await
    }
}

impl<S> Refresher<S> {
    fn unstored(&self) -> MutexGuard<'_, Vec<UnstoredTokens>> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run.
struct Run<'a, S> {
    refresher: &'a Refresher<S>,
    secret_id: &'a str,
    mode: &'a Mode,
    deadline: DateTime<Utc>,
    observation: &'a Observation,
}

impl<S: SecretStore> Run<'_, S> {
    async fn refresh(&self) -> Result<Completed, Error> {
        let current = self.read_current().await?;
        if let Some(unstored) = self.refresher.unstored().iter().find(|unstored| unstored.arn == current.arn) {
            // The same secret under its other name. They could not be written a moment ago.
            return Err(unstored.error("the store still fails"));
        }
        let reason = match self.decide(&current) {
            Decision::Skip(reason) => {
                let completed = self.completed(Outcome::Skipped, &current, reason);
                return match self.keep_published(&current).await? {
                    None => Ok(completed),
                    Some(staged) => self.recover(current, staged, reason).await,
                };
            }
            Decision::Refresh(reason) => reason,
        };
        let max_bytes = self.refresher.store.limits().version_bytes;
        if current.bytes + ROOM_FOR_TOKENS > max_bytes {
            return Err(self.invalid(format!(
                "it is {} bytes long, too long for new tokens to fit into the {max_bytes} allowed; take out what does not \
                 belong to the token",
                current.bytes
            )));
        }
        let client = self.client(&current).await?;
        let (key, client_digest) = (current.key(), ClientDigest::of(&client));
        let grant = Grant::of(&current.token);

        let attempt = match self.claim(&current, &grant, &key, client_digest).await? {
            ClaimResult::Claimed(attempt) => attempt,
            ClaimResult::Staged(staged) => return self.recover(current, *staged, reason).await,
            ClaimResult::Wait { outcome, retry_at } => {
                return Ok(Completed { retry_at, ..self.completed(outcome, &current, reason) });
            }
            ClaimResult::Refused(refusal) => {
                return Err(self.refused(&client, &grant, refusal, History::Recorded));
            }
        };

        let sent_at = self.now();
        if self.deadline - sent_at < decision::TWO_WRITES {
            return Err(self.too_little_time("to send the refresh token and write the new tokens"));
        }
        let exchange = Exchange {
            client: client.clone(),
            grant: grant.clone(),
            access_token: current.token.tokens.access_token.clone(),
            deadline: (sent_at + decision::MAX_EXCHANGE).min(self.deadline - decision::TWO_WRITES),
        };
        let response = self.refresher.exchanger.exchange(exchange).await;
        self.observation.exchange(self.now() - sent_at);
        match response {
            TokenResponse::Issued(issued) => self.store_issued_tokens(issued, &client, current, reason, sent_at).await,
            TokenResponse::Refused(refusal) => {
                self.check_after_refusal(&current, &client, client_digest, attempt, refusal, reason).await
            }
            TokenResponse::Failed(error) => Err(self.unavailable(&client, &grant, error)),
        }
    }

    /// Stages and promotes what the provider issued. Nothing may come between the response and the staging: the provider may have
    /// ended the old refresh token, and without the new one a person must consent again.
    async fn store_issued_tokens(
        &self,
        issued: IssuedTokens,
        client: &Client,
        current: TokenVersion,
        reason: Reason,
        sent_at: DateTime<Utc>,
    ) -> Result<Completed, Error> {
        let new = issued.into_new_tokens(sent_at, client.default_lifetime);
        let max_bytes = self.refresher.store.limits().version_bytes - ROOM_FOR_TOKENS;
        let unstored = UnstoredTokens {
            secret_id: self.secret_id.to_owned(),
            arn: current.arn.clone(),
            spent: current.key(),
            body: current.token.with_new_tokens(&new, max_bytes),
        };
        let promoted = async {
            let staged = self.stage(&unstored).await?;
            self.promote_newest(&unstored, staged, current, reason, Outcome::Refreshed).await
        };
        match promoted.await {
            Ok(promoted) => promoted.into_result(),
            Err(error) => {
                self.refresher.unstored().push(unstored);
                Err(error)
            }
        }
    }

    /// Reports what a scheduled run would do, as far as the secrets show it.
    async fn dry(&self) -> Result<Completed, Error> {
        let current = self.read_current().await?;
        match self.decide(&current) {
            Decision::Skip(reason) => Ok(self.completed(Outcome::Skipped, &current, reason)),
            Decision::Refresh(reason) => {
                self.client(&current).await?;
                Ok(self.completed(Outcome::WouldRefresh, &current, reason))
            }
        }
    }

    async fn read_current(&self) -> Result<TokenVersion, Error> {
        let version = self.get(Selector::Label(Label::Current)).await.map_err(|error| self.store_error(error))?;
        let current = self.token_version(version)?;
        self.observation.current(&current.token);
        Ok(current)
    }

    fn token_version(&self, version: Version) -> Result<TokenVersion, Error> {
        match TokenSecret::parse(version.body.expose()) {
            Ok(token) => Ok(TokenVersion {
                arn: version.arn,
                id: version.id,
                created: version.created,
                bytes: version.body.expose().len(),
                token,
            }),
            Err(problem) => Err(self.invalid(format!("{problem} (version {})", version.id))),
        }
    }

    fn decide(&self, current: &TokenVersion) -> Decision {
        let known_as = |id: &str| current.is_known_as(id);
        decision::decide(&current.token, known_as, self.mode, self.refresher.options.refresh_margin, self.now())
    }

    /// After a refusal: checks whether another run has obtained tokens meanwhile. If none has, the refusal is recorded, so that later
    /// runs need not ask the provider again.
    async fn check_after_refusal(
        &self,
        current: &TokenVersion,
        client: &Client,
        client_digest: ClientDigest,
        attempt: Attempt,
        refusal: ErrorResponse,
        reason: Reason,
    ) -> Result<Completed, Error> {
        let key = current.key();
        if let Ok(Some(staged)) = self.staged(&key).await {
            return self.recover(current.clone(), staged, reason).await;
        }
        if let Ok(found) = self.read_current().await
            && found.key() != key
        {
            return Ok(self.completed(Outcome::Superseded, &found, reason));
        }
        if refusal.error.is_some() {
            let record =
                Record::Refusal { attempt: attempt.number, refusal: refusal.clone() }.to_text(&key, &record::holder());
            match self.put(&key.refusal(client_digest, self.now()), Label::Claim, &record).await {
                // Another forced run was refused before, within the same six hours.
                Ok(()) | Err(StoreError::Exists) => {}
                Err(error) => warn!(secretId = self.secret_id, "the refusal could not be recorded: {error}"),
            }
        }
        Err(self.refused(client, &Grant::of(&current.token), refusal, attempt.history))
    }

    fn refused(&self, client: &Client, grant: &Grant, refusal: ErrorResponse, history: History) -> Error {
        Error::Refused {
            secret_id: self.secret_id.to_owned(),
            endpoint: client.endpoint_without_query(),
            refusal,
            history,
            grant_advice: grant.advice(),
        }
    }

    fn unavailable(&self, client: &Client, grant: &Grant, error: TransportError) -> Error {
        let (detail, maybe_spent) = match error {
            TransportError::NotSent(what) | TransportError::Busy { what, .. } => (what, false),
            TransportError::MaybeSpent(what) => (what, grant.is_single_use()),
        };
        Error::ProviderUnavailable {
            secret_id: self.secret_id.to_owned(),
            endpoint: client.endpoint_without_query(),
            detail,
            maybe_spent,
        }
    }

    fn too_little_time(&self, purpose: &str) -> Error {
        let left = (self.deadline - self.now()).max(TimeDelta::zero());
        Error::InvalidConfiguration {
            problem: format!(
                "{} ms are left of the invocation, too little {purpose} safely (secret `{}`); nothing was sent: raise the \
                 function's timeout, for example to 60 seconds",
                left.num_milliseconds(),
                self.secret_id
            ),
        }
    }

    fn completed(&self, outcome: Outcome, current: &TokenVersion, reason: Reason) -> Completed {
        self.observation.current(&current.token);
        Completed {
            outcome,
            reason,
            version_id: current.id.clone(),
            previous_version_id: None,
            published_version_id: current.published_as(),
            expires_at: current.token.expires_at,
            retry_at: None,
        }
    }
}
