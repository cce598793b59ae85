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

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use tracing::warn;

use crate::{
    clock::Clock,
    error::Advice,
    oauth::{
        client::Client,
        exchanger::{Exchange, Exchanger},
        grant::Grant,
        response::{ErrorResponse, IssuedTokens, TokenResponse, TransportError},
    },
    store::{Label, Operation, SecretStore, Selector, StoreError, Version, VersionId},
    token_secret::{NewTokens, RefreshTokenExpiry, SecretProblem, TokenSecret, provider::RefreshTokenRules},
};

mod call;
mod change;
mod claim;
mod client;
pub mod decision;
mod dry_run;
pub mod error;
pub mod ids;
mod inspect;
mod inventory;
mod keep;
mod memory;
pub mod observation;
mod old_copy;
pub mod options;
pub mod outcome;
mod promote;
mod publish;
pub mod record;
mod repeatable;
mod rotation;
mod scan;
mod shared;
mod stage;

pub use change::ChangeResult;
use claim::{Attempt, ClaimResult};
use decision::Decision;
pub use error::Error;
use error::History;
use ids::{ClientDigest, TokenKey};
use keep::UnstoredResponse;
use memory::Memory;
use observation::Observation;
pub use options::{Mode, Options, Request};
use outcome::{Completed, Outcome, Reason};
use record::{Claim, Record};
pub use scan::ScanResult;
pub use shared::Shared;
use stage::UnstoredTokens;

/// Keeps tokens alive: one for the life of a process.
#[derive(Debug)]
pub struct Refresher<S> {
    store: S,
    exchanger: Exchanger,
    clock: Clock,
    options: Options,
    /// Tokens that were issued and that no run of this process could write yet.
    unstored_tokens: Memory<UnstoredTokens>,
    /// Responses that look like tokens and that no run of this process could write yet.
    unstored_responses: Memory<UnstoredResponse>,
}

/// What a provider has issued, and what is only in this process's memory.
#[cfg(feature = "cli")]
pub struct Unstored {
    /// The secret, as the request named it.
    pub secret_id: String,
    /// The secret's ARN.
    pub arn: String,
    /// What it is.
    pub content: UnstoredContent,
}

/// What could not be written.
#[cfg(feature = "cli")]
pub enum UnstoredContent {
    /// The token secret with its new tokens.
    TokenSecret(crate::secret::Secret),
    /// A record: its member `response` is a response that cannot be understood.
    Record(crate::secret::Secret),
}

/// New tokens may be longer than the old ones by this many bytes.
pub const ROOM_FOR_TOKENS: usize = 4096;

/// A version and the token secret in it.
#[derive(Clone, Debug)]
struct TokenVersion {
    arn: String,
    id: VersionId,
    /// The length of its text.
    bytes: usize,
    /// Whether the label `OAUTH_STAGED` is on it: then this program wrote it, and staged nothing after it.
    has_staged_label: bool,
    token: TokenSecret,
}

impl TokenVersion {
    fn key(&self) -> TokenKey {
        TokenKey::of(&self.arn, &self.token.tokens, &self.token.client)
    }
}

/// A token that is due, with what its refresh needs.
struct Due<'a> {
    current: &'a TokenVersion,
    key: TokenKey,
    grant: Grant,
    client: Client,
    client_digest: ClientDigest,
}

impl Due<'_> {
    fn is_client_of(&self, claim: &Claim) -> bool {
        claim.client_settings.as_ref().is_none_or(|digest| *digest == self.client_digest.to_string())
    }
}

