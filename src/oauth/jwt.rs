//! Private keys, and JWTs (RFC 7519) in the compact form of RFC 7515. Signs with the cryptography that TLS brings. Knows no claims and opens no socket.

use std::{fmt, sync::Arc};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer},
    sign::SigningKey,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    secret::Secret,
    token_secret::{document::json_string, signing::SigningAlgorithm},
};

/// A private key, and how it signs.
#[derive(Clone)]
pub struct PrivateKey {
    key: Arc<dyn SigningKey>,
    /// Its text, as it was read.
    pub pem: Secret,
    /// How it signs.
    pub algorithm: SigningAlgorithm,
}

const fn scheme(algorithm: SigningAlgorithm) -> SignatureScheme {
    match algorithm {
        SigningAlgorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        SigningAlgorithm::Ps256 => SignatureScheme::RSA_PSS_SHA256,
        SigningAlgorithm::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        SigningAlgorithm::EdDsa => SignatureScheme::ED25519,
    }
}

impl PrivateKey {
    /// Reads a key in PEM (RFC 7468): PKCS #8, PKCS #1 or SEC 1. `algorithm`: `None` for the one that fits the key (RS256, ES256 or `EdDSA`).
    ///
    /// # Errors
    ///
    /// The problem; the text continues a sentence that begins with the member's name. It contains nothing of the key.
    pub fn read(pem: Secret, algorithm: Option<SigningAlgorithm>) -> Result<Self, &'static str> {
        let mut der = der(&pem)?;
        let key = any_supported_type(&der);
        der.zeroize();
        let key = key.map_err(|_| NOT_SUPPORTED)?;
        let of_key = match key.algorithm() {
            SignatureAlgorithm::RSA => SigningAlgorithm::Rs256,
            SignatureAlgorithm::ECDSA => SigningAlgorithm::Es256,
            _ => SigningAlgorithm::EdDsa,
        };
        if key.choose_scheme(&[scheme(of_key)]).is_none() {
            return Err(NOT_SUPPORTED);
        }
        let algorithm = algorithm.unwrap_or(of_key);
        if key.choose_scheme(&[scheme(algorithm)]).is_none() {
            return Err(MISFIT);
        }
        Ok(Self { key, pem, algorithm })
    }

    /// Signs an [`input`]. The signature of an elliptic curve is in DER, as KMS returns it, too. `None`: the machine has no random numbers.
    #[must_use]
    pub fn sign(&self, input: &str) -> Option<Vec<u8>> {
        self.key.choose_scheme(&[scheme(self.algorithm)])?.sign(input.as_bytes()).ok()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The key in DER. A PEM parser wants line breaks. Here they may be missing, or written as `\n`: environments, JSON in JSON and the fields
/// of a console do that to keys.
fn der(pem: &Secret) -> Result<PrivateKeyDer<'static>, &'static str> {
    // BEGIN, its label, the text, END, its label.
    let mut parts = pem.expose().split("-----");
    let label = parts.find_map(|part| part.strip_prefix("BEGIN ").filter(|label| label.ends_with("PRIVATE KEY")));
    let (label, text) = label.zip(parts.next()).ok_or(NOT_A_KEY)?;
    if !parts.next().is_some_and(|end| end.starts_with("END ")) {
        return Err(CUT);
    }
    if label.contains("ENCRYPTED") || text.contains("ENCRYPTED") {
        return Err(ENCRYPTED);
    }
    // Allocated once with enough room: a string that grows leaves unwiped copies in memory.
    let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if !c.is_whitespace() {
            base64.push(c);
        }
    }
    let der = BASE64_STANDARD.decode(base64.as_bytes()).map_err(|_| NOT_A_KEY)?;
    match label {
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(der).into()),
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(der).into()),
        _ => Err(NOT_A_KEY),
    }
}

const ENCRYPTED: &str = "is encrypted; remove the passphrase (openssl pkey -in KEY -out NEW)";
const CUT: &str = "is cut off: its last line, which begins with \"-----END\", is missing";
const MISFIT: &str =
    "does not fit the signing algorithm: RSA keys sign with RS256 or PS256, P-256 with ES256, Ed25519 with EdDSA";
const NOT_A_KEY: &str = "is not a private key in PEM, which begins with \"-----BEGIN PRIVATE KEY-----\", \"-----BEGIN RSA PRIVATE KEY-----\" \
                         or \"-----BEGIN EC PRIVATE KEY-----\"";
