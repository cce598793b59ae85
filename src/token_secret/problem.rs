//! What is wrong with a secret, in words that contain no value.

use std::fmt;

use super::{
    document::{Document, NotADocument, is_filled_string, is_nothing},
    member::Member,
    place::Place,
};

/// Why a document is not a token secret or a client's secret. Names members and types, and never quotes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretProblem {
    /// It is not a JSON object.
    NotADocument(NotADocument),
    /// It contains bytes, not text.
    Binary,
    /// The refresh token is missing, null or empty.
    NoRefreshToken {
        /// Where it is looked for.
        member: Place,
        /// Whether `memberNames` or the setting `MEMBER_NAMES` names that place.
        is_named: bool,
        /// Whether a `grantType` says that it is needed.
        has_grant_type: bool,
        /// A name that is probably a misspelt `grantType`.
        misspelt_grant_type: Option<String>,
        /// Members that look like it.
        similar: Vec<SimilarTokens>,
    },
    /// It is the key file of a service account, and nothing says what its tokens are for.
    KeyFileWithoutClaims,
    /// A member has a value of a wrong type or form.
    WrongType {
        /// The member's name, as in the secret.
        member: String,
        /// The type that was found, with its article.
        found: &'static str,
        /// The allowed values.
        wanted: &'static str,
    },
    /// A member appears twice: under the same name, or under both its names.
    Duplicate(String, String),
    /// Two objects have a refresh token.
    TwoRefreshTokens(Place, Place),
    /// `memberNames` is wrong. The text continues a sentence that begins with it.
    MemberNames(String),
    /// A variable of the provider's addresses is missing or wrong.
    ProviderParameter {
        /// The member's name, as in the secret.
        member: String,
        /// What is wrong: the message continues with it.
        what: String,
    },
    /// A token, an id, a secret or an address has white space that cannot belong to it.
    WhiteSpace {
        /// The member's name, as in the secret.
        member: String,
        /// Which white space, and where: the message continues with it.
        what: String,
    },
}

/// Names whose presence shows that a text was meant as a token secret.
const NAMES_OF_TOKEN_SECRETS: [&str; 6] =
    ["refreshToken", "refresh_token", "grantType", "grant_type", "assertionClaims", "assertion_claims"];

impl SecretProblem {
    /// Whether the text is a token secret with this problem, or nothing that the refresher has to do with: it has neither a refresh
    /// token nor a `grantType`, also not a misspelt one beside a client's settings. If it is not JSON, it names neither.
    #[must_use]
    pub fn is_of_token_secret(&self, text: &str) -> bool {
        match self {
            Self::NotADocument(NotADocument::NotJson { .. }) => {
                NAMES_OF_TOKEN_SECRETS.iter().any(|name| text.contains(name))
            }
            Self::NotADocument(_) | Self::Binary | Self::KeyFileWithoutClaims => false,
            Self::NoRefreshToken { misspelt_grant_type, .. } => {
                let is_there =
                    |document: &Document, name: &&str| document.get(name).is_some_and(|value| !is_nothing(value));
                misspelt_grant_type.is_some()
                    || Document::parse(text).is_ok_and(|document| {
                        let names = [
                            "grantType",
                            "grant_type",
                            "memberNames",
                            "member_names",
                            "assertionClaims",
                            "assertion_claims",
                        ];
                        names.iter().any(|name| is_there(&document, name))
                    })
            }
            // Each of these is found after the refresh token, or is about it or about `memberNames`.
            Self::WrongType { .. }
            | Self::Duplicate(..)
            | Self::TwoRefreshTokens(..)
            | Self::MemberNames(_)
            | Self::ProviderParameter { .. }
            | Self::WhiteSpace { .. } => true,
        }
    }
}

/// A member that looks like a refresh token, and one beside it that looks like the access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimilarTokens {
    /// The first.
    pub refresh_token: Place,
    /// The second.
    pub access_token: Option<Place>,
}

impl SimilarTokens {
    /// The `memberNames` that name them, if they can be shown.
    fn member_names(&self) -> Option<String> {
        let access_token = match &self.access_token {
            Some(place) => format!(",\"accessToken\":\"{}\"", place.pointer()?),
            None => String::new(),
        };
        Some(format!("{{\"refreshToken\":\"{}\"{access_token}}}", self.refresh_token.pointer()?))
    }
}