impl<S: SecretStore> Refresher<S> {
    /// A refresher over a store, a way to exchange grants, and a clock.
    pub fn new(store: S, exchanger: Exchanger, clock: Clock, options: Options) -> Self {
        Self {
            store,
            exchanger,
            clock,
            options,
            unstored_tokens: Memory::default(),
            unstored_responses: Memory::default(),
        }
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The way to exchange grants.
    pub const fn exchanger(&self) -> &Exchanger {
        &self.exchanger
    }

    /// What this process could not write. Who ends the process must keep it.
    #[cfg(feature = "cli")]
    pub fn unstored(&self) -> Vec<Unstored> {
        let tokens = self.unstored_tokens.all().into_iter().map(|tokens| Unstored {
            secret_id: tokens.secret_id,
            arn: tokens.arn,
            content: UnstoredContent::TokenSecret(tokens.body),
        });
        let responses = self.unstored_responses.all().into_iter().map(|response| Unstored {
            secret_id: response.secret_id,
            arn: response.arn,
            content: UnstoredContent::Record(response.record),
        });
        tokens.chain(responses).collect()
    }

    /// The clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs once for one secret. `observation` collects what the log and the metrics need, however the run ends.
    ///
    /// # Errors
    ///
    /// [`Error`], grouped by remedy. AWSCURRENT is unchanged or holds newer tokens.
    pub async fn run(&self, request: Request<'_>, observation: &Observation) -> Result<Completed, Error> {
        // Boxed here and in the other entry points: a run's future contains those of all its calls, too much for some stacks in a
        // debug build.
        self.run_with(None, request, observation).boxed().await
    }

    /// The same for a run in a sweep.
    ///
    /// # Errors
    ///
    /// Those of [`Self::run`].
    pub async fn run_in_sweep(
        &self,
        shared: &Shared,
        request: Request<'_>,
        observation: &Observation,
    ) -> Result<Completed, Error> {
        self.run_with(Some(shared), request, observation).boxed().await
    }

    async fn run_with(
        &self,
        shared: Option<&Shared>,
        request: Request<'_>,
        observation: &Observation,
    ) -> Result<Completed, Error> {
        let run = self.start(shared, request, observation);
        if *run.mode == Mode::DryRun {
            return run.dry().await;
        }
        let written = run.store_unstored_responses().await?;
        if let Some(completed) = run.store_unstored_tokens().await? {
            return Ok(completed);
        }
        run.refresh(run.read_current().await?, written).await
    }

    fn start<'a>(
        &'a self,
        shared: Option<&'a Shared>,
        request: Request<'a>,
        observation: &'a Observation,
    ) -> Run<'a, S> {
        let Request { secret_id, mode, deadline } = request;
        let deadline = decision::deadline(deadline, self.clock.now());
        Run { refresher: self, secret_id, mode, deadline, observation, shared }
    }
}

/// One run.
struct Run<'a, S> {
    refresher: &'a Refresher<S>,
    secret_id: &'a str,
    mode: &'a Mode,
    deadline: DateTime<Utc>,
    observation: &'a Observation,
    /// What it shares with the other runs of a sweep.
    shared: Option<&'a Shared>,
}

