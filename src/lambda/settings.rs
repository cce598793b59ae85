//! The function's settings, read from the environment and checked at start. Every error names the setting, what was found and what
//! is allowed, and contains no secret.

use std::time::Duration;

use crate::{
    error::InvalidSetting,
    oauth::{client, jwt::PrivateKey},
    protocol::options::{ClaimMode, Options},
    sanitize::sanitize_line,
    secret::Secret,
    sweep::targets::Targets,
    token_secret::{
        client_settings::{ClientSettings, TokenEndpointAuthMethod},
        document::Document,
        member::{KMS_KEY, is_kms_key},
        member_names::MemberNames,
        signing::{JwtSettings, KeySetting, SigningAlgorithm},
    },
};

/// The settings of `docs/settings.md`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `SECRET_ID`: the secrets to run for when the event names none.
    pub targets: Option<Targets>,
    /// `WRITES_PER_SECOND`: the most writes in a second (1 to 50, 40 by default).
    pub writes_per_second: u32,
    /// `METRICS_BY_SECRET`: whether a sweep, too, has metrics for each secret.
    pub metrics_by_secret: bool,
    /// `REFRESH_MARGIN_SECONDS` (60 to 86400, 900 by default), `CLAIM`, and `TOKEN_ENDPOINT`, `CLIENT_ID`, … for what the
    /// secrets leave out.
    pub options: Options,
}

impl Settings {
    /// Reads the settings through `var`, which returns a variable's value. An empty one counts as not set: templates cannot leave
    /// a variable out.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] for the first setting that is wrong.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let secret = |name: &str| var(name).map(Secret::from);

        let refresh_margin = match var("REFRESH_MARGIN_SECONDS") {
            None => Duration::from_mins(15),
            Some(found) => match found.parse() {
                Ok(seconds @ 60..=86_400) => Duration::from_secs(seconds),
                _ => {
                    return Err(InvalidSetting::found(
                        "REFRESH_MARGIN_SECONDS",
                        &found,
                        "a whole number of seconds from 60 to 86400",
                    ));
                }
            },
        };
        let targets = match var("SECRET_ID") {
            None => None,
            Some(found) => Some(Targets::parse(&found).map_err(|problem| {
                InvalidSetting::new(format!("SECRET_ID is \"{}\"; it {problem}", sanitize_line(&found, 64)))
            })?),
        };
        let writes_per_second = match var("WRITES_PER_SECOND") {
            None => 40,
            Some(found) => match found.parse() {
                Ok(writes @ 1..=50) => writes,
                _ => {
                    return Err(InvalidSetting::found("WRITES_PER_SECOND", &found, "a whole number from 1 to 50"));
                }
            },
        };
        let metrics_by_secret = match var("METRICS_BY_SECRET").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(found) => return Err(InvalidSetting::found("METRICS_BY_SECRET", found, "\"true\" or \"false\"")),
        };
        let claim = match var("CLAIM").as_deref() {
            None | Some("always") => ClaimMode::Always,
            Some("never") => ClaimMode::Never,
            Some(found) => return Err(InvalidSetting::found("CLAIM", found, "\"always\" or \"never\"")),
        };
        let token_endpoint_auth_method = match var("TOKEN_ENDPOINT_AUTH_METHOD") {
            None => None,
            Some(found) => Some(TokenEndpointAuthMethod::read(&found).ok_or_else(|| {
                InvalidSetting::found("TOKEN_ENDPOINT_AUTH_METHOD", &found, TokenEndpointAuthMethod::ALLOWED)
            })?),
        };
        let member_names = match var("MEMBER_NAMES") {
            None => MemberNames::default(),
            Some(found) => {
                MemberNames::parse(&found).map_err(|problem| InvalidSetting::new(format!("MEMBER_NAMES {problem}")))?
            }
        };
        let token_endpoint = var("TOKEN_ENDPOINT");
        if let Some(found) = &token_endpoint {
            client::endpoint(found).map_err(|problem| InvalidSetting::new(format!("TOKEN_ENDPOINT {problem}")))?;
        }
        Ok(Self {
            targets,
            writes_per_second,
            metrics_by_secret,
            options: Options {
                refresh_margin,
                claim,
                client: ClientSettings {
                    token_endpoint: token_endpoint.map(Secret::from),
                    client_id: secret("CLIENT_ID"),
                    client_secret: secret("CLIENT_SECRET"),
                    token_endpoint_auth_method,
                    client_credentials_secret_id: var("CLIENT_CREDENTIALS_SECRET_ID"),
                    signing: signing_from_vars(var)?,
                    ..ClientSettings::default()
                },
                member_names,
            },
        })
    }
}

