//! Verifies JWTs with the public keys of `tests/fixtures/keys`, and reads them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::Value;

pub const RSA: &str = include_str!("../fixtures/keys/rsa-pkcs8.pem");
pub const RSA_PKCS1: &str = include_str!("../fixtures/keys/rsa-pkcs1.pem");
pub const P256: &str = include_str!("../fixtures/keys/p256-pkcs8.pem");
pub const P256_SEC1: &str = include_str!("../fixtures/keys/p256-sec1.pem");
pub const ED25519_KEY: &str = include_str!("../fixtures/keys/ed25519.pem");

const RSA_PUBLIC: &[u8] = include_bytes!("../fixtures/keys/rsa-public.der");
const P256_PUBLIC: &[u8] = include_bytes!("../fixtures/keys/p256-public.der");
const ED25519_PUBLIC: &[u8] = include_bytes!("../fixtures/keys/ed25519-public.der");

/// A JWT whose signature was verified.
pub struct Jwt {
    pub header: Value,
    pub claims: Value,
}

/// Verifies a JWT with the fixture of its algorithm.
pub fn verified(jwt: &str) -> Jwt {
    let algorithm = unverified(jwt).header["alg"].as_str().expect("an algorithm").to_owned();
    // ring wants the bare key at the end of the DER.
    let end = |der: &'static [u8], length: usize| &der[der.len() - length..];
    match algorithm.as_str() {
        "RS256" => verify(jwt, &RSA_PKCS1_2048_8192_SHA256, RSA_PUBLIC),
        "PS256" => verify(jwt, &RSA_PSS_2048_8192_SHA256, RSA_PUBLIC),
        "ES256" => verify(jwt, &ECDSA_P256_SHA256_FIXED, end(P256_PUBLIC, 65)),
        "EdDSA" => verify(jwt, &ED25519, end(ED25519_PUBLIC, 32)),
        other => panic!("the algorithm {other}"),
    }
}

/// Verifies a JWT with this public key.
pub fn verify(jwt: &str, algorithm: &'static dyn VerificationAlgorithm, public_key: &[u8]) -> Jwt {
    let (input, signature) = jwt.rsplit_once('.').expect("three parts");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    UnparsedPublicKey::new(algorithm, public_key).verify(input.as_bytes(), &signature).expect("a valid signature");
    unverified(jwt)
}

fn unverified(jwt: &str) -> Jwt {
    let part = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON");
    let parts: Vec<&str> = jwt.split('.').collect();
    assert_eq!(parts.len(), 3, "the parts of a JWT");
    Jwt { header: part(parts[0]), claims: part(parts[1]) }
}
