//! The commands and their options, with the help that users read.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a person has to act: consent again, correct the document or the client
  2    wrong arguments, or something could not be reached: try again
  130  interrupted by Ctrl-C";

/// Gets the first OAuth tokens for token-refresher, stores them in AWS Secrets Manager, and shows how they stand.
#[derive(Parser)]
#[command(name = "tokenctl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub store: StoreArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the secrets are.
#[derive(Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreArguments {
    /// `secretsmanager`, or `dir:PATH` for a directory on this machine [default: secretsmanager].
    #[arg(long, global = true, value_name = "STORE")]
    pub store: Option<String>,
    /// An AWS CLI profile.
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// The AWS Region.
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// The address of Secrets Manager, for an emulator or a VPC endpoint.
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint_url: Option<String>,
}

impl StoreArguments {
    /// A command with these options, for a person to run.
    pub(super) fn command(&self, rest: &str) -> String {
        let options = [
            ("--store", &self.store),
            ("--profile", &self.profile),
            ("--region", &self.region),
            ("--endpoint-url", &self.endpoint_url),
        ];
        let mut command = "tokenctl".to_owned();
        for (name, value) in options {
            if let Some(value) = value {
                let is_plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@=+,".contains(c));
                let value = if is_plain { value.clone() } else { format!("'{}'", value.replace('\'', "'\\''")) };
                command.extend([" ", name, " ", &value]);
            }
        }
        format!("{command} {rest}")
    }
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Log in at a provider, and store the tokens in a secret.
    #[command(after_help = LOGIN_EXAMPLES)]
    Login(Box<LoginArguments>),
    /// Store tokens that another program has obtained.
    #[command(after_help = ADOPT_EXAMPLES)]
    Adopt(AdoptArguments),
    /// Show how tokens stand.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArguments),
    /// Show the versions of a secret as a timeline.
    #[command(after_help = "Examples:\n  tokenctl history myapp/prod/xero")]
    History(HistoryArguments),
    /// Do what the function does: refresh tokens that are due.
    #[command(after_help = REFRESH_EXAMPLES)]
    Refresh(RefreshArguments),
    /// Refresh tokens at regular times, where there is no Lambda.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArguments),
    /// Print a valid access token, for a script.
    #[command(after_help = TOKEN_EXAMPLES)]
    Token(TokenArguments),
    /// Check everything that a refresh needs. It spends no token.
    #[command(
        after_help = "Exit code 1: something is wrong. 2: something could not be checked.\n\nExamples:\n  tokenctl doctor myapp/prod/xero\n  tokenctl doctor myapp/prod/xero --write"
    )]
    Doctor(DoctorArguments),
    /// Print the completions of a shell.
    #[command(
        after_help = "Examples:\n  tokenctl completions bash > ~/.local/share/bash-completion/completions/tokenctl"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    #[command(after_help = "Examples:\n  tokenctl man ~/.local/share/man/man1")]
    Man {
        /// The directory, which must exist.
        directory: PathBuf,
    },
}

const LOGIN_EXAMPLES: &str = "\
The authorization server comes from --provider, --issuer, the two endpoints, or the secret: a later
login of the same secret needs no options.

Examples:
  tokenctl login myapp/prod/xero --provider xero --client-id ID \\
    --redirect-uri http://localhost:8080/callback --scope accounting.transactions
  tokenctl login myapp/prod/quickbooks --provider quickbooks --client-id ID \\
    --redirect-uri https://example.com/callback --scope com.intuit.quickbooks.accounting
  tokenctl login myapp/prod/erp --issuer https://id.example.com --client-id ID --device
  tokenctl login myapp/prod/xero         # consent again
  tokenctl --store dir:tokens login crm --issuer https://id.example.com --client-id ID";

/// Log in at a provider, and store the tokens in a secret.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command")]
#[allow(clippy::doc_markdown, reason = "help is plain text")]
pub(super) struct LoginArguments {
    /// The name or ARN of the token secret. It is created if it does not exist.
    #[arg(value_parser = filled)]
    pub secret: String,

    /// A provider by name, such as xero (docs/providers.md).
    #[arg(long, value_name = "NAME", value_parser = filled, help_heading = "Authorization server")]
    pub provider: Option<String>,
    /// A variable in the addresses of the provider. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, requires = "provider", help_heading = "Authorization server")]
    pub provider_parameter: Vec<(String, String)>,
    /// The issuer, whose metadata has the endpoints (OpenID Connect Discovery, RFC 8414).
    #[arg(long, value_name = "URL", value_parser = filled, help_heading = "Authorization server")]
    pub issuer: Option<String>,
    /// The authorization endpoint.
    #[arg(long, value_name = "URL", value_parser = filled, help_heading = "Authorization server")]
    pub authorization_endpoint: Option<String>,
    /// The token endpoint.
    #[arg(long, value_name = "URL", value_parser = filled, help_heading = "Authorization server")]
    pub token_endpoint: Option<String>,
    /// The device authorization endpoint.
    #[arg(long, value_name = "URL", value_parser = filled, help_heading = "Authorization server")]
    pub device_authorization_endpoint: Option<String>,