/// What signs JWTs for the secrets that name no key.
fn signing_from_vars(var: impl Fn(&str) -> Option<String>) -> Result<JwtSettings, InvalidSetting> {
    let algorithm = match var("SIGNING_ALGORITHM") {
        None => None,
        Some(found) => Some(
            SigningAlgorithm::read(&found)
                .ok_or_else(|| InvalidSetting::found("SIGNING_ALGORITHM", &found, SigningAlgorithm::ALLOWED))?,
        ),
    };
    let key = match (var("PRIVATE_KEY").map(Secret::from), var("SIGNING_KMS_KEY_ID")) {
        (Some(_), Some(_)) => {
            return Err(InvalidSetting::new("PRIVATE_KEY and SIGNING_KMS_KEY_ID are both set; allowed is one of them"));
        }
        (Some(pem), None) => {
            let key = PrivateKey::read(pem.clone(), algorithm);
            key.map_err(|problem| InvalidSetting::new(format!("PRIVATE_KEY {problem}")))?;
            Some(KeySetting::Private(pem))
        }
        (None, Some(id)) if !is_kms_key(&id) => {
            // The value may be a private key.
            return Err(InvalidSetting::new(format!("SIGNING_KMS_KEY_ID is not allowed; allowed is {KMS_KEY}")));
        }
        (None, id) => id.map(KeySetting::Kms),
    };
    let assertion_claims = match var("ASSERTION_CLAIMS") {
        None => Document::default(),
        Some(found) => Document::parse(&found).map_err(|_| {
            InvalidSetting::new("ASSERTION_CLAIMS is not a JSON object; allowed is an object of claims")
        })?,
    };
    Ok(JwtSettings { key, key_id: var("KEY_ID"), algorithm, assertion_claims, ..JwtSettings::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, InvalidSetting> {
        Settings::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let settings = read(&[("SECRET_ID", ""), ("CLAIM", " ")]).unwrap();
        assert_eq!(settings.targets, None);
        assert_eq!((settings.writes_per_second, settings.metrics_by_secret), (40, false));
        assert_eq!(settings.options.refresh_margin, Duration::from_mins(15));
        assert_eq!(settings.options.claim, ClaimMode::Always);
    }

    #[test]
    fn the_margin_is_60_to_86400_seconds() {
        for (found, seconds) in
            [("60", Some(60)), ("86400", Some(86_400)), ("59", None), ("86401", None), ("15m", None)]
        {
            let margin =
                read(&[("REFRESH_MARGIN_SECONDS", found)]).map(|settings| settings.options.refresh_margin.as_secs());
            let allowed = "a whole number of seconds from 60 to 86400";
            let expected = seconds.ok_or_else(|| InvalidSetting::found("REFRESH_MARGIN_SECONDS", found, allowed));
            assert_eq!(margin, expected, "{found}");
        }
    }

    #[test]
    fn one_to_fifty_writes_are_allowed_in_a_second() {
        for (found, writes) in
            [("1", Some(1)), ("50", Some(50)), ("0", None), ("51", None), ("-1", None), ("2.5", None)]
        {
            let read = read(&[("WRITES_PER_SECOND", found)]).map(|settings| settings.writes_per_second);
            let allowed = "a whole number from 1 to 50";
            let expected = writes.ok_or_else(|| InvalidSetting::found("WRITES_PER_SECOND", found, allowed));
            assert_eq!(read, expected, "{found}");
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
                 \"client_secret_basic\", \"client_secret_basic_raw\", \"none\", \"private_key_jwt\", \"bearer_jwt\"",
            ),
            ("METRICS_BY_SECRET", "yes", "METRICS_BY_SECRET is \"yes\"; allowed is \"true\" or \"false\""),
            (
                "SECRET_ID",
                "crm,",
                "SECRET_ID is \"crm,\"; it contains an empty name; allowed are names, ARNs and prefixes such as \"myapp/prod/*\", with commas \
                 between them",
            ),
            (
                "MEMBER_NAMES",
                r#"{"token":"/a"}"#,
                "MEMBER_NAMES contains `token`, which is not a member of a token secret",
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
        let settings = read(&[("CLIENT_SECRET", "hunter2"), ("CLIENT_ID", "id-of-client")]).unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("id-of-client"), "a secret is shown");
    }
}
