//! A pseudo-terminal: questions, input without echo, colours.
#![cfg(target_os = "linux")]

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    pty::openpty,
    sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr},
};
use reqwest::Url;
use serde_json::json;

use crate::{
    process::{PATIENCE, ended},
    server::{CODE, REFRESH_TOKEN},
    world::{PUBLIC, SECRET, World},
};

const CLIENT_SECRET: &str = "unseen-secret-of-client";

/// A program at a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    screen: String,
}

impl Terminal {
    /// `setsid` makes the pseudo-terminal the controlling one, so that Ctrl-C is a key.
    fn start(world: &World, settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let pty = openpty(None, None).expect("a pseudo-terminal");
        let slave = File::from(pty.slave);
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_tokenctl"), "--store", "dir:tokens"]).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", world.path());
        command.env("BROWSER", "false").env("TERM", "xterm").envs(settings.iter().copied());
        let child = command.current_dir(world.path()).stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid");
        let mut screen = File::from(pty.master);
        let keyboard = screen.try_clone().expect("a descriptor");
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The last process that has the terminal open ends it.
            while let Ok(length @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, output, screen: String::new() }
    }

    /// Waits until the screen shows this.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.screen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("\"{text}\" is not on the screen: {}", self.screen);
            };
            self.screen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal");
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).expect("the terminal").local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// Waits until the terminal shows no input.
    fn wait_for_no_echo(&self) {
        let end = Instant::now() + PATIENCE;
        while self.echoes() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!self.echoes(), "the terminal shows what is entered");
    }

    /// The address that the program has printed.
    fn address(&mut self) -> Url {
        self.expect("log in and consent:");
        self.expect("is not shown.");
        let line = self.screen.lines().find(|line| line.contains("/authorize?")).expect("an address");
        Url::parse(line.trim()).expect("an address")
    }

    /// Waits for the end. Returns exit code and screen. The terminal must be as before.
    fn end(mut self) -> (i32, String) {
        while let Ok(bytes) = self.output.recv_timeout(PATIENCE) {
            self.screen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let code = self.child.wait().expect("an end").code();
        let ended = ended(code, self.screen.as_bytes(), b"");
        assert!(!ended.stdout.contains(CLIENT_SECRET), "the screen shows the client's secret");
        (ended.code, ended.stdout)
    }
}

/// The redirect address of a person who has consented.
fn redirect(address: &Url, code: &str, padding: usize) -> String {
    let get = |name: &str| address.query_pairs().find(|(own, _)| own == name).expect("a parameter").1.into_owned();
    let mut redirect = Url::parse("https://client.example/callback").expect("an address");
    let issuer = address.origin().ascii_serialization();
    redirect.query_pairs_mut().extend_pairs([
        ("code", code),
        ("padding", &"x".repeat(padding)),
        ("state", &get("state")),
        ("iss", &issuer),
    ]);
    redirect.to_string()
}

