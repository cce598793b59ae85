//! The HTTP interface of the agents on this machine: the AWS Parameters and Secrets Lambda Extension and the
//! aws-secretsmanager-agent. Each read opens a connection: the agents close idle ones, and Lambda freezes both sides.
//!
//! Facts: "Use AWS Secrets Manager secrets in AWS Lambda functions" in the Secrets Manager User Guide; README and source of
//! `aws_secretsmanager_agent` 2.1.0.

use std::{fmt, fs, io::Read, net::Ipv4Addr, path::PathBuf, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::{Kind, Query, SecretVersion, Source, Wanted};
use crate::{
    error::InvalidSetting,
    secret::{Secret, append},
    store::{StoreError, aws::GET},
};

mod response;
use response::Failure;

/// The default port of both.
const DEFAULT_PORT: u16 = 2773;

/// Responses are shorter: 64 KiB of text with every character escaped, and the rest of the JSON.
const MAX_RESPONSE_BYTES: usize = 512 * 1024;

/// Agent tokens are shorter: Lambda's session tokens have up to a few thousand characters.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// The pauses between attempts while the agent is starting.
const START_PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(600)];

#[derive(Clone)]
pub(super) struct LocalHttp {
    port: u16,
    token: Token,
    /// True: the agent, which accepts the parameter `refreshNow`. False: the extension.
    is_agent: bool,
}

/// The token of the agent, which every request must contain. So another site cannot use a browser or a proxy to send a request.
#[derive(Clone)]
enum Token {
    Text(Secret),
    /// Read again for each request: the agent's start script creates a new token.
    File(PathBuf),
}

impl Source {
    /// The AWS Parameters and Secrets Lambda Extension, with settings from the environment that Lambda sets:
    ///
    /// - Port: `PARAMETERS_SECRETS_EXTENSION_HTTP_PORT`, 2773 by default.
    /// - Token: `AWS_SESSION_TOKEN` (under `SnapStart` `AWS_CONTAINER_AUTHORIZATION_TOKEN`).
    ///
    /// The extension has its own cache (`SECRETS_MANAGER_TTL`, 300 s), which a request cannot bypass. If tokens live for less than
    /// about 20 minutes, set that time to a third of the lifetime at most.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] if the token is not set or the port is invalid.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// # let in_lambda = ["AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"].map(std::env::var).iter().any(Result::is_ok);
    /// match Source::extension_from_env() {
    ///     Ok(source) => assert!(in_lambda, "{source:?}"),
    ///     Err(problem) => assert!(!in_lambda, "{problem}"),
    /// }
    /// ```
    pub fn extension_from_env() -> Result<Self, InvalidSetting> {
        Self::extension_from_vars(|name| std::env::var(name).ok())
    }

    /// The AWS Parameters and Secrets Lambda Extension on this port of this machine, with this token.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// let source = Source::extension(2773, "the session token");
    /// assert_eq!(format!("{source:?}"), "Source(extension on port 2773)");
    /// ```
    #[must_use]
    pub fn extension(port: u16, token: impl Into<Secret>) -> Self {
        Self(Kind::LocalHttp(LocalHttp { port, token: Token::Text(token.into()), is_agent: false }))
    }

    /// The aws-secretsmanager-agent, with settings from the agent's own environment variables:
    ///
    /// - Port: 2773.
    /// - Token: the first that is set of `AWS_TOKEN`, `AWS_SESSION_TOKEN` and `AWS_CONTAINER_AUTHORIZATION_TOKEN`. The value may
    ///   name a file that contains the token: `file:///var/run/awssmatoken`.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] if none of them is set.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// match Source::agent_from_env() {
    ///     Ok(source) => println!("reads from {source:?}"),
    ///     Err(problem) => println!("{problem}"), // "neither AWS_TOKEN nor AWS_SESSION_TOKEN nor …"
    /// }
    /// ```
    pub fn agent_from_env() -> Result<Self, InvalidSetting> {
        Self::agent_from_vars(|name| std::env::var(name).ok())
    }

