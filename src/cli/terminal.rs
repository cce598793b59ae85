//! The person at the terminal: questions, lines without echo, progress. Knows nothing of tokens.

use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::{sanitize::is_visible, secret::Secret};

/// The longest line that is read.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Standard input and standard error.
pub(super) struct Terminal {
    must_finish: AtomicBool,
    is_interrupted: watch::Sender<bool>,
    /// Whether the cursor is behind a prompt.
    is_in_line: AtomicBool,
    last_prompt: Mutex<String>,
    echo: Mutex<Option<NoEcho>>,
    spinner: Mutex<Option<ProgressBar>>,
}

/// Input without echo, and without the system's limit of a line (1,024 bytes on macOS, 4,096 on Linux). Ends when it is dropped.
struct NoEcho {
    before: Termios,
}

impl NoEcho {
    fn start() -> Option<Self> {
        let echo = Self { before: tcgetattr(io::stdin()).ok()? };
        echo.turn_off();
        Some(echo)
    }

    fn turn_off(&self) {
        let mut without = self.before.clone();
        without.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
        without.special_codes[SpecialCodeIndex::VMIN] = 1;
        without.special_codes[SpecialCodeIndex::VTIME] = 0;
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &without);
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // What was pasted and not read must not reach the shell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

impl Terminal {
    pub(super) fn new() -> Self {
        Self {
            must_finish: AtomicBool::new(false),
            is_interrupted: watch::Sender::new(false),
            is_in_line: AtomicBool::new(false),
            last_prompt: Mutex::default(),
            echo: Mutex::new(None),
            spinner: Mutex::new(None),
        }
    }

    /// From now on, Ctrl-C waits for the end of the command.
    pub(super) fn defer_interrupts(&self) {
        self.must_finish.store(true, Ordering::SeqCst);
    }

    /// Ctrl-C ends the command again.
    pub(super) fn allow_interrupts(&self) {
        self.must_finish.store(false, Ordering::SeqCst);
    }

    pub(super) fn must_finish(&self) -> bool {
        self.must_finish.load(Ordering::SeqCst)
    }

    /// Ctrl-C has come while the command must finish: what has not begun is left.
    pub(super) fn interrupt(&self) {
        self.is_interrupted.send_replace(true);
    }

    pub(super) fn is_interrupted(&self) -> bool {
        *self.is_interrupted.borrow()
    }

    /// Returns when [`Terminal::interrupt`] was called.
    pub(super) async fn interrupted(&self) {
        let _ = self.is_interrupted.subscribe().wait_for(|is_interrupted| *is_interrupted).await;
    }

    /// How many characters a line has. `None`: standard output is no terminal.
    #[expect(clippy::unused_self, reason = "a property of the terminal")]
    pub(super) fn width(&self) -> Option<usize> {
        let columns = rustix::termios::tcgetwinsize(io::stdout()).ok()?.ws_col;
        (columns > 0).then_some(columns.into())
    }

    /// Prints an error.
    #[expect(clippy::unused_self, reason = "a property of the terminal")]
    pub(super) fn error(&self, message: &str) {
        print_error(message);
    }

    /// Ends input without echo, and removes the progress.
    pub(super) fn clear(&self) {
        if let Some(spinner) = lock(&self.spinner).take() {
            spinner.finish_and_clear();
        }
        lock(&self.echo).take();
    }

    /// Whether a person can be asked.
    #[expect(clippy::unused_self, reason = "a property of the terminal")]
    pub(super) fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Prints a message.
    pub(super) fn say(&self, message: &str) {
        let print = || print_line(&visible(message));
        match &*lock(&self.spinner) {
            Some(spinner) => spinner.suspend(print),
            None => print(),
        }
    }

    fn prompt(&self, prompt: &str) {
        let prompt = visible(prompt);
        print(&prompt);
        self.is_in_line.store(true, Ordering::SeqCst);
        *lock(&self.last_prompt) = prompt;
    }

    /// The process runs again after a stop (Ctrl-Z): the shell has turned the echo on.
    pub(super) fn resume(&self) {
        if let Some(echo) = &*lock(&self.echo) {
            echo.turn_off();
        }
        if self.is_in_line.load(Ordering::SeqCst) {
            print(&lock(&self.last_prompt));
        }
    }

    /// Ends the line of a prompt.
    pub(super) fn end_line(&self) {
        if self.is_in_line.swap(false, Ordering::SeqCst) {
            print_line("");
        }
    }