fn login<'a>(world: &'a World, more: &[&'a str]) -> Vec<&'a str> {
    [&["login", SECRET, "--issuer", world.server.issuer.as_str()], more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_secret_and_the_pasted_address_are_not_shown() {
    let world = World::new().await;
    let arguments = login(&world, &["--client-id", "confidential"]);
    let mut terminal = Terminal::start(&world, &[], &arguments);
    terminal.expect("Secret of the client confidential (it is not shown");
    terminal.wait_for_no_echo();
    terminal.press(&format!("wrong\u{15}{CLIENT_SECRET}x\u{7f}\n"));
    let address = terminal.address();
    terminal.wait_for_no_echo();
    // Longer than a line of a terminal may be: 4,096 bytes.
    let pasted = redirect(&address, CODE, 9000);
    terminal.press(&format!("{pasted}\n"));
    terminal.expect("is created");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("padding"), "the screen shows the pasted address");
    let document = world.document().await;
    assert_eq!((&document["clientSecret"], &document["refreshToken"]), (&json!(CLIENT_SECRET), &json!(REFRESH_TOKEN)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_secret_makes_a_public_client_and_the_loopback_works_beside_the_terminal() {
    let world = World::new().await;
    let arguments = login(&world, &["--client-id", "public"]);
    let mut terminal = Terminal::start(&world, &[], &arguments);
    terminal.expect("leave it empty for a public client");
    terminal.wait_for_no_echo();
    terminal.press("\n");
    let address = terminal.address();
    let get = |name: &str| address.query_pairs().find(|(own, _)| own == name).unwrap().1.into_owned();
    let mut callback = Url::parse(&get("redirect_uri")).unwrap();
    callback.query_pairs_mut().extend_pairs([("code", "c"), ("state", &get("state")), ("iss", &world.server.issuer)]);
    assert_eq!(crate::process::get(&callback).await.0, 200);
    let (code, screen) = terminal.end();
    assert!(code == 0 && screen.contains("is created"), "{screen}");
    assert_eq!(world.document().await["tokenEndpointAuthMethod"], "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_with_yes_or_no() {
    for (answer, code, text) in
        [("n\n", 1, "nothing was changed"), ("\n", 1, "nothing was changed"), ("y\n", 0, "is updated")]
    {
        let world = World::new().await;
        world.create(&world.token(&json!({}))).await;
        let arguments = login(&world, &PUBLIC);
        let mut terminal = Terminal::start(&world, &[], &arguments);
        terminal.expect("Replace the tokens? [y/N]");
        terminal.press(answer);
        if code == 0 {
            let address = terminal.address();
            terminal.wait_for_no_echo();
            terminal.press(&format!("{}\n", redirect(&address, "c", 0)));
        }
        terminal.expect(text);
        let (found, screen) = terminal.end();
        assert_eq!(found, code, "{screen}");
        let changed = world.document().await["refreshToken"] == REFRESH_TOKEN;
        assert_eq!(changed, code == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_every_question_and_leaves_the_terminal_as_it_was() {
    let world = World::new().await;
    for (arguments, prompt) in [
        (login(&world, &["--client-id", "confidential"]), "leave it empty"),
        (login(&world, &PUBLIC), "is not shown."),
        (vec!["adopt", SECRET], "Paste the document."),
    ] {
        let mut terminal = Terminal::start(&world, &[], &arguments);
        terminal.expect(prompt);
        terminal.wait_for_no_echo();
        terminal.press("\u{3}");
        terminal.expect("interrupted; nothing was stored");
        let keyboard = terminal.keyboard.try_clone().unwrap();
        let (code, screen) = terminal.end();
        assert_eq!(code, 130, "{screen}");
        let flags = tcgetattr(&keyboard).unwrap().local_flags;
        assert!(flags.contains(LocalFlags::ECHO | LocalFlags::ICANON), "no echo after {prompt}");
    }
}

/// After Ctrl-Z and `fg`, the shell has turned the echo on.
#[tokio::test(flavor = "multi_thread")]
async fn the_echo_is_off_again_when_the_program_was_stopped() {
    let world = World::new().await;
    let arguments = login(&world, &["--client-id", "confidential"]);
    let mut terminal = Terminal::start(&world, &[], &arguments);
    terminal.expect("leave it empty");
    terminal.wait_for_no_echo();
    let mut modes = tcgetattr(&terminal.keyboard).unwrap();
    modes.local_flags |= LocalFlags::ECHO | LocalFlags::ICANON;
    tcsetattr(&terminal.keyboard, SetArg::TCSANOW, &modes).unwrap();
    let id = nix::unistd::Pid::from_raw(i32::try_from(terminal.child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGCONT).unwrap();
    terminal.wait_for_no_echo();
    terminal.press("\u{3}");
    assert_eq!(terminal.end().0, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_too_long_does_not_reach_the_shell() {
    let world = World::new().await;
    let mut terminal = Terminal::start(&world, &[], &["adopt", SECRET]);
    terminal.expect("Paste the document.");
    terminal.wait_for_no_echo();
    let mut keyboard = terminal.keyboard.try_clone().unwrap();
    thread::spawn(move || keyboard.write_all(&vec![b'x'; 70 * 1024]).and_then(|()| keyboard.write_all(b"\n\x04")));
    terminal.expect("the document is longer than 65536 bytes");
    let (code, screen) = terminal.end();
    assert!(code == 1 && !screen.contains("xxx"), "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_pasted_without_echo() {
    let world = World::new().await;
    let mut terminal = Terminal::start(&world, &[], &["adopt", SECRET]);
    terminal.expect("Paste the document.");
    terminal.wait_for_no_echo();
    let document = world.token(&json!({"refreshToken": REFRESH_TOKEN})).to_string();
    terminal.press(&format!("{document}\n\u{4}"));
    terminal.expect("is created");
    assert_eq!(terminal.end().0, 0);
    assert_eq!(world.document().await["refreshToken"], REFRESH_TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_without_no_color() {
    let world = World::new().await;
    for (settings, has_colour) in [(&[][..], true), (&[("NO_COLOR", "1")], false), (&[("TERM", "dumb")], false)] {
        let terminal = Terminal::start(&world, settings, &["login", SECRET, "--provider", "nobody"]);
        let (code, screen) = terminal.end();
        assert_eq!(code, 2);
        assert_eq!(screen.contains("\u{1b}["), has_colour, "{settings:?}: {screen:?}");
    }
    let plain = crate::process::run(world.tokenctl(&["login", SECRET, "--provider", "nobody"]), "").await;
    assert!(!plain.failed(2, "is not one of those").stderr.contains('\u{1b}'));
}
