//! What the errors of Secrets Manager mean and what to do about them: the same through the AWS SDK and through an agent on this
//! machine. Opens no socket.

use std::borrow::Cow;

use super::{Operation, StoreError};
use crate::{error::Advice, region};

/// Reads one version.
pub const GET: &str = "secretsmanager:GetSecretValue";
/// Creates a secret. Only `tokenctl` does.
#[cfg(feature = "cli")]
pub const CREATE: &str = "secretsmanager:CreateSecret";
/// Puts a version.
pub const PUT: &str = "secretsmanager:PutSecretValue";
/// Moves a label.
pub const MOVE: &str = "secretsmanager:UpdateSecretVersionStage";
/// Lists versions.
pub const LIST: &str = "secretsmanager:ListSecretVersionIds";
/// Reads the current versions of several secrets.
pub const GET_BATCH: &str = "secretsmanager:BatchGetSecretValue";
/// Finds secrets by their names: [`GET_BATCH`] with a filter needs it, too.
pub const LIST_SECRETS: &str = "secretsmanager:ListSecrets";

const DECRYPT: &str = "kms:Decrypt";
const ENCRYPT: &str = "kms:GenerateDataKey";

/// The action of an operation, as policies name it.
#[must_use]
pub const fn action(operation: Operation) -> &'static str {
    match operation {
        Operation::Get => GET,
        Operation::Put => PUT,
        Operation::MoveLabel => MOVE,
        Operation::List => LIST,
        Operation::GetBatch => GET_BATCH,
    }
}

