//! Makes a provider's text fit to be shown: short, printable, and without anything of the secrets it was sent. A
//! hostile or clumsy provider may echo a token in its error description.

use crate::secret::Secret;

/// The longest text shown, in characters.
const MAX_CHARS: usize = 200;

/// A word longer than this looks like a token, whoever's it is. Trace ids (UUIDs, 36 characters) are shown.
const MAX_WORD_CHARS: usize = 40;

/// A word that shares this many bytes in a row with a secret is not shown.
const MAX_SHARED_BYTES: usize = 8;

const REDACTED: &str = "[redacted]";

/// The text, made fit to be shown.
#[must_use]
pub fn printable(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        // Short ones are in every second word, and no secret worth the name.
        if secret.expose().len() >= 4 {
            text = text.replace(secret.expose(), REDACTED);
        }
    }
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words = words.map(|word| {
        if word.chars().count() > MAX_WORD_CHARS || secrets.iter().any(|secret| shares(word, secret.expose())) {
            REDACTED.to_owned()
        } else {
            // No bidirectional override, no zero-width character: what a person reads is what was sent.
            word.chars().map(|c| if c.is_ascii_graphic() || c.is_alphanumeric() { c } else { '?' }).collect()
        }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    if text.chars().count() <= MAX_CHARS {
        return text;
    }
    text.chars().take(MAX_CHARS - 1).chain(['…']).collect()
}

fn shares(word: &str, secret: &str) -> bool {
    secret
        .as_bytes()
        .windows(MAX_SHARED_BYTES)
        .any(|piece| word.as_bytes().windows(MAX_SHARED_BYTES).any(|other| piece == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_short_printable_and_without_secrets() {
        let token = Secret::from("rt-0123456789abcdef");
        let client_secret = Secret::from("s3cr+t/=& %:x");
        for (text, shown) in [
            ("The refresh token is invalid.", "The refresh token is invalid."),
            ("token rt-0123456789abcdef is unknown", "token [redacted] is unknown"),
            ("token \"rt-0123456789abcdef\" is unknown", "token \"[redacted]\" is unknown"),
            ("token rt-01234… is unknown", "token [redacted] is unknown"),
            ("token …89abcdef", "token [redacted]"),
            ("secret s3cr+t/=& %:x", "secret [redacted]"),
            ("code AADSTS700082:\r\n\ttoo old\u{0}", "code AADSTS700082: too old"),
            ("\u{1b}[31mred\u{202e}txet", "[31mred?txet"),
            ("トークンは無効です", "トークンは無効です"),
            ("Trace ID: 0e1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8", "Trace ID: 0e1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8"),
            ("got eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0", "got [redacted]"),
        ] {
            assert_eq!(printable(text, &[&token, &client_secret]), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_200_characters() {
        for (words, chars) in [(40, 199), (41, 200)] {
            let shown = printable(&vec!["word"; words].join(" "), &[]);
            assert_eq!(shown.chars().count(), chars, "{words} words");
            assert_eq!(shown.ends_with('…'), words == 41);
        }
    }

    #[test]
    fn a_secret_cut_in_two_by_the_limit_is_not_shown_in_part() {
        let token = Secret::from("rt-0123456789abcdef");
        let text = format!("{} rt-0123456789abcdef", vec!["word"; 38].join(" "));
        assert!(!printable(&text, &[&token]).contains("rt-"));
    }
}
