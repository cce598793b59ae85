//! Where a member is in a document: the names that lead to it, from the outside in.

use std::{fmt, ops::Deref};

use zeroize::Zeroizing;

use super::document::Document;
use crate::sanitize::sanitize_line;

/// The names that lead to a member. Most members are at the top, and most runs only look at them: these places own nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A member of the document itself.
    Top(&'static str),
    /// A member of an object in it, or one with a name of the person's choice. At least one name.
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

    /// The member of the object that these names lead to.
    pub(super) fn within(path: &[String], name: &'static str) -> Self {
        if path.is_empty() { Self::Top(name) } else { Self::Deep([path, &[name.to_owned()]].concat()) }
    }

    /// The member that these names lead to. `None`: the document itself.
    pub(super) fn of_path(path: &[String]) -> Option<Self> {
        (!path.is_empty()).then(|| Self::Deep(path.to_vec()))
    }

    /// The names that lead to the object around it; none if that is the document.
    pub(super) fn path(&self) -> &[String] {
        match self {
            Self::Top(_) => &[],
            Self::Deep(names) => names.split_last().map_or(&[], |(_, path)| path),
        }
    }

    /// Whether both are the same member of a document.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }

    /// Whether one is the other, or in it.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.names().zip(other.names()).all(|(own, other)| own == other)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.path().iter().map(String::as_str).chain(std::iter::once(self.last_name()))
    }

    /// The JSON pointer (RFC 6901), for a message. `None`: a name in it is too long for one, or has characters that are not printed.
    pub(super) fn pointer(&self) -> Option<String> {
        let is_plain = |name: &str| name.len() <= MAX_SHOWN && sanitize_line(name, MAX_SHOWN) == name;
        let escaped =
            |name: &str| name.replace('~', "~0").replace('/', "~1").replace('\\', "\\\\").replace('"', "\\\"");
        let mut names = self.names();
        names.try_fold(String::new(), |pointer, name| is_plain(name).then(|| pointer + "/" + &escaped(name)))
    }

    /// The member's own name.
    pub(super) fn last_name(&self) -> &str {
        match self {
            Self::Top(name) => name,
            Self::Deep(names) => names.last().map_or("", String::as_str),
        }
    }
}

/// The names with dots between them.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(name) => f.write_str(name),
            Self::Deep(names) => {
                // A longer name may be a token.
                let shown = names.iter().map(|name| match sanitize_line(name, MAX_SHOWN) {
                    name if name.chars().count() < MAX_SHOWN => name,
                    _ => "…".to_owned(),
                });
                f.write_str(&shown.collect::<Vec<_>>().join("."))
            }
        }
    }
}

/// How long a name may be in a message.
const MAX_SHOWN: usize = 48;

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