const NOT_SUPPORTED: &str = "is not a key that is supported: RSA with 2,048 to 4,096 bits, P-256 or Ed25519";

/// What is signed: the header and the claims.
#[must_use]
pub fn input(algorithm: SigningAlgorithm, key_id: Option<&str>, claims: &str) -> String {
    let kid = key_id.map(|key_id| format!(",\"kid\":{}", json_string(key_id))).unwrap_or_default();
    let header = format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"{kid}}}", algorithm.name());
    let [header, claims] = [header.as_str(), claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}")
}

/// The whole JWT. `None`: it is not a signature of this algorithm.
#[must_use]
pub fn token(input: &str, algorithm: SigningAlgorithm, signature: Vec<u8>) -> Option<Secret> {
    let (signature, lengths) = match algorithm {
        SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => (signature, 256..=1024),
        SigningAlgorithm::Es256 => (raw_ecdsa(&signature)?, 64..=64),
        SigningAlgorithm::EdDsa => (signature, 64..=64),
    };
    if !lengths.contains(&signature.len()) {
        return None;
    }
    Some(format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)).into())
}

/// The two numbers of an ECDSA signature, 32 bytes each (RFC 7518 section 3.4), from its DER encoding (RFC 3279 section 2.2.3). `None`:
/// it is not one.
#[must_use]
pub fn raw_ecdsa(der: &[u8]) -> Option<Vec<u8>> {
    let integer = |der: &[u8]| -> Option<(Vec<u8>, usize)> {
        let (&[0x02, length], rest) = der.split_first_chunk::<2>()? else { return None };
        let bytes = rest.get(..usize::from(length))?;
        // A zero in front shows that the number is not negative.
        let bytes = bytes.iter().position(|byte| *byte != 0).map_or(&[][..], |start| &bytes[start..]);
        let mut number = vec![0; 32_usize.checked_sub(bytes.len())?];
        number.extend_from_slice(bytes);
        Some((number, 2 + usize::from(length)))
    };
    let (&[0x30, length], numbers) = der.split_first_chunk::<2>()? else { return None };
    if usize::from(length) != numbers.len() {
        return None;
    }
    let (mut raw, used) = integer(numbers)?;
    let (second, used_by_second) = integer(&numbers[used..])?;
    (used + used_by_second == numbers.len()).then(|| {
        raw.extend(second);
        raw
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecdsa_signature_has_two_numbers_of_32_bytes() {
        let der = |r: &[u8], s: &[u8]| {
            let mut numbers = Vec::new();
            for number in [r, s] {
                numbers.extend([0x02, u8::try_from(number.len()).unwrap()]);
                numbers.extend(number);
            }
            [&[0x30, u8::try_from(numbers.len()).unwrap()], numbers.as_slice()].concat()
        };
        let padded = |number: &[u8]| [vec![0; 32 - number.len()], number.to_vec()].concat();
        let long = [0xff; 32];
        let with_zero = [&[0][..], &long].concat();
        for (r, s, expected) in [
            (&long[..31], &long[..1], Some([padded(&long[..31]), padded(&long[..1])].concat())),
            (&with_zero[..], &[0x01][..], Some([long.to_vec(), padded(&[1])].concat())),
            (&[0x00][..], &[0x00][..], Some(vec![0; 64])),
            (&[][..], &[0x01][..], Some([vec![0; 32], padded(&[1])].concat())),
            (&[0x01; 33][..], &[0x01][..], None),
        ] {
            assert_eq!(raw_ecdsa(&der(r, s)), expected);
        }
        let sound = der(&[1], &[2]);
        for broken in [&sound[..sound.len() - 1], &[sound.as_slice(), &[0]].concat(), &sound[1..], &[], &[0x30, 0x80]] {
            assert_eq!(raw_ecdsa(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn the_header_names_algorithm_and_key() {
        let decoded = |input: &str| {
            let parts =
                input.split('.').map(|part| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap());
            parts.collect::<Vec<_>>()
        };
        assert_eq!(decoded(&input(SigningAlgorithm::Rs256, None, "{}")), [r#"{"alg":"RS256","typ":"JWT"}"#, "{}"]);
        let with_key = input(SigningAlgorithm::EdDsa, Some("key\"1"), r#"{"iss":"a"}"#);
        assert_eq!(decoded(&with_key), [r#"{"alg":"EdDSA","typ":"JWT","kid":"key\"1"}"#, r#"{"iss":"a"}"#]);
    }

    const RSA: &str = include_str!("../../tests/fixtures/keys/rsa-pkcs8.pem");
    const P256: &str = include_str!("../../tests/fixtures/keys/p256-pkcs8.pem");
    const P384: &str = include_str!("../../tests/fixtures/keys/p384.pem");
    const ED25519: &str = include_str!("../../tests/fixtures/keys/ed25519.pem");

    #[test]
    fn every_form_of_a_key_signs_alike() {
        let rsa_pkcs1 = include_str!("../../tests/fixtures/keys/rsa-pkcs1.pem");
        let signed = |pem: &str| PrivateKey::read(pem.into(), None).unwrap().sign("a.b").unwrap();
        let expected = signed(RSA);
        for pem in [
            rsa_pkcs1.to_owned(),
            RSA.replace('\n', "\r\n"),
            RSA.replace('\n', "\\n"),
            RSA.replace('\n', "\\r\\n"),
            RSA.replace('\n', " "),
            RSA.replace('\n', ""),
            RSA.replace('\n', "\n    "),
            format!("a comment\n{RSA}\n{P256}"),
        ] {
            assert!(signed(&pem) == expected, "another signature with {} characters", pem.len());
        }
    }

    #[test]
    fn the_algorithm_is_that_of_the_key_unless_one_that_fits_is_named() {
        let sec1 = include_str!("../../tests/fixtures/keys/p256-sec1.pem");
        let with_parameters = include_str!("../../tests/fixtures/keys/with-parameters.pem");
        let misfit = Err(MISFIT);
        for (pem, named, expected) in [
            (RSA, None, Ok(SigningAlgorithm::Rs256)),
            (RSA, Some(SigningAlgorithm::Ps256), Ok(SigningAlgorithm::Ps256)),
            (RSA, Some(SigningAlgorithm::Es256), misfit),
            (P256, None, Ok(SigningAlgorithm::Es256)),
            (sec1, None, Ok(SigningAlgorithm::Es256)),
            (with_parameters, Some(SigningAlgorithm::Es256), Ok(SigningAlgorithm::Es256)),
            (P256, Some(SigningAlgorithm::Rs256), misfit),
            (ED25519, None, Ok(SigningAlgorithm::EdDsa)),
            (ED25519, Some(SigningAlgorithm::Es256), misfit),
            (P384, None, Err(NOT_SUPPORTED)),
            (P384, Some(SigningAlgorithm::Es256), Err(NOT_SUPPORTED)),
            (include_str!("../../tests/fixtures/keys/rsa-1024.pem"), None, Err(NOT_SUPPORTED)),
            (include_str!("../../tests/fixtures/keys/rsa-4096.pem"), None, Ok(SigningAlgorithm::Rs256)),
            (include_str!("../../tests/fixtures/keys/rsa-4104.pem"), None, Err(NOT_SUPPORTED)),
        ] {
            let read = PrivateKey::read(pem.into(), named);
            assert_eq!(read.map(|key| key.algorithm), expected, "{} {named:?}", pem.lines().count());
        }
    }

    #[test]
    fn a_message_about_a_key_does_not_quote_it() {
        for (pem, problem) in [
            ("", NOT_A_KEY),
            ("unseen", NOT_A_KEY),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", NOT_A_KEY),
            ("-----BEGIN PRIVATE KEY-----\nunseen!\n-----END PRIVATE KEY-----\n", NOT_A_KEY),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", NOT_SUPPORTED),
            ("-----BEGIN RSA PRIVATE KEY-----\\nAAAA\\n-----END RSA PRIVATE KEY-----\\n", NOT_SUPPORTED),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", NOT_A_KEY),
            ("-----BEGIN PRIVATE KEY", NOT_A_KEY),
            ("-----BEGIN PRIVATE KEY-----", CUT),
            ("-----BEGIN PRIVATE KEY-----AAAA", CUT),
            (include_str!("../../tests/fixtures/keys/encrypted-pkcs8.pem"), ENCRYPTED),
            (include_str!("../../tests/fixtures/keys/encrypted-sec1.pem"), ENCRYPTED),
        ] {
            assert_eq!(PrivateKey::read(pem.into(), None).err(), Some(problem), "{pem}");
        }
    }
}
