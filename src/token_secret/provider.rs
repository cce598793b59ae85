//! The settings that the profile of a named provider brings (`crate::providers`), beside what a document says itself.

use std::time::Duration;

use super::{
    SecretProblem,
    client_settings::{ClientSettings, TokenEndpointAuthMethod, TokenRequestFormat},
    layout::Layout,
    member::Member,
};
use crate::{providers::Profile, sanitize::sanitize_line, secret::Secret};

/// The provider that a document names.
#[derive(Clone, Debug)]
pub enum NamedProvider {
    /// One with a profile.
    Known(Box<ProfileSettings>),
    /// Another one: its name, for messages.
    Unknown(String),
}

/// What a profile brings.
#[derive(Clone, Debug, Default)]
pub struct ProfileSettings {
    /// The settings of the client.
    pub settings: ClientSettings,
    /// Parameters of each request, unless `extraParameters` has them.
    pub parameters: Vec<(String, String)>,
    /// Headers of each request, unless `extraHeaders` has them.
    pub headers: Vec<(String, String)>,
    /// How long refresh tokens live.
    pub refresh_tokens: RefreshTokenRules,
    /// The names of parameters whose variables cannot be filled.
    pub unfilled: Vec<String>,
    /// Why a variable cannot be filled. It matters only if its address or its parameter is used.
    pub problem: Option<SecretProblem>,
}

/// What is known of a provider's refresh tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshTokenRules {
    /// How long a refresh token that was exchanged is still accepted.
    pub grace: Option<Duration>,
    /// After what time without use it ends.
    pub idle: Option<Duration>,
    /// How long each refresh token lives, counted from its issue.
    pub lifetime: Option<Duration>,
}

/// An end that is nearer is not written: an alarm about it would never end.
const MIN_WATCHED: Duration = Duration::from_hours(14 * 24);

impl RefreshTokenRules {
    /// How long a refresh token lives from now on, after a response that does not say it. `is_new`: whether the response has another one.
    #[must_use]
    pub fn lives_for(&self, is_new: bool) -> Option<Duration> {
        // When the old one was issued is not known.
        let lifetime = self.lifetime.filter(|_| is_new);
        let idle = self.idle.filter(|_| is_new || self.lifetime.is_none());
        let ends = [lifetime, idle].into_iter().flatten().min();
        ends.filter(|ends| *ends >= MIN_WATCHED)
    }
}

impl NamedProvider {
    /// Reads the provider of a document, and fills the variables of its profile.
    ///
    /// # Errors
    ///
    /// A variable is missing, or has a value that it must not have.
    pub(super) fn read(layout: &Layout) -> Result<Option<Self>, SecretProblem> {
        // Other programs have members of this name with other values.
        let name = Member::Provider.parsed_string(layout, "a string", |name| Some(name.to_owned())).ok().flatten();
        let Some(name) = name else { return Ok(None) };
        let Some(profile) = Profile::named(&name.to_ascii_lowercase()) else {
            return Ok(Some(Self::Unknown(sanitize_line(&name, 64))));
        };
        let given = Member::ProviderParameters.strings(layout)?.unwrap_or_default();
        let wrong = |name: &str, what: String| SecretProblem::ProviderParameter {
            member: format!("{}.{}", layout.place_of(Member::ProviderParameters), sanitize_line(name, 64)),
            what,
        };
        if let Some((name, _)) = given.iter().find(|(name, _)| !profile.variables.contains_key(name)) {
            let names: Vec<&str> = profile.variables.keys().map(String::as_str).collect();
            let known =
                if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
            return Err(wrong(name, format!("is no variable of this provider; {known}")));
        }
        let value = |name: &str| given.iter().find(|(own, _)| own == name).map(|(_, value)| value.expose());
        let mut problem = None;
        let mut fill = |template: &str| {
            let filled = profile.fill(template, value).map_err(|problem| wrong(&problem.variable, problem.what));
            filled.map_err(|error| problem.get_or_insert(error).clone()).ok()
        };
        let token_endpoint = fill(&profile.token_endpoint).map(Secret::from);
        let (mut parameters, mut unfilled) = (Vec::new(), Vec::new());
        for (name, template) in &profile.refresh_parameters {
            match fill(template) {
                Some(value) => parameters.push((name.clone(), value)),
                None => unfilled.push(name.clone()),
            }
        }
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let method = profile.token_endpoint_auth_method.as_deref();
        Ok(Some(Self::Known(Box::new(ProfileSettings {
            settings: ClientSettings {
                token_endpoint,
                token_endpoint_auth_method: method.and_then(TokenEndpointAuthMethod::read),
                token_request_format: profile.token_request_format.as_deref().and_then(TokenRequestFormat::read),
                default_lifetime: seconds(profile.default_lifetime_seconds),
                ..ClientSettings::default()
            },
            parameters,
            unfilled,
            headers: profile.headers.into_iter().collect(),
            refresh_tokens: RefreshTokenRules {
                grace: seconds(profile.grace_seconds),
                idle: seconds(profile.refresh_token_idle_seconds),
                lifetime: seconds(profile.refresh_token_lifetime_seconds),
            },
            problem,
        }))))
    }

    /// The token endpoint of the profile.
    pub(super) fn token_endpoint(&self) -> Option<Secret> {
        match self {
            Self::Known(profile) => profile.settings.token_endpoint.clone(),
            Self::Unknown(_) => None,
        }
    }

    /// Of the providers of two places the first, but a known one before an unknown one.
    pub(super) fn merged(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(Self::Unknown(_)), Some(second @ Self::Known(_))) => Some(second),
            (first, second) => first.or(second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_refresh_token_follows_from_the_rules_if_it_is_far_enough() {
        let days = |days: u64| Some(Duration::from_hours(24 * days));
        for (idle, lifetime, is_new, expected) in [
            (None, None, true, None),
            (days(60), None, true, days(60)),
            (days(60), None, false, days(60)),
            (days(7), None, true, None),
            (days(13), None, false, None),
            (days(14), None, false, days(14)),
            (None, days(365), true, days(365)),
            // When it was issued is not known.
            (None, days(365), false, None),
            (days(60), days(365), false, None),
            (days(60), days(365), true, days(60)),
            (days(60), days(30), true, days(30)),
        ] {
            let rules = RefreshTokenRules { grace: None, idle, lifetime };
            assert_eq!(rules.lives_for(is_new), expected, "{idle:?} {lifetime:?} {is_new}");
        }
    }
}
