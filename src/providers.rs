//! What is known of providers, by name. The facts are in `providers/profiles.toml`; `build.rs` compiles what the function needs of them.
//! Sends nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A line for each provider: its name, a blank, and JSON.
const PROFILES: &str = include_str!(concat!(env!("OUT_DIR"), "/profiles"));

/// What is known of a provider, as far as a refresh needs it. Each member is missing if nobody has read it in the provider's own
/// documentation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The token endpoint, perhaps with `{variables}`.
    pub token_endpoint: String,
    /// How the client authenticates.
    pub token_endpoint_auth_method: Option<String>,
    /// The format of the request's body.
    pub token_request_format: Option<String>,
    /// Parameters of the request, perhaps with `{variables}`.
    #[serde(default)]
    pub refresh_parameters: BTreeMap<String, String>,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The lifetime of an access token if a response names none, in seconds.
    pub default_lifetime_seconds: Option<u64>,
    /// How long a refresh token that was exchanged is still accepted, in seconds.
    pub grace_seconds: Option<u64>,
    /// After how many seconds without use a refresh token ends.
    pub refresh_token_idle_seconds: Option<u64>,
    /// How many seconds each refresh token lives, counted from its issue.
    pub refresh_token_lifetime_seconds: Option<u64>,
    /// The variables of its addresses and parameters.
    #[serde(default)]
    pub variables: BTreeMap<String, Variable>,
    /// What leads to a first token. Only `tokenctl` needs it.
    #[cfg(feature = "cli")]
    #[serde(default)]
    pub login: Login,
}

/// What leads to a first token (`docs/adding-a-provider.md` explains each member), and what ends one.
#[cfg(feature = "cli")]
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Login {
    /// The name that people know.
    pub title: String,
    /// The grant, if it is not a refresh token.
    pub grant_type: Option<String>,
    /// The authorization endpoint, perhaps with `{variables}`, like the other endpoints.
    pub authorization_endpoint: Option<String>,
    /// Where the code is exchanged.
    pub token_endpoint: Option<String>,
    /// The device authorization endpoint.
    pub device_authorization_endpoint: Option<String>,
    /// The revocation endpoint.
    pub revocation_endpoint: Option<String>,
    /// Whether a challenge may be sent.
    pub pkce: Option<Pkce>,
    /// What is between scopes, if it is not a blank.
    pub scope_separator: Option<String>,
    /// The scopes that bring a refresh token.
    pub offline_scopes: Vec<String>,
    /// The parameters of the authorization request that bring one.
    pub offline_parameters: BTreeMap<String, String>,
    /// Parameters of the exchange of the code.
    pub exchange_parameters: BTreeMap<String, String>,
    /// Parameters of the redirect that an application needs later.
    pub keep_from_redirect: Vec<String>,
}

/// Whether a provider takes a PKCE challenge (RFC 7636).
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pkce {
    /// It demands one.
    Required,
    /// It takes one.
    Allowed,
    /// It rejects a request with one.
    Refused,
}

/// Why a variable cannot be filled. `what` continues a sentence that begins with the variable.
#[derive(Debug, PartialEq, Eq)]
pub struct VariableProblem {
    /// Its name.
    pub variable: String,
    /// What is wrong.
    pub what: String,
}

/// A variable of an address.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Variable {
    /// What it is, for people.
    pub description: String,
    /// Its value if none is given.
    pub default: Option<String>,
    /// Which characters it may have.
    pub form: Option<Form>,
    /// All values that it may have.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// One of these must be its end.
    #[serde(default)]
    pub ends_with: Vec<String>,
}

/// The characters of a variable. Each form stays in its place: no value of it can change another part of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Digits.
    Digits,
    /// A part of a host name: no dot.
    Label,
    /// A part of a path: no slash, and not only dots.
    PathSegment,
    /// A host name.
    Host,
    /// A host name, perhaps with a port.
    HostAndPort,
}

