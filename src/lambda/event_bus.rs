//! Puts notices on the default event bus of `EventBridge`, with signed requests: this one call does not justify its SDK.
//! A failure changes nothing but the log. Without the permission `events:PutEvents` no further request is made.
//!
//! Facts: "`PutEvents`" in the Amazon `EventBridge` API Reference.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use aws_config::SdkConfig;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};

use super::notice::Notice;
use crate::{
    aws_request::{Address, AwsService, ServiceError, regional_endpoint},
    clock::Clock,
    error::InvalidSetting,
    http_client::read_bounded,
    sanitize::sanitize_line,
};

const SOURCE: &str = "token-refresher";

/// How long a request may take. The function waits for it, because Lambda freezes it afterwards.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The pause before a request is sent again.
const PAUSE: Duration = Duration::from_millis(300);

/// Time at the end of an invocation for the response. A run that could not store its tokens ends shortly before.
const TIME_TO_RESPOND: chrono::TimeDelta = chrono::TimeDelta::milliseconds(50);

const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The default event bus of one Region.
pub struct EventBus {
    service: AwsService,
    clock: Clock,
    url: String,
    /// Set when the permission is missing.
    is_off: AtomicBool,
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventBus({})", self.url)
    }
}

impl EventBus {
    /// The most events in one request.
    pub const MAX_EVENTS: usize = 10;

    /// The bus of the Region and with the credentials of an SDK configuration. Its address: `AWS_ENDPOINT_URL_EVENTBRIDGE`, else
    /// `AWS_ENDPOINT_URL`, else that of the Region. `None` if only Secrets Manager has another address: a test must not reach the
    /// real `EventBridge`.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] for an address that is not a URL.
    pub fn new(
        config: &SdkConfig,
        http: reqwest::Client,
        clock: Clock,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, InvalidSetting> {
        let Some(service) = AwsService::of_config("events", config, http) else { return Ok(None) };
        let url = match Address::from_vars("EVENTBRIDGE", var)? {
            Address::At(endpoint) => endpoint,
            Address::Regional => regional_endpoint("events", &service.region),
            Address::None => return Ok(None),
        };
        Ok(Some(Self { service, clock, url: format!("{url}/"), is_off: AtomicBool::new(false) }))
    }

    /// Puts notices on the bus, at most [`Self::MAX_EVENTS`], and waits for the response, but not longer than until `deadline`. Sends them
    /// once more if that may help. Takes what need not be sent again out of `notices`.
    ///
    /// # Errors
    ///
    /// Why those that are left were not put.
    pub async fn put(&self, notices: &mut Vec<Notice>, deadline: DateTime<Utc>) -> Result<(), String> {
        for is_last in [false, true] {
            if self.is_off.load(Relaxed) {
                notices.clear();
            }
            if notices.is_empty() {
                return Ok(());
            }
            let time = self.clock.until(deadline - TIME_TO_RESPOND).min(TIMEOUT);
            if time.is_zero() {
                return Err("no time is left".to_owned());
            }
            let sent = self.clock.within(time, self.send(notices).boxed()).await;
            let problem = match sent.unwrap_or_else(|| Err(Problem::Final("no answer in time".to_owned()))) {
                Ok(refused) => {
                    let problem = refused.first().map(|refused| format!("EventBridge refused it ({})", refused.code));
                    let mut index = 0..;
                    notices
                        .retain(|_| index.next().is_some_and(|index| refused.iter().any(|other| other.index == index)));
                    problem
                }
                Err(Problem::NotAllowed) => {
                    self.is_off.store(true, Relaxed);
                    info!("no events are put on the event bus: the role has no permission for events:PutEvents");
                    None
                }
                Err(Problem::MayPass(problem)) => Some(problem),
                Err(Problem::Final(problem)) => return Err(problem),
            };
            match problem {
                Some(problem) if is_last => return Err(problem),
                Some(_) => self.clock.sleep(PAUSE).await,
                None => {}
            }
        }
        Ok(())
    }

    async fn send(&self, notices: &[Notice]) -> Result<Vec<Refused>, Problem> {
        const HEADERS: [(&str, &str); 2] =
            [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "AWSEvents.PutEvents")];
        let request = self.service.signed_post(&self.url, &HEADERS, entries(notices)).await;
        let request = request.map_err(|problem| Problem::Final(problem.to_owned()))?;
        let response = self.service.send("EventBridge", request).await.map_err(Problem::MayPass)?;
        let status = response.status().as_u16();
        let body = read_bounded(response, MAX_RESPONSE_BYTES).await.map_err(Problem::Final)?;
        read_response(status, &body)
    }
}

