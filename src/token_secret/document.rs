//! A JSON object that keeps all its members in their order, and each value as its exact text. Wiped on drop. Knows nothing about
//! tokens.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A JSON object as read.
#[derive(Clone, Default)]
pub struct Document {
    members: Vec<Member>,
}

#[derive(Clone)]
struct Member {
    name: String,
    /// The value's exact JSON text.
    value: Zeroizing<String>,
}

/// Why a text is not a JSON object. Does not quote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotADocument {
    /// The text is empty or only white space.
    Empty,
    /// It is not JSON.
    NotJson {
        /// The line of the error, from 1.
        line: usize,
        /// The column of the error, from 1.
        column: usize,
    },
    /// It is JSON, but not an object.
    NotAnObject {
        /// The type that was found, with its article.
        found: &'static str,
    },
}

impl Document {
    /// Reads a JSON object.
    ///
    /// # Errors
    ///
    /// [`NotADocument`] if the text is not a JSON object.
    pub fn parse(text: &str) -> Result<Self, NotADocument> {
        // Some editors write an invisible byte order mark at the start of a file.
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            return Err(NotADocument::Empty);
        }
        // serde's own messages may quote the text: only the position is used.
        let not_json = |e: serde_json::Error| NotADocument::NotJson { line: e.line(), column: e.column() };
        let value: &RawValue = serde_json::from_str(text).map_err(not_json)?;
        if !value.get().starts_with('{') {
            return Err(NotADocument::NotAnObject { found: kind(value.get()) });
        }
        let mut reader = serde_json::Deserializer::from_str(value.get());
        reader.deserialize_map(Members).map_err(not_json)
    }

    /// The JSON text of the member's value. If the name is there twice, the last value, as in most JSON parsers.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.members.iter().rev().find(|member| member.name == name).map(|member| member.value.as_str())
    }

    /// Sets the member's value (JSON text). A new member is added at the end.
    pub fn set(&mut self, name: &str, value: String) {
        let value = Zeroizing::new(value);
        match self.members.iter_mut().rev().find(|member| member.name == name) {
            Some(member) => member.value = value,
            None => self.members.push(Member { name: name.to_owned(), value }),
        }
    }

    /// Removes the member.
    pub fn remove(&mut self, name: &str) {
        self.members.retain(|member| member.name != name);
    }

    /// Names and values (JSON text), in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|member| (member.name.as_str(), member.value.as_str()))
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The object as JSON text.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        // Allocated once with enough room: a string that grows leaves unwiped copies in memory.
        let mut text = String::with_capacity(2 + self.members().map(|(n, v)| 6 * n.len() + v.len() + 4).sum::<usize>());
        text.push('{');
        for (i, (name, value)) in self.members().enumerate() {
            if i > 0 {
                text.push(',');
            }
            text.push_str(&json_string(name));
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        Secret::from(text)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(..)")
    }
}

/// A text as a JSON string, quotes included.
#[must_use]
pub fn json_string(text: &str) -> String {
    // Not through a `Value`: that would leave an unwiped copy in memory.
    serde_json::to_string(text).unwrap_or_default()
}

/// Whether the JSON text is null or an empty string, which count as missing.
#[must_use]
pub fn is_nothing(json: &str) -> bool {
    matches!(json, "null" | "\"\"")
}

/// Whether the JSON text is a string that is not empty.
#[must_use]
pub fn is_filled_string(json: &str) -> bool {
    json.starts_with('"') && json.len() > 2
}

/// A member's name in lower case, without separators.
#[must_use]
pub fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The text between the quotes of a JSON string, as it stands.
#[must_use]
pub fn unquoted(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// The type of a JSON text, with its article: for messages that must not contain the text.
#[must_use]
pub fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            document.members.push(Member { name, value: Zeroizing::new(value.get().to_owned()) });
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_their_exact_text() {
        let text = r#"{"z":1.50e+3,"a":"\u00e9","n":12345678901234567890123,"o":{"b" : [1, 2],"a":null}}"#;
        assert_eq!(Document::parse(text).unwrap().to_text().expose(), text);
    }

    #[test]
    fn a_set_member_keeps_its_position_and_a_new_one_is_added_at_the_end() {
        let mut document = Document::parse(r#"{"a":1,"b":2}"#).unwrap();
        document.set("a", "3".into());
        document.set("c", "4".into());
        assert_eq!(document.to_text().expose(), r#"{"a":3,"b":2,"c":4}"#);
    }

    #[test]
    fn the_error_of_a_text_that_is_not_an_object_does_not_quote_it() {
        for (text, expected) in [
            ("", NotADocument::Empty),
            (" \n", NotADocument::Empty),
            ("hunter2", NotADocument::NotJson { line: 1, column: 1 }),
            (r#"{"a":"#, NotADocument::NotJson { line: 1, column: 5 }),
            (r#"{"a":1} x"#, NotADocument::NotJson { line: 1, column: 9 }),
            (r#"["hunter2"]"#, NotADocument::NotAnObject { found: "an array" }),
            (r#""hunter2""#, NotADocument::NotAnObject { found: "a string" }),
            ("5", NotADocument::NotAnObject { found: "a number" }),
            ("true", NotADocument::NotAnObject { found: "a boolean" }),
            ("null", NotADocument::NotAnObject { found: "null" }),
        ] {
            assert_eq!(Document::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_kept_without_recursion() {
        let text = format!(r#"{{"deep":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(Document::parse(&text).unwrap().to_text().expose(), text);
    }

    #[test]
    fn debug_prints_no_member() {
        let document = Document::parse(r#"{"refreshToken":"hunter2"}"#).unwrap();
        assert_eq!(format!("{document:?}"), "Document(..)");
    }
}