/// How deep a document is searched, and how many members a message names.
const MAX_DEPTH: usize = 4;
const MAX_NAMED: usize = 3;

/// Texts in members whose names are like that of a refresh token.
pub(super) fn similar_tokens(document: &Document) -> Vec<SimilarTokens> {
    let mut similar = Vec::new();
    search(document, &mut Vec::new(), &mut similar);
    similar
}

fn search(object: &Document, path: &mut Vec<String>, similar: &mut Vec<SimilarTokens>) {
    for (name, value) in object.members() {
        if similar.len() == MAX_NAMED {
            return;
        }
        path.push(name.to_owned());
        if is_filled_string(value) && is_like(name, "ref") {
            let beside = object.members().find(|(name, value)| is_filled_string(value) && is_like(name, "acc"));
            let access_token =
                beside.and_then(|(name, _)| Place::of_path(&[&path[..path.len() - 1], &[name.to_owned()]].concat()));
            similar.extend(Place::of_path(path).map(|refresh_token| SimilarTokens { refresh_token, access_token }));
        } else if path.len() < MAX_DEPTH
            && Member::of_name(name).is_none()
            && value.starts_with('{')
            && let Ok(inner) = Document::parse(value)
        {
            search(&inner, path, similar);
        }
        path.pop();
    }
}

/// Whether the name is like that of a token: `kind` and `tok` are in it, or `kind` is the start of its last word.
fn is_like(name: &str, kind: &str) -> bool {
    let letters: String = name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
    let is_last_word = ["refresh", "access"].iter().any(|word| word.starts_with(kind) && letters.ends_with(word));
    is_last_word || (letters.contains(kind) && letters.contains("tok"))
}

impl fmt::Display for SecretProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADocument(NotADocument::Empty) => write!(f, "it is empty"),
            Self::NotADocument(NotADocument::NotJson { line, column }) => {
                write!(f, "it is not JSON (from line {line}, column {column} on)")
            }
            Self::NotADocument(NotADocument::NotAnObject { found }) => {
                write!(f, "it is {found}, where a JSON object is wanted")
            }
            Self::Binary => write!(f, "it is binary, where text (SecretString) is wanted"),
            Self::NoRefreshToken { member, is_named, has_grant_type, misspelt_grant_type, similar } => {
                write!(f, "its member `{member}` is missing or empty")?;
                if *is_named {
                    write!(f, ", which `memberNames` or the setting MEMBER_NAMES names")?;
                }
                if !has_grant_type {
                    write!(f, "; without it, the secret needs a `grantType`, such as \"client_credentials\"")?;
                }
                if let Some(name) = misspelt_grant_type {
                    write!(f, "; there is `{name}`, which is probably that")?;
                }
                let Some(first) = similar.first() else { return Ok(()) };
                let names: Vec<String> = similar.iter().map(|similar| similar.refresh_token.to_string()).collect();
                write!(f, "; there is `{}`: if that is it, rename it, or add `memberNames`", names.join("`, `"))?;
                first.member_names().map_or(Ok(()), |member_names| write!(f, ": {member_names}"))
            }
            Self::KeyFileWithoutClaims => write!(
                f,
                "it is the key file of a service account without `assertionClaims`; add them with the scope of its tokens, for example \
                 {{\"scope\":\"https://www.googleapis.com/auth/drive.readonly\"}}"
            ),
            Self::WrongType { member, found, wanted } => {
                write!(f, "its member `{member}` is {found}, where {wanted} is wanted")
            }
            Self::Duplicate(a, b) if a == b => write!(f, "its member `{a}` is there twice; take one out"),
            Self::Duplicate(a, b) => write!(f, "it has both `{a}` and `{b}`; take one out"),
            Self::TwoRefreshTokens(a, b) => {
                write!(f, "it has two refresh tokens, `{a}` and `{b}`; say which one to use with `memberNames`")?;
                let Some(pointer) = a.pointer() else { return Ok(()) };
                write!(f, ", for example {{\"refreshToken\":\"{pointer}\"}}")
            }
            Self::MemberNames(problem) => write!(f, "its `memberNames` {problem}"),
            Self::ProviderParameter { member, what } => write!(f, "its member `{member}` {what}"),
            Self::WhiteSpace { member, what } => write!(f, "its member `{member}` has {what}; take it out"),
        }
    }
}

impl std::error::Error for SecretProblem {}
