//! Handles the events of Secrets Manager: a label has moved, or a step of a rotation is due.

use chrono::{DateTime, Utc};
use tracing::info;

use super::Handler;
use crate::{
    lambda::{
        event::secrets_manager::{LabelUpdate, RotationStep, Step},
        report::{EventReport, Response},
    },
    protocol::{AfterChange, Error, Mode, Request, observation::Observation},
    sanitize::sanitize_line,
    store::SecretStore,
    sweep::targets::{Covering, name_in_arn},
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
        let (secret_id, is_named) = match targets.covering(&update.name, update.arn.as_deref()) {
            Some(Covering::Name(secret_id)) => (secret_id, true),
            Some(Covering::Prefix) => (update.name.clone(), false),
            None => return ignored("SECRET_ID does not include the secret"),
        };
        let (started_at, observation) = (self.clock.now(), Observation::default());
        let request = Request { secret_id: &secret_id, mode: &Mode::Scheduled, deadline };
        let completed = match self.refresher.run_after_change(request, &observation).await {
            Ok(AfterChange::NotATokenSecret(_)) if !is_named => return ignored("it is not a token secret"),
            Ok(AfterChange::OwnVersion) => return ignored("the next scheduled run refreshes the token"),
            Ok(AfterChange::Completed(completed)) => Ok(completed),
            Ok(AfterChange::NotATokenSecret(error)) | Err(error) => Err(error),
        };
        self.report_run(&secret_id, completed, self.metrics_of_one(), started_at, &observation, deadline).await
    }

    /// A step of a rotation. The new tokens are current after the first one.
    pub(super) async fn rotate(&self, rotation: &RotationStep, deadline: DateTime<Utc>) -> Result<Response, Error> {
        let arn = rotation.secret_id.as_str();
        // By the name that other runs use, so that its metrics are in one place.
        let name = name_in_arn(arn).unwrap_or(arn);
        let secret_id = match self.default_targets.as_ref().and_then(|targets| targets.covering(name, Some(arn))) {
            Some(Covering::Name(secret_id)) => secret_id,
            Some(Covering::Prefix) => name.to_owned(),
            None => arn.to_owned(),
        };
        match rotation.step {
            Step::Create => self.run(&secret_id, &Mode::Rotation, deadline).await,
            Step::Set | Step::Test => Ok(Response::Event(EventReport::Ignored)),
            Step::Finish => {
                let (started_at, observation) = (self.clock.now(), Observation::default());
                let finished =
                    self.refresher.finish_rotation(&secret_id, &rotation.pending, deadline, &observation).await;
                if let Err(error) = finished {
                    let failed = Err(error);
                    return self
                        .report_run(&secret_id, failed, self.metrics_of_one(), started_at, &observation, deadline)
                        .await;
                }
                info!(secretId = secret_id, "rotation finished");
                Ok(Response::Event(EventReport::Finished))
            }
        }
    }
}
