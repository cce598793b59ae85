//! Puts a handler together from the environment: settings, HTTP clients, store, clock.

use super::{handler::Handler, log, log::Sink, settings::Settings};
use crate::{
    clock::Clock, http_client::HttpClients, oauth::exchanger::Exchanger, protocol::Error,
    store::secrets_manager::SecretsManager,
};

/// Starts the log and returns a handler over Secrets Manager. Makes no call.
///
/// # Errors
///
/// [`Error::InvalidConfiguration`] for the first setting that is wrong.
pub async fn handler(var: impl Fn(&str) -> Option<String>, sink: Sink) -> Result<Handler<SecretsManager>, Error> {
    log::start(&var, sink)?;
    let settings = Settings::from_vars(&var)?;
    let http = HttpClients::new(&var)?;
    let store = SecretsManager::from_env(http.store).await?;
    let clock = Clock::system();
    Ok(Handler::new(store, Exchanger::over_http(http.provider, clock.clone()), clock, settings))
}
