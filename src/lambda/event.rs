//! The event that starts a run: which secret, and whether the run is scheduled, forced or dry. Accepts the forms in `docs/events.md`
//! and nothing else; an error names the member that is not understood. The events of Secrets Manager are in [`secrets_manager`].

use serde_json::{Map, Value};

use crate::{
    protocol::{Error, Mode},
    sanitize::sanitize_line,
    sweep::targets::{MAX_SECRET_ID_CHARS, Targets},
};

pub mod secrets_manager;

use secrets_manager::{LabelUpdate, Rotation};

/// What an event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run, or a sweep.
    Run {
        /// The secret, or the prefix; `None`: those of `SECRET_ID`.
        targets: Option<Targets>,
        /// How to treat them.
        mode: Mode,
    },
    /// Secrets Manager has moved a label.
    LabelUpdated(LabelUpdate),
    /// Secrets Manager rotates a secret: one step of it.
    Rotation(Rotation),
}

/// The members of our own events.
const MEMBERS: [&str; 4] = ["secretId", "force", "ifVersionId", "dryRun"];

/// The sources of schedules, and the `detail-type` of their events.
const SCHEDULE_SOURCES: [&str; 2] = ["aws.events", "aws.scheduler"];
const SCHEDULED: &str = "Scheduled Event";

/// `EventBridge` Scheduler's context attributes (`<aws.scheduler.attempt-number>`, …) go into members of these names.
const SCHEDULER_PREFIX: &str = "scheduler";

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEvent`] names the member that was not understood.
    pub fn parse(event: &Value) -> Result<Self, Error> {
        let members = match event {
            Value::Null => return Ok(Self::Run { targets: None, mode: Mode::Scheduled }),
            Value::Object(members) => members,
            other => {
                return Err(invalid(format!("the event is {}, where a JSON object is wanted", kind(other))));
            }
        };
        if let Some(Value::String(source)) = members.get("source") {
            return Self::from_event_bridge(members, source);
        }
        if Rotation::is_sent_as(members) {
            return Rotation::parse(members).map(Self::Rotation);
        }
        Self::from_members(members)
    }

    /// Reads an event of `EventBridge`: a schedule, or an event of the caller's whose `detail` is one of our own events.
    fn from_event_bridge(members: &Map<String, Value>, source: &str) -> Result<Self, Error> {
        if let Some(name) = MEMBERS.iter().find(|name| members.contains_key(**name)) {
            return Err(invalid(format!(
                "the event has both `source` (EventBridge's envelope) and `{name}`; to say more than \"now\", give the \
                 schedule a constant Input such as {{\"secretId\": \"...\"}}"
            )));
        }
        let shown = sanitize_line(source, 64);
        if source == secrets_manager::SOURCE {
            return LabelUpdate::parse(members).map(Self::LabelUpdated);
        }
        // An object, or its text (the Scheduler).
        let detail = match members.get("detail") {
            None | Some(Value::Null) => Some(Map::new()),
            Some(Value::Object(detail)) => Some(detail.clone()),
            Some(Value::String(text)) if text.trim().is_empty() => Some(Map::new()),
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(_) => None,
        };
        let Some(detail) = detail else {
            return Err(invalid(format!("the event of `{shown}` has a `detail` that is not a JSON object")));
        };
        let is_schedule =
            SCHEDULE_SOURCES.contains(&source) || members.get("detail-type").is_some_and(|kind| kind == SCHEDULED);
        match (detail.is_empty(), is_schedule) {
            (true, true) => Ok(Self::Run { targets: None, mode: Mode::Scheduled }),
            (true, false) => Err(invalid(format!(
                "the event of `{shown}` is not a schedule, and its `detail` is empty; put `secretId` or `force` into `detail`"
            ))),
            (false, false) if detail.keys().all(|name| name.starts_with(SCHEDULER_PREFIX)) => Err(invalid(format!(
                "the event of `{shown}` is not a schedule; put `secretId` or `force` into its `detail`"
            ))),
            (false, _) => Self::from_members(&detail).map_err(|error| match error {
                Error::InvalidEvent { problem } => {
                    invalid(format!("{problem} (in the `detail` of an event of `{shown}`)"))
                }
                error => error,
            }),
        }
    }

    /// Reads our own members.
    fn from_members(members: &Map<String, Value>) -> Result<Self, Error> {
        if let Some(unknown) =
            members.keys().find(|name| !MEMBERS.contains(&name.as_str()) && !name.starts_with(SCHEDULER_PREFIX))
        {
            return Err(invalid(unknown_member(unknown)));
        }
        let secret_id = text(members, "secretId", MAX_SECRET_ID_CHARS)?;
        let if_version_id = text(members, "ifVersionId", 64)?;
        let mode = match (flag(members, "force")?, if_version_id, flag(members, "dryRun")?) {
            (true, _, true) => {
                return Err(invalid("the event has both `force` and `dryRun`; take one out".to_owned()));
            }
            (true, if_version_id, false) => Mode::Forced { if_version_id },
            (false, Some(_), _) => {
                return Err(invalid("`ifVersionId` goes with `\"force\": true` only".to_owned()));
            }
            (false, None, true) => Mode::DryRun,
            (false, None, false) => Mode::Scheduled,
        };
        let targets = secret_id.map(|secret_id| Targets::parse_one(&secret_id)).transpose();
        let targets = targets.map_err(|problem| invalid(format!("the event's `secretId` {problem}")))?;
        Ok(Self::Run { targets, mode })
    }
}

