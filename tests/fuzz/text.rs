//! The check of a text that a person reads.

/// Fails unless the text is one line of at most `max_chars` printable characters.
pub fn assert_one_printable_line(text: &str, max_chars: usize) {
    let chars = text.chars().count();
    assert!(chars <= max_chars, "{chars} characters, more than {max_chars}");
    for c in text.chars() {
        let punctuation = matches!(c, '\u{2010}'..='\u{2027}');
        assert!(c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() || punctuation, "{c:?} in {text:?}");
    }
}
