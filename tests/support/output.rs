//! Searches output for secrets: whole, in part or encoded.
#![allow(dead_code, reason = "each integration test is a crate of its own and uses a part of this")]

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::STANDARD};

/// The length of a piece of a secret that must not appear, in characters.
const PIECE: usize = 12;
/// The length of such a piece in base64.
const PIECE_BASE64: usize = PIECE / 3 * 4;

/// Fails if the output contains a secret, or any 12 characters in a row of one: as it is, percent-encoded
/// (also as in a form), JSON-escaped (also twice) or in base64 (both alphabets, also within a longer text).
///
/// The message names the secret by its index only, so that a failing test shows no secret.
pub fn assert_no_secret(output: &str, secrets: &[String]) {
    let readings = readings(output);
    let texts: Vec<_> = readings.iter().map(|(how, text)| (how, pieces(text, PIECE))).collect();
    let base64: Vec<_> = readings.iter().map(|(_, text)| in_standard_alphabet(text)).collect();
    let base64: HashSet<_> = base64.iter().flat_map(|text| pieces(text, PIECE_BASE64)).collect();
    for (index, secret) in secrets.iter().map(String::as_bytes).enumerate() {
        assert!(secret.len() >= PIECE, "secret {index} is too short to be searched for: {PIECE} characters or more");
        for (how, text) in &texts {
            assert!(pieces(secret, PIECE).is_disjoint(text), "the output shows secret {index} {how}");
        }
        // Within a longer text a secret can begin at any of the three bytes of a base64 group.
        for offset in 0..3 {
            let groups = secret[offset..].chunks_exact(3).flatten().copied().collect::<Vec<_>>();
            let encoded = STANDARD.encode(groups).into_bytes();
            assert!(pieces(&encoded, PIECE_BASE64).is_disjoint(&base64), "the output shows secret {index} in base64");
        }
    }
}

/// The output as it is, and with each encoding decoded.
fn readings(output: &str) -> Vec<(&'static str, Vec<u8>)> {
    let once = unescaped(output.as_bytes());
    let twice = unescaped(&once);
    let mut readings = Vec::new();
    for (how, how_in_percent, text) in [
        ("as it is", "percent-encoded", output.as_bytes().to_vec()),
        ("JSON-escaped", "percent-encoded and JSON-escaped", once),
        ("JSON-escaped twice", "percent-encoded and JSON-escaped twice", twice),
    ] {
        let percent = percent_decoded(&text);
        let spaced = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect::<Vec<_>>();
        readings.extend([(how_in_percent, percent_decoded(&spaced)), (how_in_percent, percent), (how, text)]);
    }
    readings
}

fn pieces(text: &[u8], length: usize) -> HashSet<&[u8]> {
    text.windows(length).collect()
}

fn in_standard_alphabet(text: &[u8]) -> Vec<u8> {
    let standard = |&byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    text.iter().map(standard).collect()
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    decoded(text, |rest| match rest {
        [b'%', digits @ ..] => Some((vec![u8::try_from(hex(digits.get(..2)?)?).ok()?], 3)),
        _ => None,
    })
}

/// Decodes the escapes of JSON strings anywhere in the text.
fn unescaped(text: &[u8]) -> Vec<u8> {
    decoded(text, |rest| match rest {
        [b'\\', b'u', digits @ ..] => {
            let character = char::from_u32(hex(digits.get(..4)?)?)?;
            Some((character.to_string().into_bytes(), 6))
        }
        [b'\\', b'n', ..] => Some((b"\n".to_vec(), 2)),
        [b'\\', b'r', ..] => Some((b"\r".to_vec(), 2)),
        [b'\\', b't', ..] => Some((b"\t".to_vec(), 2)),
        [b'\\', escaped @ (b'"' | b'\\' | b'/' | b'\''), ..] => Some((vec![*escaped], 2)),
        _ => None,
    })
}

/// Decodes a text. `decode` gets the rest of the text, and returns the decoded bytes at its start and their encoded length.
fn decoded(text: &[u8], decode: impl Fn(&[u8]) -> Option<(Vec<u8>, usize)>) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let (bytes, length) = decode(rest).unwrap_or_else(|| (vec![first], 1));
        decoded.extend(bytes);
        rest = &rest[length..];
    }
    decoded
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}
