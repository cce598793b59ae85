//! Puts a handler together from the environment: settings, HTTP clients, store, clock.

use super::{event_bus::EventBus, handler::Handler, log, log::Sink, settings::Settings};
use crate::{
    clock::Clock, http_client::HttpClients, kms::Kms, oauth::exchanger::Exchanger, protocol::Error,
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
    let config = SecretsManager::config_from_env(http.store.clone()).await;
    let store = SecretsManager::new(&config)?;
    let clock = Clock::system();
    let event_bus = EventBus::new(&config, http.store.clone(), clock.clone(), &var)?;
    let kms = Kms::new(&config, http.store, clock.clone(), &var)?;
    let exchanger = Exchanger::over_http(http.provider, kms, clock.clone());
    let handler = Handler::new(store, exchanger, clock, settings);
    Ok(match event_bus {
        Some(event_bus) => handler.with_event_bus(event_bus),
        None => handler,
    })
}
