//! `tokenctl refresh`: the function's own run, from this machine. It is safe beside the function: both claim a token before they exchange
//! it.

use std::{io::Write, time::Duration};

use chrono::TimeDelta;

use super::{
    Context,
    arguments::RefreshArguments,
    failure::{Exit, Failure},
    rescue::Rescue,
    store::{Store, options},
    targets,
    terminal::duration,
};
use crate::{
    protocol::{
        Mode, Refresher, Request,
        observation::Observation,
        outcome::{Completed, Outcome},
    },
    store::named::NamedStore,
};

/// How long one run may take, as in a sweep of the function.
const TIMEOUT: TimeDelta = TimeDelta::seconds(60);

/// How often a run is made for tokens that the one before could not write. Each tries until its deadline.
const MAX_TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(3);

/// Runs the command.
pub(super) async fn refresh(context: &Context, arguments: &RefreshArguments) -> Result<(), Failure> {
    let store = Store::open(context).await?;
    let options = options()?;
    let names = options.member_names.clone();
    let refresher = store.refresher(context, options);
    let targets = targets::find(&store, &arguments.secrets).await?;
    if targets.is_empty() {
        return Err(Failure::usage(format!("no secret was found ({})", arguments.secrets.join(", "))));
    }
    if arguments.force && targets.iter().any(|target| !target.is_named) {
        return Err(Failure::usage("--force needs the names of secrets, not a prefix"));
    }
    let mode = match (arguments.dry_run, arguments.force) {
        (true, _) => Mode::DryRun,
        (false, true) => Mode::Forced { if_version_id: None },
        (false, false) => Mode::Scheduled,
    };
    if mode != Mode::DryRun {
        // From the claim on, an exchange may be under way.
        context.terminal.defer_interrupts();
    }
    let mut worst: Option<Exit> = None;
    for target in &targets {
        let secret_id = target.secret_id.as_str();
        if context.terminal.is_interrupted() {
            return Err(Failure::interrupted(""));
        }
        if !target.is_named && matches!(store.is_token_secret(secret_id, &names).await, Ok(false)) {
            continue;
        }
        match run(context, &refresher, secret_id, &mode).await {
            Ok(completed) => {
                let left = completed.expires_at.map(|end| end - context.clock.now());
                let expiry = match left {
                    Some(left) if left > TimeDelta::zero() => {
                        format!("; the access token expires in {}", duration(left))
                    }
                    Some(left) => format!("; the access token expired {} ago", duration(-left)),
                    None => String::new(),
                };
                let words = words(completed.outcome);
                let _ = writeln!(std::io::stdout(), "{secret_id}: {words}{expiry}");
                for warning in completed.warnings {
                    context.terminal.say(&format!("warning: {warning}"));
                }
            }
            Err(failure) => {
                context.terminal.error(&failure.message);
                worst = Some(worst.map_or(failure.exit, |worst| worst.min(failure.exit)));
            }
        }
    }
    worst.map_or(Ok(()), |exit| Err(Failure::silent(exit)))
}

/// Runs once, and again while new tokens are only in memory and in a file: this process is about to end.
async fn run(
    context: &Context,
    refresher: &Refresher<NamedStore>,
    secret_id: &str,
    mode: &Mode,
) -> Result<Completed, Failure> {
    // Those of an earlier secret have their files.
    let before: Vec<String> = refresher.unstored().into_iter().map(|unstored| unstored.arn).collect();
    let mut rescue: Option<Rescue> = None;
    let mut tries = 0;
    loop {
        let request = Request { secret_id, mode, deadline: context.clock.now() + TIMEOUT };
        let observation = Observation::default();
        let result = tokio::select! {
            result = refresher.run(request, &observation) => Some(result),
            // All is in a file: nothing is lost.
            () = context.terminal.interrupted(), if rescue.is_some() => None,
        };
        let mut unstored = refresher.unstored();
        unstored.retain(|unstored| !before.contains(&unstored.arn));
        if unstored.is_empty()
            && let Some(result) = result
        {
            if let Some(rescue) = rescue {
                rescue.remove();
            }
            return Ok(result?);
        }
        // In a file before the next try: the person may end this process in a less friendly way.
        let advice = &rescue.get_or_insert_with(|| Rescue::of(context, unstored)).advice;
        let what = match result {
            Some(Err(error)) => error.message(),
            Some(Ok(_)) | None => format!("secret `{secret_id}`: the new tokens are not stored"),
        };
        tries += 1;
        if tries == MAX_TRIES || context.terminal.is_interrupted() {
            return Err(Failure::person(format!("{what}\n{advice}")));
        }
        context.terminal.say(&format!("{what}; trying again"));
        context.clock.sleep(PAUSE).await;
    }
}

/// What an outcome means.
const fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Skipped => "skipped, it is not due",
        Outcome::Refreshed => "refreshed",
        Outcome::Recovered => "recovered what another run had staged",
        Outcome::InProgress => "another run is at work",
        Outcome::BackingOff => "waits after a failed attempt",
        Outcome::Superseded => "somebody put other tokens in meanwhile",
        Outcome::WouldRefresh => "would be refreshed",
        Outcome::WouldRecover => "would be recovered",
    }
}
