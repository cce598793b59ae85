//! The command line `tokenctl`: gets the first token of a secret, and takes over tokens that another program has obtained.
//!
//! Nothing of it is in the function. A command prints its messages to standard error. Standard output has only what another program may
//! want to read: the address to open, a shell's completions.
//!
//! | module | content |
//! |---|---|
//! | `arguments` | commands and options, with their help |
//! | `terminal` | questions, input without echo, progress |
//! | `store` | the store that the options name; the guarded write |
//! | `server` | what is known of the authorization server: options, profile, discovery |
//! | `registration` | dynamic client registration |
//! | `authorization` | the authorization request and its redirect, without IO |
//! | `way`, `loopback`, `device` | the ways from the browser back to this program |
//! | `client` | the client's settings, in the document |
//! | `exchange`, `fetch` | token requests; other requests |
//! | `given` | what `adopt` is given |
//! | `login`, `adopt` | the two commands |

use std::{io::Write, process::ExitCode};

use anstyle::{AnsiColor, Style};
use clap::{CommandFactory, Parser};

use crate::{clock::Clock, crash, http_client::HttpClients};

mod adopt;
mod arguments;
mod authorization;
mod client;
mod device;
mod exchange;
mod failure;
mod fetch;
mod given;
mod login;
mod loopback;
mod registration;
mod server;
mod store;
mod terminal;
mod way;

use arguments::{Arguments, Command};
use failure::Failure;
use terminal::Terminal;

const ERROR: Style = AnsiColor::Red.on_default().bold();

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
                anstream::eprintln!("{ERROR}error:{ERROR:#} {}", failure.message);
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
        Command::Login(login) => Ok(login),
        Command::Adopt(adopt) => Err(adopt),
    };
    let var = |name: &str| std::env::var(name).ok();
    let http = HttpClients::new(var).map_err(|error| Failure::usage(error.to_string()))?;
    let context = Context { store: arguments.store, http, clock: Clock::system(), terminal: Terminal::new() };
    let work = async {
        match &command {
            Ok(login) => login::login(&context, login).await,
            Err(adopt) => adopt::adopt(&context, adopt).await,
        }
    };
    tokio::pin!(work);
    tokio::select! {
        biased;
        result = &mut work => result,
        () = interrupted() => {
            context.terminal.clear();
            context.terminal.end_line();
            if !context.terminal.must_finish() {
                return Err(Failure::interrupted());
            }
            anstream::eprintln!("Storing the tokens first …");
            work.await
        }
    }
}

/// Returns when the process is asked to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}
