//! The protocol: read, decide, claim, exchange, stage, promote. This file is the order of its IO, and nothing else; what
//! is decided is decided in [`policy`], [`ledger`] and [`oauth::response`](crate::oauth::response).
//!
//! At every `.await` the process may die, another run may act and a person may edit the secret. What then stands in the
//! store, and what the next run makes of it:
//!
//! | died after | the store holds | the next run |
//! |---|---|---|
//! | read | nothing new | refreshes |
//! | claim | a claim, no successor | takes over when the lease ends |
//! | exchange | a claim, no successor; **the token is spent** | tries the old token once: the one window that remains |
//! | stage | a successor, not yet current | heals: promotes it, exchanges nothing |
//! | publish | the same, and readers know of it | the same |
//! | promote | the new tokens, current | finds a token that is not due |

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::warn;

use crate::{
    clock::Clock,
    config::Config,
    error::{Error, History},
    event::Mode,
    ledger::{self, ClientDigest, Record, TokenKey},
    oauth::{
        Exchange,
        request::Client,
        response::{Answer, Refusal, Trouble},
    },
    observation::Observation,
    policy::{self, Decision},
    report::{Outcome, Reason, Report},
    store::{Label, MAX_VERSION_BYTES, SecretStore, Selector, StoreError, Version, VersionId},
    token_secret::TokenSecret,
};

mod calls;
mod claim;
mod client;
mod place;
mod publish;

use calls::boxed;
use claim::{Attempt, Turn};
use place::{Issued, not_stored};

/// Keeps tokens alive: one for the life of a process.
#[derive(Debug)]
pub struct Refresher<S, X> {
    store: S,
    exchange: X,
    clock: Clock,
    config: Config,
    /// Tokens that were issued and that a run of this process could not put in place.
    left_over: Mutex<Vec<Issued>>,
}

/// New tokens may be longer than the old ones by this many bytes.
const ROOM_FOR_TOKENS: usize = 4096;

/// What to refresh, how, and until when.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The secret's name or ARN.
    pub secret_id: &'a str,
    /// How to treat it.
    pub mode: &'a Mode,
    /// When the invocation ends.
    pub deadline: DateTime<Utc>,
}

/// A version with the token secret it holds.
#[derive(Clone, Debug)]
struct Held {
    arn: String,
    id: VersionId,
    created: DateTime<Utc>,
    /// How long its text is.
    bytes: usize,
    token: TokenSecret,
}

impl Held {
    fn key(&self) -> TokenKey {
        TokenKey::of(&self.arn, &self.token.tokens)
    }
}

impl<S, X, F> Refresher<S, X>
where
    S: SecretStore,
    X: Fn(Exchange) -> F + Send + Sync,
    F: Future<Output = Answer> + Send,
{
    /// A refresher over a store, a way to exchange tokens (see [`crate::oauth::exchange`]) and a clock.
    pub fn new(store: S, exchange: X, clock: Clock, config: Config) -> Self {
        Self { store, exchange, clock, config, left_over: Mutex::default() }
    }

    /// Runs once for one secret. What can be told of it, however it ends, is noted in `observation`.
    ///
    /// # Errors
    ///
    /// [`Error`], by what mends it. AWSCURRENT then stands as it was, or better.
    pub async fn run(&self, request: Request<'_>, observation: &Observation) -> Result<Report, Error> {
        let deadline = policy::deadline(request.deadline, self.clock.now());
        let run = Run { refresher: self, secret_id: request.secret_id, mode: request.mode, deadline, observation };
        if *run.mode == Mode::DryRun {
            return run.dry().await;
        }
        if let Some(report) = run.put_left_over_in_place().await? {
            return Ok(report);
        }
        run.refresh().await
    }
}

impl<S, X> Refresher<S, X> {
    fn left_over(&self) -> MutexGuard<'_, Vec<Issued>> {
        self.left_over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run.
struct Run<'a, S, X> {
    refresher: &'a Refresher<S, X>,
    secret_id: &'a str,
    mode: &'a Mode,
    deadline: DateTime<Utc>,
    observation: &'a Observation,
}

