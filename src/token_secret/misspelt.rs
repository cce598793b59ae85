//! Members that are probably misspelt: almost one of ours, and without effect. Nothing is changed; a person is told.

use super::{TokenSecret, layout::Layout, member::Member};
use crate::sanitize::sanitize_line;

/// What other programs call members that are like ours, in lower case without separators.
const OF_OTHERS: [&str; 12] = [
    "scopes",                // google-auth, oauth2client, Nango
    "tokenuri",              // google-auth, gcloud
    "tokenurl",              // requests-oauthlib, Nango
    "expires",               // league/oauth2-client
    "expiresin",             // RFC 6749
    "refreshtokenexpiresin", // GitHub, HubSpot
    "tokentypes",            // RFC 8693's lists
    "idtoken",
    "tokens",
    "clientids",
    "clientsecrets",
    "refreshexpiresin", // Keycloak
];

impl TokenSecret {
    /// A sentence for each member without effect whose name is almost one of ours.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warning = |(found, meant)| {
            format!("the member `{found}` of the token secret has no effect; `{meant}` is probably meant")
        };
        self.misspelt().map(warning).collect()
    }

    /// The names that were found, and ours.
    fn misspelt(&self) -> impl Iterator<Item = (String, &'static str)> {
        self.layout.other_names().into_iter().filter_map(|name| {
            let member = meant(&letters(&name), &self.layout)?;
            Some((sanitize_line(&name, 64), member.name(self.layout.style)))
        })
    }
}

/// The member that is meant by a name that is not its own.
fn meant(letters: &str, layout: &Layout) -> Option<Member> {
    if letters.len() < 5 || OF_OTHERS.contains(&letters) || letters.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Member::ALL.into_iter().find(|member| {
        let ours = member.letters();
        // Every name that is as long as ours, and as different as two typing errors, is one of somebody else's.
        let longest = if ours.len() > 12 { 2 } else { 1 };
        letters.len().abs_diff(ours.len()) <= longest
            && strsim::osa_distance(letters, ours) <= longest
            && layout.get(*member).is_none()
    })
}

/// A name in lower case, without separators.
fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
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
