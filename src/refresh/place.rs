//! Staging and promoting: how issued tokens come into the store and into their place, whatever others do meanwhile.

use chrono::TimeDelta;
use tracing::{error, warn};

use super::{Held, Run, calls::boxed};
use crate::{
    error::Error,
    ledger::{self, TokenKey},
    observation::Observation,
    policy,
    report::{Outcome, Reason, Report},
    secret::Secret,
    store::{Label, SecretStore, Selector, StoreError, VERSION_QUOTA, Version},
};

/// The first pause before a try again; each is twice the one before.
const FIRST_PAUSE: TimeDelta = TimeDelta::milliseconds(50);

/// Tokens that were issued, on their way into the store.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    /// The secret, as the event or `SECRET_ID` names it.
    pub(super) secret_id: String,
    /// The secret's ARN.
    pub(super) arn: String,
    /// The tokens they were exchanged for.
    pub(super) spent: TokenKey,
    /// The whole text of the version that is to be current.
    pub(super) body: Secret,
}

/// How putting tokens in place has ended.
pub(super) struct Placed {
    report: Report,
    /// Whether readers were told, where they are to be. If not, the token secret says all the same what is reported.
    published: Result<(), Error>,
}

impl Placed {
    /// What the run answers: readers who were not told are an error, and no reason to place the tokens once more.
    pub(super) fn answer(self) -> Result<Report, Error> {
        self.published.map(|()| self.report)
    }
}

impl From<Report> for Placed {
    fn from(report: Report) -> Self {
        Self { report, published: Ok(()) }
    }
}

/// Issued tokens that are in the store, not yet current.
pub(super) struct Staged {
    /// The ones this run obtained.
    ours: Held,
    /// The ones another run obtained for the same spent token, if one did.
    others: Option<Held>,
}