    /// The client's id. Without it, tokenctl registers a client if the issuer allows that (RFC 7591).
    #[arg(long, value_name = "ID", value_parser = filled, help_heading = "Client")]
    pub client_id: Option<String>,
    /// Read the client secret from the first line of standard input. Without it, tokenctl prompts.
    #[arg(long, help_heading = "Client")]
    pub client_secret_stdin: bool,
    /// The name or ARN of another secret, which has the client secret.
    #[arg(long, value_name = "SECRET", value_parser = filled, conflicts_with = "client_secret_stdin", help_heading = "Client")]
    pub client_credentials_secret_id: Option<String>,
    /// How the client authenticates: `client_secret_post`, `client_secret_basic`, `none` for a public client, ….
    #[arg(long, value_name = "METHOD", value_parser = filled, help_heading = "Client")]
    pub token_endpoint_auth_method: Option<String>,

    /// The scopes, with blanks between them. May be repeated. tokenctl adds the scopes that a refresh token needs.
    #[arg(long, value_name = "SCOPES", help_heading = "Request")]
    pub scope: Vec<String>,
    /// A parameter of the authorization request. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, help_heading = "Request")]
    pub parameter: Vec<(String, String)>,
    /// A parameter of the redirect to keep in the secret's `tokenResponse`. May be repeated.
    #[arg(long, value_name = "NAME", help_heading = "Request")]
    pub keep_from_redirect: Vec<String>,
    /// Send no PKCE challenge (RFC 7636), for a provider that refuses it.
    #[arg(long, help_heading = "Request")]
    pub no_pkce: bool,

    /// Listen on this port of 127.0.0.1: the redirect address is http://127.0.0.1:PORT/callback [default: as in the last login, else a free port]; 0: a free port.
    #[arg(long, value_name = "PORT", conflicts_with = "redirect_uri", help_heading = "Redirect or device flow")]
    pub port: Option<u16>,
    /// The redirect address that is registered at the provider. At a loopback address with a port, tokenctl listens there.
    /// Otherwise paste the address that the browser ends at.
    #[arg(long, value_name = "URI", value_parser = redirect_uri, help_heading = "Redirect or device flow")]
    pub redirect_uri: Option<String>,
    /// Use the device flow (RFC 8628): enter a code on any device.
    #[arg(long, conflicts_with_all = ["redirect_uri", "port"], help_heading = "Redirect or device flow")]
    pub device: bool,
    /// Only print the address, and open no browser.
    #[arg(long, help_heading = "Redirect or device flow")]
    pub no_browser: bool,
    /// How long to wait for the consent, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400), help_heading = "Redirect or device flow")]
    pub timeout: u32,

    /// Replace the tokens in the secret without a question.
    #[arg(long, short)]
    pub yes: bool,
}

const ADOPT_EXAMPLES: &str = "\
The document on standard input is a whole token secret (docs/token-secret.md), or only the response
of a token endpoint: then the secret must exist, and keeps its other members.

Examples:
  tokenctl adopt myapp/prod/xero < document.json
  tokenctl adopt myapp/prod/xero < response.json
  tokenctl adopt myapp/prod/erp --kept        # lists where the kept response has strings
  tokenctl adopt myapp/prod/erp --kept --access-token-at /result/at --refresh-token-at /result/rt \\
    --expires-in-seconds 3600";

/// Store tokens that another program has obtained.
#[derive(Args)]
pub(super) struct AdoptArguments {
    /// The name or ARN of the token secret. A whole document creates it if it does not exist.
    #[arg(value_parser = filled)]
    pub secret: String,
    /// Read the kept response from the secret, not standard input.
    #[arg(long)]
    pub kept: bool,
    /// Where the access token is in the response (a JSON pointer, RFC 6901).
    #[arg(long, value_name = "POINTER", requires = "refresh_token_at")]
    pub access_token_at: Option<String>,
    /// Where the refresh token is.
    #[arg(long, value_name = "POINTER", requires = "access_token_at")]
    pub refresh_token_at: Option<String>,
    /// Lifetime of the access token, counted from the response. Without it, the next run refreshes at once.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=315_576_000), requires = "access_token_at")]
    pub expires_in_seconds: Option<u32>,
    /// Accept a document without a client: the function's environment names it (docs/settings.md).
    #[arg(long)]
    pub client_in_environment: bool,
    /// Replace the tokens in the secret without a question.
    #[arg(long, short)]
    pub yes: bool,
}

