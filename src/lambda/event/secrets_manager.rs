//! The events that Secrets Manager itself sends: a label has moved, or a step of a rotation is due. No IO.

use serde_json::{Map, Value};

use super::{MEMBERS, invalid, text};
use crate::{
    protocol::Error,
    sanitize::sanitize_line,
    store::{Label, VersionId},
    sweep::targets::MAX_SECRET_ID_CHARS,
};

/// The `source` of its events on the event bus.
pub(super) const SOURCE: &str = "aws.secretsmanager";

/// The `detail-type` of an event about a label:
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/event-detail-secret-label-updated-secretsmanager.html>
const LABEL_UPDATED: &str = "Secret Label Updated";

/// A label that has moved to another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelUpdate {
    /// The secret's name.
    pub name: String,
    /// The secret's ARN, if the event has it.
    pub arn: Option<String>,
    /// Whether the label is AWSCURRENT.
    pub is_current: bool,
}

impl LabelUpdate {
    /// Reads an event of the event bus.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEvent`] for another event of Secrets Manager, or a missing member.
    pub(super) fn parse(members: &Map<String, Value>) -> Result<Self, Error> {
        let detail_type = text(members, "detail-type", 256)?.unwrap_or_default();
        if detail_type != LABEL_UPDATED {
            return Err(invalid(format!(
                "the event of `{SOURCE}` has the `detail-type` \"{}\"; allowed is \"{LABEL_UPDATED}\"",
                sanitize_line(&detail_type, 64)
            )));
        }
        let Some(Value::Object(detail)) = members.get("detail") else {
            return Err(invalid(format!("the event \"{LABEL_UPDATED}\" has no object `detail`")));
        };
        let in_detail = |name: &str| required(detail, name, "the `detail` of the event \"Secret Label Updated\"");
        let resources = members.get("resources").and_then(Value::as_array);
        let arn = resources.and_then(|resources| resources.first()).and_then(Value::as_str);
        Ok(Self {
            name: in_detail("name")?,
            arn: arn.map(str::to_owned),
            is_current: in_detail("labelUpdated")? == Label::Current.as_str(),
        })
    }
}

/// A step of a rotation:
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Which one.
    pub step: Step,
    /// The secret's ARN.
    pub secret_id: String,
    /// The empty version that Secrets Manager has made for this rotation.
    pub pending: VersionId,
}

/// The steps of a rotation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Obtain new tokens.
    Create,
    /// Set them where they are used.
    Set,
    /// Test them.
    Test,
    /// Make them current.
    Finish,
}

impl Rotation {
    /// Whether an event has the members of a rotation's. No other event has them.
    pub(super) fn is_sent_as(members: &Map<String, Value>) -> bool {
        members.contains_key("Step") || members.contains_key("ClientRequestToken")
    }

    /// Reads a step. Members that Secrets Manager adds, such as `RotationToken`, have no effect.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEvent`] names the member that is missing, wrong or not Secrets Manager's.
    pub(super) fn parse(members: &Map<String, Value>) -> Result<Self, Error> {
        const EVENT: &str = "the rotation event";
        if let Some(name) = MEMBERS.iter().find(|name| members.contains_key(**name)) {
            return Err(invalid(format!("the event has both `Step` (of a rotation) and `{name}`; remove one")));
        }
        let step = required(members, "Step", EVENT)?;
        let step = match step.as_str() {
            "createSecret" | "create_secret" => Step::Create,
            "setSecret" | "set_secret" => Step::Set,
            "testSecret" | "test_secret" => Step::Test,
            "finishSecret" | "finish_secret" => Step::Finish,
            _ => {
                return Err(invalid(format!(
                    "the event's `Step` is \"{}\"; allowed are createSecret, setSecret, testSecret and finishSecret",
                    sanitize_line(&step, 64)
                )));
            }
        };
        let secret_id = required(members, "SecretId", EVENT)?;
        if secret_id.contains(['*', ',']) {
            return Err(invalid(
                "the event's `SecretId` is a list or a prefix; a rotation is for one secret".to_owned(),
            ));
        }
        Ok(Self { step, secret_id, pending: required(members, "ClientRequestToken", EVENT)?.into() })
    }
}