/// Logs that notices could not be put.
pub fn warn_of(notices: &[Notice], problem: &str) {
    for notice in notices {
        let secret_id = notice.detail.secret_id.as_str();
        warn!(secretId = secret_id, "the event \"{}\" could not be put: {problem}", notice.detail_type);
    }
}

/// An event that was refused while others of the same request were not.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    index: usize,
    code: String,
}

/// Why no event of a request was put.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// The permission is missing.
    NotAllowed,
    /// Another try may succeed.
    MayPass(String),
    /// Another try fails as well, or takes too long.
    Final(String),
}

/// The body of a request. `detail` is JSON in a string.
fn entries(notices: &[Notice]) -> String {
    let entries: Vec<_> = notices
        .iter()
        .map(|notice| {
            json!({
                "Source": SOURCE,
                "DetailType": notice.detail_type,
                "Detail": json!(notice.detail).to_string(),
                "Resources": if notice.detail.secret_id.starts_with("arn:") { vec![&notice.detail.secret_id] } else { Vec::new() },
            })
        })
        .collect();
    json!({ "Entries": entries }).to_string()
}

/// Interprets a response. A success may contain entries that failed.
fn read_response(status: u16, body: &[u8]) -> Result<Vec<Refused>, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Body {
        entries: Vec<Entry>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Entry {
        error_code: Option<String>,
    }
    if status == 200 {
        let Ok(Body { entries }) = serde_json::from_slice(body) else {
            return Err(Problem::Final("EventBridge answered 200 and no JSON".to_owned()));
        };
        let refused = entries.into_iter().enumerate();
        let refused = refused.filter_map(|(index, entry)| Some((index, sanitize_line(&entry.error_code?, 64))));
        return Ok(refused.map(|(index, code)| Refused { index, code }).collect());
    }
    let error = ServiceError::read(body);
    if error.is_access_denied() {
        return Err(Problem::NotAllowed);
    }
    let problem = format!("EventBridge answered {status}, {}", error.text());
    let may_pass = status == 429 || (500..600).contains(&status) || error.code().contains("Throttl");
    Err(if may_pass { Problem::MayPass(problem) } else { Problem::Final(problem) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::notice::Detail;

    fn notice(secret_id: &str) -> Notice {
        let detail = Detail {
            secret_id: secret_id.to_owned(),
            error_type: Some("ReauthorizationRequired"),
            message: "consent again".to_owned(),
            remedy: None,
            grant_ends_at: None,
        };
        Notice { detail_type: "Reauthorization Required", detail }
    }

    #[test]
    fn the_body_has_one_entry_for_each_notice() {
        let body: serde_json::Value = serde_json::from_str(&entries(&[notice("crm")])).unwrap();
        let detail = r#"{"errorType":"ReauthorizationRequired","message":"consent again","secretId":"crm"}"#;
        assert_eq!(
            body,
            json!({"Entries": [{
                "Source": "token-refresher", "DetailType": "Reauthorization Required", "Detail": detail, "Resources": [],
            }]})
        );
    }

    #[test]
    fn each_response_is_a_success_or_a_problem() {
        let last = |text: &str| Err(Problem::Final(text.to_owned()));
        let may_pass = |text: &str| Err(Problem::MayPass(text.to_owned()));
        for (status, body, expected) in [
            (200, r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#, Ok(Vec::new())),
            (
                200,
                r#"{"FailedEntryCount":1,"Entries":[{"EventId":"1"},{"ErrorCode":"ThrottlingException"}]}"#,
                Ok(vec![Refused { index: 1, code: "ThrottlingException".to_owned() }]),
            ),
            (400, r#"{"__type":"AccessDeniedException","Message":"no"}"#, Err(Problem::NotAllowed)),
            (400, r#"{"__type":"com.amazon#AccessDeniedException"}"#, Err(Problem::NotAllowed)),
            (
                400,
                r#"{"__type":"ValidationException","message":"a\nb"}"#,
                last("EventBridge answered 400, ValidationException: a?b"),
            ),
            (
                400,
                r#"{"__type":"ThrottlingException","message":"slow"}"#,
                may_pass("EventBridge answered 400, ThrottlingException: slow"),
            ),
            (503, "<html>", may_pass("EventBridge answered 503, without a code: ")),
            (200, "<html>", last("EventBridge answered 200 and no JSON")),
        ] {
            assert_eq!(read_response(status, body.as_bytes()), expected, "{status} {body}");
        }
    }
}
