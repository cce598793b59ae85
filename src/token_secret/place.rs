//! Where a member is in a document: the names that lead to it, from the outside in.

use std::{fmt, ops::Deref};

use zeroize::Zeroizing;

use super::document::Document;
use crate::sanitize::sanitize_line;

/// The names that lead to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A member of the document itself.
    Top(&'static str),
    /// A member of an object in it, or one with a name of the person's choice.
    Deep(Vec<String>),
}

/// The JSON text of a value. Wiped on drop if it is a copy.
pub(super) enum Value<'a> {
    Borrowed(&'a str),
    Copied(Zeroizing<String>),
}

impl Deref for Value<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Copied(text) => text,
        }
    }
}

impl Place {
    /// The member's value.
    pub(super) fn get<'a>(&self, document: &'a Document) -> Option<Value<'a>> {
        match self {
            Self::Top(name) => document.get(name).map(Value::Borrowed),
            Self::Deep(names) => get(document, names),
        }
    }

    /// Sets the member's value. Objects that are missing on the way are created.
    pub(super) fn set(&self, document: &mut Document, value: String) {
        match self {
            Self::Top(name) => document.set(name, value),
            Self::Deep(names) => set(document, names, value),
        }
    }

    pub(super) fn remove(&self, document: &mut Document) {
        match self {
            Self::Top(name) => document.remove(name),
            Self::Deep(names) => remove(document, names),
        }
    }

    /// Whether both are the same member of a document.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let (top, deep) = match self {
            Self::Top(name) => (Some(*name), [].as_slice()),
            Self::Deep(names) => (None, names.as_slice()),
        };
        top.into_iter().chain(deep.iter().map(String::as_str))
    }

    /// The objects around it, from the outside in.
    pub(super) fn outer(&self) -> impl Iterator<Item = Self> {
        let names = match self {
            Self::Top(_) => [].as_slice(),
            Self::Deep(names) => names.as_slice(),
        };
        (1..names.len()).map(|length| Self::Deep(names[..length].to_vec()))
    }

    /// How many objects are around it, besides the document.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Top(_) => 0,
            Self::Deep(names) => names.len() - 1,
        }
    }

    /// The member's own name.
    pub(super) fn last_name(&self) -> &str {
        match self {
            Self::Top(name) => name,
            Self::Deep(names) => names.last().map_or("", String::as_str),
        }
    }
}

/// The names with points between them.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(name) => f.write_str(name),
            Self::Deep(names) => f.write_str(&sanitize_line(&names.join("."), 128)),
        }
    }
}

fn get<'a>(document: &'a Document, names: &[String]) -> Option<Value<'a>> {
    let (first, rest) = names.split_first()?;
    let value = document.get(first)?;
    if rest.is_empty() {
        return Some(Value::Borrowed(value));
    }
    let inner = Document::parse(value).ok()?;
    get(&inner, rest).map(|value| Value::Copied(Zeroizing::new(value.to_owned())))
}

fn set(document: &mut Document, names: &[String], value: String) {
    let Some((first, rest)) = names.split_first() else { return };
    if rest.is_empty() {
        return document.set(first, value);
    }
    let mut inner = document.get(first).and_then(|text| Document::parse(text).ok()).unwrap_or_default();
    set(&mut inner, rest, value);
    document.set(first, inner.to_text().expose().to_owned());
}

fn remove(document: &mut Document, names: &[String]) {
    let Some((first, rest)) = names.split_first() else { return };
    if rest.is_empty() {
        return document.remove(first);
    }
    if let Some(mut inner) = document.get(first).and_then(|text| Document::parse(text).ok()) {
        remove(&mut inner, rest);
        document.set(first, inner.to_text().expose().to_owned());
    }
}
