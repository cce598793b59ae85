//! What is known of the authorization server: from the options, the secret, the issuer's metadata and the provider's profile, in this
//! order.

use std::collections::BTreeMap;

use reqwest::{Method, Request, Url};
use serde::{Deserialize, Serialize};

use super::{Context, arguments::LoginArguments, failure::Failure, fetch};
use crate::{
    oauth::client,
    providers::{Pkce, Profile},
    token_secret::{document::Document, draft::Draft, member::Member},
};

/// People copy the address of the metadata in place of the issuer.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// The member of a token secret with the settings of its login.
pub(super) const LOGIN_SETTINGS: &str = "loginSettings";

/// What a login needs besides the client. It is stored in the secret, so that the next login needs no options.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LoginSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_from_redirect: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// Whether the way back is the device flow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub device: bool,
    /// Whether PKCE is off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_pkce: bool,
}

impl LoginSettings {
    /// Reads those of a secret.
    pub(super) fn of(draft: &Draft, secret_id: &str) -> Result<Self, Failure> {
        let Some(json) = draft.other(LOGIN_SETTINGS).filter(|json| *json != "null") else { return Ok(Self::default()) };
        // A document whose members are all strings has the object as a string.
        let inner = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
        serde_json::from_str(&inner).map_err(|_| {
            Failure::person(format!(
                "secret `{secret_id}` cannot be used: its member `{LOGIN_SETTINGS}` is not what tokenctl writes there; remove it"
            ))
        })
    }

    /// The settings of the secret, changed by the options.
    pub(super) fn with(mut self, arguments: &LoginArguments) -> Self {
        if arguments.provider.is_some() || arguments.issuer.is_some() || arguments.authorization_endpoint.is_some() {
            // They say where the server is.
            (self.issuer, self.authorization_endpoint, self.device_authorization_endpoint) = (None, None, None);
        }
        let set = |own: &mut Option<String>, option: &Option<String>| {
            if option.is_some() {
                own.clone_from(option);
            }
        };
        let issuer = arguments.issuer.as_ref().map(|issuer| issuer.trim_end_matches(WELL_KNOWN).to_owned());
        set(&mut self.issuer, &issuer);
        set(&mut self.authorization_endpoint, &arguments.authorization_endpoint);
        set(&mut self.device_authorization_endpoint, &arguments.device_authorization_endpoint);
        if !arguments.scope.is_empty() {
            self.scope = Some(arguments.scope.join(" "));
        }
        if !arguments.parameter.is_empty() {
            self.parameters = arguments.parameter.iter().cloned().collect();
        }
        if !arguments.keep_from_redirect.is_empty() {
            self.keep_from_redirect.clone_from(&arguments.keep_from_redirect);
        }
        if arguments.redirect_uri.is_some() || arguments.port.is_some() || arguments.device {
            let port = arguments.port.filter(|port| *port != 0);
            let of_port = port.map(|port| format!("http://127.0.0.1:{port}/callback"));
            self.redirect_uri = arguments.redirect_uri.clone().or(of_port);
            self.device = arguments.device;
        }
        self.no_pkce |= arguments.no_pkce;
        self
    }
}

/// An authorization server.
#[derive(Default)]
pub(super) struct AuthorizationServer {
    /// The issuer, if its metadata was read.
    pub issuer: Option<String>,
    /// Whether each redirect names the issuer (RFC 9207).
    pub requires_iss: bool,
    pub authorization_endpoint: Option<Url>,
    pub device_authorization_endpoint: Option<Url>,
    /// Whether it is compiled in, like the token endpoint.
    pub is_device_endpoint_of_profile: bool,
    /// The token endpoint of the issuer's metadata.
    pub token_endpoint: Option<String>,
    /// Where the code is exchanged, if a refresh goes elsewhere.
    pub code_endpoint: Option<Url>,
    pub registration_endpoint: Option<Url>,
    /// How clients may authenticate, if the metadata says it.
    pub auth_methods: Option<Vec<String>>,
    pub uses_pkce: bool,
    scopes: Vec<String>,
    scope_separator: Option<String>,
    /// Parameters of the authorization request.
    pub parameters: BTreeMap<String, String>,
    /// Parameters of the exchange of the code.
    pub exchange_parameters: BTreeMap<String, String>,
    pub keep_from_redirect: Vec<String>,
}