fn invalid(problem: String) -> Error {
    Error::InvalidEvent { problem }
}

fn text(members: &Map<String, Value>, name: &str, max_chars: usize) -> Result<Option<String>, Error> {
    match members.get(name) {
        None => Ok(None),
        // No name, ARN or version id has one, and it could forge a line of the log.
        Some(Value::String(text)) if text.contains(char::is_control) => {
            Err(invalid(format!("the event's `{name}` has a control character in it")))
        }
        Some(Value::String(text)) if !text.trim().is_empty() && text.chars().count() <= max_chars => {
            Ok(Some(text.clone()))
        }
        Some(Value::String(_)) => {
            Err(invalid(format!("the event's `{name}` is empty or too long; 1 to {max_chars} characters are allowed")))
        }
        Some(other) => Err(invalid(format!("the event's `{name}` is {}, where a string is wanted", kind(other)))),
    }
}

fn flag(members: &Map<String, Value>, name: &str) -> Result<bool, Error> {
    match members.get(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(invalid(format!("the event's `{name}` is {}, where true or false is wanted", kind(other)))),
    }
}

fn unknown_member(name: &str) -> String {
    let shown = sanitize_line(name, 64);
    let meant = MEMBERS.into_iter().min_by_key(|known| distance(name, known)).filter(|known| {
        !name.is_empty()
            && (distance(name, known) <= known.len() / 4 || known.to_lowercase().starts_with(&name.to_lowercase()))
    });
    let hint = match meant {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("allowed are `{}` and names that start with `{SCHEDULER_PREFIX}`", MEMBERS.join("`, `")),
    };
    format!("the event's member `{shown}` is not understood; {hint}")
}

