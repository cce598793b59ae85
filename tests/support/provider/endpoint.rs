//! The response of the token endpoint to one request, from its script and the grants. Opens no socket.

use std::{collections::VecDeque, time::Duration};

use hyper::http::response;
use serde_json::{Value, json};

use super::{
    client::{AuthMethod, Client},
    grants::{Grants, Pair, World},
    response::{Payload, Response},
};

/// The default client of a provider.
pub const CLIENT_ID: &str = "refresher:1+test";
/// Its secret, with every character that must be form-encoded for Basic authentication.
pub const CLIENT_SECRET: &str = "unseen-s3cr3t+/=&% :cf81a4d70b6e4f9f";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The fields of the form, decoded, in order.
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
    /// More members of each response with tokens.
    pub more: Value,
    /// Whether requests are JSON objects instead of forms.
    pub takes_json: bool,
    pub script: VecDeque<Response>,
    /// The response when the script is empty.
    pub default_response: Response,
    pub requests: Vec<Request>,
    /// Tokens in the fixed responses that were sent.
    pub replayed: Vec<String>,
}

/// What the server does with the connection.
pub enum Reply {
    Send(hyper::Response<Payload>),
    Close,
    Never,
}

impl Endpoint {
    pub fn new(default_response: Response) -> Self {
        let (id, secret) = (CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
        Self {
            grants: Grants::new(World::ReuseKillsFamily),
            client: Client { id, secret, method: AuthMethod::ClientSecretPost },
            expires_in: 3600,
            more: json!({}),
            takes_json: false,
            script: VecDeque::new(),
            default_response,
            requests: Vec::new(),
            replayed: Vec::new(),
        }
    }

    /// Processes a request at once. Returns the reply, and how long to wait before it is sent.
    pub fn handle(&mut self, request: Request) -> (Duration, Reply) {
        let response = self.script.pop_front().unwrap_or_else(|| self.default_response.clone());
        let reply = self.process(response, &request);
        self.requests.push(request);
        reply
    }

    fn process(&mut self, response: Response, request: &Request) -> (Duration, Reply) {
        self.replayed.extend(response.tokens());
        let (head, payload) = match response {
            Response::Exchange => {
                let (status, body) = self.exchange(request);
                (json_head(status), Payload::whole(body.to_string()))
            }
            Response::BreaksOff => {
                let (status, body) = self.exchange(request);
                let body = body.to_string();
                (json_head(status).header("content-length", body.len()), Payload::half_of(body))
            }
            Response::Fixed { status, headers, body } => {
                let head = hyper::Response::builder().status(status);
                let head = headers.into_iter().fold(head, |head, (name, value)| head.header(name, value));
                (head, Payload::whole(body))
            }
            Response::Bytes { status, body } => (json_head(status), Payload::bytes(body)),
            Response::RefusalThatQuotes(field) => {
                let (status, body) = refusal(400, "invalid_grant", request.field(field).expect("the field"));
                (json_head(status), Payload::whole(body.to_string()))
            }
            Response::Redirect(to) => {
                (hyper::Response::builder().status(307).header("location", to), Payload::whole(String::new()))
            }
            Response::Huge(bytes) => (json_head(200), Payload::huge(bytes)),
            Response::RetryAfter429(seconds) => {
                let head = hyper::Response::builder().status(429).header("retry-after", seconds);
                (head, Payload::whole("too many requests".to_owned()))
            }
            Response::Delay(delay, response) => {
                let (more, reply) = self.process(*response, request);
                return (delay + more, reply);
            }
            Response::CloseAfterProcessing => {
                self.exchange(request);
                return (Duration::ZERO, Reply::Close);
            }
            Response::CloseBeforeProcessing => return (Duration::ZERO, Reply::Close),
            Response::NeverResponds => return (Duration::ZERO, Reply::Never),
        };
        (Duration::ZERO, Reply::Send(head.body(payload).expect("a valid HTTP response")))
    }

    /// RFC 6749 section 6: status and body.
    fn exchange(&mut self, request: &Request) -> (u16, Value) {
        let expected = if self.takes_json { "application/json" } else { "application/x-www-form-urlencoded" };
        let is_form = |is: &str| is.starts_with(expected);
        let repeats = |name: &String| request.form.iter().filter(|(field, _)| field == name).count() > 1;
        if request.method != "POST"
            || !request.path.ends_with("/token")
            || !request.header("content-type").is_some_and(is_form)
        {
            return refusal(400, "invalid_request", "not a form posted to the token endpoint");
        }
        // RFC 6749 3.2: parameters must not be included more than once.
        if request.form.iter().any(|(name, _)| repeats(name)) {
            return refusal(400, "invalid_request", "a parameter is repeated");
        }
        if !self.client.authenticates(request) {
            return refusal(401, "invalid_client", "client authentication failed");
        }
        match request.field("grant_type") {
            Some("refresh_token") => {}
            // RFC 6749 section 4.4.3.
            Some("client_credentials") => {
                let access = self.grants.issue_to_client();
                return (200, json!({"access_token": access, "token_type": "Bearer", "expires_in": self.expires_in}));
            }
            _ => {
                return refusal(
                    400,
                    "unsupported_grant_type",
                    "only refresh_token and client_credentials are supported",
                );
            }
        }
        match self.grants.refresh(request.field("refresh_token").unwrap_or_default()) {
            Some(Pair { access, refresh }) => {
                let mut response = json!({
                    "access_token": access,
                    "token_type": "Bearer",
                    "expires_in": self.expires_in,
                    "refresh_token": refresh,
                });
                let more = self.more.as_object().into_iter().flatten();
                more.for_each(|(name, value)| response[name] = value.clone());
                (200, response)
            }
            None => refusal(400, "invalid_grant", "the refresh token is invalid, expired or revoked"),
        }
    }
}

fn refusal(status: u16, error: &str, description: &str) -> (u16, Value) {
    (status, json!({"error": error, "error_description": description}))
}

fn json_head(status: u16) -> response::Builder {
    let head = hyper::Response::builder().status(status);
    let head = head.header("content-type", "application/json").header("cache-control", "no-store");
    // 401 is only for a client that fails to authenticate (RFC 6749 5.2).
    if status == 401 { head.header("www-authenticate", "Basic realm=\"token\"") } else { head }
}