    /// Asks a question that is answered with yes or no.
    pub(super) async fn ask(&self, question: &str) -> Result<bool, Failure> {
        self.prompt(&format!("{question} [y/N] "));
        let answer = blocking(|| {
            let mut line = String::new();
            io::stdin().lock().take(1024).read_line(&mut line).map(|_| line)
        });
        let answer = answer.await?;
        self.is_in_line.store(false, Ordering::SeqCst);
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks for a secret, without echo.
    pub(super) async fn ask_secret(&self, prompt: &str) -> Result<Secret, Failure> {
        *lock(&self.echo) = NoEcho::start();
        self.prompt(&format!("{prompt}: "));
        let line = blocking(|| Ok(read_line(&mut io::stdin().lock()))).await;
        self.clear();
        self.end_line();
        line?.ok_or_else(|| Failure::usage("the input ended before it was complete"))
    }

    /// The lines of standard input; those of a terminal without echo, until [`Terminal::clear`]. Nothing else can read it afterwards.
    pub(super) fn hidden_lines(&self) -> mpsc::UnboundedReceiver<Secret> {
        let (sender, lines) = mpsc::unbounded_channel();
        if io::stdin().is_terminal() {
            *lock(&self.echo) = NoEcho::start();
        }
        std::thread::spawn(move || {
            while let Some(line) = read_line(&mut io::stdin().lock()) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        lines
    }

    /// The first line of standard input. At a terminal it is asked for, without echo.
    pub(super) async fn first_line(&self, prompt: &str) -> Result<Secret, Failure> {
        if io::stdin().is_terminal() {
            return self.ask_secret(prompt).await;
        }
        let line = blocking(|| Ok(read_line(&mut io::stdin().lock()))).await?;
        line.filter(|line| !line.expose().is_empty())
            .ok_or_else(|| Failure::usage("standard input has no line with the client secret"))
    }

    /// All of standard input. A terminal shows no echo.
    pub(super) async fn everything(&self, what: &str, max_bytes: usize) -> Result<Secret, Failure> {
        if io::stdin().is_terminal() {
            print_line(&format!("Paste {what}. It is not shown. Then press Enter and Ctrl-D."));
            *lock(&self.echo) = NoEcho::start();
        }
        let read = blocking(move || {
            let mut text = Zeroizing::new(Vec::with_capacity(max_bytes + 1));
            let mut stdin = io::stdin().lock();
            loop {
                match next_byte(&mut stdin)? {
                    // Ctrl-D, which a terminal without lines passes on.
                    None | Some(4) => return Ok(text),
                    Some(byte) if text.len() <= max_bytes => text.push(byte),
                    // Read to the end all the same: the rest would reach the shell.
                    Some(_) => {}
                }
            }
        });
        let text = read.await;
        self.clear();
        let text = text?;
        if text.len() > max_bytes {
            return Err(Failure::person(format!("{what} is longer than {max_bytes} bytes")));
        }
        std::str::from_utf8(&text).map(Secret::from).map_err(|_| Failure::person(format!("{what} is not UTF-8")))
    }

    /// Shows that something is waited for, and how long at most.
    pub(super) fn wait_until(&self, what: &'static str, end: DateTime<Utc>) {
        let spinner = ProgressBar::new_spinner();
        let left = move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let seconds = (end - Utc::now()).num_seconds().max(0);
            let _ = write!(out, "{}:{:02}", seconds / 60, seconds % 60);
        };
        let style = ProgressStyle::with_template("{spinner} {msg} ({left} left)")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .with_key("left", left);
        spinner.set_style(style);
        spinner.set_message(what);
        spinner.enable_steady_tick(Duration::from_millis(200));
        *lock(&self.spinner) = Some(spinner);
    }
}

/// Prints an error, with its word in red.
pub(super) fn print_error(message: &str) {
    const ERROR: Style = AnsiColor::Red.on_default().bold();
    print_line(&format!("{ERROR}error:{ERROR:#} {}", visible(message)));
}

/// Prints a line. A terminal that is gone must not end the program: there may be tokens to store.
fn print_line(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

fn print(text: &str) {
    let _ = write!(io::stderr(), "{text}").and_then(|()| io::stderr().flush());
}

/// The text without characters that a terminal would act on: parts of it are from others.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c == '\n' || is_visible(c) { c } else { '?' }).collect()
}

/// A length of time, for people.
pub(super) fn duration(length: TimeDelta) -> String {
    match length.num_seconds() {
        seconds @ ..120 => format!("{} s", seconds.max(0)),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs work that waits for the person, in a thread of its own: Ctrl-C must not wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Failure> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || sender.send(work()));
    match receiver.await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(Failure::later(format!("standard input cannot be read: {error}"))),
        Err(_) => Err(Failure::later("standard input cannot be read")),
    }
}

fn next_byte(input: &mut impl Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a line, with the keys that edit one: a terminal without lines leaves that to us. `None`: the input has ended.
fn read_line(input: &mut impl Read) -> Option<Secret> {
    const BACKSPACE: [u8; 2] = [0x08, 0x7f];
    const CTRL_D: u8 = 0x04;
    const CTRL_U: u8 = 0x15;
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES));
    loop {
        match next_byte(input).ok()? {
            None | Some(CTRL_D) if line.is_empty() => return None,
            None | Some(CTRL_D | b'\n' | b'\r') => break,
            Some(CTRL_U) => line.clear(),
            Some(byte) if BACKSPACE.contains(&byte) => {
                line.pop();
            }
            Some(byte) if line.len() < MAX_LINE_BYTES => line.push(byte),
            Some(_) => {}
        }
    }
    Some(String::from_utf8_lossy(&line).into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited_and_ends_at_enter() {
        for (input, expected) in [
            (&b"abc\nd"[..], Some("abc")),
            (b"abc\r", Some("abc")),
            (b"abc", Some("abc")),
            (b"abx\x7fc\n", Some("abc")),
            (b"\x7f\x08abc\n", Some("abc")),
            (b"wrong\x15abc\n", Some("abc")),
            (b"\n", Some("")),
            (b"abc\x04", Some("abc")),
            (b"", None),
            (b"\x04", None),
        ] {
            let line = read_line(&mut &*input);
            assert_eq!(line.as_ref().map(Secret::expose), expected, "{input:?}");
        }
    }
}
