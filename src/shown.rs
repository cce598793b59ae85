//! Text from outside, made fit for a line that a person reads: it forges no line, hides nothing and turns nothing round.
//! Knows nothing of secrets: what may quote one goes through `oauth::printable`.

/// The text with `?` for every character that does not show, cut after `max_chars` characters.
#[must_use]
pub fn shown(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).map(|c| if c == ' ' || shows(c) { c } else { '?' }).collect()
}

/// Whether a person sees the character, and sees it where it stands: no control character, no bidirectional override, no
/// zero-width or separating one. Dashes, quotation marks and the like show.
#[must_use]
pub fn shows(c: char) -> bool {
    c.is_ascii_graphic() || c.is_alphanumeric() || matches!(c, '\u{2010}'..='\u{2027}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_show_is_a_question_mark() {
        for (text, expected) in [
            ("a name", "a name"),
            ("can’t – …", "can’t – …"),
            ("トークン", "トークン"),
            ("a\nb\u{1b}[31m\u{7f}", "a?b?[31m?"),
            ("a\u{202e}b\u{200b}\u{2028}\u{feff}", "a?b???"),
            ("1234567890", "1234567890"),
            ("12345678901", "1234567890"),
        ] {
            assert_eq!(shown(text, 10), expected, "{text:?}");
        }
    }
}
