//! Members that have no effect, although a person probably meant them to: their name is almost one of ours, or they are in the wrong
//! place. The document is not changed. The run reports these members as warnings.

use super::{
    Grant, TokenSecret,
    document::{is_nothing, letters},
    layout::Layout,
    member::Member,
    provider::NamedProvider,
};
use crate::sanitize::sanitize_line;

/// Names that other programs use and that are almost ours, in lower case without separators.
const KNOWN_NAMES: [&str; 8] = [
    "providers",
    "provided",
    "scopes",                // google-auth, oauth2client, Nango
    "refreshtokenexpiresin", // GitHub, HubSpot
    "tokentypes",            // RFC 8693's lists
    "granttypes",            // RFC 7591
    "clientids",
    "clientsecrets",
];

impl TokenSecret {
    /// How many warnings a report has at most.
    pub const MAX_WARNINGS: usize = 5;

    /// A sentence for each member without effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warning = |(found, meant)| {
            format!("the member `{found}` of the token secret has no effect; `{meant}` is probably meant")
        };
        let mut warnings: Vec<String> = self.unsent_scope().into_iter().collect();
        // Without any endpoint, it is an error.
        if let Some(NamedProvider::Unknown(name)) = &self.client.provider {
            let list = "docs/providers.md";
            warnings.push(format!(
                "the `provider` \"{name}\" of the token secret has no effect: it is not one of those in {list}"
            ));
        }
        for warning in self.misspelt().map(warning) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            if warnings.len() == Self::MAX_WARNINGS {
                break;
            }
        }
        warnings
    }

    /// A sentence if a person has put the scopes of a first request where those of the last response are. A refresh token has its
    /// scopes from the person's consent.
    fn unsent_scope(&self) -> Option<String> {
        let is_first = matches!(self.tokens.grant, Grant::Other(_)) && self.tokens.access_token.is_none();
        let is_sent = self.client.extra_parameters.iter().flatten().any(|(name, _)| name == "scope");
        let has_scope = self.layout.get(Member::Scope).is_some_and(|scope| !is_nothing(&scope));
        let parameters = Member::ExtraParameters.name(self.layout.style);
        (is_first && !is_sent && has_scope)
            .then(|| format!("the member `scope` of the token secret is not sent; put it into `{parameters}`"))
    }

    /// The names that were found, and ours.
    fn misspelt(&self) -> impl Iterator<Item = (String, &'static str)> {
        misspelt(&self.layout).map(|(name, member)| (name, member.name(self.layout.style)))
    }
}

/// A misspelt `grantType` beside a client's settings: the document is meant as a token secret.
pub(super) fn misspelt_grant_type(layout: &Layout) -> Option<String> {
    let has_client = layout.get(Member::TokenEndpoint).is_some() || layout.get(Member::ClientId).is_some();
    let mut misspelt = misspelt(layout).filter(|_| has_client);
    misspelt.find_map(|(name, member)| (member == Member::GrantType).then_some(name))
}

/// The names that were found, and the members that are meant.
fn misspelt(layout: &Layout) -> impl Iterator<Item = (String, Member)> {
    layout.other_names().into_iter().filter_map(|name| {
        let member = intended_member(&letters(&name), layout)?;
        Some((sanitize_line(&name, 64), member))
    })
}

/// Whether the document is of a client that signs JWTs. In others, such names are those of other programs.
fn signs_jwts(layout: &Layout) -> bool {
    let text = |member: Member| layout.get(member).map(|value| value.to_owned()).unwrap_or_default();
    text(Member::GrantType).ends_with("jwt-bearer\"") || text(Member::TokenEndpointAuthMethod).ends_with("_jwt\"")
}

