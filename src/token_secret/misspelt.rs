//! Members that are probably misspelt: almost one of ours, and without effect. The document is not changed. The run reports these
//! members as warnings.

use super::{TokenSecret, document::letters, layout::Layout, member::Member};
use crate::sanitize::sanitize_line;

/// Names that other programs use and that are almost ours, in lower case without separators.
const KNOWN_NAMES: [&str; 6] = [
    "scopes",                // google-auth, oauth2client, Nango
    "refreshtokenexpiresin", // GitHub, HubSpot
    "tokentypes",            // RFC 8693's lists
    "granttypes",            // RFC 7591
    "clientids",
    "clientsecrets",
];

/// How many a report has at most.
const MAX_WARNINGS: usize = 5;

impl TokenSecret {
    /// A sentence for each member without effect whose name is almost one of ours.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warning = |(found, meant)| {
            format!("the member `{found}` of the token secret has no effect; `{meant}` is probably meant")
        };
        let mut warnings: Vec<String> = Vec::new();
        for warning in self.misspelt().map(warning) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            if warnings.len() == MAX_WARNINGS {
                break;
            }
        }
        warnings
    }

    /// The names that were found, and ours.
    fn misspelt(&self) -> impl Iterator<Item = (String, &'static str)> {
        self.layout.other_names().into_iter().filter_map(|name| {
            let member = intended_member(&letters(&name), &self.layout)?;
            Some((sanitize_line(&name, 64), member.name(self.layout.style)))
        })
    }
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
    fn nothing_is_said_of_a_member_that_is_there_under_its_own_name() {
        assert_eq!(misspelt(r#""clientId":"c","clientID":"d""#), []);
    }
}
