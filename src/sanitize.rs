//! Makes text from outside safe to print: on one line, visible, short, and without secrets. A hostile or careless provider may
//! repeat a token in its error description.

#[cfg(feature = "secrets-manager")]
use crate::secret::Secret;

#[cfg(feature = "refresher")]
mod redact;
#[cfg(feature = "refresher")]
pub use redact::redact;

/// The text with `?` for every character that is not visible, cut after `max_chars` characters.
#[must_use]
pub fn sanitize_line(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).map(|c| if c == ' ' || is_visible(c) { c } else { '?' }).collect()
}

/// Whether a person sees the character, and sees it in its place: no control character, no bidirectional override, no zero-width
/// and no separating character. Dashes and quotation marks are visible.
#[must_use]
pub fn is_visible(c: char) -> bool {
    c.is_ascii_graphic() || c.is_alphanumeric() || matches!(c, '\u{2010}'..='\u{2027}')
}

/// A word that shares this many bytes in a row with a secret is redacted.
#[cfg(feature = "secrets-manager")]
const MAX_SHARED_BYTES: usize = 8;

#[cfg(feature = "secrets-manager")]
const REDACTED: &str = "[redacted]";

/// The text of Secrets Manager: at most `max_chars` characters, visible, and without the words that share a piece with the
/// document that was sent. The principal of a denial stays: without it, nobody knows which role to change.
#[cfg(feature = "secrets-manager")]
#[must_use]
pub fn redact_document(text: &str, sent: Option<&Secret>, max_chars: usize) -> String {
    // Cut before it is searched: one word may be as long as the whole response.
    let text: String = text.chars().take(max_chars).collect();
    let words = words(&text).map(|word| match sent {
        Some(sent) if !is_principal(word) && is_part_of(word, sent.expose()) => REDACTED.to_owned(),
        _ => sanitize_line(word, max_chars),
    });
    words.collect::<Vec<_>>().join(" ").chars().take(max_chars).collect()
}

/// Whether the word is the ARN of a user, a role or a session: a name, which the document may mention too.
#[cfg(feature = "secrets-manager")]
fn is_principal(word: &str) -> bool {
    // arn:PARTITION:SERVICE:REGION:ACCOUNT:NAME
    let mut parts = word.splitn(6, ':');
    parts.next() == Some("arn")
        && parts.next().is_some_and(|partition| partition.starts_with("aws"))
        && matches!(parts.next(), Some("iam" | "sts"))
        && parts.next() == Some("")
        && parts.next().is_some_and(|account| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
        && parts
            .next()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&byte)))
}

/// Whether a piece of the word occurs in the document.
#[cfg(feature = "secrets-manager")]
fn is_part_of(word: &str, document: &str) -> bool {
    let pieces = word.as_bytes().windows(MAX_SHARED_BYTES);
    pieces.filter_map(|piece| str::from_utf8(piece).ok()).any(|piece| document.contains(piece))
}

#[cfg(feature = "secrets-manager")]
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_not_visible_becomes_a_question_mark() {
        for (text, expected) in [
            ("a name", "a name"),
            ("can’t – …", "can’t – …"),
            ("トークン", "トークン"),
            ("a\nb\u{1b}[31m\u{7f}", "a?b?[31m?"),
            ("a\u{202e}b\u{200b}\u{2028}\u{feff}", "a?b???"),
            ("1234567890", "1234567890"),
            ("12345678901", "1234567890"),
        ] {
            assert_eq!(sanitize_line(text, 10), expected, "{text:?}");
        }
    }

    #[cfg(feature = "secrets-manager")]
    #[test]
    fn the_text_of_a_store_is_short_visible_and_without_what_was_sent() {
        let body = Secret::from(r#"{"accessToken":"at-0123456789"}"#);
        for (text, expected) in [
            ("You can’t do this\n now.", "You can’t do this now."),
            ("Value 'at-0123456789' is wrong", "Value [redacted] is wrong"),
            ("Value (SecretString=at-0123456789;) is wrong", "Value [redacted] is wrong"),
            ("Value …23456789 is wrong", "Value [redacted] is wrong"),
            ("Value …3456789 is wrong", "Value …3456789 is wrong"),
            ("a\u{202e}b\u{200b}c", "a?b?c"),
        ] {
            assert_eq!(redact_document(text, Some(&body), 500), expected);
        }
        let body = Secret::from(
            r#"{"publishTo":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm","accessToken":"at-0123456789"}"#,
        );
        for (word, is_kept) in [
            ("arn:aws:sts::123456789012:assumed-role/refresher/refresher", true),
            ("arn:aws-cn:iam::123456789012:user/admin", true),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm", false),
            ("arn:aws:iam::at-0123456789", false),
            (r#"arn:aws:iam::123456789012:role/x","accessToken":"at-0123456789"#, false),
        ] {
            let expected = if is_kept { word } else { REDACTED };
            assert_eq!(redact_document(&format!("User: {word}"), Some(&body), 500), format!("User: {expected}"));
        }
        assert_eq!(redact_document(&"a b ".repeat(1000), Some(&body), 500).chars().count(), 499);
        assert_eq!(redact_document(&"x".repeat(1_000_000), Some(&body), 500), "x".repeat(500));
    }
}