impl<S: SecretStore> Run<'_, S> {
    /// `written`: the responses that this run has written, by the tokens that were sent, each with its error.
    async fn refresh(&self, current: TokenVersion, written: Vec<(TokenKey, Error)>) -> Result<Completed, Error> {
        // A person has not seen this error yet, so this run's `force` does not mean it.
        if let Some((_, error)) = written.into_iter().find(|(spent, _)| *spent == current.key()) {
            return Err(error);
        }
        // The same secret under its other name. What was issued could not be written a moment ago.
        if let Some(tokens) = self.refresher.unstored_tokens.find(|tokens| tokens.arn == current.arn) {
            return Err(tokens.error("the store still fails"));
        }
        if let Some(response) = self.refresher.unstored_responses.find(|response| response.arn == current.arn) {
            return Err(response.not_stored("the store still fails"));
        }
        let reason = match self.decide(&current) {
            Decision::Skip(reason) => return self.skip(current, reason).await,
            Decision::Refresh(reason) => reason,
        };
        self.check_size(&current)?;
        let due = self.due(&current).await?;
        let attempt = match self.claim(&due).await? {
            ClaimResult::Claimed(attempt) => attempt,
            ClaimResult::Staged(staged) => return self.recover(current, *staged, reason).await,
            ClaimResult::Wait { outcome, retry_at } => {
                return Ok(Completed { retry_at, ..self.completed(outcome, &current, reason) });
            }
            ClaimResult::Refused(refusal) => return Err(self.refused(&due, refusal, History::Recorded)),
        };

        let sent_at = self.now();
        if self.deadline - sent_at < self.time_for_writes() {
            self.end_claim(&due, &attempt).await;
            return Err(self.too_little_time("to request new tokens and write them"));
        }
        let exchange = Exchange {
            client: due.client.clone(),
            grant: due.grant.clone(),
            access_token: current.token.tokens.access_token.clone(),
            // Waiting costs little. Giving up may cost a new consent, because the token may be spent.
            deadline: self.deadline - self.time_for_writes(),
        };
        let response = self.refresher.exchanger.exchange(exchange).await;
        self.observation.exchange(self.now() - sent_at);
        match response {
            TokenResponse::Issued(issued) => self.store_issued_tokens(issued, &due, &attempt, reason, sent_at).await,
            TokenResponse::Refused(refusal) => self.check_after_refusal(&due, &attempt, refusal, reason).await,
            TokenResponse::Unreadable(response) => Err(self.keep(&due, &attempt, response).await),
            TokenResponse::Failed(error) => {
                if error.ends_attempt() {
                    self.end_claim(&due, &attempt).await;
                }
                Err(self.unavailable(&due, error))
            }
        }
    }

    async fn skip(&self, current: TokenVersion, reason: Reason) -> Result<Completed, Error> {
        // Without the label, a person put the version, or later tokens were staged: these tokens may be spent.
        if !current.has_staged_label
            && let Some(staged) = self.staged(&current.key()).await?
        {
            return self.recover(current, staged, reason).await;
        }
        let completed = self.completed(Outcome::Skipped, &current, reason);
        match self.keep_published(&current).await? {
            None => Ok(completed),
            Some(staged) => self.recover(current, staged, reason).await,
        }
    }

    async fn due<'a>(&self, current: &'a TokenVersion) -> Result<Due<'a>, Error> {
        let client = self.client(current).await?;
        let client_digest = ClientDigest::of(&client);
        Ok(Due { current, key: current.key(), grant: current.token.tokens.grant.clone(), client, client_digest })
    }

    fn check_size(&self, current: &TokenVersion) -> Result<(), Error> {
        let max_bytes = self.refresher.store.limits().version_bytes;
        if current.bytes + ROOM_FOR_TOKENS <= max_bytes {
            return Ok(());
        }
        Err(self.invalid(format!(
            "it is {} bytes long, too long for new tokens to fit into the {max_bytes} allowed; take out what does not belong \
             to the token",
            current.bytes
        )))
    }

    /// Stages and promotes what the provider issued. Nothing may come between the response and the staging: the provider may have
    /// ended the old refresh token, and without the new one a person must consent again.
    async fn store_issued_tokens(
        &self,
        issued: IssuedTokens,
        due: &Due<'_>,
        attempt: &Attempt,
        reason: Reason,
        sent_at: DateTime<Utc>,
    ) -> Result<Completed, Error> {
        let current = due.current;
        if let Some(member) = issued.impossible_lifetime(sent_at)
            && due.client.lifetime.is_none()
        {
            let seconds = due.client.default_lifetime.as_secs();
            warn!(
                secretId = self.secret_id,
                "`{member}` of the response is not a possible lifetime; {seconds} s are assumed (to change that, set `lifetimeSeconds`)"
            );
        }
        let new = new_tokens(issued, &due.client, &current.token, sent_at);
        let limit = self.refresher.store.limits().version_bytes;
        let body = current.token.with_new_tokens(&new, limit - ROOM_FOR_TOKENS);
        if body.expose().len() > limit {
            return Err(self.keep_refresh_token(due, attempt, &new, body.expose().len()).await);
        }
        if !due.grant.is_single_use() {
            return self.store_repeatable(current, &body, reason).await;
        }
        let in_memory = self.refresher.unstored_tokens.hold(UnstoredTokens {
            secret_id: self.secret_id.to_owned(),
            arn: current.arn.clone(),
            spent: due.key,
            spent_grant: current.token.tokens.grant.clone(),
            body,
        });
        let staged = self.stage(in_memory.item()).await?;
        self.observation.grant_ends_at(decision::grant_ends_soon(&current.token, &staged.ours.token, self.now()));
        let promoted =
            self.promote_newest(in_memory.item(), staged, current.clone(), reason, Outcome::Refreshed).await?;
        in_memory.done();
        promoted.into_result()
    }

    async fn read_current(&self) -> Result<TokenVersion, Error> {
        let version = self.get(Selector::Label(Label::Current)).await.map_err(|error| self.store_error(error))?;
        let current = self.token_version(&version)?;
        self.observation.current(&current.token);
        Ok(current)
    }

    fn token_version(&self, version: &Version) -> Result<TokenVersion, Error> {
        match self.parse(version) {
            Ok(token) => Ok(TokenVersion {
                arn: version.arn.clone(),
                id: version.id.clone(),
                bytes: version.body.expose().len(),
                has_staged_label: version.labels.has(Label::Staged),
                token,
            }),
            Err(problem) => Err(self.invalid(format!("{problem} (version {})", version.id))),
        }
    }

    /// Whether this version is a token secret, right or wrong: it has a refresh token or a `grantType`.
    fn is_token_secret(&self, version: &Version) -> bool {
        self.parse(version).err().is_none_or(|problem| problem.is_of_token_secret(version.body.expose()))
    }

    fn parse(&self, version: &Version) -> Result<TokenSecret, SecretProblem> {
        TokenSecret::parse_with(version.body.expose(), &self.refresher.options.member_names)
    }

    fn decide(&self, current: &TokenVersion) -> Decision {
        let known_as = |id: &str| current.is_known_as(id);
        decision::decide(&current.token, known_as, self.mode, self.refresher.options.refresh_margin, self.now())
    }

    /// After a refusal: checks whether another run has obtained tokens meanwhile. If none has, the refusal is recorded, so that later
    /// runs need not ask the provider again.
    async fn check_after_refusal(
        &self,
        due: &Due<'_>,
        attempt: &Attempt,
        refusal: ErrorResponse,
        reason: Reason,
    ) -> Result<Completed, Error> {
        if let Ok(Some(staged)) = self.staged(&due.key).await {
            return self.recover(due.current.clone(), staged, reason).await;
        }
        if let Ok(found) = self.read_current().await
            && found.key() != due.key
        {
            return Ok(self.completed(Outcome::Superseded, &found, reason));
        }
        if !self.record_refusal(due, attempt, &refusal).await {
            self.end_claim(due, attempt).await;
        }
        Err(self.refused(due, refusal, attempt.history))
    }

    /// Records a refusal, if it is known to be final. Returns whether it was written now. If not, the caller ends the claim.
    async fn record_refusal(&self, due: &Due<'_>, attempt: &Attempt, refusal: &ErrorResponse) -> bool {
        if !refusal.is_final() {
            return false;
        }
        let record = Record::Refusal { attempt: attempt.number, refusal: refusal.clone() };
        let text = record.to_text(&due.key, &record::holder());
        match self.put(&due.key.refusal(due.client_digest, self.now()), Label::Claim, &text).await {
            Ok(()) => {
                self.observation.recorded_refusal();
                true
            }
            // Another forced run was refused before, within the same six hours.
            Err(StoreError::Exists) => false,
            Err(error) => {
                warn!(secretId = self.secret_id, "the refusal could not be recorded: {error}");
                false
            }
        }
    }

    fn refused(&self, due: &Due<'_>, refusal: ErrorResponse, history: History) -> Error {
        Error::Refused {
            secret_id: self.secret_id.to_owned(),
            endpoint: due.client.endpoint_without_query(),
            refusal: Box::new(refusal),
            history,
            grant_advice: due.grant.advice(self.secret_id),
            client_advice: due.client.advice(),
        }
    }

    fn unavailable(&self, due: &Due<'_>, error: TransportError) -> Error {
        let (detail, maybe_spent) = match error {
            TransportError::NotSigned(problem) => return Error::of_signing(self.secret_id, problem),
            TransportError::NotSent(what) | TransportError::Busy { what, .. } => (what, false),
            TransportError::MaybeSpent { what, .. } => (what, due.grant.is_single_use()),
        };
        Error::ProviderUnavailable {
            secret_id: self.secret_id.to_owned(),
            endpoint: due.client.endpoint_without_query(),
            detail,
            maybe_spent,
            grace: due.client.refresh_tokens().grace,
        }
    }

    /// The time that two writes need. In a sweep they may wait for those of other runs.
    fn time_for_writes(&self) -> TimeDelta {
        if self.shared.is_some() { decision::TWO_WRITES_IN_SWEEP } else { decision::TWO_WRITES }
    }

    fn too_little_time(&self, purpose: &str) -> Error {
        let left = (self.deadline - self.now()).max(TimeDelta::zero());
        if self.shared.is_some() {
            return Error::StoreUnavailable {
                secret_id: self.secret_id.to_owned(),
                action: self.refresher.store.action(Operation::Put),
                detail: format!(
                    "{} ms are left for this run, too little {purpose} safely; nothing was sent",
                    left.num_milliseconds()
                ),
                advice: Advice::new(
                    "the next sweep tries again; if this persists, raise the function's timeout or WRITES_PER_SECOND",
                ),
                staged: None,
            };
        }
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
            warnings: self.observation.observed().warnings,
        }
    }
}

