//! Removes secrets from the text of a provider, which knows what it was sent. Knows no protocol.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{MAX_SHARED_BYTES, REDACTED, sanitize_line, words};
use crate::secret::Secret;

/// The longest text of a provider that is printed, in characters.
const MAX_CHARS: usize = 200;

/// A longer run of the characters of a token looks like one, whether it is one of ours or not. Trace ids (UUIDs, 36 characters) are
/// printed.
const MAX_RUN_CHARS: usize = 40;

/// No longer word is printed, whatever is in it.
const MAX_WORD_CHARS: usize = 100;

/// Shorter texts are part of many ordinary words, and no real secret is shorter.
const MIN_SECRET_BYTES: usize = 4;

/// Base64 as people cut and quote it.
const ANY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A provider's text: short, visible, and without any part of the secrets it was sent, as they are or encoded.
#[must_use]
pub fn redact(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        if secret.expose().len() >= MIN_SECRET_BYTES {
            text = text.replace(secret.expose(), REDACTED);
        }
    }
    let mut text = words(&text).collect::<Vec<_>>().join(" ");
    for secret in secrets {
        for piece in pieces_with_blanks(secret.expose()) {
            text = text.replace(piece, REDACTED);
        }
    }
    let words = words(&text).map(|word| {
        if looks_like_token(word) || reveals(word, secrets) {
            REDACTED.to_owned()
        } else {
            sanitize_line(word, MAX_WORD_CHARS)
        }
    });
    // More words than that are cut off anyway.
    let text = words.take(MAX_CHARS).collect::<Vec<_>>().join(" ");
    if text.chars().count() <= MAX_CHARS {
        return text;
    }
    text.chars().take(MAX_CHARS - 1).chain(['…']).collect()
}

/// Whether the word is as long as a token, or has a part that is. JSON in a text is a word of short parts.
fn looks_like_token(word: &str) -> bool {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=%\\".contains(c) || !c.is_ascii();
    word.chars().count() > MAX_WORD_CHARS
        || word.split(|c| !is_of_token(c)).any(|run| run.chars().count() > MAX_RUN_CHARS)
}

/// The pieces of a secret that are in no single word, since they contain a blank.
fn pieces_with_blanks(secret: &str) -> impl Iterator<Item = &str> {
    let pieces = (0..secret.len()).filter_map(|from| secret.get(from..from + MAX_SHARED_BYTES));
    pieces.filter(|piece| piece.contains(' '))
}

/// Whether the word reveals part of a secret: as it is, or as a piece of the form that was sent or of a Basic header.
fn reveals(word: &str, secrets: &[&Secret]) -> bool {
    let decodings = decodings(word);
    secrets.iter().any(|secret| decodings.iter().any(|decoding| shares(decoding, secret.expose())))
}

/// The word, and what it decodes to.
fn decodings(word: &str) -> Vec<Vec<u8>> {
    let mut texts = vec![word.to_owned()];
    if word.contains(['%', '+']) {
        // As one field: what separates fields may stand in a secret.
        let field = word.replace('&', "%26").replace('=', "%3D");
        texts.extend(form_urlencoded::parse(field.as_bytes()).map(|(name, _)| name.into_owned()));
    }
    let mut decodings = Vec::new();
    for text in texts {
        let base64 = text.replace('-', "+").replace('_', "/");
        for run in base64.split(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '/') {
            // Where it begins is not known, and its last group may be cut; one character of a group tells nothing.
            for piece in (0..4).filter_map(|from| run.get(from..)) {
                let whole = piece.len() - usize::from(piece.len() % 4 == 1);
                decodings.extend(ANY_BASE64.decode(&piece[..whole]));
            }
        }
        decodings.push(text.into_bytes());
    }
    decodings
}

