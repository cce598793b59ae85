//! Signs with a key in AWS KMS, so that the private key never is in this process: one signed request, without the SDK of KMS.
//!
//! Facts: "Sign" in the AWS KMS API Reference.

use std::{fmt, time::Duration};

use aws_config::SdkConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;

use crate::{
    aws_request::{AwsService, ServiceError, endpoint_from_vars, regional_endpoint},
    clock::Clock,
    error::InvalidSetting,
    http_client::read_bounded,
    region,
    token_secret::signing::SigningAlgorithm,
};

/// The permission that it needs.
pub const SIGN: &str = "kms:Sign";

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(3);

const MAX_RESPONSE_BYTES: usize = 64 * 1024;

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
    http: reqwest::Client,
    clock: Clock,
    /// The address that the environment names.
    endpoint: Option<String>,
    region: String,
    credentials: SharedCredentialsProvider,
}

/// Why KMS did not sign. Each text continues a sentence that begins with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningError {
    /// The permission `kms:Sign` is missing.
    AccessDenied {
        /// KMS's text.
        detail: String,
    },
    /// The key cannot sign: it does not exist, is disabled, or is of another kind.
    Rejected {
        /// KMS's text.
        detail: String,
    },
    /// KMS does not answer, throttles or fails.
    Unavailable {
        /// What happened.
        detail: String,
    },
}

impl Kms {
    /// KMS in the Region and with the credentials of an SDK configuration. Its address: `AWS_ENDPOINT_URL_KMS`, else `AWS_ENDPOINT_URL`,
    /// else that of the key's Region. `None` if only Secrets Manager has another address: a test must not reach the real KMS.
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
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let (Some(region), Some(credentials)) = (config.region(), config.credentials_provider()) else {
            return Ok(None);
        };
        let endpoint = endpoint_from_vars("KMS", var)?;
        if endpoint.is_none() && var("AWS_ENDPOINT_URL_SECRETS_MANAGER").is_some() {
            return Ok(None);
        }
        Ok(Some(Self { http, clock, endpoint, region: region.to_string(), credentials }))
    }

    /// Signs a text. The signature of an elliptic curve is in DER, as KMS returns it. `key`: an id, an ARN or an alias.
    ///
    /// # Errors
    ///
    /// [`SigningError`], by what ends it.
    pub async fn sign(&self, key: &str, algorithm: SigningAlgorithm, text: &str) -> Result<Vec<u8>, SigningError> {
        let unavailable = |detail: String| SigningError::Unavailable { detail };
        let signing = async {
            // arn:aws:kms:REGION:ACCOUNT:key/ID
            let region = key.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).unwrap_or(&self.region);
            // It becomes part of the host that the request is sent to.
            region::check(region, "the key")
                .map_err(|_| SigningError::Rejected { detail: "its ARN names no Region".to_owned() })?;
            let service = AwsService {
                http: self.http.clone(),
                name: "kms",
                region: region.to_owned(),
                credentials: self.credentials.clone(),
            };
            let url = self.endpoint.clone().unwrap_or_else(|| regional_endpoint("kms", region));
            let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.Sign")];
            let request = service.signed_post(&format!("{url}/"), &headers, body(key, algorithm, text)).await;
            let request = request.map_err(|problem| unavailable(problem.to_owned()))?;
            let response = service.send("KMS", request).await.map_err(unavailable)?;
            let status = response.status().as_u16();
            let body = read_bounded(response, MAX_RESPONSE_BYTES).await;
            read_response(
                status,
                &body.map_err(|problem| unavailable(format!("KMS answered {status}, but {problem}")))?,
            )
        };
        let signed = self.clock.within(TIMEOUT, Box::pin(signing)).await;
        signed.unwrap_or_else(|| Err(unavailable("KMS did not answer in time".to_owned())))
    }
}

/// The body of a request. A text may have 4,096 bytes: header and claims of a JWT are shorter.
fn body(key: &str, algorithm: SigningAlgorithm, text: &str) -> String {
    let algorithm = match algorithm {
        SigningAlgorithm::Rs256 => "RSASSA_PKCS1_V1_5_SHA_256",
        SigningAlgorithm::Ps256 => "RSASSA_PSS_SHA_256",
        SigningAlgorithm::Es256 => "ECDSA_SHA_256",
        SigningAlgorithm::EdDsa => "ED25519_SHA_512",
    };
    let message = BASE64_STANDARD.encode(text);
    json!({"KeyId": key, "SigningAlgorithm": algorithm, "MessageType": "RAW", "Message": message}).to_string()
}

/// Interprets a response.
fn read_response(status: u16, body: &[u8]) -> Result<Vec<u8>, SigningError> {
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
        code if FINAL_CODES.contains(&code) => SigningError::Rejected { detail },
        _ => SigningError::Unavailable { detail },
    })
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kms").field("region", &self.region).finish_non_exhaustive()
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
    fn each_response_is_a_signature_or_an_error_by_what_ends_it() {
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
            assert_eq!(read_response(status, body.as_bytes()), expected, "{status} {body}");
        }
    }
}