/// The tokens as they are to be stored: with the lifetimes that the client's settings and the provider's profile know.
#[must_use]
pub fn new_tokens(issued: IssuedTokens, client: &Client, current: &TokenSecret, sent_at: DateTime<Utc>) -> NewTokens {
    let mut new = issued.into_new_tokens(sent_at, client.default_lifetime);
    if let Some(lifetime) = client.lifetime {
        new.expires_at = sent_at + lifetime;
    }
    if new.refresh_token_expires_at == RefreshTokenExpiry::Unspecified
        && let Some(end) = known_end(current, &new, &client.refresh_tokens())
    {
        new.refresh_token_expires_at = RefreshTokenExpiry::At(end);
    }
    new
}

/// When the refresh token ends, as far as the provider's profile knows it. `None`: it does not, or a person has written an end of this
/// refresh token.
fn known_end(current: &TokenSecret, new: &NewTokens, rules: &RefreshTokenRules) -> Option<DateTime<Utc>> {
    let is_new = new.refresh_token.as_ref().is_some_and(|token| current.tokens.refresh_token() != Some(token));
    // An end that an earlier refresh has written in the same way. The clock may have been wrong.
    let was_written = |end: DateTime<Utc>| {
        let refreshed_at = current.tokens.refreshed_at;
        let earlier = [true, false].into_iter().filter_map(|is_new| Some(refreshed_at? + rules.lives_for(is_new)?));
        earlier.into_iter().any(|earlier| (earlier - end).abs() <= TimeDelta::days(1))
    };
    let may_write = is_new || current.refresh_token_expires_at.is_none_or(was_written);
    rules.lives_for(is_new).filter(|_| may_write).map(|lives_for| new.refreshed_at + lives_for)
}
