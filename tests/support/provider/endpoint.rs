//! What a token endpoint makes of one request, given its script and what it has granted. Opens no socket.

use std::{collections::VecDeque, time::Duration};

use hyper::{Response, http::response};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Payload},
    client::{AuthMethod, Client},
    grants::{Grants, Pair, World},
};

/// The client a provider knows unless told otherwise.
pub const CLIENT_ID: &str = "refresher:1+test";
/// Its secret: every character that Basic authentication must form-encode first.
pub const CLIENT_SECRET: &str = "unseen-s3cr3t+/=&% :cf81a4d70b6e4f9f";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The form's fields, decoded, in their order.
    pub form: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

pub struct Endpoint {
    pub grants: Grants,
    pub client: Client,
    pub expires_in: u64,
    pub script: VecDeque<Answer>,
    pub otherwise: Answer,
    pub requests: Vec<Request>,
    /// Tokens in the fixed answers that were sent.
    pub replayed: Vec<String>,
}

/// What goes back: an answer, or none.
pub enum Reply {
    Send(Response<Payload>),
    Close,
    Never,
}

impl Endpoint {
    pub fn new(otherwise: Answer) -> Self {
        let (id, secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
        Self {
            grants: Grants::new(World::ReuseKillsFamily),
            client: Client { id, secret, method: AuthMethod::ClientSecretPost },
            expires_in: 3600,
            script: VecDeque::new(),
            otherwise,
            requests: Vec::new(),
            replayed: Vec::new(),
        }
    }

    /// Does at once all that a request does; only the reply may be late.
    pub fn take(&mut self, request: Request) -> (Duration, Reply) {
        let answer = self.script.pop_front().unwrap_or_else(|| self.otherwise.clone());
        let reply = self.carry_out(answer, &request);
        self.requests.push(request);
        reply
    }

    fn carry_out(&mut self, answer: Answer, request: &Request) -> (Duration, Reply) {
        self.replayed.extend(answer.tokens());
        let (head, payload) = match answer {
            Answer::Exchange => {
                let (status, body) = self.exchange(request);
                (json_head(status), Payload::whole(body.to_string()))
            }
            Answer::BreaksOff => {
                let (status, body) = self.exchange(request);
                let body = body.to_string();
                (json_head(status).header("content-length", body.len()), Payload::half_of(body))
            }
            Answer::Fixed { status, headers, body } => {
                let head = Response::builder().status(status);
                let head = headers.into_iter().fold(head, |head, (name, value)| head.header(name, value));
                (head, Payload::whole(body))
            }
            Answer::Redirect(to) => {
                (Response::builder().status(307).header("location", to), Payload::whole(String::new()))
            }
            Answer::Huge(bytes) => (json_head(200), Payload::huge(bytes)),
            Answer::RetryAfter429(seconds) => {
                let head = Response::builder().status(429).header("retry-after", seconds);
                (head, Payload::whole("too many requests".to_owned()))
            }
            Answer::Delay(delay, answer) => {
                let (more, reply) = self.carry_out(*answer, request);
                return (delay + more, reply);
            }
            Answer::CloseAfterProcessing => {
                self.exchange(request);
                return (Duration::ZERO, Reply::Close);
            }
            Answer::CloseBeforeAnswer => return (Duration::ZERO, Reply::Close),
            Answer::NeverAnswers => return (Duration::ZERO, Reply::Never),
        };
        (Duration::ZERO, Reply::Send(head.body(payload).expect("an answer that HTTP can carry")))
    }

    /// RFC 6749 section 6: status and body.
    fn exchange(&mut self, request: &Request) -> (u16, Value) {
        let is_form = |is: &str| is.starts_with("application/x-www-form-urlencoded");
        let repeats = |name: &String| request.form.iter().filter(|(field, _)| field == name).count() > 1;
        if request.method != "POST" || request.path != "/token" || !request.header("content-type").is_some_and(is_form)
        {
            return refusal(400, "invalid_request", "not a form posted to the token endpoint");
        }
        // RFC 6749 3.2: parameters must not be included more than once.
        if request.form.iter().any(|(name, _)| repeats(name)) {
            return refusal(400, "invalid_request", "a parameter is repeated");
        }
        if !self.client.is_proven_by(request) {
            return refusal(401, "invalid_client", "client authentication failed");
        }
        if request.field("grant_type") != Some("refresh_token") {
            return refusal(400, "unsupported_grant_type", "only refresh_token is supported");
        }
        match self.grants.refresh(request.field("refresh_token").unwrap_or_default()) {
            Some(Pair { access, refresh }) => (
                200,
                json!({
                    "access_token": access,
                    "token_type": "Bearer",
                    "expires_in": self.expires_in,
                    "refresh_token": refresh,
                }),
            ),
            None => refusal(400, "invalid_grant", "the refresh token is invalid, expired or revoked"),
        }
    }
}

fn refusal(status: u16, error: &str, description: &str) -> (u16, Value) {
    (status, json!({"error": error, "error_description": description}))
}

fn json_head(status: u16) -> response::Builder {
    let head = Response::builder().status(status);
    let head = head.header("content-type", "application/json").header("cache-control", "no-store");
    // Only a client that failed to authenticate gets a 401 (RFC 6749 5.2).
    if status == 401 { head.header("www-authenticate", "Basic realm=\"token\"") } else { head }
}