impl Profile {
    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let json = PROFILES.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        serde_json::from_str(json).ok()
    }

    /// All names, in alphabetical order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROFILES.lines().filter_map(|line| Some(line.split_once(' ')?.0))
    }

    /// Fills the variables of a text. `given`: the value of a variable.
    ///
    /// # Errors
    ///
    /// [`VariableProblem`] for the first variable that cannot be filled.
    pub fn fill<'a>(
        &'a self,
        template: &str,
        given: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<String, VariableProblem> {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            let unknown = || VariableProblem { variable: name.to_owned(), what: "is unknown".to_owned() };
            let variable = self.variables.get(name).ok_or_else(unknown)?;
            let value = given(name).or(variable.default.as_deref());
            let wrong = |what: &str| VariableProblem {
                variable: name.to_owned(),
                what: format!("{what}: {}", variable.description),
            };
            let value = value.ok_or_else(|| wrong("is missing"))?;
            if !variable.allows(value) {
                return Err(wrong("is not allowed"));
            }
            filled.extend([before, value]);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

impl Variable {
    /// Whether it may have this value.
    #[must_use]
    pub fn allows(&self, value: &str) -> bool {
        let ends_well = self.ends_with.is_empty() || self.ends_with.iter().any(|end| value.ends_with(end.as_str()));
        match self.form {
            Some(form) => ends_well && form.allows(value),
            None => self.one_of.iter().any(|one| one == value),
        }
    }
}

impl Form {
    fn allows(self, value: &str) -> bool {
        const MAX_BYTES: usize = 253;
        let is_label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_host = |text: &str| text.len() <= MAX_BYTES && text.split('.').all(is_label);
        match self {
            Self::Digits => is_digits(value) && value.len() <= 20,
            Self::Label => is_label(value),
            Self::PathSegment => {
                let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
                value.len() <= MAX_BYTES && value.bytes().all(is_allowed) && value.bytes().any(|byte| byte != b'.')
            }
            Self::Host => is_host(value),
            Self::HostAndPort => match value.split_once(':') {
                Some((host, port)) => is_host(host) && is_digits(port) && port.len() <= 5,
                None => is_host(value),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_values() {
        let long = "a".repeat(64);
        for (form, allowed, rejected) in [
            (Form::Digits, &["7", "12345678901234567890"][..], &["", "a", "-1", "1.0", "123456789012345678901"][..]),
            (Form::Label, &["a", "dev-1", "A_b"], &["", "a.b", "a b", "a/b", "ä", &long]),
            (
                Form::PathSegment,
                &["common", "contoso.onmicrosoft.com", "a_b-c"],
                &["", ".", "..", "a/b", "a%2fb", "a b"],
            ),
            (
                Form::Host,
                &["id.example", "localhost", "a-b.c_d.example"],
                &["", ".", "a..b", "a.", "a:1", "a/b", "a@b"],
            ),
            (Form::HostAndPort, &["id.example", "id.example:8443"], &["", "a:", "a:b", "a:123456", "a:1:2", ":1"]),
        ] {
            for value in allowed {
                assert!(form.allows(value), "{form:?} {value}");
            }
            for value in rejected {
                assert!(!form.allows(value), "{form:?} {value}");
            }
        }
    }

    #[test]
    fn a_variable_with_a_list_or_with_ends_has_no_other_values() {
        let variable = |json: &str| serde_json::from_str::<Variable>(json).unwrap();
        let one_of = variable(r#"{"description": "d", "oneOf": ["us", "eu"]}"#);
        let ends = variable(r#"{"description": "d", "form": "host", "endsWith": [".vendor.example"]}"#);
        for (variable, value, is_allowed) in [
            (&one_of, "eu", true),
            (&one_of, "EU", false),
            (&one_of, "", false),
            (&ends, "a.vendor.example", true),
            (&ends, "a.b.vendor.example", true),
            (&ends, ".vendor.example", false),
            (&ends, "a.vendor.example.evil.example", false),
            (&ends, "avendor.example", false),
        ] {
            assert_eq!(variable.allows(value), is_allowed, "{value}");
        }
    }

    #[test]
    fn a_default_fills_a_variable_that_is_not_given() {
        let profile: Profile = serde_json::from_str(
            r#"{"tokenEndpoint": "https://{host}.example/{tenant}/token", "variables":
               {"host": {"description": "the host", "form": "label"}, "tenant": {"description": "t", "form": "label", "default": "common"}}}"#,
        )
        .unwrap();
        let fill = |given: &[(&str, &'static str)]| {
            let given = given.to_vec();
            profile.fill(&profile.token_endpoint, move |name| {
                given.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
            })
        };
        assert_eq!(fill(&[("host", "id")]), Ok("https://id.example/common/token".to_owned()));
        assert_eq!(fill(&[("host", "id"), ("tenant", "a")]), Ok("https://id.example/a/token".to_owned()));
        let problem =
            |what: &str| Err(VariableProblem { variable: "host".to_owned(), what: format!("{what}: the host") });
        assert_eq!(fill(&[]), problem("is missing"));
        assert_eq!(fill(&[("host", "a.b")]), problem("is not allowed"));
    }
}
