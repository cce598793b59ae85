//! Handles the events of Secrets Manager: a label has moved, or a step of a rotation is due.

use chrono::{DateTime, Utc};
use tracing::info;

use super::Handler;
use crate::{
    lambda::{
        event::secrets_manager::{LabelUpdate, Rotation, Step},
        report::{EventReport, Response},
    },
    protocol::{ChangeResult, Error, Mode, Request, observation::Observation},
    sanitize::sanitize_line,
    store::SecretStore,
    sweep::targets::Included,
};

impl<S: SecretStore> Handler<S> {
    /// A label of a secret has moved: a person may have put tokens into it.
    pub(super) async fn label_updated(&self, update: &LabelUpdate, deadline: DateTime<Utc>) -> Result<Response, Error> {
        let name = sanitize_line(&update.name, 512);
        let ignored = |reason: &str| {
            info!(secretId = name, "event ignored: {reason}");
            Ok(Response::Event(EventReport::Ignored))
        };
        if !update.is_current {
            return ignored("the label is not AWSCURRENT");
        }
        let targets = self.default_targets().map_err(|error| self.failed_before_run(error))?;
        let Some(included) = targets.include(&update.name, update.arn.as_deref()) else {
            return ignored("SECRET_ID does not include the secret");
        };
        let (started_at, observation) = (self.clock.now(), Observation::default());
        let request = Request { secret_id: included.secret_id(), mode: &Mode::Scheduled, deadline };
        let completed = match (self.refresher.run_after_change(request, &observation).await, &included) {
            (Ok(ChangeResult::NotATokenSecret(_)), Included::ByPrefix(_)) => {
                return ignored("the secret is not a token secret");
            }
            (Ok(ChangeResult::LeftToSchedule), _) => return ignored("the next scheduled run refreshes the token"),
            (Ok(ChangeResult::Completed(completed)), _) => Ok(completed),
            (Ok(ChangeResult::NotATokenSecret(error)) | Err(error), _) => Err(error),
        };
        self.report_run(request, completed, started_at, &observation).await
    }

    /// A step of a rotation. The new tokens are current after the first one.
    pub(super) async fn rotate(&self, rotation: &Rotation, deadline: DateTime<Utc>) -> Result<Response, Error> {
        // By its ARN: a secret of another account or Region can have the same name.
        let secret_id = rotation.secret_id.as_str();
        match rotation.step {
            Step::Create => self.run(secret_id, &Mode::Rotation, deadline).await,
            Step::Set | Step::Test => Ok(Response::Event(EventReport::Ignored)),
            Step::Finish => {
                let (started_at, observation) = (self.clock.now(), Observation::default());
                let request = Request { secret_id, mode: &Mode::Rotation, deadline };
                match self.refresher.finish_rotation(request, &rotation.pending, &observation).await {
                    Ok(()) => {
                        info!(secretId = secret_id, "rotation finished");
                        Ok(Response::Event(EventReport::Finished))
                    }
                    Err(error) => self.report_run(request, Err(error), started_at, &observation).await,
                }
            }
        }
    }
}
