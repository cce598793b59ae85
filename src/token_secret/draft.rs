//! A token secret that is being set up: its settings may change, and its tokens may still be missing. Knows no provider and no store.

use super::{
    SecretProblem, TokenSecret,
    document::{Document, is_nothing},
    layout::Layout,
    member::Member,
    member_names::MemberNames,
};
use crate::{secret::Secret, token_secret::document::json_string};

/// A document that is to become a token secret. `Debug` shows no value.
#[derive(Clone, Debug)]
pub struct Draft {
    layout: Layout,
}

impl Draft {
    /// A document without values: our own names, and a number for the expiry.
    #[must_use]
    pub fn new() -> Self {
        const EMPTY: &str = r#"{"accessToken":null,"refreshToken":null,"expiresAt":0}"#;
        Self::parse(EMPTY).unwrap_or_else(|_| Self { layout: Layout::of_client(Document::default()) })
    }

    /// Reads a document, with or without tokens.
    ///
    /// # Errors
    ///
    /// It is not a JSON object, its `memberNames` are wrong, or it has two refresh tokens.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        Self::of(Document::parse(text).map_err(SecretProblem::NotADocument)?)
    }

    fn of(document: Document) -> Result<Self, SecretProblem> {
        Ok(Self { layout: Layout::of_tokens(document, &MemberNames::default())? })
    }

    /// Whether the member is there, and neither null nor empty.
    #[must_use]
    pub fn has(&self, member: Member) -> bool {
        self.layout.get(member).is_some_and(|value| !is_nothing(&value))
    }

    /// The text of a member, if it is one. A number counts as its digits.
    #[must_use]
    pub fn text(&self, member: Member) -> Option<Secret> {
        let value = self.layout.get(member)?;
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Secret::from(&*value));
        }
        serde_json::from_str::<String>(&value).ok().filter(|text| !text.is_empty()).map(Secret::from)
    }

    /// The names and texts of a member that is an object of strings.
    #[must_use]
    pub fn strings(&self, member: Member) -> Option<Vec<(String, String)>> {
        let members = member.strings(&self.layout).ok().flatten()?;
        Some(members.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect())
    }

    /// The names of all members with a value.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let filled = self.layout.document.members().filter(|(_, value)| !is_nothing(value) && *value != "0");
        filled.map(|(name, _)| name.to_owned()).collect()
    }

    /// The scopes, with blanks between them.
    #[must_use]
    pub fn scope(&self) -> Option<String> {
        let value = self.layout.get(Member::Scope)?;
        let list = serde_json::from_str::<Vec<String>>(&value).map(|scopes| scopes.join(" "));
        list.or_else(|_| serde_json::from_str(&value)).ok().filter(|scope: &String| !scope.is_empty())
    }

    /// The JSON text of a member that is not one of ours.
    #[must_use]
    pub fn other(&self, name: &str) -> Option<&str> {
        self.layout.document.get(name)
    }

    /// Sets a member of ours (JSON text), where the document has it or would have it.
    ///
    /// # Errors
    ///
    /// The document has the member twice.
    pub fn set(&mut self, member: Member, value: String) -> Result<(), SecretProblem> {
        self.layout.find(member)?;
        let place = self.layout.place_of(member);
        let mut document = self.layout.document.clone();
        place.set(&mut document, self.layout.in_document_type(value));
        *self = Self::of(document)?;
        Ok(())
    }

    /// Sets a member that is not one of ours (JSON text).
    ///
    /// # Errors
    ///
    /// As for [`Draft::parse`].
    pub fn set_other(&mut self, name: &str, value: String) -> Result<(), SecretProblem> {
        let mut document = self.layout.document.clone();
        document.set(name, self.layout.in_document_type(value));
        *self = Self::of(document)?;
        Ok(())
    }

    /// Removes a member of ours, under all its names.
    ///
    /// # Errors
    ///
    /// As for [`Draft::parse`].
    pub fn remove(&mut self, member: Member) -> Result<(), SecretProblem> {
        // One outside of the object with the tokens shows only when the one inside is gone.
        for _ in 0..2 {
            self.layout.remove(member);
            *self = Self::of(self.layout.document.clone())?;
        }
        Ok(())
    }

    /// Removes a member that is not one of ours.
    ///
    /// # Errors
    ///
    /// As for [`Draft::parse`].
    pub fn remove_other(&mut self, name: &str) -> Result<(), SecretProblem> {
        let mut document = self.layout.document.clone();
        document.remove(name);
        *self = Self::of(document)?;
        Ok(())
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        self.layout.document.to_text()
    }

    /// The token secret with this refresh token.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is wrong.
    pub fn with_refresh_token(&self, refresh_token: &Secret) -> Result<TokenSecret, SecretProblem> {
        let mut draft = self.clone();
        draft.set(Member::RefreshToken, json_string(refresh_token.expose()))?;
        TokenSecret::parse(draft.layout.document.to_text().expose())
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_written_where_the_document_has_it_or_in_its_style() {
        for (document, expected) in [
            ("{}", r#"{"clientId":"new"}"#),
            (r#"{"client_id":"old","x":1}"#, r#"{"client_id":"new","x":1}"#),
            (r#"{"refresh_token":"r"}"#, r#"{"refresh_token":"r","client_id":"new"}"#),
            (
                r#"{"clientId":"outside","token":{"refresh_token":"r"}}"#,
                r#"{"clientId":"new","token":{"refresh_token":"r"}}"#,
            ),
        ] {
            let mut draft = Draft::parse(document).unwrap();
            draft.set(Member::ClientId, json_string("new")).unwrap();
            assert_eq!(draft.layout.document.to_text().expose(), expected);
        }
    }

    #[test]
    fn a_refresh_token_makes_it_a_token_secret() {
        for (document, expected) in [
            ("{}", r#"{"refreshToken":"r1"}"#),
            (
                r#"{"refresh_token":null,"token_endpoint":"https://id.example"}"#,
                r#"{"refresh_token":"r1","token_endpoint":"https://id.example"}"#,
            ),
            (
                r#"{"memberNames":{"refreshToken":"/a/b"},"a":{"b":"old","c":1}}"#,
                r#"{"memberNames":{"refreshToken":"/a/b"},"a":{"b":"r1","c":1}}"#,
            ),
        ] {
            let token = Draft::parse(document).unwrap().with_refresh_token(&"r1".into()).unwrap();
            assert_eq!(token.tokens.refresh_token(), Some(&"r1".into()));
            assert_eq!(token.to_text().expose(), expected);
        }
    }

    #[test]
    fn a_member_that_is_removed_is_gone_inside_and_outside_of_the_object_with_the_tokens() {
        let mut draft =
            Draft::parse(r#"{"clientId":"outer","token":{"refresh_token":"r","client_id":"inner"}}"#).unwrap();
        draft.remove(Member::ClientId).unwrap();
        assert_eq!(draft.to_text().expose(), r#"{"token":{"refresh_token":"r"}}"#);
    }

    #[test]
    fn debug_shows_no_value() {
        let draft = Draft::parse(r#"{"clientSecret":"hunter2"}"#).unwrap();
        assert!(!format!("{draft:?}").contains("hunter2"));
    }
}
