//! The exchange: one POST of a refresh token to a token endpoint. Decides only whether the same request may be sent
//! again; knows nothing of secrets' stores.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::RETRY_AFTER;

use crate::{clock::Clock, http_client::read_bounded, secret::Secret, shown::shown};

pub mod printable;
pub mod request;
pub mod response;

use request::Client;
use response::{Answer, Trouble};

/// How much of an answer is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How much is told of why a request failed on its way.
const MAX_CAUSE_CHARS: usize = 300;

/// How often the same request is sent at most. Only a request that did not reach the provider, or that the provider
/// itself asked to have again later, is sent again.
const MAX_TRIES: u32 = 3;

/// One exchange to make.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The client that asks.
    pub client: Client,
    /// The token to exchange.
    pub refresh_token: Secret,
    /// The access token so far: providers must not get us to print it.
    pub access_token: Option<Secret>,
    /// When an answer must be there.
    pub deadline: DateTime<Utc>,
}

/// Sends the refresh token to the token endpoint and reads the answer.
///
/// The request is sent again only when it provably did not reach the provider (the connection was not made) or the
/// provider asked for it (429 with `Retry-After`), and only while there is time.
pub async fn exchange(http: &reqwest::Client, clock: &Clock, exchange: Exchange) -> Answer {
    let mut tries = 1;
    loop {
        let answer = send(http, clock, &exchange).await;
        let Answer::Unavailable(trouble) = &answer else { return answer };
        let wait = match trouble {
            Trouble::NotReached(_) => Duration::from_millis(250) * tries,
            Trouble::Busy { retry_after: Some(wait), .. } => *wait,
            Trouble::Busy { retry_after: None, .. } | Trouble::MaybeSpent(_) => return answer,
        };
        let enough_time = TimeDelta::from_std(wait).is_ok_and(|wait| clock.now() + wait < exchange.deadline);
        if tries == MAX_TRIES || !enough_time {
            return answer;
        }
        tries += 1;
        clock.sleep(wait).await;
    }
}

async fn send(http: &reqwest::Client, clock: &Clock, exchange: &Exchange) -> Answer {
    let request = match exchange.client.request(&exchange.refresh_token) {
        Ok(request) => request,
        Err(problem) => return Answer::Unavailable(Trouble::NotReached(problem)),
    };
    let sent = clock.before(exchange.deadline, async {
        let response = http.execute(request).await.map_err(|error| describe(&error))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok().map(str::to_owned));
        let body = read_bounded(response, MAX_ANSWER_BYTES)
            .await
            .map_err(|problem| Trouble::MaybeSpent(format!("answered {status}, but {problem}")))?;
        Ok((status, retry_after, body))
    });
    match sent.await {
        None => Answer::Unavailable(Trouble::MaybeSpent("did not answer in time".to_owned())),
        Some(Err(trouble)) => Answer::Unavailable(trouble),
        Some(Ok((status, retry_after, body))) => {
            let secrets: Vec<&Secret> = [Some(&exchange.refresh_token), exchange.access_token.as_ref()]
                .into_iter()
                .flatten()
                .chain(exchange.client.secrets())
                .collect();
            response::read(status, retry_after.as_deref(), &body, clock.now(), &secrets)
        }
    }
}

/// What went wrong on the way, in words that name neither the address nor anything sent.
fn describe(error: &reqwest::Error) -> Trouble {
    // The innermost cause is the one that tells: "Connection refused", "invalid peer certificate", ….
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // A certificate's names are the other side's words.
    let cause = shown(&cause.to_string(), MAX_CAUSE_CHARS);
    if error.is_connect() {
        let what = if error.is_timeout() { "the connection took too long".to_owned() } else { cause };
        Trouble::NotReached(format!("could not be reached ({what})"))
    } else {
        Trouble::MaybeSpent(format!("broke off before an answer ({cause})"))
    }
}