impl<S, X, F> Run<'_, S, X>
where
    S: SecretStore,
    X: Fn(Exchange) -> F + Send + Sync,
    F: Future<Output = Answer> + Send,
{
    async fn refresh(&self) -> Result<Report, Error> {
        let current = self.read_current().await?;
        if let Some(issued) = self.refresher.left_over().iter().find(|issued| issued.arn == current.arn) {
            // The same secret under its other name; they could not be put in place a moment ago.
            return Err(not_stored(issued, "the store still fails"));
        }
        let reason = match self.decide(&current) {
            Decision::Skip(reason) => {
                let report = self.report(Outcome::Skipped, &current, reason);
                return match self.keep_published(&current).await? {
                    None => Ok(report),
                    Some(staged) => self.heal(current, staged, reason).await,
                };
            }
            Decision::Refresh(reason) => reason,
        };
        if current.bytes + ROOM_FOR_TOKENS > MAX_VERSION_BYTES {
            return Err(self.invalid(format!(
                "it is {} bytes long, too long for new tokens to fit into the {MAX_VERSION_BYTES} allowed; take out what \
                 does not belong to the token",
                current.bytes
            )));
        }
        let client = self.client(&current).await?;
        let (key, client_digest) = (current.key(), ClientDigest::of(&client));

        let attempt = match self.take_turn(&current, &key, client_digest).await? {
            Turn::Ours(attempt) => attempt,
            Turn::Staged(staged) => return self.heal(current, *staged, reason).await,
            Turn::Wait { outcome, retry_at } => {
                return Ok(Report { retry_at, ..self.report(outcome, &current, reason) });
            }
            Turn::Refused(refusal) => return Err(self.refused(&client, refusal, History::Recorded)),
        };

        let sent_at = self.now();
        if self.deadline - sent_at < policy::TWO_WRITES {
            return Err(self.too_little_time("to send the refresh token and write the answer"));
        }
        let exchange = Exchange {
            client: client.clone(),
            refresh_token: current.token.tokens.refresh_token.clone(),
            access_token: current.token.tokens.access_token.clone(),
            deadline: (sent_at + policy::MAX_EXCHANGE).min(self.deadline - policy::TWO_WRITES),
        };
        let answer = boxed((self.refresher.exchange)(exchange)).await;
        self.observation.exchange(self.now() - sent_at);
        match answer {
            // Nothing may come between the answer and its staging: the provider may have retired the old refresh token,
            // and losing this one means that a person must consent again.
            Answer::Granted(granted) => {
                let new = granted.into_new_tokens(sent_at, client.default_lifetime);
                let body = current.token.with_new_tokens(&new, MAX_VERSION_BYTES - ROOM_FOR_TOKENS);
                let issued =
                    Issued { secret_id: self.secret_id.to_owned(), arn: current.arn.clone(), spent: key, body };
                let placed = async {
                    let staged = self.stage(&issued).await?;
                    self.settle(&issued, staged, current, reason, Outcome::Refreshed).await
                };
                match placed.await {
                    Ok(placed) => placed.answer(),
                    Err(error) => {
                        self.refresher.left_over().push(issued);
                        Err(error)
                    }
                }
            }
            Answer::Refused(refusal) => {
                self.look_again_after(&current, &client, client_digest, attempt, refusal, reason).await
            }
            Answer::Unavailable(trouble) => Err(self.unavailable(&client, trouble)),
        }
    }
}