fn endpoint(what: &str, text: &str) -> Result<Url, Failure> {
    client::endpoint(text).map_err(|problem| Failure::usage(format!("the {what} {problem}")))
}

impl AuthorizationServer {
    /// Puts together what is known. `draft`: the document, with the settings that the options change.
    pub(super) async fn find(context: &Context, settings: &LoginSettings, draft: &Draft) -> Result<Self, Failure> {
        let mut server = Self { uses_pkce: !settings.no_pkce, ..Self::default() };
        if let Some(name) = draft.text(Member::Provider) {
            server.add_profile(&name.expose().to_ascii_lowercase(), draft)?;
        }
        if let Some(issuer) = &settings.issuer {
            server.add_metadata(&metadata(context, issuer).await?)?;
        }
        server.add_settings(settings)?;
        Ok(server)
    }

    /// Whether nothing is known of it.
    pub(super) const fn knows_no_flow(&self) -> bool {
        self.authorization_endpoint.is_none() && self.device_authorization_endpoint.is_none()
    }

    /// The scopes, joined.
    pub(super) fn scope(&self) -> String {
        self.scopes.join(self.scope_separator.as_deref().unwrap_or(" "))
    }

    fn add_scope(&mut self, scope: &str) {
        if !scope.is_empty() && !self.scopes.iter().any(|own| own == scope) {
            self.scopes.push(scope.to_owned());
        }
    }

    fn add_settings(&mut self, settings: &LoginSettings) -> Result<(), Failure> {
        if let Some(text) = &settings.authorization_endpoint {
            self.authorization_endpoint = Some(endpoint("authorization endpoint", text)?);
        }
        if let Some(text) = &settings.device_authorization_endpoint {
            self.device_authorization_endpoint = Some(endpoint("device authorization endpoint", text)?);
            self.is_device_endpoint_of_profile = false;
        }
        self.parameters.extend(settings.parameters.clone());
        // The person's scopes come first, with blanks between them, or with what the provider has.
        let separator = self.scope_separator.clone().unwrap_or_default();
        let needed = std::mem::take(&mut self.scopes);
        let text = settings.scope.as_deref().unwrap_or_default();
        for scope in text.split(|c: char| c.is_whitespace() || separator.contains(c)) {
            self.add_scope(scope);
        }
        for scope in needed {
            self.add_scope(&scope);
        }
        for name in &settings.keep_from_redirect {
            if !self.keep_from_redirect.contains(name) {
                self.keep_from_redirect.push(name.clone());
            }
        }
        Ok(())
    }

    fn add_metadata(&mut self, metadata: &Metadata) -> Result<(), Failure> {
        let url = |name: &str| metadata.url(name);
        self.authorization_endpoint = url("authorization_endpoint")?.or(self.authorization_endpoint.take());
        if let Some(url) = url("device_authorization_endpoint")? {
            self.device_authorization_endpoint = Some(url);
            self.is_device_endpoint_of_profile = false;
        }
        self.registration_endpoint = url("registration_endpoint")?;
        let Some(token_endpoint) = url("token_endpoint")? else {
            return Err(Failure::person(format!("the metadata of {} has no `token_endpoint`", metadata.issuer)));
        };
        self.token_endpoint = Some(token_endpoint.into());
        self.requires_iss = metadata.flag("authorization_response_iss_parameter_supported");
        self.auth_methods = Some(metadata.list("token_endpoint_auth_methods_supported"));
        self.issuer = Some(metadata.issuer.clone());
        let supported = metadata.list("scopes_supported");
        let is_supported = |scope: &str| supported.iter().any(|own| own == scope);
        // `OpenID` Connect Core section 11: a refresh token comes with `offline_access`, and that needs the person's consent.
        if is_supported("offline_access") {
            if is_supported("openid") {
                self.add_scope("openid");
            }
            self.add_scope("offline_access");
            self.parameters.entry("prompt".to_owned()).or_insert_with(|| "consent".to_owned());
        }
        Ok(())
    }

