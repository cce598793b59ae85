//! The HTTP contract of the agents on this machine: the AWS Parameters and Secrets Lambda Extension and the
//! aws-secretsmanager-agent. One connection for each read: they end idle ones, and Lambda freezes both sides.
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

mod answer;
use answer::Failure;

/// Where both listen, unless told otherwise.
const DEFAULT_PORT: u16 = 2773;

/// No answer is longer: 64 KiB of text with every character escaped, and what is around it.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// No token is longer; Lambda's session tokens have up to some thousand characters.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// The pauses before it is asked again while it starts.
const PAUSES_AT_START: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(600)];

#[derive(Clone)]
pub(super) struct LocalHttp {
    port: u16,
    token: Token,
    /// Whether it knows the parameter `refreshNow`.
    agent: bool,
}

/// What every request must carry, so that no other site can have a browser or proxy send one.
#[derive(Clone)]
enum Token {
    Text(Secret),
    /// Read at each request: the agent's start script makes a new one.
    File(PathBuf),
}

impl Source {
    /// The AWS Parameters and Secrets Lambda Extension, as Lambda's environment says: its port is
    /// `PARAMETERS_SECRETS_EXTENSION_HTTP_PORT`, or 2773; its token `AWS_SESSION_TOKEN` (under `SnapStart`
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`).
    ///
    /// It has a cache of its own (`SECRETS_MANAGER_TTL`, 300 s) and no way to be told to read past it. For tokens that live for less
    /// than about 20 minutes make that time shorter: a third of the lifetime at most.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] when the token is not set, or the port is none.
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

    /// The AWS Parameters and Secrets Lambda Extension on a port of this machine, which takes this token.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// let source = Source::extension(2773, "the session token");
    /// assert_eq!(format!("{source:?}"), "Source(extension on port 2773)");
    /// ```
    #[must_use]
    pub fn extension(port: u16, token: impl Into<Secret>) -> Self {
        Self(Kind::LocalHttp(LocalHttp { port, token: Token::Text(token.into()), agent: false }))
    }

    /// The aws-secretsmanager-agent, as its own environment says: on port 2773, its token in `AWS_TOKEN`, `AWS_SESSION_TOKEN` or
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`, the first that is set, or in the file that one names: `file:///var/run/awssmatoken`.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] when none is set.
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

    /// The aws-secretsmanager-agent on a port of this machine (`http_port` in its configuration), which takes this token; or
    /// the one in a file: `file:///var/run/awssmatoken`.
    ///
    /// ```
    /// # use token_refresher::reader::Source;
    /// let source = Source::agent(2773, "file:///var/run/awssmatoken");
    /// assert_eq!(format!("{source:?}"), "Source(agent on port 2773)");
    /// ```
    #[must_use]
    pub fn agent(port: u16, token: impl Into<Secret>) -> Self {
        Self(Kind::LocalHttp(LocalHttp { port, token: Token::of(token.into()), agent: true }))
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
        Ok(Self::extension(port, first(var, &["AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"])?))
    }

    fn agent_from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let names = ["AWS_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
        Ok(Self::agent(DEFAULT_PORT, first(var, &names)?))
    }
}

fn first(var: impl Fn(&str) -> Option<String>, names: &[&str]) -> Result<Secret, InvalidSetting> {
    let found = names.iter().find_map(|name| var(name).filter(|value| !value.is_empty()));
    found.map(Secret::from).ok_or_else(|| {
        InvalidSetting::new(format!(
            "neither {} is set; it is the token that the agent on this machine wants to see in every request, and Lambda \
             sets it",
            names.join(" nor ")
        ))
    })
}

impl Token {
    fn of(text: Secret) -> Self {
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
        read.await.map_err(|_| detail("cut short".to_owned()))?.map_err(|error| detail(error.to_string()))
    }
}

impl fmt::Display for LocalHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on port {}", self.name(), self.port)
    }
}

impl LocalHttp {
    const fn name(&self) -> &'static str {
        if self.agent { "agent" } else { "extension" }
    }

    pub(super) async fn read(&self, query: &Query) -> Result<SecretVersion, StoreError> {
        let token = self.token.text().await?;
        let mut pauses = PAUSES_AT_START.into_iter();
        loop {
            match self.ask(query, &token).await {
                Ok(version) => return Ok(version),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Starting(detail)) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(StoreError::Unavailable { action: GET, detail }),
                },
            }
        }
    }

    /// One request.
    async fn ask(&self, query: &Query, token: &Secret) -> Result<SecretVersion, Failure> {
        let detail = |what: &str| format!("the {self} {what}");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await;
        let stream = stream.map_err(|error| Failure::Starting(detail(&format!("cannot be reached: {error}"))))?;
        let broken = |what: &str| Failure::Final(StoreError::Unavailable { action: GET, detail: detail(what) });
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut connection, driver) = handshake.map_err(|_| broken("speaks no HTTP"))?;
        // Ends when `connection` is dropped.
        tokio::spawn(driver);
        let request = Request::get(self.path(query))
            .header("host", format!("localhost:{}", self.port))
            .header("x-aws-parameters-secrets-token", token.expose())
            .body(Empty::<Bytes>::new())
            .map_err(|_| broken("wants a token that no header can carry"))?;
        let response = connection.send_request(request).await.map_err(|_| broken("broke off"))?;
        let status = response.status().as_u16();
        let answer = read_bounded(response).await.map_err(|what| broken(&what))?;
        answer::version(&self.to_string(), status, &answer)
    }

    fn path(&self, query: &Query) -> String {
        const PATH: &str = "/secretsmanager/get?";
        let mut text = form_urlencoded::Serializer::for_suffix(PATH.to_owned(), PATH.len());
        text.append_pair("secretId", &query.secret_id);
        match &query.wanted {
            Wanted::CurrentNow if self.agent => {
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
        let Ok(frame) = frame else { return Err("broke off".to_owned()) };
        let Some(chunk) = frame.data_ref() else { continue };
        if read.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!("answered over {MAX_ANSWER_BYTES} bytes"));
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
        LocalHttp { port: 1, token: Token::Text("t".into()), agent: true }
    }

    fn extension() -> LocalHttp {
        LocalHttp { agent: false, ..agent() }
    }

    #[test]
    fn a_request_names_the_version_and_only_the_agent_is_told_to_read_past_its_cache() {
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
    fn the_environment_names_port_and_token() {
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
                 this machine wants to see in every request, and Lambda sets it",
            ),
        ] {
            assert_eq!(described(Source::extension_from_vars(vars(set))), expected);
        }
        assert_eq!(described(Source::agent_from_vars(vars(&[("AWS_TOKEN", "t")]))), "Source(agent on port 2773)");
    }
}