impl<S: SecretStore, X> Run<'_, S, X> {
    /// Says what a scheduled run would do, as far as the secrets alone tell.
    async fn dry(&self) -> Result<Report, Error> {
        let current = self.read_current().await?;
        match self.decide(&current) {
            Decision::Skip(reason) => Ok(self.report(Outcome::Skipped, &current, reason)),
            Decision::Refresh(reason) => {
                self.client(&current).await?;
                Ok(self.report(Outcome::WouldRefresh, &current, reason))
            }
        }
    }

    async fn read_current(&self) -> Result<Held, Error> {
        let version = self.get(Selector::Label(Label::Current)).await.map_err(|error| self.store_error(error))?;
        let current = self.hold(version)?;
        self.observation.current(&current.token);
        Ok(current)
    }

    fn hold(&self, version: Version) -> Result<Held, Error> {
        match TokenSecret::parse(version.body.expose()) {
            Ok(token) => Ok(Held {
                arn: version.arn,
                id: version.id,
                created: version.created,
                bytes: version.body.expose().len(),
                token,
            }),
            Err(problem) => Err(self.invalid(format!("{problem} (version {})", version.id))),
        }
    }

    fn decide(&self, current: &Held) -> Decision {
        let known_as = |id: &str| current.is_known_as(id);
        policy::decide(&current.token, known_as, self.mode, self.refresher.config.refresh_margin, self.now())
    }

    /// After a refusal: whether the token has moved on without us. If not, the refusal is recorded, so that the runs to
    /// come need not ask again.
    async fn look_again_after(
        &self,
        current: &Held,
        client: &Client,
        client_digest: ClientDigest,
        attempt: Attempt,
        refusal: Refusal,
        reason: Reason,
    ) -> Result<Report, Error> {
        let key = current.key();
        if let Ok(Some(staged)) = self.successor(&key).await {
            return self.heal(current.clone(), staged, reason).await;
        }
        if let Ok(found) = self.read_current().await
            && found.key() != key
        {
            return Ok(self.report(Outcome::Superseded, &found, reason));
        }
        if refusal.error.is_some() {
            let record =
                Record::Refusal { attempt: attempt.number, refusal: refusal.clone() }.to_text(&key, &ledger::holder());
            match self.put(&key.refusal(client_digest, self.now()), Label::Claim, &record).await {
                // A forced run was refused as another was before it, in the same six hours.
                Ok(()) | Err(StoreError::Exists) => {}
                Err(error) => warn!(secretId = self.secret_id, "the refusal could not be recorded: {error}"),
            }
        }
        Err(self.refused(client, refusal, attempt.history))
    }

    fn refused(&self, client: &Client, refusal: Refusal, history: History) -> Error {
        Error::Refused { secret_id: self.secret_id.to_owned(), endpoint: client.endpoint_shown(), refusal, history }
    }

    fn unavailable(&self, client: &Client, trouble: Trouble) -> Error {
        let (trouble, maybe_spent) = match trouble {
            Trouble::NotReached(what) | Trouble::Busy { what, .. } => (what, false),
            Trouble::MaybeSpent(what) => (what, true),
        };
        Error::ProviderUnavailable {
            secret_id: self.secret_id.to_owned(),
            endpoint: client.endpoint_shown(),
            trouble,
            maybe_spent,
        }
    }

    fn too_little_time(&self, to_do_what: &str) -> Error {
        let left = (self.deadline - self.now()).max(TimeDelta::zero());
        Error::InvalidConfiguration {
            problem: format!(
                "{} ms are left of the invocation, too little {to_do_what} safely (secret `{}`); nothing was sent: raise \
                 the function's timeout, 60 seconds is a good one",
                left.num_milliseconds(),
                self.secret_id
            ),
        }
    }

    fn report(&self, outcome: Outcome, current: &Held, reason: Reason) -> Report {
        self.observation.current(&current.token);
        let expires_at = current.token.expires_at;
        Report {
            outcome,
            secret_id: self.secret_id.to_owned(),
            version_id: current.id.clone(),
            previous_version_id: None,
            published_version_id: current.published_as(),
            expires_at,
            expires_in_seconds: expires_at.map(|expires_at| (expires_at - self.now()).num_seconds()),
            reason,
            retry_at: None,
        }
    }
}