/// What to do about an error. `region` is for the message, and may be empty.
#[must_use]
pub fn advice(error: &StoreError, secret_id: &str, region: &str) -> Advice {
    match error {
        StoreError::NotFound { detail } => not_found(detail, secret_id, region),
        StoreError::AccessDenied { action, detail } => access_denied(action, detail, secret_id, region),
        StoreError::NotAuthenticated { .. } => Advice::new(
            "AWS did not accept the function's credentials or its clock: invoke it again; if that does not help, check that its \
             role still exists, and deploy it again",
        )
        .or_at_command_line("AWS did not accept your credentials or your clock: check both, and log in again"),
        StoreError::NotConfigured { .. } => Advice::new(
            "in Lambda the function's role provides them; elsewhere log in (`aws sso login`), or set AWS_PROFILE or \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        StoreError::Quota { .. } => Advice::new("put fewer versions, or wait until those of the last 24 hours are older"),
        StoreError::Binary => Advice::new("put the document as text (SecretString)"),
        StoreError::Rejected { detail, .. } if detail.contains("replica") => {
            Advice::new("a replica cannot be written: run the function in the Region of the primary secret")
        }
        StoreError::Rejected { .. } => {
            Advice::new("the same call will fail again: check the secret's name and the function's settings")
                .or_at_command_line("the same call will fail again: check the secret's name and your AWS settings")
        }
        StoreError::Exists
        | StoreError::Moved { .. }
        | StoreError::Throttled { .. }
        | StoreError::Unavailable { .. } => {
            Advice::new("the next run tries again").or_at_command_line("try again")
        }
    }
}

fn not_found(detail: &str, secret_id: &str, region: &str) -> Advice {
    if is_marked_for_deletion(detail) {
        return Advice::new(format!("restore it: `aws secretsmanager restore-secret --secret-id {secret_id}`"));
    }
    let place = if region.is_empty() { "the Region".to_owned() } else { format!("the Region ({region})") };
    let mut advice =
        format!("check the name, {place} and the account, and give the secret a value (a published secret needs none)");
    if !secret_id.starts_with("arn:") {
        if let Some((name, suffix)) = random_suffix(secret_id) {
            advice = format!("{advice}; if `-{suffix}` is the end of its ARN, its name is `{name}`");
        }
        advice = format!("{advice}; a secret of another account needs its whole ARN");
    }
    Advice::new(advice)
}

/// The name and the six random characters that Secrets Manager appends to it in ARNs.
fn random_suffix(secret_id: &str) -> Option<(&str, &str)> {
    let (name, suffix) = secret_id.rsplit_once('-')?;
    let is_random = suffix.len() == 6
        && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && suffix.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    is_random.then_some((name, suffix))
}

/// Which policy denies, in the service's own words ("Troubleshoot access denied error messages", IAM User Guide).
const POLICIES: [(&str, &str); 6] = [
    ("service control policy", "the service control policy of the organization"),
    ("resource control policy", "the resource control policy of the organization"),
    ("VPC endpoint policy", "the policy of the VPC endpoint"),
    ("permissions boundary", "the permissions boundary of the role"),
    ("session policy", "the session policy"),
    ("resource-based policy", "the secret's own policy"),
];

fn access_denied(action: &str, detail: &str, secret_id: &str, region: &str) -> Advice {
    let statement = statement(action, secret_id, region);
    let policy = POLICIES.iter().find(|(words, _)| detail.contains(words)).map(|(_, policy)| *policy);
    if detail.contains("explicit deny") {
        let policy = policy.unwrap_or("a policy of the role");
        return Advice::new(format!("{policy} denies it explicitly: take {action} out of that deny"));
    }
    if let Some(policy) = policy {
        return Advice::new(format!("{policy} does not allow it; add there: {statement}"));
    }
    let key = if action.starts_with("kms:") { "; or the key is disabled or being deleted: enable it" } else { "" };
    Advice::new(format!("add to the function's role: {statement}{key}"))
        .or_at_command_line(format!("allow it to the AWS identity that you use: {statement}{key}"))
}

/// The policy statement that allows an action on a secret.
fn statement(action: &str, secret_id: &str, region: &str) -> serde_json::Value {
    let resource: Cow<'_, str> = if action.starts_with("kms:") {
        "<ARN of the secret's KMS key>".into()
    } else if matches!(action, GET_BATCH | LIST_SECRETS) {
        // These two have no resource ("Actions, resources, and condition keys for AWS Secrets Manager").
        "*".into()
    } else if secret_id.starts_with("arn:") {
        secret_id.into()
    } else {
        format!("arn:{}:secretsmanager:*:*:secret:{secret_id}-??????", region::partition(region)).into()
    };
    if resource == "*" && secret_id.ends_with('*') {
        return serde_json::json!({"Effect": "Allow", "Action": [GET_BATCH, LIST_SECRETS], "Resource": "*"});
    }
    serde_json::json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

/// "You can't perform this operation on the secret because it was marked for deletion."
fn is_marked_for_deletion(message: &str) -> bool {
    message.contains("deletion") || message.contains("scheduled to be deleted")
}

/// Whether a code means that the call may succeed with new credentials or a new signature.
pub(crate) fn needs_new_signature(code: &str) -> bool {
    matches!(
        code,
        "ExpiredTokenException"
            | "ExpiredToken"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "RequestTimeTooSkewed"
            | "RequestExpired"
            | "RequestInTheFuture"
    )
}

/// The meaning of the service's error. `detail`: its text, sanitized.
pub(crate) fn meaning(action: &'static str, status: u16, code: &str, message: &str, detail: String) -> StoreError {
    match (code, action) {
        ("ResourceExistsException", _) => StoreError::Exists,
        ("ResourceNotFoundException", _) => StoreError::NotFound { detail },
        // The same code stands for too many labels.
        ("LimitExceededException", PUT) if message.contains("version") || !message.contains("label") => {
            StoreError::Quota { detail }
        }
        ("InvalidRequestException", _) if is_marked_for_deletion(message) => StoreError::NotFound { detail },
        // A label that is not where the caller expects it causes one of the two; the documentation does not say which.
        ("InvalidParameterException" | "InvalidRequestException", MOVE) => StoreError::Moved { detail },
        ("DecryptionFailure", _) => StoreError::AccessDenied { action: DECRYPT, detail },
        ("EncryptionFailure", _) => StoreError::AccessDenied { action: ENCRYPT, detail },
        ("AccessDeniedException", GET) if message.contains("KMS") => {
            StoreError::AccessDenied { action: DECRYPT, detail }
        }
        ("AccessDeniedException", PUT) if message.contains("KMS") => {
            StoreError::AccessDenied { action: ENCRYPT, detail }
        }
        ("AccessDeniedException" | "AccessDenied", GET_BATCH) if message.contains("ListSecrets") => {
            StoreError::AccessDenied { action: LIST_SECRETS, detail }
        }
        ("AccessDeniedException" | "AccessDenied", _) => StoreError::AccessDenied { action, detail },
        (
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException",
            _,
        ) => StoreError::NotAuthenticated { action, detail },
        (code, _) if needs_new_signature(code) => StoreError::NotAuthenticated { action, detail },
        // A success that could not be read may well be one.
        _ if (500..600).contains(&status) || (200..300).contains(&status) => StoreError::Unavailable { action, detail },
        _ if code.contains("Throttl") || code.contains("TooMany") => StoreError::Throttled { action, detail },
        _ => StoreError::Rejected { action, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Audience;

    fn advice_on(error: &StoreError, secret_id: &str, region: &str) -> String {
        advice(error, secret_id, region).text(Audience::Function).to_owned()
    }

    #[test]
    fn advice_on_a_missing_permission_is_the_statement_to_add() {
        for (action, secret_id, region, resource) in [
            (PUT, "crm", "eu-central-1", "arn:aws:secretsmanager:*:*:secret:crm-??????"),
            (PUT, "crm", "us-gov-west-1", "arn:aws-us-gov:secretsmanager:*:*:secret:crm-??????"),
            (PUT, "crm", "cn-north-1", "arn:aws-cn:secretsmanager:*:*:secret:crm-??????"),
            (GET_BATCH, "crm", "eu-central-1", "*"),
            (
                GET,
                "arn:aws:secretsmanager:eu-central-1:1:secret:crm-AbCdEf",
                "eu-central-1",
                "arn:aws:secretsmanager:eu-central-1:1:secret:crm-AbCdEf",
            ),
        ] {
            let error = StoreError::AccessDenied { action, detail: "no".to_owned() };
            let statement = format!("{{\"Action\":\"{action}\",\"Effect\":\"Allow\",\"Resource\":\"{resource}\"}}");
            assert_eq!(advice_on(&error, secret_id, region), format!("add to the function's role: {statement}"));
            let at_command_line = format!("allow it to the AWS identity that you use: {statement}");
            assert_eq!(advice(&error, secret_id, region).text(Audience::CommandLine), at_command_line);
        }
    }

    #[test]
    fn advice_on_a_search_has_both_permissions_that_it_needs() {
        for action in [GET_BATCH, LIST_SECRETS] {
            let error = StoreError::AccessDenied { action, detail: "no".to_owned() };
            assert_eq!(
                advice_on(&error, "crm/*", "eu-central-1"),
                "add to the function's role: {\"Action\":[\"secretsmanager:BatchGetSecretValue\",\"secretsmanager:ListSecrets\"],\
                 \"Effect\":\"Allow\",\"Resource\":\"*\"}"
            );
        }
    }

    #[test]
    fn advice_on_a_denial_names_the_policy_in_the_services_words() {
        let user = "AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/f/f is not authorized to perform: \
                    secretsmanager:PutSecretValue on resource: crm";
        for (action, why, expected) in [
            (
                PUT,
                "because no identity-based policy allows the secretsmanager:PutSecretValue action",
                "add to the function's role: {",
            ),
            (
                PUT,
                "because no resource-based policy allows the action",
                "the secret's own policy does not allow it; add there: {",
            ),
            (
                PUT,
                "with an explicit deny in a resource-based policy",
                "the secret's own policy denies it explicitly: take secretsmanager:PutSecretValue out of that deny",
            ),
            (
                PUT,
                "with an explicit deny in a service control policy",
                "the service control policy of the organization denies it explicitly",
            ),
            (PUT, "with an explicit deny in an identity-based policy", "a policy of the role denies it explicitly"),
            (
                PUT,
                "because no VPC endpoint policy allows the action",
                "the policy of the VPC endpoint does not allow it",
            ),
            (
                PUT,
                "because no permissions boundary allows the action",
                "the permissions boundary of the role does not allow it",
            ),
            (DECRYPT, "Access to KMS is not allowed", "or the key is disabled or being deleted: enable it"),
        ] {
            let error = StoreError::AccessDenied { action, detail: format!("{user} {why}") };
            let advice = advice_on(&error, "crm", "eu-central-1");
            assert!(advice.contains(expected), "{why}: {advice}");
        }
    }

    #[test]
    fn advice_on_a_missing_secret_names_the_region_and_the_likely_mistake() {
        let missing = StoreError::NotFound { detail: "can't find".to_owned() };
        let deleted =
            StoreError::NotFound { detail: "InvalidRequestException: it was marked for deletion.".to_owned() };
        for (error, secret_id, expected) in [
            (
                &missing,
                "crm",
                "check the name, the Region (eu-west-1) and the account, and give the secret a value (a published secret needs none); a secret of another account needs its whole ARN",
            ),
            (&missing, "crm/oauth-AbC1eF", "if `-AbC1eF` is the end of its ARN, its name is `crm/oauth`"),
            (
                &missing,
                "arn:aws:secretsmanager:eu-west-1:1:secret:crm-AbCdEf",
                "check the name, the Region (eu-west-1) and the account, and give the secret a value (a published secret needs none)",
            ),
            (&deleted, "crm", "restore it: `aws secretsmanager restore-secret --secret-id crm`"),
        ] {
            assert!(
                advice_on(error, secret_id, "eu-west-1").contains(expected),
                "{}",
                advice_on(error, secret_id, "eu-west-1")
            );
        }
        assert!(!advice_on(&missing, "my-secret", "eu-west-1").contains("end of its ARN"));
    }

    #[test]
    fn a_code_has_one_meaning_for_each_action() {
        let detail = || "text".to_owned();
        for (action, status, code, message, expected) in [
            (
                PUT,
                400,
                "LimitExceededException",
                "The request failed because it would exceed one of the quotas: versions",
                StoreError::Quota { detail: detail() },
            ),
            (
                PUT,
                400,
                "LimitExceededException",
                "You can have no more than 20 staging labels",
                StoreError::Rejected { action: PUT, detail: detail() },
            ),
            (
                GET,
                400,
                "InvalidRequestException",
                "it was marked for deletion",
                StoreError::NotFound { detail: detail() },
            ),
            (MOVE, 400, "InvalidRequestException", "no", StoreError::Moved { detail: detail() }),
            (GET, 400, "ExpiredTokenException", "", StoreError::NotAuthenticated { action: GET, detail: detail() }),
            (
                GET,
                403,
                "InvalidSignatureException",
                "Signature expired",
                StoreError::NotAuthenticated { action: GET, detail: detail() },
            ),
            (
                GET,
                400,
                "UnrecognizedClientException",
                "",
                StoreError::NotAuthenticated { action: GET, detail: detail() },
            ),
            (GET, 400, "DecryptionFailure", "", StoreError::AccessDenied { action: DECRYPT, detail: detail() }),
            (
                PUT,
                400,
                "AccessDeniedException",
                "Access to KMS is not allowed",
                StoreError::AccessDenied { action: ENCRYPT, detail: detail() },
            ),
            (
                PUT,
                400,
                "InvalidRequestException",
                "You can't change a replica secret",
                StoreError::Rejected { action: PUT, detail: detail() },
            ),
            (GET, 400, "ThrottlingException", "", StoreError::Throttled { action: GET, detail: detail() }),
            (
                GET_BATCH,
                400,
                "AccessDeniedException",
                "not authorized to perform: secretsmanager:ListSecrets",
                StoreError::AccessDenied { action: LIST_SECRETS, detail: detail() },
            ),
            (GET, 503, "", "", StoreError::Unavailable { action: GET, detail: detail() }),
        ] {
            assert_eq!(meaning(action, status, code, message, detail()), expected, "{action} {code} {message}");
        }
    }
}
