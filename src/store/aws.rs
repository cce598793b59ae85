//! What the errors of Secrets Manager mean and what to do about them: the same through the AWS SDK and through an agent on this
//! machine. Opens no socket.

use std::borrow::Cow;

use super::{Operation, StoreError};
use crate::error::Advice;

/// Reads one version.
pub const GET: &str = "secretsmanager:GetSecretValue";
/// Puts a version.
pub const PUT: &str = "secretsmanager:PutSecretValue";
/// Moves a label.
pub const MOVE: &str = "secretsmanager:UpdateSecretVersionStage";
/// Lists versions.
pub const LIST: &str = "secretsmanager:ListSecretVersionIds";

/// The action of an operation, as policies name it.
#[must_use]
pub const fn action(operation: Operation) -> &'static str {
    match operation {
        Operation::Get => GET,
        Operation::Put => PUT,
        Operation::MoveCurrent => MOVE,
        Operation::List => LIST,
    }
}

/// What to do about an error.
#[must_use]
pub fn advice(error: &StoreError, secret_id: &str) -> Advice {
    match error {
        StoreError::NotFound { .. } => {
            Advice::new("check the name, the Region and the account, and give the secret a value")
        }
        StoreError::AccessDenied { action, .. } => {
            let statement = statement(action, secret_id);
            Advice::new(format!("add to the function's role: {statement}"))
                .or_at_command_line(format!("allow it to the AWS identity that you use: {statement}"))
        }
        StoreError::Quota { .. } => {
            Advice::new("put fewer versions, or wait until those of the last 24 hours are older")
        }
        StoreError::Binary => Advice::new("put the document as text (SecretString)"),
        StoreError::Rejected { .. } => {
            Advice::new("the same call will fail again: check the secret's name and the function's settings")
                .or_at_command_line("the same call will fail again: check the secret's name and your AWS settings")
        }
        StoreError::Exists | StoreError::Moved | StoreError::Unavailable { .. } => {
            Advice::new("the next run tries again").or_at_command_line("try again")
        }
    }
}

/// The policy statement that allows an action on a secret.
fn statement(action: &str, secret_id: &str) -> serde_json::Value {
    let resource: Cow<'_, str> = if action.starts_with("kms:") {
        "<ARN of the secret's KMS key>".into()
    } else if secret_id.starts_with("arn:") {
        secret_id.into()
    } else {
        format!("arn:aws:secretsmanager:*:*:secret:{secret_id}-??????").into()
    };
    serde_json::json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

/// The meaning of the service's error. `detail`: its text, sanitized.
pub(crate) fn meaning(action: &'static str, status: u16, code: &str, message: &str, detail: String) -> StoreError {
    match (code, action) {
        ("ResourceExistsException", _) => StoreError::Exists,
        ("ResourceNotFoundException", _) => StoreError::NotFound { detail },
        ("LimitExceededException", PUT) => StoreError::Quota { detail },
        // "You can't perform this operation on the secret because it was marked for deletion."
        ("InvalidRequestException", _) if message.contains("deletion") => StoreError::NotFound { detail },
        // A label that is not where the caller expects it causes one of the two; the documentation does not say which.
        ("InvalidParameterException" | "InvalidRequestException", MOVE) => StoreError::Moved,
        ("DecryptionFailure", _) => StoreError::AccessDenied { action: "kms:Decrypt", detail },
        ("EncryptionFailure", _) => StoreError::AccessDenied { action: "kms:GenerateDataKey", detail },
        ("AccessDeniedException", GET) if message.contains("KMS") => {
            StoreError::AccessDenied { action: "kms:Decrypt", detail }
        }
        ("AccessDeniedException", PUT) if message.contains("KMS") => {
            StoreError::AccessDenied { action: "kms:GenerateDataKey", detail }
        }
        (
            "AccessDeniedException"
            | "AccessDenied"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "InvalidClientTokenId"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "MissingAuthenticationToken",
            _,
        ) => StoreError::AccessDenied { action, detail },
        // A success that could not be read may well be one.
        _ if (500..600).contains(&status)
            || (200..300).contains(&status)
            || code.contains("Throttl")
            || code.contains("TooMany") =>
        {
            StoreError::Unavailable { action, detail }
        }
        _ => StoreError::Rejected { action, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Audience;

    #[test]
    fn advice_on_a_missing_permission_is_the_statement_to_add() {
        for (action, secret_id, statement) in [
            (
                PUT,
                "crm",
                "{\"Action\":\"secretsmanager:PutSecretValue\",\"Effect\":\"Allow\",\
                 \"Resource\":\"arn:aws:secretsmanager:*:*:secret:crm-??????\"}",
            ),
            (
                "kms:Decrypt",
                "arn:aws:secretsmanager:eu-central-1:1:secret:crm-AbCdEf",
                "{\"Action\":\"kms:Decrypt\",\"Effect\":\"Allow\",\"Resource\":\"<ARN of the secret's KMS key>\"}",
            ),
            (
                GET,
                "arn:aws:secretsmanager:eu-central-1:1:secret:crm-AbCdEf",
                "{\"Action\":\"secretsmanager:GetSecretValue\",\"Effect\":\"Allow\",\
                 \"Resource\":\"arn:aws:secretsmanager:eu-central-1:1:secret:crm-AbCdEf\"}",
            ),
        ] {
            let advice = advice(&StoreError::AccessDenied { action, detail: "no".to_owned() }, secret_id);
            assert_eq!(advice.text(Audience::Function), format!("add to the function's role: {statement}"));
            let at_command_line = format!("allow it to the AWS identity that you use: {statement}");
            assert_eq!(advice.text(Audience::CommandLine), at_command_line);
        }
    }
}
