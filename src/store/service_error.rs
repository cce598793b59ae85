//! What an error of Secrets Manager means, by its code: the same over the SDK and through an agent on this machine.

use super::{
    StoreError,
    action::{GET, MOVE, PUT},
};

/// The meaning of the service's error. `said`: its text, fit to be shown.
pub(crate) fn meaning(action: &'static str, status: u16, code: &str, message: &str, said: String) -> StoreError {
    match (code, action) {
        ("ResourceExistsException", _) => StoreError::Exists,
        ("ResourceNotFoundException", _) => StoreError::NotFound { said },
        ("LimitExceededException", PUT) => StoreError::Quota { said },
        // "You can't perform this operation on the secret because it was marked for deletion."
        ("InvalidRequestException", _) if message.contains("deletion") => StoreError::NotFound { said },
        // A label that is not where it was said to be is one of the two; the documentation does not say which.
        ("InvalidParameterException" | "InvalidRequestException", MOVE) => StoreError::Moved,
        ("DecryptionFailure", _) => StoreError::AccessDenied { action: "kms:Decrypt", said },
        ("EncryptionFailure", _) => StoreError::AccessDenied { action: "kms:GenerateDataKey", said },
        ("AccessDeniedException", GET) if message.contains("KMS") => {
            StoreError::AccessDenied { action: "kms:Decrypt", said }
        }
        ("AccessDeniedException", PUT) if message.contains("KMS") => {
            StoreError::AccessDenied { action: "kms:GenerateDataKey", said }
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
        ) => StoreError::AccessDenied { action, said },
        // A success that could not be read may well be one.
        _ if (500..600).contains(&status)
            || (200..300).contains(&status)
            || code.contains("Throttl")
            || code.contains("TooMany") =>
        {
            StoreError::Unavailable { action, said }
        }
        _ => StoreError::Rejected { action, said },
    }
}
