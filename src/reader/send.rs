//! Sends a request with the token, and sends it once more after a 401. Does not know the source of the tokens.

use std::fmt;

use reqwest::{
    Request, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderValue},
};

use super::{AccessToken, ReadError, Reader};
use crate::{error::root_cause, sanitize::sanitize_line};

/// Why there is no response. See [`Reader::send`]. Its text contains the cause. `Debug` shows the same text, because it is what a `main`
/// that returns the error prints.
#[non_exhaustive]
pub enum SendError {
    /// There was no token to send.
    Token(ReadError),
    /// The API answered 401, and there was no token to send instead.
    NotReplaced(ReadError),
    /// The request could not be built or sent, or there was no response.
    Request(reqwest::Error),
    /// Not sent: the token would go over the network unencrypted (`http` to another host than this machine).
    InTheClear {
        /// The host.
        host: String,
    },
    /// The token contains characters that a header must not contain.
    NoHeader {
        /// The secret.
        secret_id: String,
    },
}

impl Reader {
    /// Sends a request with `Authorization: Bearer …`.
    ///
    /// After a 401 the token counts as [rejected](Self::rejected). If there is a new token, the request is sent once more with it.
    /// If the body cannot be sent twice (a stream), the 401 is returned; the next request has the new token.
    ///
    /// Set a timeout in the client: this method adds none. On a redirect to another host, reqwest removes the header.
    ///
    /// # Errors
    ///
    /// - [`SendError::Token`], [`SendError::NotReplaced`]: there is no token, at first or after a 401.
    /// - [`SendError::Request`]: an error of [`reqwest::RequestBuilder::send`].
    /// - [`SendError::InTheClear`], [`SendError::NoHeader`]: the request was not sent.
    ///
    /// ```
    /// # use token_refresher::{Reader, reader::{SecretVersion, Source}};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # let url = format!("http://{}/me", listener.local_addr()?);
    /// # tokio::spawn(async move {
    /// #     let (mut stream, _) = listener.accept().await.unwrap();
    /// #     let mut request = [0; 4096];
    /// #     let length = stream.read(&mut request).await.unwrap();
    /// #     let asked = String::from_utf8_lossy(&request[..length]).to_lowercase();
    /// #     assert!(asked.contains("authorization: bearer t0ps3cret"), "no token");
    /// #     stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    /// # });
    /// # let secret = r#"{"accessToken": "t0ps3cret", "expiresAt": 4070908800000}"#;
    /// # let reader = Reader::new(Source::from_fn(move |_| async move { Ok(SecretVersion::text("v1", secret)) }), "crm");
    /// # let client = token_refresher::http_client::HttpClients::new(|_| None)?.store;
    /// let response = reader.send(client.get(url)).await?;
    /// assert_eq!(response.status(), 204);
    /// # Ok(()) }
    /// ```
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, SendError> {
        let (client, request) = request.build_split();
        let request = request.map_err(SendError::Request)?;
        check_url(request.url())?;
        let token = self.access_token().await.map_err(SendError::Token)?;
        let second_request = request.try_clone();
        let response = client.execute(self.with_token(request, &token)?).await.map_err(SendError::Request)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.rejected(&token);
        let Some(second_request) = second_request else { return Ok(response) };
        let new = self.access_token().await.map_err(SendError::NotReplaced)?;
        if new.version_id() == token.version_id() {
            return Ok(response);
        }
        client.execute(self.with_token(second_request, &new)?).await.map_err(SendError::Request)
    }

    fn with_token(&self, mut request: Request, token: &AccessToken) -> Result<Request, SendError> {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        let mut header = header.map_err(|_| SendError::NoHeader { secret_id: self.secret_id().to_owned() })?;
        header.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, header);
        Ok(request)
    }
}

/// Checks that the request goes over TLS or to this machine. "Clients MUST always use TLS (https) or equivalent transport security
/// when making requests with bearer tokens" (RFC 6750 section 5.3).
fn check_url(url: &Url) -> Result<(), SendError> {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_this_machine = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if url.scheme() == "https" || is_this_machine {
        return Ok(());
    }
    Err(SendError::InTheClear { host: host.to_owned() })
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => write!(f, "there is no token to send: {error}"),
            Self::NotReplaced(error) => {
                write!(f, "the API answered 401, and there is no token to send instead: {error}")
            }
            Self::Request(error) => {
                write!(f, "the request failed: {}", sanitize_line(&root_cause(error).to_string(), 300))
            }
            Self::InTheClear { host } => {
                write!(f, "not sent: the token would go to {host} in the clear; use https")
            }
            Self::NoHeader { secret_id } => {
                write!(f, "secret `{secret_id}`: its access token contains characters that are not allowed in a header")
            }
        }
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Token(error) | Self::NotReplaced(error) => Some(error),
            Self::Request(error) => Some(error),
            Self::InTheClear { .. } | Self::NoHeader { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_over_tls_or_to_this_machine_only() {
        for (url, allowed) in [
            ("https://api.example/me", true),
            ("http://127.0.0.1:8080/me", true),
            ("http://[::1]/me", true),
            ("http://localhost/me", true),
            ("http://api.example/me", false),
            ("http://10.0.0.1/me", false),
            ("http://localhost.example/me", false),
        ] {
            assert_eq!(check_url(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        }
    }
}