/// The member that is meant by a name that is not its own.
fn intended_member(letters: &str, layout: &Layout) -> Option<Member> {
    if letters.len() < 5 || KNOWN_NAMES.contains(&letters) || letters.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Member::ALL.into_iter().find(|member| {
        let ours = member.letters();
        // Two errors only in a long name: two errors turn a short one into another program's word.
        let max_errors = if ours.len() > 12 { 2 } else { 1 };
        letters.len().abs_diff(ours.len()) <= max_errors
            && strsim::osa_distance(letters, ours) <= max_errors
            && layout.get(*member).is_none()
            && (!member.is_for_jwts() || signs_jwts(layout))
            && *member != Member::Provider
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misspelt(members: &str) -> Vec<(String, &'static str)> {
        TokenSecret::parse(&format!(r#"{{"refreshToken":"r",{members}}}"#)).unwrap().misspelt().collect()
    }

    #[test]
    fn a_name_that_is_almost_one_of_ours_is_found() {
        for (name, ours) in [
            ("refreshMarginSecond", "refreshMarginSeconds"),
            ("refreshMarginsSeconds", "refreshMarginSeconds"),
            ("publishto", "publishTo"),
            ("PublishTo", "publishTo"),
            ("publish-to", "publishTo"),
            ("tokenEndpiont", "tokenEndpoint"),
            ("token_endpont", "tokenEndpoint"),
            ("acess_token", "accessToken"),
            ("clientID", "clientId"),
            ("cilentSecret", "clientSecret"),
            ("extraHeader", "extraHeaders"),
            ("expireAt", "expiresAt"),
            ("tokenEndpointAuthMethods", "tokenEndpointAuthMethod"),
            ("memberName", "memberNames"),
        ] {
            assert_eq!(misspelt(&format!(r#""{name}":"x""#)), [(name.to_owned(), ours)], "{name}");
        }
    }

    #[test]
    fn a_name_of_another_program_is_not() {
        for name in [
            "scopes",
            "token_uri",
            "token_url",
            "tokenUrl",
            "expires",
            "expiry",
            "expiry_date",
            "expires_in",
            "expires_on",
            "token",
            "tokens",
            "id_token",
            "idToken",
            "created_at",
            "createdAt",
            "type",
            "client",
            "client_email",
            "clientIds",
            "user_id",
            "account",
            "api_domain",
            "instance_url",
            "issued_at",
            "ext_expires_in",
            "refresh_token_expires_in",
            "x_refresh_token_expires_in",
            "realmId",
            "refreshToken2",
            "tenant_id",
            "token_expiry",
            "token_info_uri",
            "token_response2",
            "last_updated",
            "session_state",
            "universe_domain",
            "quota_project_id",
            "redirect_uri",
            "app_secret",
            "consumer_secret",
            "developer_token",
            "auth_uri",
            "note",
            "updated_at",
            "accessTokenExpiresAt",
            "IssuedUtc",
            "auth_time",
            "private_key",
        ] {
            assert_eq!(misspelt(&format!(r#""{name}":"x""#)), [], "{name}");
        }
    }

    #[test]
    fn a_misspelt_grant_type_beside_a_client_makes_a_token_secret() {
        let client = r#""tokenEndpoint":"https://id.example","clientId":"c""#;
        for (document, expected) in [
            (format!(r#"{{"grant_tpye":"client_credentials",{client}}}"#), Some("grant_tpye")),
            (format!(r#"{{"granttype":"client_credentials",{client}}}"#), Some("granttype")),
            (r#"{"GrantType":"client_credentials","clientId":"c"}"#.to_owned(), Some("GrantType")),
            (r#"{"grantTyp":"client_credentials","token_endpoint":"e"}"#.to_owned(), Some("grantTyp")),
            // Nothing shows that it is about OAuth.
            (r#"{"grant_tpye":"student","amount":5}"#.to_owned(), None),
            // A client's secret, with and without RFC 7591's list.
            (format!(r#"{{"grant_types":["client_credentials"],{client}}}"#), None),
            (format!("{{{client}}}"), None),
        ] {
            let problem = TokenSecret::parse(&document).unwrap_err();
            assert_eq!(problem.is_of_token_secret(&document), expected.is_some(), "{document}");
            let words =
                expected.map(|name| format!("\"client_credentials\"; there is `{name}`, which is probably that"));
            assert!(problem.to_string().ends_with(words.as_deref().unwrap_or("\"client_credentials\"")), "{problem}");
        }
    }

    #[test]
    fn a_scope_that_is_not_sent_is_named_until_there_is_a_token() {
        let in_camel_case = "the member `scope` of the token secret is not sent; put it into `extraParameters`";
        let in_snake_case = "the member `scope` of the token secret is not sent; put it into `extra_parameters`";
        for (document, warning) in [
            (r#"{"grantType":"client_credentials","scope":"a"}"#, Some(in_camel_case)),
            (r#"{"grant_type":"client_credentials","scope":["a"]}"#, Some(in_snake_case)),
            (
                r#"{"grantType":"client_credentials","scope":"a","extraParameters":{"audience":"b"}}"#,
                Some(in_camel_case),
            ),
            (r#"{"grantType":"client_credentials","scope":"a","extraParameters":{"scope":"a"}}"#, None),
            (r#"{"grantType":"client_credentials","scope":""}"#, None),
            (r#"{"grantType":"client_credentials"}"#, None),
            // It may be that of the last response.
            (r#"{"grantType":"client_credentials","scope":"a","accessToken":"t"}"#, None),
            (r#"{"refreshToken":"r","scope":"a"}"#, None),
        ] {
            assert_eq!(
                TokenSecret::parse(document).unwrap().warnings(),
                warning.into_iter().collect::<Vec<_>>(),
                "{document}"
            );
        }
    }

    #[test]
    fn nothing_is_said_of_a_member_that_is_there_under_its_own_name() {
        assert_eq!(misspelt(r#""clientId":"c","clientID":"d""#), []);
    }
}
