//! Decides which results of a run become events on the event bus. No IO.
//!
//! The names are a format (`docs/compatibility.md`).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::{
    error::{Audience, ErrorType},
    protocol::{
        Error,
        error::History,
        observation::Observed,
        outcome::{Completed, Outcome},
    },
};

/// One notice. It contains no secret: its texts are those of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What happened: the event's `detail-type`.
    pub detail_type: &'static str,
    /// The event's `detail`.
    pub detail: Detail,
}

/// The `detail` of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// The token secret.
    pub secret_id: String,
    /// The type of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'static str>,
    /// What happened, in words.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// When the grant ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_ends_at: Option<String>,
}

impl Notice {
    /// The notice of a run, if its result is new: a refusal was recorded, a response was kept, tokens could not be stored, or the grant
    /// ends soon. Later runs with the same result have none.
    #[must_use]
    pub fn of(secret_id: &str, result: Result<&Completed, &Error>, observed: &Observed) -> Option<Self> {
        match result {
            Ok(completed) if completed.outcome == Outcome::Refreshed => {
                observed.grant_ends_at.map(|ends_at| Self::of_grant_end(secret_id, ends_at))
            }
            Ok(_) => None,
            Err(error) => {
                let is_new = match error {
                    Error::Refused { .. } => observed.has_recorded_refusal,
                    Error::Unusable { history, .. } => *history == History::First && observed.exchange.is_some(),
                    Error::TokenNotStored { .. } => observed.exchange.is_some(),
                    _ => false,
                };
                is_new.then(|| Self::of_error(secret_id, error))
            }
        }
    }

    fn of_error(secret_id: &str, error: &Error) -> Self {
        let error_type = error.error_type();
        let detail_type = match error_type {
            ErrorType::ReauthorizationRequired => "Reauthorization Required",
            ErrorType::ClientRejected => "Client Rejected",
            ErrorType::TokenNotStored => "Token Not Stored",
            _ => "Provider Rejected",
        };
        let detail = Detail {
            secret_id: secret_id.to_owned(),
            error_type: Some(error_type.as_str()),
            message: error.message(),
            remedy: error.advice(Audience::Function).map(Into::into),
            grant_ends_at: None,
        };
        Self { detail_type, detail }
    }

    fn of_grant_end(secret_id: &str, ends_at: DateTime<Utc>) -> Self {
        let ends_at = ends_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let detail = Detail {
            secret_id: secret_id.to_owned(),
            error_type: None,
            message: format!("secret `{secret_id}`: its refresh token expires at {ends_at}"),
            remedy: Some(format!(
                "unless refreshes extend it, a person must consent again before then: `tokenctl login {secret_id}` (docs/first-token.md)"
            )),
            grant_ends_at: Some(ends_at),
        };
        Self { detail_type: "Grant Ends Soon", detail }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;
    use crate::{
        oauth::response::{ErrorResponse, RefusalKind},
        protocol::{error::ResponseLocation, outcome::Reason},
    };

    fn refused(kind: RefusalKind, history: History) -> Error {
        Error::Refused {
            secret_id: "crm".to_owned(),
            endpoint: "https://id.example/token".to_owned(),
            refusal: Box::new(ErrorResponse {
                kind,
                status: 400,
                error: Some("invalid_grant".to_owned()),
                description: None,
                location: None,
            }),
            history,
            grant_advice: crate::error::Advice::new("consent again"),
            client_advice: crate::error::Advice::new("check the client"),
        }
    }

    #[test]
    fn only_new_results_are_reported() {
        use RefusalKind::{ClientRejected, ProviderRejected, ReauthorizationRequired};
        let exchanged = Observed { exchange: Some(TimeDelta::zero()), ..Observed::default() };
        let recorded = Observed { has_recorded_refusal: true, ..exchanged.clone() };
        let not_stored = Error::TokenNotStored {
            secret_id: "crm".to_owned(),
            version_id: "v2".into(),
            detail: "no answer".to_owned(),
        };
        let kept = |history| Error::Unusable {
            secret_id: "crm".to_owned(),
            endpoint: "https://id.example/token".to_owned(),
            detail: "answered 200".to_owned(),
            response: ResponseLocation::Version("v2".into()),
            history,
        };
        for (error, observed, expected) in [
            (refused(ReauthorizationRequired, History::First), &recorded, Some("Reauthorization Required")),
            (refused(ReauthorizationRequired, History::Recorded), &Observed::default(), None),
            (refused(ClientRejected, History::First), &recorded, Some("Client Rejected")),
            (refused(ProviderRejected, History::First), &recorded, Some("Provider Rejected")),
            (refused(ProviderRejected, History::First), &exchanged, None),
            (not_stored.clone(), &exchanged, Some("Token Not Stored")),
            (not_stored, &Observed::default(), None),
            (kept(History::First), &exchanged, Some("Provider Rejected")),
            (kept(History::Recorded), &Observed::default(), None),
            (Error::InvalidEvent { problem: String::new() }, &Observed::default(), None),
        ] {
            let notice = Notice::of("crm", Err(&error), observed);
            assert_eq!(notice.map(|notice| notice.detail_type), expected, "{error}");
        }
    }

    #[test]
    fn the_end_of_a_grant_is_reported_with_its_time() {
        let completed = |outcome| Completed {
            outcome,
            reason: Reason::Due,
            version_id: "v2".into(),
            previous_version_id: None,
            published_version_id: None,
            expires_at: None,
            retry_at: None,
            warnings: Vec::new(),
        };
        let ends_at = DateTime::from_timestamp(1_767_225_600, 0);
        let observed = Observed { grant_ends_at: ends_at, ..Observed::default() };
        let notice = Notice::of("crm", Ok(&completed(Outcome::Refreshed)), &observed).unwrap();
        assert_eq!(
            (notice.detail_type, serde_json::to_value(&notice.detail).unwrap()),
            (
                "Grant Ends Soon",
                json!({
                    "secretId": "crm",
                    "message": "secret `crm`: its refresh token expires at 2026-01-01T00:00:00Z",
                    "remedy": "unless refreshes extend it, a person must consent again before then: `tokenctl login crm` (docs/first-token.md)",
                    "grantEndsAt": "2026-01-01T00:00:00Z",
                })
            )
        );
        assert_eq!(Notice::of("crm", Ok(&completed(Outcome::Refreshed)), &Observed::default()), None);
        assert_eq!(Notice::of("crm", Ok(&completed(Outcome::Recovered)), &observed), None);
    }
}