/// The edit distance (Levenshtein), letters compared without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate().take(64) {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn forced(if_version_id: Option<&str>) -> Mode {
        Mode::Forced { if_version_id: if_version_id.map(str::to_owned) }
    }

    #[test]
    fn every_documented_form_is_understood() {
        for (event, secret_id, mode) in [
            (json!(null), None, Mode::Scheduled),
            (json!({}), None, Mode::Scheduled),
            (json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}), None, Mode::Scheduled),
            (json!({"source": "aws.scheduler", "detail": "{}"}), None, Mode::Scheduled),
            (json!({"source": "aws.events"}), None, Mode::Scheduled),
            (json!({"source": "com.example", "detail-type": "Scheduled Event", "detail": null}), None, Mode::Scheduled),
            (json!({"source": "com.example", "detail": {"secretId": "crm", "force": true}}), Some("crm"), forced(None)),
            (json!({"source": "com.example", "detail": r#"{"dryRun": true}"#}), None, Mode::DryRun),
            (json!({"source": "aws.scheduler", "detail": {"secretId": "crm"}}), Some("crm"), Mode::Scheduled),
            (json!({"secretId": "crm"}), Some("crm"), Mode::Scheduled),
            (json!({"secretId": "crm", "schedulerAttempt": "1", "scheduler_time": 5}), Some("crm"), Mode::Scheduled),
            (json!({"force": true}), None, forced(None)),
            (json!({"secretId": "crm", "force": true}), Some("crm"), forced(None)),
            (json!({"force": true, "ifVersionId": "v1"}), None, forced(Some("v1"))),
            (json!({"force": false}), None, Mode::Scheduled),
            (json!({"secretId": "crm", "dryRun": true}), Some("crm"), Mode::DryRun),
            (json!({"dryRun": false, "force": true}), None, forced(None)),
        ] {
            let expected = Event::Run { targets: secret_id.map(|name| Targets::One(name.to_owned())), mode };
            assert_eq!(Event::parse(&event), Ok(expected), "{event}");
        }
    }

    #[test]
    fn a_secret_id_may_be_a_prefix() {
        let event = Event::parse(&json!({"secretId": "myapp/prod/*", "dryRun": true}));
        let targets = Some(Targets::parse_one("myapp/prod/*").unwrap());
        assert_eq!(event, Ok(Event::Run { targets, mode: Mode::DryRun }));
        for (secret_id, problem) in [
            ("a,b", "the event's `secretId` contains a comma"),
            ("*", "the event's `secretId` contains \"*\" alone"),
            ("a*b", "the event's `secretId` contains a \"*\" that is not at the end of a name"),
            ("a b", "the event's `secretId` contains white space"),
        ] {
            let error = Event::parse(&json!({"secretId": secret_id})).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn a_near_miss_is_guessed() {
        for (name, meant) in [
            ("forcing", None),
            ("forced", Some("force")),
            ("idVersionId", Some("ifVersionId")),
            ("if_versionid_", Some("ifVersionId")),
            ("if_version_id_", None),
            // A long name is not closer to ours because it repeats it.
            (&"force".repeat(60), None),
        ] {
            let message = Event::parse(&json!({name: true})).unwrap_err().to_string();
            let guessed = message.split_once("did you mean `").map(|(_, rest)| &rest[..rest.find('`').unwrap()]);
            assert_eq!(guessed, meant, "{message}");
        }
    }

    #[test]
    fn an_error_names_what_is_not_understood() {
        for (event, problem) in [
            (json!([]), "the event is an array, where a JSON object is wanted"),
            (json!("refresh"), "the event is a string, where a JSON object is wanted"),
            (json!({"forced": true}), "the event's member `forced` is not understood; did you mean `force`?"),
            (json!({"Force": true}), "the event's member `Force` is not understood; did you mean `force`?"),
            (json!({"secret": "a"}), "the event's member `secret` is not understood; did you mean `secretId`?"),
            (json!({"secret_id": "a"}), "the event's member `secret_id` is not understood; did you mean `secretId`?"),
            (json!({"dry_run": true}), "the event's member `dry_run` is not understood; did you mean `dryRun`?"),
            (
                json!({"tokenEndpoint": "https://evil.example"}),
                "the event's member `tokenEndpoint` is not understood; allowed are `secretId`, `force`, `ifVersionId`, \
                 `dryRun` and names that start with `scheduler`",
            ),
            (
                json!({"": true}),
                "the event's member `` is not understood; allowed are `secretId`, `force`, `ifVersionId`, `dryRun` and \
                 names that start with `scheduler`",
            ),
            (
                json!({"fo\u{202e}rce\n": true}),
                "the event's member `fo?rce?` is not understood; allowed are `secretId`, `force`, `ifVersionId`, `dryRun` \
                 and names that start with `scheduler`",
            ),
            (json!({"force": "yes"}), "the event's `force` is a string, where true or false is wanted"),
            (json!({"force": 1}), "the event's `force` is a number, where true or false is wanted"),
            (json!({"dryRun": null}), "the event's `dryRun` is null, where true or false is wanted"),
            (json!({"secretId": 5}), "the event's `secretId` is a number, where a string is wanted"),
            (json!({"secretId": " "}), "the event's `secretId` is empty or too long; 1 to 2048 characters are allowed"),
            (json!({"secretId": "crm\n"}), "the event's `secretId` has a control character in it"),
            (json!({"ifVersionId": "v1"}), "`ifVersionId` goes with `\"force\": true` only"),
            (json!({"ifVersionId": "v1", "force": false}), "`ifVersionId` goes with `\"force\": true` only"),
            (json!({"force": true, "dryRun": true}), "the event has both `force` and `dryRun`; take one out"),
            (
                json!({"source": "aws.events", "force": true}),
                "the event has both `source` (EventBridge's envelope) and `force`; to say more than \"now\", give the \
                 schedule a constant Input such as {\"secretId\": \"...\"}",
            ),
            (
                json!({"source": "serverless-plugin-warmup"}),
                "the event of `serverless-plugin-warmup` is not a schedule, and its `detail` is empty; put `secretId` or \
                 `force` into `detail`",
            ),
            (
                json!({"source": "aws.s3", "detail": {"bucket": {"name": "b"}}}),
                "the event's member `bucket` is not understood; allowed are `secretId`, `force`, `ifVersionId`, `dryRun` and \
                 names that start with `scheduler` (in the `detail` of an event of `aws.s3`)",
            ),
            (
                json!({"source": "aws.events", "detail": {"forced": true}}),
                "the event's member `forced` is not understood; did you mean `force`? (in the `detail` of an event of \
                 `aws.events`)",
            ),
            (
                json!({"source": "com.example", "detail": {"schedulerX": 1}}),
                "the event of `com.example` is not a schedule; put `secretId` or `force` into its `detail`",
            ),
            (
                json!({"source": "com.example", "detail": [1]}),
                "the event of `com.example` has a `detail` that is not a JSON object",
            ),
            (
                json!({"source": "com.example", "detail": "now"}),
                "the event of `com.example` has a `detail` that is not a JSON object",
            ),
            (
                json!({"source": 5}),
                "the event's member `source` is not understood; allowed are `secretId`, `force`, `ifVersionId`, \
                 `dryRun` and names that start with `scheduler`",
            ),
        ] {
            let error = Event::parse(&event).unwrap_err();
            assert_eq!((error.error_type().as_str(), error.to_string().as_str()), ("InvalidEvent", problem), "{event}");
        }
    }
}
