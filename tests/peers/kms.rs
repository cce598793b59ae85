//! Keys in KMS, with moto as the server: to create one, and to read its public key.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use token_refresher::http_client::HttpClients;

use super::peer;

/// The KMS of the peer moto, which verifies no signature of a request.
pub struct Kms {
    http: reqwest::Client,
    pub url: String,
}

impl Kms {
    pub fn of_moto() -> Self {
        Self { http: HttpClients::new(|_| None).expect("HTTP clients").store, url: peer("PEER_MOTO_URL") }
    }

    /// Creates a key that signs, and returns its ARN.
    pub async fn create_key(&self, spec: &str) -> String {
        let created = self.call("CreateKey", &json!({"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"})).await;
        created["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    /// The public key as ring wants it: without the head that names its kind.
    pub async fn public_key(&self, key: &str) -> Vec<u8> {
        let answer = self.call("GetPublicKey", &json!({"KeyId": key})).await;
        let der = STANDARD.decode(answer["PublicKey"].as_str().expect("a key")).expect("base64");
        // The head of P-256 is followed by a point of 65 bytes; RSA has a head of 24 bytes.
        let head = if der.len() == 91 { 26 } else { 24 };
        der[head..].to_vec()
    }

    async fn call(&self, operation: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}/", self.url)).body(body.to_string());
        let request = request
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{operation}"))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/kms/aws4_request");
        let response = request.send().await.expect("a response");
        let status = response.status();
        let body = response.bytes().await.expect("a body");
        assert!(status.is_success(), "{operation}: {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }
}