    /// The aws-secretsmanager-agent on this port of this machine (`http_port` in its configuration), with this token. `token` may
    /// name a file that contains the token: `file:///var/run/awssmatoken`.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// let source = Source::agent(2773, "file:///var/run/awssmatoken");
    /// assert_eq!(format!("{source:?}"), "Source(agent on port 2773)");
    /// ```
    #[must_use]
    pub fn agent(port: u16, token: impl Into<Secret>) -> Self {
        Self(Kind::LocalHttp(LocalHttp { port, token: Token::from_setting(token.into()), is_agent: true }))
    }

    fn extension_from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        const PORT: &str = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT";
        let port = match var(PORT).filter(|port| !port.is_empty()) {
            None => DEFAULT_PORT,
            Some(found) => match found.parse() {
                Ok(port @ 1..) => port,
                _ => return Err(InvalidSetting::found(PORT, &found, "a port from 1 to 65535")),
            },
        };
        Ok(Self::extension(port, first_set(var, &["AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"])?))
    }

    fn agent_from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let names = ["AWS_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
        Ok(Self::agent(DEFAULT_PORT, first_set(var, &names)?))
    }
}

fn first_set(var: impl Fn(&str) -> Option<String>, names: &[&str]) -> Result<Secret, InvalidSetting> {
    let found = names.iter().find_map(|name| var(name).filter(|value| !value.is_empty()));
    found.map(Secret::from).ok_or_else(|| {
        InvalidSetting::new(format!(
            "neither {} is set; it is the token that the agent on this machine requires in every request, and Lambda \
             sets it",
            names.join(" nor ")
        ))
    })
}

impl Token {
    fn from_setting(text: Secret) -> Self {
        match text.expose().strip_prefix("file://") {
            Some(path) => Self::File(path.into()),
            None => Self::Text(text),
        }
    }

    async fn text(&self) -> Result<Secret, StoreError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path.clone(),
        };
        let read = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || {
                let mut text = Zeroizing::new(String::with_capacity(4096));
                fs::File::open(path)?.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
                Ok::<_, std::io::Error>(Secret::from(text.trim()))
            })
        };
        let detail = |problem: String| StoreError::Rejected {
            action: GET,
            detail: format!("the agent's token cannot be read from {}: {problem}", path.display()),
        };
        read.await.map_err(|_| detail("the read was cancelled".to_owned()))?.map_err(|error| detail(error.to_string()))
    }
}

impl fmt::Display for LocalHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on port {}", self.name(), self.port)
    }
}

impl LocalHttp {
    const fn name(&self) -> &'static str {
        if self.is_agent { "agent" } else { "extension" }
    }

    pub(super) async fn read(&self, query: &Query) -> Result<SecretVersion, StoreError> {
        let token = self.token.text().await?;
        let mut pauses = START_PAUSES.into_iter();
        loop {
            match self.read_once(query, &token).await {
                Ok(version) => return Ok(version),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::NotReady(detail)) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(StoreError::Unavailable { action: GET, detail }),
                },
            }
        }
    }

    /// Sends one request.
    async fn read_once(&self, query: &Query, token: &Secret) -> Result<SecretVersion, Failure> {
        let detail = |what: &str| format!("the {self} {what}");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await;
        let stream = stream.map_err(|error| Failure::NotReady(detail(&format!("cannot be reached: {error}"))))?;
        let failed = |what: &str| Failure::Final(StoreError::Unavailable { action: GET, detail: detail(what) });
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut connection, driver) = handshake.map_err(|_| failed("does not speak HTTP"))?;
        // Ends when `connection` is dropped.
        tokio::spawn(driver);
        let request = Request::get(self.path(query))
            .header("host", format!("localhost:{}", self.port))
            .header("x-aws-parameters-secrets-token", token.expose())
            .body(Empty::<Bytes>::new())
            .map_err(|_| failed("cannot be called: its token has a character that no header may have"))?;
        let response = connection.send_request(request).await.map_err(|_| failed("closed the connection"))?;
        let status = response.status().as_u16();
        let body = read_bounded(response).await.map_err(|problem| failed(&problem))?;
        response::read(&self.to_string(), status, &body)
    }

    fn path(&self, query: &Query) -> String {
        const PATH: &str = "/secretsmanager/get?";
        let mut text = form_urlencoded::Serializer::for_suffix(PATH.to_owned(), PATH.len());
        text.append_pair("secretId", &query.secret_id);
        match &query.wanted {
            Wanted::CurrentNow if self.is_agent => {
                text.append_pair("versionStage", "AWSCURRENT").append_pair("refreshNow", "true")
            }
            Wanted::Current | Wanted::CurrentNow => text.append_pair("versionStage", "AWSCURRENT"),
            Wanted::Previous => text.append_pair("versionStage", "AWSPREVIOUS"),
            Wanted::Version(id) => text.append_pair("versionId", id.as_str()),
        };
        text.finish()
    }
}

