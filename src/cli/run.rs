//! `tokenctl run`: the function's sweep at regular times, where there is no Lambda. Its log, its reports and its rules are those of the
//! function.

use std::{os::unix::net::UnixDatagram, time::Duration};

use chrono::TimeDelta;

use super::{
    Context,
    arguments::RunArguments,
    failure::Failure,
    health::{self, Health},
    rescue::Rescue,
    store::Store,
};
use crate::{
    lambda::{
        handler::Handler,
        log::{self, Sink},
        report::Response,
        settings::Settings,
    },
    protocol::Error,
    store::named::NamedStore,
    sweep::targets::Targets,
};

/// How long a tick may take: time for an exchange and its writes at least, and no longer than an invocation of the function.
const TICK: [TimeDelta; 2] = [TimeDelta::minutes(1), TimeDelta::minutes(15)];

/// How often tokens that could not be written are tried once more before the end.
const MAX_LAST_TRIES: u32 = 3;

/// Runs until the process is asked to end.
pub(super) async fn run(context: &Context, arguments: &RunArguments) -> Result<(), Failure> {
    let var = |name: &str| std::env::var(name).ok();
    log::start(var, Sink::Stderr)?;
    let store = Store::open(context).await?;
    let targets = targets(&arguments.secrets)?;
    let settings = Settings { targets: Some(targets), ..Settings::from_vars(var)? };
    let handler = Handler::new(store.secrets.clone(), store.exchanger(context), context.clock.clone(), settings);
    let health = Health::new(arguments.every);
    if let Some(address) = &arguments.listen {
        let address = health::listen(address, health.clone()).await?;
        context.terminal.say(&format!("Listening at http://{address}/metrics and /healthz"));
    }
    notify("READY=1");
    let longest = TimeDelta::from_std(arguments.every).unwrap_or(TICK[1]).clamp(TICK[0], TICK[1]);
    while !context.terminal.is_interrupted() {
        // From here on, Ctrl-C waits: an exchange may be under way.
        context.terminal.defer_interrupts();
        let started_at = context.clock.now();
        let tick = handler.handle(&serde_json::json!({}), started_at + longest).await;
        health.add(&tick, started_at, context.clock.now());
        if !context.terminal.is_interrupted() {
            // Never while tokens are only in memory.
            if handler.refresher().unstored().is_empty() {
                context.terminal.allow_interrupts();
            }
            let passed = (context.clock.now() - started_at).to_std().unwrap_or_default();
            tokio::select! {
                () = context.clock.sleep(jittered(arguments.every).saturating_sub(passed)) => {}
                () = context.terminal.interrupted() => {}
            }
        }
    }
    notify("STOPPING=1");
    finish(context, &handler).await
}

/// Many processes that start at once must not ask a provider at once: a tenth more or less.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Tokens that could not be written are tried again, and go to files at last.
async fn finish(context: &Context, handler: &Handler<NamedStore>) -> Result<(), Failure> {
    for _ in 0..MAX_LAST_TRIES {
        if handler.refresher().unstored().is_empty() {
            return Ok(());
        }
        let _ = handler.handle(&serde_json::json!({}), context.clock.now() + TimeDelta::minutes(1)).await;
    }
    let unstored = handler.refresher().unstored();
    if unstored.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unstored.iter().map(|unstored| format!("`{}`", unstored.secret_id)).collect();
    let advice = Rescue::of(context, unstored).advice;
    Err(Failure::person(format!("the new tokens of {} could not be stored\n{advice}", names.join(", "))))
}

/// All arguments together: always a sweep, also of one secret.
fn targets(arguments: &[String]) -> Result<Targets, Failure> {
    let list = arguments.join(",");
    let targets = Targets::parse(&list);
    let targets = targets.map_err(|problem| Failure::usage(format!("the arguments \"{list}\": it {problem}")))?;
    Ok(Targets::Many(targets.into_many()))
}

/// Tells systemd how the service stands (`sd_notify(3)`), if it asks for that.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(state.as_bytes(), path);
    }
}

/// A tick, as the health page sees it.
pub(super) type Tick = Result<Response, Error>;