impl<S: SecretStore, X> Run<'_, S, X> {
    /// Makes issued tokens current that are staged by now.
    pub(super) async fn settle(
        &self,
        issued: &Issued,
        staged: Staged,
        current: Held,
        reason: Reason,
        outcome: Outcome,
    ) -> Result<Placed, Error> {
        let Staged { ours, others } = staged;
        let mut replaced = vec![issued.spent];
        replaced.extend(others.as_ref().map(Held::key));
        if !replaced.contains(&current.key()) {
            let outcome = if current.token.tokens == ours.token.tokens { outcome } else { Outcome::Superseded };
            return Ok(self.report(outcome, &current, reason).into());
        }
        // Not of this moment: others may have put them in place and led on from there, and a person gone back.
        let ours = if outcome == Outcome::Refreshed { ours } else { self.newest(ours).await? };
        let (newest, outcome) = match others {
            None => (ours, outcome),
            Some(others) => self.later_of(self.newest(others).await?, ours, outcome).await?,
        };
        if current.token.tokens == newest.token.tokens {
            return Ok(self.report(outcome, &current, reason).into());
        }
        self.promote(current, newest, &replaced, reason, outcome).await
    }

    /// Of two answers to one token the later one, which is alive with every provider; `outcome` where that is ours. It
    /// becomes the successor of the earlier one, so that whoever comes from the spent token finds it.
    async fn later_of(&self, others: Held, ours: Held, outcome: Outcome) -> Result<(Held, Outcome), Error> {
        if others.token.tokens == ours.token.tokens {
            return Ok((others, outcome));
        }
        if others.token.tokens.refreshed_at >= ours.token.tokens.refreshed_at {
            return Ok((others, Outcome::Superseded));
        }
        let id = others.key().successor();
        match self.put(&id, Label::Staged, &ours.token.to_text()).await {
            Ok(()) => Ok((Held { id, ..ours }, outcome)),
            // Someone led on from the others meanwhile, with a later answer still.
            Err(StoreError::Exists) => Ok((self.newest(others).await?, Outcome::Superseded)),
            Err(error) => {
                warn!(secretId = self.secret_id, "the later of two answers has no place in the order yet: {error}");
                Ok((ours, outcome))
            }
        }
    }

    /// Puts issued tokens into the store, under the id derived from the spent ones; tried until the deadline, and for a
    /// moment more where that has passed unnoticed.
    pub(super) async fn stage(&self, issued: &Issued) -> Result<Staged, Error> {
        let mut give_up_at = self.deadline - policy::ANSWER;
        let mut overslept = false;
        let successor = issued.spent.successor();
        let mut id = successor.clone();
        let mut pause = FIRST_PAUSE;
        let mut said = "no answer before the deadline".to_owned();
        loop {
            let put = self.refresher.store.put(&issued.secret_id, &id, Label::Staged, &issued.body);
            self.observation.call();
            match self.refresher.clock.before(give_up_at, boxed(put)).await {
                Some(Err(StoreError::Exists)) if id == successor => {
                    // Another run exchanged the same token. Nothing issued is dropped: ours gets an id of its own.
                    error!(secretId = issued.secret_id, "a refresh token was exchanged twice; both answers are kept");
                    id = issued.spent.other_successor(&issued.body);
                    continue;
                }
                // An id derived from the text that exists: it is this text that is there.
                Some(Ok(()) | Err(StoreError::Exists)) => break,
                Some(Err(error)) => said = error.to_string(),
                // What the try before this one was told says more.
                None => {}
            }
            if self.now() + pause >= give_up_at {
                if overslept || self.now() < self.deadline {
                    return Err(not_stored(issued, &said));
                }
                // Alive past the deadline: the machine has slept, or its clock was set. Who would end this run has not.
                overslept = true;
                give_up_at = self.now() + policy::MAX_PROMOTION;
                continue;
            }
            warn!(secretId = issued.secret_id, "the new tokens are not written yet, trying again: {said}");
            self.sleep(pause).await;
            pause = (pause * 2).min(TimeDelta::seconds(1));
        }
        let others = if id == successor {
            None
        } else {
            // It is there, and cannot be read yet: the next invocation of this process tries again.
            let others = self.successor(&issued.spent).await?;
            Some(others.ok_or_else(|| self.store_error(StoreError::Exists))?)
        };
        let version = Version { arn: issued.arn.clone(), id, created: self.now(), body: issued.body.clone() };
        Ok(Staged { ours: self.hold(version)?, others })
    }

    /// Puts tokens in place that an earlier run had obtained.
    pub(super) async fn heal(&self, current: Held, staged: Held, reason: Reason) -> Result<Report, Error> {
        let newest = self.newest(staged).await?;
        let spent = current.key();
        self.promote(current, newest, &[spent], reason, Outcome::Recovered).await?.answer()
    }

    /// The last of the tokens that led on from these: an old copy may have been pasted back long after.
    async fn newest(&self, mut staged: Held) -> Result<Held, Error> {
        for _ in 0..VERSION_QUOTA {
            match self.successor(&staged.key()).await? {
                Some(next) => staged = next,
                None => break,
            }
        }
        Ok(staged)
    }

    /// Tells readers of staged tokens and makes them current in place of these, together with whatever else a person changes
    /// there meanwhile. Other tokens, if someone puts them there, stand.
    async fn promote(
        &self,
        mut current: Held,
        staged: Held,
        replaced: &[TokenKey],
        reason: Reason,
        outcome: Outcome,
    ) -> Result<Placed, Error> {
        let published = self.publish(&staged).await;
        let safe = |error| Error::of_store(self.secret_id, error, Some(&staged.id));
        let give_up_at = (self.now() + policy::MAX_PROMOTION).min(self.deadline - policy::ANSWER);
        let mut pause = FIRST_PAUSE;
        loop {
            let target = match current.token.with_tokens_of(&staged.token) {
                None => staged.id.clone(),
                Some(body) => {
                    let id = ledger::merged(&current.id, &staged.id);
                    match self.put(&id, Label::Staged, &body).await {
                        // Another healer was here: the id is derived from the two versions, and so is the text.
                        Ok(()) | Err(StoreError::Exists) => id,
                        Err(error) => return Err(safe(error)),
                    }
                }
            };
            let lost = match self.move_current(&current.id, &target).await {
                Ok(()) => {
                    let placed = self.report(outcome, &Held { id: target, ..staged }, reason);
                    let report = Report { previous_version_id: Some(current.id), ..placed };
                    return Ok(Placed { report, published });
                }
                // Lost, or done and the answer was lost, or the staged version cannot be seen yet: look again.
                Err(error @ (StoreError::Moved | StoreError::NotFound { .. } | StoreError::Unavailable { .. })) => {
                    error
                }
                Err(error) => return Err(safe(error)),
            };
            match self.get(Selector::Label(Label::Current)).await {
                Err(_) => {}
                Ok(version) => {
                    let found = self.hold(version)?;
                    if found.token.tokens == staged.token.tokens {
                        let placed = self.report(outcome, &found, reason);
                        let report = Report { previous_version_id: Some(current.id), ..placed };
                        return Ok(Placed { report, published });
                    }
                    if !replaced.contains(&found.key()) {
                        let published = self.publish(&found).await;
                        return Ok(Placed { report: self.report(Outcome::Superseded, &found, reason), published });
                    }
                    current = found;
                }
            }
            if self.now() + pause >= give_up_at {
                return Err(safe(lost));
            }
            self.sleep(pause).await;
            pause = pause * 2;
        }
    }

    /// Stages and promotes what earlier invocations of this process could not, before anything else is exchanged.
    /// Returns the report where that concerned this run's secret.
    pub(super) async fn put_left_over_in_place(&self) -> Result<Option<Report>, Error> {
        let left_over = self.refresher.left_over().clone();
        let mut report = None;
        for issued in left_over {
            let aside = Observation::default();
            let (deadline, observation) = if issued.secret_id == self.secret_id {
                (self.deadline, self.observation)
            } else {
                // A secret whose store fails may not take the time of another one, nor tell of its tokens as the other's.
                (self.deadline.min(self.now() + policy::MAX_PROMOTION), &aside)
            };
            let run = Run { secret_id: &issued.secret_id, deadline, observation, ..*self };
            let placed = async {
                let staged = run.stage(&issued).await?;
                let current = run.read_current().await?;
                run.settle(&issued, staged, current, Reason::NotStoredBefore, Outcome::Recovered).await
            };
            match placed.await {
                Ok(placed) => {
                    self.refresher.left_over().retain(|other| other.body != issued.body);
                    match placed.answer() {
                        Ok(placed) if issued.secret_id == self.secret_id => report = Some(placed),
                        Err(error) if issued.secret_id == self.secret_id => return Err(error),
                        Ok(_) => {}
                        Err(error) => error!(secretId = issued.secret_id, "{error}"),
                    }
                }
                Err(error) if issued.secret_id == self.secret_id => return Err(error),
                Err(error) => error!(secretId = issued.secret_id, "{error}"),
            }
        }
        Ok(report)
    }
}

/// What is said of issued tokens that could not be written.
pub(super) fn not_stored(issued: &Issued, said: &str) -> Error {
    Error::TokenNotStored {
        secret_id: issued.secret_id.clone(),
        version_id: issued.spent.successor(),
        said: said.to_owned(),
    }
}
