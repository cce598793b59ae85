//! The command line `tokenctl`: gets the first token of a secret, takes over tokens that another program has obtained, shows how tokens
//! stand, and does by hand what the function does.
//!
//! The function does not contain it. A command prints its messages to standard error. Standard output has only what another program may
//! want to read: the address to open, a table, a token, a shell's completions.
//!
//! | module | content |
//! |---|---|
//! | `arguments` | commands and options, with their help |
//! | `terminal` | questions, input without echo, progress |
//! | `failure` | why a command failed, and the exit codes |
//! | `store` | the store that the options name; the guarded write |
//! | `server` | what is known of the authorization server: options, profile, discovery |
//! | `registration` | dynamic client registration |
//! | `authorization` | the authorization request and its redirect, without IO |
//! | `flow`, `loopback`, `page`, `device` | how the browser comes back to this program |
//! | `http_server` | what the servers of `loopback` and `health` share |
//! | `client` | the client's settings, in the document |
//! | `consent`, `exchange`, `fetch` | the wait for the person; token requests; other requests |
//! | `confirm`, `finish` | questions; the tokens of a login are stored |
//! | `rescue` | tokens that could not be stored |
//! | `given` | what `adopt` is given |
//! | `targets`, `table` | which secrets; how they are shown |
//! | `login`, `adopt`, `status`, `history`, `refresh`, `run`, `token`, `doctor` | the commands; `health`: the pages of `run` |

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};

use crate::{clock::Clock, crash, http_client::HttpClients};

mod adopt;
mod arguments;
mod authorization;
mod client;
mod confirm;
mod consent;
mod device;
mod doctor;
mod exchange;
mod failure;
mod fetch;
mod finish;
mod flow;
mod given;
mod health;
mod history;
mod http_server;
mod login;
mod loopback;
mod page;
mod refresh;
mod registration;
mod rescue;
mod run;
mod server;
mod status;
mod store;
mod table;
mod targets;
mod terminal;
mod token;

use arguments::{Arguments, Command};
use failure::Failure;
use terminal::Terminal;

/// What every command needs.
struct Context {
    store: arguments::StoreArguments,
    http: HttpClients,
    clock: Clock,
    terminal: Terminal,
}

/// Runs the command that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    crash::protect();
    let arguments = Arguments::parse();
    let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(run(arguments));
            // A thread may still wait for a line of standard input.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::later(format!("this program cannot start: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                terminal::print_error(&failure.message);
            }
            failure.exit.into()
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let command = match arguments.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tokenctl", &mut script);
            // A reader that has closed its end has what it wants.
            let _ = std::io::stdout().write_all(&script);
            return Ok(());
        }
        Command::Man { directory } => {
            return clap_mangen::generate_to(Arguments::command(), &directory).map_err(|error| {
                Failure::later(format!("the pages cannot be written to {}: {error}", directory.display()))
            });
        }
        command => command,
    };
    let var = |name: &str| std::env::var(name).ok();
    let http = HttpClients::new(var).map_err(|error| Failure::usage(error.to_string()))?;
    let context = Context { store: arguments.store, http, clock: Clock::system(), terminal: Terminal::new() };
    let work = async {
        match &command {
            Command::Login(arguments) => login::login(&context, arguments).await,
            Command::Adopt(arguments) => adopt::adopt(&context, arguments).await,
            Command::Status(arguments) => status::status(&context, arguments).await,
            Command::History(arguments) => history::history(&context, arguments).await,
            Command::Refresh(arguments) => refresh::refresh(&context, arguments).await,
            Command::Token(arguments) => token::token(&context, arguments).await,
            Command::Run(arguments) => run::run(&context, arguments).await,
            Command::Doctor(arguments) => doctor::doctor(&context, arguments).await,
            // Done already.
            Command::Completions { .. } | Command::Man { .. } => Ok(()),
        }
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = resumed() => {
                context.terminal.resume();
                continue;
            }
            () = interrupted() => {}
        }
        break;
    }
    if !context.terminal.must_finish() {
        context.terminal.clear();
        context.terminal.end_line();
        if matches!(command, Command::Run(_)) {
            return Ok(());
        }
        let is_login = matches!(command, Command::Login(_) | Command::Adopt(_));
        return Err(Failure::interrupted(if is_login { "interrupted; nothing was stored" } else { "" }));
    }
    context.terminal.say(match command {
        Command::Refresh(_) | Command::Run(_) => "Finishing the run first …",
        _ => "Storing the tokens first …",
    });
    context.terminal.interrupt();
    work.await
}

/// Returns when the process runs again after it was stopped.
async fn resumed() {
    signalled(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw())).await;
}

/// Returns when the process is asked to end.
async fn interrupted() {
    tokio::select! {
        () = signalled(SignalKind::interrupt()) => {}
        () = signalled(SignalKind::terminate()) => {}
        () = signalled(SignalKind::hangup()) => {}
        () = signalled(SignalKind::quit()) => {}
    }
}

async fn signalled(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
