//! How a provider responds to one request, and the bytes of the response. Decides nothing about tokens.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde_json::Value;

/// How the provider responds to one request.
#[derive(Clone, Debug)]
pub enum Response {
    /// Exchanges the refresh token by the rules of its `World`.
    Exchange,
    /// Sends this response to any request.
    Fixed { status: u16, headers: Vec<(String, String)>, body: String },
    /// The same with a body that need not be text.
    Bytes { status: u16, body: Vec<u8> },
    /// Reads the request and never responds. Exchanges nothing.
    NeverResponds,
    /// Exchanges, sends the head and half of the body, and closes the connection.
    BreaksOff,
    /// Reads the request and closes the connection. Exchanges nothing.
    CloseBeforeProcessing,
    /// Exchanges, and closes the connection without a response.
    CloseAfterProcessing,
    /// 307. A client that followed it would send the form to this address, with its secrets.
    Redirect(String),
    /// A valid token response of about this many bytes, in chunks, without `Content-Length`.
    Huge(usize),
    /// Processes the request at once like the other response, and sends it after this time.
    Delay(Duration, Box<Response>),
    /// 400 with this field of the request in the `error_description`.
    RefusalThatQuotes(&'static str),
    /// 429 with `Retry-After`, in seconds. Exchanges nothing.
    RetryAfter429(u64),
}

impl Response {
    /// Any bytes as the body.
    pub fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self::Bytes { status, body }
    }

    pub fn fixed(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self::Fixed { status, headers, body: body.to_owned() }
    }

    /// A provider's response as it was received: `tests/fixtures/answers/{name}.http`.
    pub fn recorded(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/answers/{name}.http", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (head, body) = text.split_once("\n\n").expect("an empty line after the head");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.map(|line| header(line).expect("a header")).collect();
        Self::Fixed { status, headers, body: body.to_owned() }
    }

    /// The tokens in a fixed response: in JSON at any depth, or in a form.
    pub fn tokens(&self) -> Vec<String> {
        let Self::Fixed { body, .. } = self else { return Vec::new() };
        let mut tokens = Vec::new();
        if let Ok(value) = serde_json::from_str(body) {
            collect_tokens(&value, &mut tokens);
        } else {
            let fields = form_urlencoded::parse(body.as_bytes()).into_owned();
            tokens.extend(fields.filter(|(name, _)| name.ends_with("_token")).map(|(_, token)| token));
        }
        tokens
    }
}

fn collect_tokens(value: &Value, tokens: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::String(token) if name.ends_with("_token") => tokens.push(token.clone()),
            value => collect_tokens(value, tokens),
        }
    }
}

/// A body in pieces, which can be cut off.
pub struct Payload {
    pieces: VecDeque<Bytes>,
    length: Option<u64>,
    breaks_off: bool,
}

impl Payload {
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self { length: Some(bytes.len() as u64), pieces: [bytes.into()].into(), breaks_off: false }
    }

    pub fn whole(text: String) -> Self {
        Self { length: Some(text.len() as u64), pieces: [text.into()].into(), breaks_off: false }
    }

    pub fn half_of(text: String) -> Self {
        let half = text.len() / 2;
        Self { pieces: [Bytes::from(text).slice(..half), Bytes::new()].into(), length: None, breaks_off: true }
    }

    /// Valid JSON with an access token of this length, so that only its size is wrong.
    pub fn huge(bytes: usize) -> Self {
        let piece = Bytes::from(vec![b'x'; 65_536]);
        let mut pieces = VecDeque::from([Bytes::from_static(br#"{"expires_in":3600,"access_token":""#)]);
        pieces.extend(std::iter::repeat_n(piece, bytes.div_ceil(65_536)));
        pieces.push_back(Bytes::from_static(br#""}"#));
        Self { pieces, length: None, breaks_off: false }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.pieces.pop_front() {
            // hyper discards what it has not written when a body fails. One idle poll lets it write the first half.
            Some(piece) if piece.is_empty() && self.breaks_off => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.breaks_off => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