/// A member that must be there. `place`: where, for the message.
fn required(members: &Map<String, Value>, name: &str, place: &str) -> Result<String, Error> {
    text(members, name, MAX_SECRET_ID_CHARS)?.ok_or_else(|| invalid(format!("{place} has no `{name}`")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Event, *};

    const ARN: &str = "arn:aws:secretsmanager:us-west-2:012345678901:secret:mySecret-a1b2c3";
    const TOKEN: &str = "a1b2c3d4-5678-90ab-cdef-EXAMPLE11111";

    /// The example of the User Guide.
    fn label_updated(label: &str) -> Value {
        json!({
            "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": "Secret Label Updated",
            "source": "aws.secretsmanager", "account": "012345678901", "time": "2024-02-06T16:43:48Z", "region": "us-west-2",
            "resources": [ARN], "detail": {"name": "mySecret", "labelUpdated": label, "versionId": TOKEN},
        })
    }

    #[test]
    fn the_update_of_a_label_names_the_secret_and_the_label() {
        for (label, is_current) in [("AWSCURRENT", true), ("OAUTH_CLAIM", false), ("awscurrent", false)] {
            let expected = LabelUpdate { name: "mySecret".to_owned(), arn: Some(ARN.to_owned()), is_current };
            assert_eq!(Event::parse(&label_updated(label)), Ok(Event::LabelUpdated(expected)), "{label}");
        }
        let mut without_arn = label_updated("AWSCURRENT");
        without_arn["resources"] = json!([]);
        let expected = LabelUpdate { name: "mySecret".to_owned(), arn: None, is_current: true };
        assert_eq!(Event::parse(&without_arn), Ok(Event::LabelUpdated(expected)));
    }

    #[test]
    fn the_steps_of_a_rotation_are_understood_in_both_spellings() {
        for (names, step) in [
            (["createSecret", "create_secret"], Step::Create),
            (["setSecret", "set_secret"], Step::Set),
            (["testSecret", "test_secret"], Step::Test),
            (["finishSecret", "finish_secret"], Step::Finish),
        ] {
            for name in names {
                let event = json!({"Step": name, "SecretId": ARN, "ClientRequestToken": TOKEN, "RotationToken": "r"});
                let expected = Rotation { step, secret_id: ARN.to_owned(), pending: TOKEN.into() };
                assert_eq!(Event::parse(&event), Ok(Event::Rotation(expected)), "{name}");
            }
        }
    }

    #[test]
    fn an_error_names_the_member_that_is_wrong() {
        let label_updated = |name: &str, value: Value| {
            let mut event = label_updated("AWSCURRENT");
            event[name] = value;
            event
        };
        let step = |name: &str, value: Value| {
            let mut event = json!({"Step": "createSecret", "SecretId": ARN, "ClientRequestToken": TOKEN});
            event[name] = value;
            event
        };
        for (event, problem) in [
            (
                label_updated("detail-type", json!("AWS API Call via CloudTrail")),
                "the event of `aws.secretsmanager` has the `detail-type` \"AWS API Call via CloudTrail\"; allowed is \
                 \"Secret Label Updated\"",
            ),
            (
                label_updated("detail", json!({"labelUpdated": "AWSCURRENT"})),
                "the `detail` of the event \"Secret Label Updated\" has no `name`",
            ),
            (
                label_updated("detail", json!({"name": "crm"})),
                "the `detail` of the event \"Secret Label Updated\" has no `labelUpdated`",
            ),
            (
                label_updated("detail", json!({"name": "a\nb", "labelUpdated": "AWSCURRENT"})),
                "the event's `name` has a control character in it",
            ),
            (label_updated("detail", json!([])), "the event \"Secret Label Updated\" has no object `detail`"),
            (
                step("Step", json!("createsecret")),
                "the event's `Step` is \"createsecret\"; allowed are createSecret, setSecret, testSecret and finishSecret",
            ),
            (step("Step", json!(1)), "the event's `Step` is a number, where a string is wanted"),
            (json!({"Step": "createSecret"}), "the rotation event has no `SecretId`"),
            (json!({"ClientRequestToken": TOKEN}), "the rotation event has no `Step`"),
            (json!({"Step": "createSecret", "SecretId": ARN}), "the rotation event has no `ClientRequestToken`"),
            (
                step("SecretId", json!("myapp/*")),
                "the event's `SecretId` is a list or a prefix; a rotation is for one secret",
            ),
            (step("force", json!(true)), "the event has both `Step` (of a rotation) and `force`; remove one"),
        ] {
            let error = Event::parse(&event).unwrap_err();
            assert_eq!((error.error_type().as_str(), error.to_string().as_str()), ("InvalidEvent", problem), "{event}");
        }
    }
}
