//! `memberNames`: where the members are in a document with other names. An object from our names to JSON pointers (RFC 6901).

use super::{
    SecretProblem,
    document::Document,
    member::{Member, Style, lenient_object},
    place::Place,
};
use crate::sanitize::sanitize_line;

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
                return Err(format!("names `{shown}`, which is no member of a token secret"));
            };
            let pointer: String = serde_json::from_str(pointer)
                .map_err(|_| format!("has a `{shown}` that is not a JSON pointer in a string"))?;
            let place = names_of(&pointer).map(Place::Deep).ok_or_else(|| {
                format!(
                    "has a `{shown}` that is not a JSON pointer (RFC 6901), for example \"/credentials/access_token\""
                )
            })?;
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

    /// Reads the member of a document.
    pub(super) fn read(place: &Place, document: &Document) -> Result<Option<Self>, SecretProblem> {
        let Some(value) = place.get(document) else { return Ok(None) };
        if ["null", "\"\""].contains(&&*value) {
            return Ok(None);
        }
        let names = lenient_object(&value).ok_or_else(|| "is not an object of JSON pointers".to_owned());
        names.and_then(|names| Self::parse(names.to_text().expose())).map(Some).map_err(SecretProblem::MemberNames)
    }

    /// Checks that what leads to each member is an object.
    pub(super) fn check(&self, document: &Document) -> Result<(), SecretProblem> {
        for (member, place) in &self.0 {
            for outer in place.outer() {
                if !outer.get(document).is_some_and(|value| value.starts_with('{')) {
                    let name = member.name(Style::CamelCase);
                    return Err(SecretProblem::MemberNames(format!(
                        "says that `{name}` is in `{outer}`, which is not an object in this secret"
                    )));
                }
            }
        }
        Ok(())
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
            (r#"{"token":"/a"}"#, "names `token`, which is no member of a token secret"),
            (r#"{"memberNames":"/a"}"#, "names `memberNames`, which is no member of a token secret"),
            (r#"{"accessToken":5}"#, "has a `accessToken` that is not a JSON pointer in a string"),
            (
                r#"{"accessToken":"a"}"#,
                r#"has a `accessToken` that is not a JSON pointer (RFC 6901), for example "/credentials/access_token""#,
            ),
            (r#"{"accessToken":"/a","access_token":"/b"}"#, "has `access_token` twice"),
            (r#"{"accessToken":"/a","refreshToken":"/a"}"#, "has the same place for `accessToken` and `refreshToken`"),
        ] {
            assert_eq!(MemberNames::parse(json).unwrap_err(), error, "{json}");
        }
    }
}