    fn add_profile(&mut self, name: &str, draft: &Draft) -> Result<(), Failure> {
        // A document may have a `provider` that is no profile's: then other settings name the endpoints.
        let Some(mut profile) = Profile::named(name) else { return Ok(()) };
        let login = std::mem::take(&mut profile.login);
        if let Some(grant_type) = &login.grant_type {
            return Err(Failure::usage(format!(
                "{} needs no login: its grant is `{grant_type}` (docs/grants.md). Write the document of docs/providers.md, and store it: \
                 `tokenctl adopt`",
                login.title
            )));
        }
        let given = draft.strings(Member::ProviderParameters).unwrap_or_default();
        let value = |name: &str| given.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let fill = |what: &str, template: &Option<String>| match template {
            None => Ok(None),
            Some(template) => {
                let filled = profile.fill(template, value).map_err(|problem| {
                    Failure::usage(format!(
                        "the variable `{0}` of {1} {2}; pass --provider-parameter {0}=VALUE",
                        problem.variable, login.title, problem.what
                    ))
                })?;
                endpoint(what, &filled).map(Some)
            }
        };
        self.authorization_endpoint = fill("authorization endpoint", &login.authorization_endpoint)?;
        self.device_authorization_endpoint =
            fill("device authorization endpoint", &login.device_authorization_endpoint)?;
        let has_own_endpoint = draft.has(Member::TokenEndpoint);
        self.is_device_endpoint_of_profile = !has_own_endpoint && self.device_authorization_endpoint.is_some();
        self.code_endpoint = if has_own_endpoint { None } else { fill("token endpoint", &login.token_endpoint)? };
        self.uses_pkce &= login.pkce != Some(Pkce::Refused);
        self.scope_separator = login.scope_separator;
        self.scopes = login.offline_scopes;
        self.parameters = login.offline_parameters;
        self.exchange_parameters = login.exchange_parameters;
        self.keep_from_redirect = login.keep_from_redirect;
        Ok(())
    }
}

/// The metadata of an issuer.
struct Metadata {
    issuer: String,
    document: Document,
}

impl Metadata {
    fn url(&self, name: &str) -> Result<Option<Url>, Failure> {
        let Some(text) = fetch::text(&self.document, name) else { return Ok(None) };
        client::endpoint(text.expose())
            .map(Some)
            .map_err(|problem| Failure::person(format!("the metadata of {}: its `{name}` {problem}", self.issuer)))
    }

    fn flag(&self, name: &str) -> bool {
        self.document.get(name) == Some("true")
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.document.get(name).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }
}

/// Reads the metadata: `OpenID` Connect Discovery 1.0 section 4, or else RFC 8414 section 3.
async fn metadata(context: &Context, issuer: &str) -> Result<Metadata, Failure> {
    let url = endpoint("issuer", issuer)?;
    let mut openid = url.clone();
    openid.set_path(&format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/')));
    let mut oauth = url.clone();
    oauth.set_path(&format!("/.well-known/oauth-authorization-server{}", url.path().trim_end_matches('/')));
    let mut failure = None;
    for address in [openid, oauth] {
        let missing = format!("{issuer} has no metadata at {address}");
        let who = format!("the metadata of {issuer} ({address})");
        match fetch::fetch(&context.http.provider, Request::new(Method::GET, address), &who).await {
            Ok(fetched) if fetched.status == 200 => {
                // RFC 8414 section 3.3: otherwise another server could stand in for it.
                let named =
                    fetch::text(&fetched.document, "issuer").map(|text| text.expose().to_owned()).unwrap_or_default();
                if named != issuer {
                    let named = crate::sanitize::sanitize_line(&named, 200);
                    return Err(Failure::person(format!(
                        "the metadata of {issuer} names another issuer, \"{named}\"; pass that text as --issuer"
                    )));
                }
                return Ok(Metadata { issuer: issuer.to_owned(), document: fetched.document });
            }
            Ok(fetched) => {
                failure = failure.or(Some(Failure::person(format!("{missing} (status {})", fetched.status))));
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| Failure::later(format!("{issuer} has no metadata"))))
}
