//! `memberNames`: where the members are in a document with other names. An object from our names to JSON pointers (RFC 6901).

use super::{
    SecretProblem,
    document::{Document, is_nothing},
    found::Found,
    member::{Member, Style, lenient_object},
    place::Place,
};
use crate::sanitize::sanitize_line;

/// How many names a pointer may have. The objects around a member are read again for each of them.
const MAX_DEPTH: usize = 8;

/// Where members are, by the names that lead to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberNames(Vec<(Member, Place)>);

impl MemberNames {
    /// Reads the JSON text of such an object.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as the continuation of "`memberNames` ".
    pub fn parse(json: &str) -> Result<Self, String> {
        let names = Document::parse(json).map_err(|_| "is not an object of JSON pointers".to_owned())?;
        let mut members: Vec<(Member, Place)> = Vec::new();
        for (name, pointer) in names.members() {
            let shown = sanitize_line(name, 64);
            let Some((member, _)) = Member::of_name(name).filter(|(member, _)| *member != Member::MemberNames) else {
                return Err(format!("contains `{shown}`, which is not a member of a token secret"));
            };
            let pointer: String =
                serde_json::from_str(pointer).map_err(|_| format!("has a value for `{shown}` that is not a string"))?;
            let place = names_of(&pointer).map(Place::Deep).ok_or_else(|| {
                format!(
                    "has a value for `{shown}` that is not a JSON pointer (RFC 6901) such as \"/credentials/access_token\""
                )
            })?;
            if place.path().len() >= MAX_DEPTH {
                return Err(format!("has a pointer for `{shown}` with more than {MAX_DEPTH} names"));
            }
            let (outermost, _) = place.names().next().and_then(Member::of_name).unzip();
            if outermost == Some(Member::MemberNames) {
                return Err(format!("points `{shown}` into itself"));
            }
            if let Some((other, _)) = members.iter().find(|(other, there)| *other == member || *there == place) {
                let (a, b) = (other.name(Style::CamelCase), shown);
                return Err(if *other == member {
                    format!("has `{b}` twice")
                } else {
                    format!("has the same place for `{a}` and `{b}`")
                });
            }
            members.push((member, place));
        }
        Ok(Self(members))
    }

    /// Reads a document's own `memberNames`.
    pub(super) fn read(place: &Place, document: &Document) -> Result<Option<Self>, SecretProblem> {
        let Some(value) = place.get(document) else { return Ok(None) };
        if is_nothing(&value) {
            return Ok(None);
        }
        let names = lenient_object(&value).ok_or_else(|| "is not an object of JSON pointers".to_owned());
        names.and_then(|names| Self::parse(names.to_text().expose())).map(Some).map_err(SecretProblem::MemberNames)
    }

    /// Checks that what leads to each member is an object.
    pub(super) fn check(&self, document: &Document) -> Result<(), SecretProblem> {
        for (member, place) in &self.0 {
            let path = place.path();
            for outer in (1..=path.len()).filter_map(|length| Place::of_path(&path[..length])) {
                if !outer.get(document).is_some_and(|value| value.starts_with('{')) {
                    let name = member.name(Style::CamelCase);
                    return Err(SecretProblem::MemberNames(format!(
                        "points `{name}` into `{outer}`, which is missing or not an object"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Those that fit this document: for a setting, which is for many secrets. A name counts if the member is there, or if the objects
    /// around it are and our own name is not.
    pub(super) fn fitting(&self, document: &Document, found: &Found) -> Self {
        let fits = |(member, place): &&(Member, Place)| {
            let around = Place::of_path(place.path()).map(|around| around.get(document));
            let is_possible = around.is_none_or(|value| value.is_some_and(|value| value.starts_with('{')));
            place.get(document).is_some() || (is_possible && !found.has(*member))
        };
        Self(self.0.iter().filter(fits).cloned().collect())
    }

    pub(super) fn place_of(&self, member: Member) -> Option<&Place> {
        self.0.iter().find(|(other, _)| *other == member).map(|(_, place)| place)
    }

    pub(super) fn has_place(&self, place: &Place) -> bool {
        self.0.iter().any(|(_, own)| own.is_same_as(place))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Member, Place)> {
        self.0.iter()
    }
}

/// The names in a JSON pointer.
fn names_of(pointer: &str) -> Option<Vec<String>> {
    let names = pointer.strip_prefix('/')?.split('/');
    names
        .map(|name| {
            let is_escaped = name.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            is_escaped.then(|| name.replace("~1", "/").replace("~0", "~"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_rfc_6901_says() {
        for (pointer, names) in [
            ("/a", Some(vec!["a"])),
            ("/a/b c", Some(vec!["a", "b c"])),
            ("/a~1b/~0~01", Some(vec!["a/b", "~~1"])),
            ("/", Some(vec![""])),
            ("", None),
            ("a", None),
            ("/a~2", None),
            ("/a~", None),
        ] {
            let names = names.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(names_of(pointer), names, "{pointer}");
        }
    }

    #[test]
    fn the_error_says_which_name_is_wrong() {
        for (json, error) in [
            ("[]", "is not an object of JSON pointers"),
            (r#"{"token":"/a"}"#, "contains `token`, which is not a member of a token secret"),
            (r#"{"memberNames":"/a"}"#, "contains `memberNames`, which is not a member of a token secret"),
            (r#"{"accessToken":5}"#, "has a value for `accessToken` that is not a string"),
            (
                r#"{"accessToken":"a"}"#,
                r#"has a value for `accessToken` that is not a JSON pointer (RFC 6901) such as "/credentials/access_token""#,
            ),
            (r#"{"accessToken":"/a","access_token":"/b"}"#, "has `access_token` twice"),
            (r#"{"accessToken":"/member_names/a"}"#, "points `accessToken` into itself"),
            (r#"{"accessToken":"/1/2/3/4/5/6/7/8/9"}"#, "has a pointer for `accessToken` with more than 8 names"),
            (r#"{"accessToken":"/a","refreshToken":"/a"}"#, "has the same place for `accessToken` and `refreshToken`"),
        ] {
            assert_eq!(MemberNames::parse(json).unwrap_err(), error, "{json}");
        }
    }
}
