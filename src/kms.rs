//! Signs with a key in AWS KMS, so that the private key never is in this process: one signed request, without the SDK of KMS.
//!
//! Facts: "Sign" in the AWS KMS API Reference.

use std::{fmt, time::Duration};

use aws_config::SdkConfig;
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    aws_request::{Address, AwsService, ServiceError, regional_endpoint},
    clock::Clock,
    error::InvalidSetting,
    http_client::read_bounded,
    region,
    sanitize::sanitize_line,
    token_secret::signing::SigningAlgorithm,
};

/// The permission that it needs.
pub const SIGN: &str = "kms:Sign";

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(3);

const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The longest text that KMS takes as it is.
const MAX_MESSAGE_BYTES: usize = 4096;

/// An ARN is shorter.
const MAX_KEY_CHARS: usize = 256;

/// The errors of KMS that another try does not change: the key, or how it is used, must be corrected.
const FINAL_CODES: [&str; 7] = [
    "NotFoundException",
    "DisabledException",
    "InvalidArnException",
    "InvalidKeyUsageException",
    "KMSInvalidStateException",
    "UnsupportedOperationException",
    "ValidationException",
];

/// AWS KMS.
#[derive(Clone)]
pub struct Kms {
    service: AwsService,
    clock: Clock,
    address: Address,
}

/// Why KMS did not sign. `detail` stands in brackets in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningError {
    /// The permission `kms:Sign` is missing.
    AccessDenied {
        /// KMS's text.
        detail: String,
    },
    /// The key cannot sign: it does not exist, is disabled, or is of another kind.
    Rejected {
        /// The key, as a setting names it.
        key: String,
        /// KMS's text.
        detail: String,
    },
    /// This function cannot reach KMS.
    NotConfigured {
        /// Which setting is missing.
        detail: String,
    },
    /// KMS does not answer, throttles or fails.
    Unavailable {
        /// What happened.
        detail: String,
    },
}

impl SigningError {
    fn rejected(key: &str, detail: String) -> Self {
        Self::Rejected { key: sanitize_line(key, MAX_KEY_CHARS), detail }
    }
}

impl Kms {
    /// KMS in the Region and with the credentials of an SDK configuration. Its address: `AWS_ENDPOINT_URL_KMS`, else `AWS_ENDPOINT_URL`,
    /// else that of the key's Region. `None` if the configuration has no Region or no credentials.
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
        let address = Address::from_vars("KMS", var)?;
        Ok(AwsService::of_config("kms", config, http).map(|service| Self { service, clock, address }))
    }

    /// Signs a text, until `deadline` at the latest. The signature of an elliptic curve is in DER. `key`: an id, an ARN or an alias.
    ///
    /// # Errors
    ///
    /// [`SigningError`], by its remedy.
    pub async fn sign(
        &self,
        key: &str,
        algorithm: SigningAlgorithm,
        text: &str,
        deadline: DateTime<Utc>,
    ) -> Result<Vec<u8>, SigningError> {
        let region = region::of_arn(key).unwrap_or(&self.service.region);
        // It becomes part of the host that the request is sent to.
        if !region::is_name(region) {
            return Err(SigningError::rejected(key, "its ARN names no Region".to_owned()));
        }
        let endpoint = match &self.address {
            Address::At(endpoint) => endpoint.clone(),
            Address::Regional => regional_endpoint("kms", region),
            Address::None => {
                let detail =
                    "AWS_ENDPOINT_URL_KMS is not set, and Secrets Manager has an address of its own".to_owned();
                return Err(SigningError::NotConfigured { detail });
            }
        };
        let service = AwsService { region: region.to_owned(), ..self.service.clone() };
        let unavailable = |detail: String| SigningError::Unavailable { detail };
        let signing = async {
            let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.Sign")];
            let request = service.signed_post(&format!("{endpoint}/"), &headers, body(key, algorithm, text)).await;
            let request = request.map_err(|problem| unavailable(problem.to_owned()))?;
            let response = service.send("KMS", request).await.map_err(unavailable)?;
            let status = response.status().as_u16();
            let body = read_bounded(response, MAX_RESPONSE_BYTES).await;
            let body = body.map_err(|problem| unavailable(format!("KMS answered {status}, but {problem}")))?;
            read_response(key, status, &body)
        };
        let time = self.clock.until(deadline).min(TIMEOUT);
        let signed = self.clock.within(time, signing.boxed()).await;
        signed.unwrap_or_else(|| Err(unavailable("KMS did not answer in time".to_owned())))
    }
}