async fn read_bounded(response: Response<Incoming>) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut body = response.into_body();
    let mut read = Zeroizing::new(Vec::with_capacity(8192));
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err("closed the connection".to_owned()) };
        let Some(chunk) = frame.data_ref() else { continue };
        if read.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(format!("answered over {MAX_RESPONSE_BYTES} bytes"));
        }
        append(&mut read, chunk);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(wanted: Wanted) -> Query {
        Query { secret_id: "arn:aws:secretsmanager:eu-central-1:1:secret:myapp/prod/a+b-AbCdEf".to_owned(), wanted }
    }

    fn agent() -> LocalHttp {
        LocalHttp { port: 1, token: Token::Text("t".into()), is_agent: true }
    }

    fn extension() -> LocalHttp {
        LocalHttp { is_agent: false, ..agent() }
    }

    #[test]
    fn a_request_names_the_version_and_only_the_agent_gets_refresh_now() {
        let id = "secretId=arn%3Aaws%3Asecretsmanager%3Aeu-central-1%3A1%3Asecret%3Amyapp%2Fprod%2Fa%2Bb-AbCdEf";
        for (local, wanted, rest) in [
            (agent(), Wanted::Current, "versionStage=AWSCURRENT"),
            (agent(), Wanted::CurrentNow, "versionStage=AWSCURRENT&refreshNow=true"),
            (extension(), Wanted::CurrentNow, "versionStage=AWSCURRENT"),
            (extension(), Wanted::Previous, "versionStage=AWSPREVIOUS"),
            (extension(), Wanted::Version("v2".into()), "versionId=v2"),
        ] {
            assert_eq!(local.path(&query(wanted)), format!("/secretsmanager/get?{id}&{rest}"));
        }
    }

    #[test]
    fn port_and_token_come_from_the_environment() {
        let vars = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        let described = |source: Result<Source, InvalidSetting>| match source {
            Ok(source) => format!("{source:?}"),
            Err(problem) => problem.to_string(),
        };
        for (set, expected) in [
            (&[("AWS_SESSION_TOKEN", "t")][..], "Source(extension on port 2773)"),
            (&[("AWS_CONTAINER_AUTHORIZATION_TOKEN", "t")], "Source(extension on port 2773)"),
            (
                &[("AWS_SESSION_TOKEN", "t"), ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "65535")],
                "Source(extension on port 65535)",
            ),
            (
                &[("AWS_SESSION_TOKEN", "t"), ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "65536")],
                "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT is \"65536\"; allowed is a port from 1 to 65535",
            ),
            (
                &[("AWS_SESSION_TOKEN", "")],
                "neither AWS_SESSION_TOKEN nor AWS_CONTAINER_AUTHORIZATION_TOKEN is set; it is the token that the agent on \
                 this machine requires in every request, and Lambda sets it",
            ),
        ] {
            assert_eq!(described(Source::extension_from_vars(vars(set))), expected);
        }
        assert_eq!(described(Source::agent_from_vars(vars(&[("AWS_TOKEN", "t")]))), "Source(agent on port 2773)");
    }
}
