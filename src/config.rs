//! The function's settings, read from the environment and checked at start. Every problem names the setting, what was
//! found and what is allowed; a secret's value is never shown.

use std::time::Duration;

use crate::{
    error::Error,
    oauth::request,
    secret::Secret,
    setting::InvalidSetting,
    token_secret::client_settings::{ClientSettings, TokenEndpointAuthMethod},
};

/// The settings of section "Settings" of the README.
#[derive(Clone, Debug)]
pub struct Config {
    /// `SECRET_ID`: the secret to use when the event names none.
    pub secret_id: Option<String>,
    /// `REFRESH_MARGIN_SECONDS`: how long before expiry a refresh starts; 60 to 86400, 900 by default.
    pub refresh_margin: Duration,
    /// `CLAIM`.
    pub claim: Claim,
    /// `TOKEN_ENDPOINT`, `CLIENT_ID`, …: for what the secret leaves out.
    pub client: ClientSettings,
}

/// `CLAIM`: whether a run takes a claim before it exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Claim {
    /// Two versions a refresh; no two runs exchange the same token.
    #[default]
    Always,
    /// One version a refresh, for tokens of under about 45 minutes; something else must serialise the runs.
    Never,
}

impl Config {
    /// Reads the settings through `var`, which answers a variable's value. An empty one counts as not set: templates
    /// cannot leave a variable out.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfiguration`] for the first setting that is wrong.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let secret = |name: &str| var(name).map(Secret::from);

        let refresh_margin = match var("REFRESH_MARGIN_SECONDS") {
            None => Duration::from_mins(15),
            Some(found) => match found.parse() {
                Ok(seconds @ 60..=86_400) => Duration::from_secs(seconds),
                _ => return Err(bad("REFRESH_MARGIN_SECONDS", &found, "a whole number of seconds from 60 to 86400")),
            },
        };
        let claim = match var("CLAIM").as_deref() {
            None | Some("always") => Claim::Always,
            Some("never") => Claim::Never,
            Some(found) => return Err(bad("CLAIM", found, "\"always\" or \"never\"")),
        };
        let token_endpoint_auth_method = match var("TOKEN_ENDPOINT_AUTH_METHOD") {
            None => None,
            Some(found) => Some(
                TokenEndpointAuthMethod::read(&found)
                    .ok_or_else(|| bad("TOKEN_ENDPOINT_AUTH_METHOD", &found, TokenEndpointAuthMethod::ALLOWED))?,
            ),
        };
        let token_endpoint = var("TOKEN_ENDPOINT");
        if let Some(found) = &token_endpoint {
            request::endpoint(found)
                .map_err(|problem| Error::InvalidConfiguration { problem: format!("TOKEN_ENDPOINT {problem}") })?;
        }
        Ok(Self {
            secret_id: var("SECRET_ID"),
            refresh_margin,
            claim,
            client: ClientSettings {
                token_endpoint: token_endpoint.map(Secret::from),
                client_id: secret("CLIENT_ID"),
                client_secret: secret("CLIENT_SECRET"),
                token_endpoint_auth_method,
                client_credentials_secret_id: var("CLIENT_CREDENTIALS_SECRET_ID"),
                ..ClientSettings::default()
            },
        })
    }
}

/// The error for a setting that is not understood.
pub(crate) fn bad(name: &str, found: &str, allowed: &str) -> Error {
    InvalidSetting::found(name, found, allowed).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, Error> {
        Config::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let config = read(&[("SECRET_ID", ""), ("CLAIM", " ")]).unwrap();
        assert_eq!(config.secret_id, None);
        assert_eq!(config.refresh_margin, Duration::from_mins(15));
        assert_eq!(config.claim, Claim::Always);
    }

    #[test]
    fn the_margin_is_60_to_86400_seconds() {
        for (found, seconds) in
            [("60", Some(60)), ("86400", Some(86_400)), ("59", None), ("86401", None), ("15m", None)]
        {
            let margin = read(&[("REFRESH_MARGIN_SECONDS", found)]).map(|config| config.refresh_margin.as_secs());
            let expected = seconds.ok_or_else(|| Error::InvalidConfiguration {
                problem: format!(
                    "REFRESH_MARGIN_SECONDS is \"{found}\"; allowed is a whole number of seconds from 60 to 86400"
                ),
            });
            assert_eq!(margin, expected, "{found}");
        }
    }

    #[test]
    fn a_bad_setting_is_named_with_what_was_found_and_what_is_allowed() {
        for (name, found, problem) in [
            ("CLAIM", "sometimes", "CLAIM is \"sometimes\"; allowed is \"always\" or \"never\""),
            (
                "TOKEN_ENDPOINT_AUTH_METHOD",
                "basic",
                "TOKEN_ENDPOINT_AUTH_METHOD is \"basic\"; allowed is one of \"client_secret_post\", \
                 \"client_secret_basic\", \"none\"",
            ),
            (
                "TOKEN_ENDPOINT",
                "http://id.example/token",
                "TOKEN_ENDPOINT is http to id.example; allowed is https, or http to a loopback address",
            ),
        ] {
            assert_eq!(read(&[(name, found)]).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = read(&[("CLIENT_SECRET", "hunter2"), ("CLIENT_ID", "id-of-client")]).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("id-of-client"), "a secret is shown");
    }
}