/// The body of a request. A longer text is sent as its digest, which Ed25519 does not have.
fn body(key: &str, algorithm: SigningAlgorithm, text: &str) -> String {
    let algorithm_name = match algorithm {
        SigningAlgorithm::Rs256 => "RSASSA_PKCS1_V1_5_SHA_256",
        SigningAlgorithm::Ps256 => "RSASSA_PSS_SHA_256",
        SigningAlgorithm::Es256 => "ECDSA_SHA_256",
        SigningAlgorithm::EdDsa => "ED25519_SHA_512",
    };
    let (message_type, message) = if text.len() <= MAX_MESSAGE_BYTES || algorithm == SigningAlgorithm::EdDsa {
        ("RAW", BASE64_STANDARD.encode(text))
    } else {
        ("DIGEST", BASE64_STANDARD.encode(Sha256::digest(text)))
    };
    json!({"KeyId": key, "SigningAlgorithm": algorithm_name, "MessageType": message_type, "Message": message})
        .to_string()
}

/// Interprets a response.
fn read_response(key: &str, status: u16, body: &[u8]) -> Result<Vec<u8>, SigningError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Signed {
        signature: String,
    }
    if status == 200 {
        let signature =
            serde_json::from_slice(body).ok().and_then(|Signed { signature }| BASE64_STANDARD.decode(signature).ok());
        let detail = "KMS answered 200 without a signature".to_owned();
        return signature.ok_or(SigningError::Unavailable { detail });
    }
    let error = ServiceError::read(body);
    let detail = format!("KMS answered {status}, {}", error.text());
    Err(match error.code() {
        _ if error.is_access_denied() => SigningError::AccessDenied { detail },
        code if FINAL_CODES.contains(&code) => SigningError::rejected(key, detail),
        _ => SigningError::Unavailable { detail },
    })
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kms").field("region", &self.service.region).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_has_its_name_in_kms() {
        for (algorithm, name) in [
            (SigningAlgorithm::Rs256, "RSASSA_PKCS1_V1_5_SHA_256"),
            (SigningAlgorithm::Ps256, "RSASSA_PSS_SHA_256"),
            (SigningAlgorithm::Es256, "ECDSA_SHA_256"),
            (SigningAlgorithm::EdDsa, "ED25519_SHA_512"),
        ] {
            let body: serde_json::Value = serde_json::from_str(&body("alias/a", algorithm, "a.b")).unwrap();
            let expected =
                json!({"KeyId": "alias/a", "SigningAlgorithm": name, "MessageType": "RAW", "Message": "YS5i"});
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_sent_as_its_digest() {
        let digest = BASE64_STANDARD.encode(Sha256::digest("a".repeat(4097)));
        for (algorithm, length, message_type) in [
            (SigningAlgorithm::Es256, 4096, "RAW"),
            (SigningAlgorithm::Es256, 4097, "DIGEST"),
            (SigningAlgorithm::EdDsa, 4097, "RAW"),
        ] {
            let body: serde_json::Value = serde_json::from_str(&body("a", algorithm, &"a".repeat(length))).unwrap();
            assert_eq!(body["MessageType"], message_type, "{algorithm:?} {length}");
            assert_eq!(body["Message"] == digest, message_type == "DIGEST");
        }
    }

    #[test]
    fn each_response_is_a_signature_or_an_error_by_its_remedy() {
        let unavailable = |detail: &str| Err(SigningError::Unavailable { detail: detail.to_owned() });
        for (status, body, expected) in [
            (200, r#"{"KeyId": "k", "Signature": "YS5i", "SigningAlgorithm": "ECDSA_SHA_256"}"#, Ok(b"a.b".to_vec())),
            (200, r#"{"Signature": "?"}"#, unavailable("KMS answered 200 without a signature")),
            (200, "<html>", unavailable("KMS answered 200 without a signature")),
            (
                400,
                r#"{"__type": "AccessDeniedException", "Message": "no\nkms:Sign"}"#,
                Err(SigningError::AccessDenied {
                    detail: "KMS answered 400, AccessDeniedException: no?kms:Sign".to_owned(),
                }),
            ),
            (
                400,
                r#"{"__type": "com.amazonaws.kms#NotFoundException", "message": "Alias a is not found."}"#,
                Err(SigningError::Rejected {
                    key: "alias/a".to_owned(),
                    detail: "KMS answered 400, NotFoundException: Alias a is not found.".to_owned(),
                }),
            ),
            (
                400,
                r#"{"__type": "ThrottlingException", "message": "slow"}"#,
                unavailable("KMS answered 400, ThrottlingException: slow"),
            ),
            (500, "", unavailable("KMS answered 500, without a code: ")),
        ] {
            assert_eq!(read_response("alias/a", status, body.as_bytes()), expected, "{status} {body}");
        }
    }
}
