//! Any JSON as an event: the event that a second implementation of the documented table reads, or an `InvalidEvent` that names a
//! member.

use serde_json::{Map, Value};
use token_refresher::{
    lambda::event::{
        Event,
        secrets_manager::{LabelUpdate, Rotation, Step},
    },
    protocol::Mode,
    sweep::targets::{Many, Targets},
};

use crate::text::assert_one_printable_line;

/// A secret value in the seeds: no message may show it.
const SECRET: &str = "s3cr3t-of-the-seeds";

pub fn target(input: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(input) else { return };
    let read = Event::parse(&event);
    assert_eq!(read.as_ref().ok(), expected(&event).as_ref(), "{event}");
    if let Err(error) = read {
        assert_eq!((error.error_type().as_str(), error.secret_id()), ("InvalidEvent", None));
        let message = error.to_string();
        assert_one_printable_line(&message, 300);
        assert_names_a_member(&message, &event);
        let named = event.as_object().is_some_and(|members| members.keys().any(|name| name.contains(SECRET)));
        assert!(named || !message.contains(SECRET), "a message quotes a value");
    }
}

/// The event by the documented table. `None` if it is invalid.
fn expected(event: &Value) -> Option<Event> {
    let no_members = Map::new();
    let members = match event {
        Value::Null => &no_members,
        event => event.as_object()?,
    };
    let has = |name: &str| members.contains_key(name);
    let has_ours = has("secretId") || has("force") || has("ifVersionId") || has("dryRun");
    let Some(source) = members.get("source").and_then(Value::as_str) else {
        let is_rotation = has("Step") || has("ClientRequestToken");
        return match (is_rotation, has_ours) {
            (false, _) => expected_of_ours(members),
            (true, true) => None,
            (true, false) => expected_rotation(members),
        };
    };
    if has_ours {
        return None;
    }
    if source == "aws.secretsmanager" {
        return expected_label_update(members);
    }
    let detail = detail(members)?;
    let is_schedule = source == "aws.events"
        || source == "aws.scheduler"
        || members.get("detail-type").and_then(Value::as_str) == Some("Scheduled Event");
    let is_empty = detail.keys().all(|name| name.starts_with("scheduler"));
    if is_empty && !is_schedule { None } else { expected_of_ours(&detail) }
}

/// The `detail` of an event of `EventBridge`.
fn detail(members: &Map<String, Value>) -> Option<Map<String, Value>> {
    match members.get("detail").unwrap_or(&Value::Null) {
        Value::Null => Some(Map::new()),
        Value::Object(detail) => Some(detail.clone()),
        Value::String(text) if text.trim().is_empty() => Some(Map::new()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// A step of a rotation.
fn expected_rotation(members: &Map<String, Value>) -> Option<Event> {
    let names = [("create", Step::Create), ("set", Step::Set), ("test", Step::Test), ("finish", Step::Finish)];
    let given = text(members, "Step")?;
    let (_, step) =
        names.into_iter().find(|(verb, _)| given == format!("{verb}Secret") || given == format!("{verb}_secret"))?;
    let secret_id = text(members, "SecretId")?;
    let pending = text(members, "ClientRequestToken")?.into();
    (!secret_id.contains(['*', ','])).then_some(Event::Rotation(Rotation { step, secret_id, pending }))
}

/// A label that has moved.
fn expected_label_update(members: &Map<String, Value>) -> Option<Event> {
    if text(members, "detail-type")? != "Secret Label Updated" {
        return None;
    }
    let detail = members.get("detail")?.as_object()?;
    let arn = members.get("resources").and_then(|resources| resources.get(0)).and_then(Value::as_str);
    let is_current = text(detail, "labelUpdated")? == "AWSCURRENT";
    Some(Event::LabelUpdated(LabelUpdate { name: text(detail, "name")?, arn: arn.map(str::to_owned), is_current }))
}

/// A text that is not empty and fits into a line.
fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    let text = members.get(name)?.as_str()?;
    let fits = text.chars().count() <= 2048 && !text.trim().is_empty() && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

/// The event that our own members make.
fn expected_of_ours(members: &Map<String, Value>) -> Option<Event> {
    let known = |name: &String| {
        ["secretId", "force", "ifVersionId", "dryRun"].contains(&name.as_str()) || name.starts_with("scheduler")
    };
    if !members.keys().all(known) {
        return None;
    }
    let text = |name: &str, max_chars: usize| match members.get(name) {
        None => Some(None),
        Some(value) => {
            let text = value.as_str()?;
            let fit = (1..=max_chars).contains(&text.chars().count());
            (fit && !text.trim().is_empty() && !text.contains(char::is_control)).then(|| Some(text.to_owned()))
        }
    };
    let flag = |name: &str| members.get(name).map_or(Some(false), Value::as_bool);
    let (secret_id, if_version_id) = (text("secretId", 2048)?, text("ifVersionId", 64)?);
    let mode = match (flag("force")?, flag("dryRun")?) {
        (true, false) => Mode::Forced { if_version_id },
        (false, dry_run) if if_version_id.is_none() && dry_run => Mode::DryRun,
        (false, false) if if_version_id.is_none() => Mode::Scheduled,
        _ => return None,
    };
    let targets = match secret_id {
        None => None,
        Some(text) => Some(targets_of(&text)?),
    };
    Some(Event::Run { targets, mode })
}

/// A name or ARN without white space and commas, or the beginning of names.
fn targets_of(text: &str) -> Option<Targets> {
    if text.contains(char::is_whitespace) || text.contains(',') {
        return None;
    }
    match text.strip_suffix('*') {
        Some(prefix) if prefix.contains('*') || prefix.is_empty() || prefix.starts_with("arn:") => None,
        Some(prefix) => Some(Targets::Many(Many { names: Vec::new(), prefixes: vec![prefix.to_owned()] })),
        None if text.contains('*') => None,
        None => Some(Targets::One(text.to_owned())),
    }
}

/// Fails unless the message names a member of the event, or the event's type. A suggested name must be similar to a member.
fn assert_names_a_member(message: &str, event: &Value) {
    let Some(members) = event.as_object() else {
        assert!(message.starts_with("the event is a"), "{message}");
        return;
    };
    if message.starts_with("the event of `")
        || message.starts_with("the rotation event has no ")
        || message.contains("the event \"Secret Label Updated\"")
    {
        return;
    }
    let detail = detail(members).unwrap_or_default();
    let is_of_detail = message.contains("(in the `detail` of an event of `")
        || members.get("source") == Some(&"aws.secretsmanager".into());
    let members = if is_of_detail && !message.contains("`detail-type`") { &detail } else { members };
    // Characters of a name that are not printable may be replaced in the message.
    let seen = |name: &String| {
        let name: String = name.chars().take(64).collect();
        name.split(|c: char| !c.is_ascii_graphic() && !c.is_alphanumeric()).all(|piece| message.contains(piece))
    };
    assert!(members.keys().any(seen), "{message}");
    let message = message.split(" (in the `detail`").next().unwrap_or_default();
    if let Some((_, meant)) = message.strip_suffix("`?").and_then(|message| message.rsplit_once('`')) {
        let length = meant.chars().count();
        assert!(members.keys().any(|name| name.chars().count() <= 2 * length), "{message}");
    }
}