const STATUS_EXAMPLES: &str = "\
Exit code 1: a token needs a person. 2: the store could not be asked. So it is a check for a monitor.

Examples:
  tokenctl status myapp/prod/xero
  tokenctl status 'myapp/prod/*'
  tokenctl status 'myapp/prod/*' --watch
  tokenctl status 'myapp/prod/*' --json | jq -r '.[] | select(.state != \"fresh\") | .secretId'";

/// Show how tokens stand.
#[derive(Args)]
pub(super) struct StatusArguments {
    /// Names, ARNs, and prefixes that end with `*`.
    #[arg(required = true, value_name = "SECRET")]
    pub secrets: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Look again every so many seconds, until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", require_equals = true, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub watch: Option<u32>,
}

/// Show the versions of a secret as a timeline.
#[derive(Args)]
pub(super) struct HistoryArguments {
    /// The name or ARN of the token secret.
    #[arg(value_parser = filled)]
    pub secret: String,
}

const REFRESH_EXAMPLES: &str = "\
It is safe beside the running function, unless CLAIM=never: whoever claims a token
first exchanges it. Settings of the function (docs/settings.md), such as CLIENT_ID,
are read from the environment.

Examples:
  tokenctl refresh myapp/prod/xero
  tokenctl refresh 'myapp/prod/*'
  tokenctl refresh myapp/prod/xero --dry-run
  tokenctl refresh myapp/prod/xero --force";

/// Do what the function does: refresh tokens that are due.
#[derive(Args)]
pub(super) struct RefreshArguments {
    /// Names, ARNs, and prefixes that end with `*`.
    #[arg(required = true, value_name = "SECRET")]
    pub secrets: Vec<String>,
    /// Refresh tokens that are not due, too.
    #[arg(long, conflicts_with = "dry_run")]
    pub force: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// Check everything that a refresh needs. It spends no token.
#[derive(Args)]
pub(super) struct DoctorArguments {
    /// The name or ARN of the token secret.
    #[arg(value_parser = filled)]
    pub secret: String,
    /// Also try to write: put one version with the same text beside the current one.
    #[arg(long)]
    pub write: bool,
}

const RUN_EXAMPLES: &str = "\
It ends at SIGTERM or Ctrl-C, when the exchanges under way are stored. The settings of the function
(docs/settings.md) are read from the environment.

Examples:
  tokenctl run --every 5m 'myapp/prod/*'
  tokenctl run --store dir:tokens --every 1m --listen 9100 crm";

/// Refresh tokens at regular times, where there is no Lambda.
#[derive(Args)]
pub(super) struct RunArguments {
    /// Names, ARNs, and prefixes that end with `*`.
    #[arg(required = true, value_name = "SECRET")]
    pub secrets: Vec<String>,
    /// The time between two ticks, such as 90s, 5m or 1h, give or take a tenth.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = interval)]
    pub every: std::time::Duration,
    /// Serve /healthz and /metrics (Prometheus) here: a port of 127.0.0.1, or HOST:PORT.
    #[arg(long, value_name = "PORT")]
    pub listen: Option<String>,
}

const TOKEN_EXAMPLES: &str = "\
It reads the secret, and refreshes nothing. It fails rather than print a token that has expired.

Examples:
  tokenctl token myapp/prod/xero --header | curl --header @- https://api.xero.com/connections
  token=$(tokenctl token myapp/prod/xero --min-ttl 300)";

/// Print a valid access token, for a script.
#[derive(Args)]
pub(super) struct TokenArguments {
    /// The name or ARN of the token secret.
    #[arg(value_parser = filled)]
    pub secret: String,
    /// Fail if the token expires sooner.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub min_ttl: u32,
    /// Print it as a header: `Authorization: Bearer …`.
    #[arg(long)]
    pub header: bool,
    /// Print it to a terminal, too.
    #[arg(long)]
    pub show: bool,
}

/// A redirect URI: at most providers a URL, at a few a name that stands for one.
fn redirect_uri(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.contains('#') {
        return Err("it has a fragment (#...), which RFC 6749 section 3.1.2 forbids".to_owned());
    }
    if text.starts_with("localhost") || text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("it has no scheme: http://{text}"));
    }
    Ok(text.to_owned())
}

/// A time of one second to one day.
fn interval(text: &str) -> Result<std::time::Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds @ 1..=86_400) => Ok(std::time::Duration::from_secs(seconds)),
        _ => Err("allowed is a time of 1s to 24h, such as 90s, 5m or 1h".to_owned()),
    }
}

/// A text that is not empty: an empty one is a variable of the shell that is not set.
fn filled(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("state", _)) => Err("tokenctl chooses the state".to_owned()),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is expected".to_owned()),
    }
}