fn shares(word: &[u8], secret: &str) -> bool {
    // A short secret counts as a whole.
    let length = MAX_SHARED_BYTES.min(secret.len());
    length >= MIN_SECRET_BYTES
        && secret.as_bytes().windows(length).any(|piece| word.windows(length).any(|other| piece == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_text_is_short_visible_and_without_secrets() {
        let token = Secret::from("rt-0123456789abcdef");
        let client_secret = Secret::from("s3cr+t/=& %:x");
        for (text, shown) in [
            ("The refresh token is invalid.", "The refresh token is invalid."),
            ("token rt-0123456789abcdef is unknown", "token [redacted] is unknown"),
            ("token \"rt-0123456789abcdef\" is unknown", "token \"[redacted]\" is unknown"),
            ("token rt-01234… is unknown", "token [redacted] is unknown"),
            ("token …89abcdef", "token [redacted]"),
            // base64("crm:rt-0123456789abcdef"), whole, in the other alphabet's clothes and cut.
            ("Basic Y3JtOnJ0LTAxMjM0NTY3ODlhYmNkZWY=", "Basic [redacted]"),
            ("Basic:Y3JtOnJ0LTAxMjM0NTY3ODlhYmNkZWY,", "[redacted]"),
            ("Basic 3JtOnJ0LTAxMjM0NTY3ODlhYm", "Basic [redacted]"),
            ("token=rt%2D012345%36789", "[redacted]"),
            ("secret s3cr%2Bt%2F%3D%26+%25%3Ax", "secret [redacted]"),
            ("secret s3cr+t/=& %:x", "secret [redacted]"),
            // In part, where a blank or a separator of a form divides it into pieces that tell little.
            ("secret cr+t/=&\n%:", "secret [redacted]%:"),
            ("secret r%2Bt/=&+%25", "secret [redacted]"),
            // base64("crm:rt-0123456789abcdef") in a form.
            ("Basic Y3JtOnJ0%4cTAxMjM0NTY3ODlhYmNkZWY%3D", "Basic [redacted]"),
            ("code AADSTS700082:\r\n\ttoo old\u{0}", "code AADSTS700082: too old"),
            ("\u{1b}[31mred\u{202e}txet", "[31mred?txet"),
            ("トークンは無効です", "トークンは無効です"),
            ("Trace ID: 0e1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8", "Trace ID: 0e1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8"),
            ("got eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0", "got [redacted]"),
            (
                r#"400: "{"error_description":"Exception","error":"token_error"}""#,
                r#"400: "{"error_description":"Exception","error":"token_error"}""#,
            ),
            (&format!(r#"{{"t":"{}"}}"#, "z".repeat(40)), &format!(r#"{{"t":"{}"}}"#, "z".repeat(40))),
            (&format!(r#"{{"t":"{}"}}"#, "z".repeat(41)), "[redacted]"),
            (&r#"{"a":1},"#.repeat(13), "[redacted]"),
        ] {
            assert_eq!(redact(text, &[&token, &client_secret]), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_200_characters() {
        for (words, chars) in [(40, 199), (41, 200)] {
            let shown = redact(&vec!["word"; words].join(" "), &[]);
            assert_eq!(shown.chars().count(), chars, "{words} words");
            assert_eq!(shown.ends_with('…'), words == 41);
        }
    }

    #[test]
    fn no_part_of_a_secret_at_the_limit_is_printed() {
        let token = Secret::from("rt-0123456789abcdef");
        let text = format!("{} rt-0123456789abcdef", vec!["word"; 38].join(" "));
        assert!(!redact(&text, &[&token]).contains("rt-"));
    }

    #[test]
    fn a_short_secret_is_redacted_encoded_too() {
        let secret = Secret::from("s3cr3t!");
        // base64("cid:s3cr3t!")
        for text in ["s3cr3t!", "Y2lkOnMzY3IzdCE=", "s3cr3t%21"] {
            assert_eq!(redact(text, &[&secret]), REDACTED, "{text}");
        }
    }
}
