//! The page that the browser shows when a login has ended. It loads nothing and runs nothing.

use http_body_util::Full;
use hyper::{Response, body::Bytes};

use super::failure::Failure;

/// What the browser shows.
pub(super) enum Page {
    /// The tokens are in this secret.
    Done {
        secret: String,
    },
    Failed {
        message: String,
    },
    NotOfThisLogin,
    Second,
    NotFound,
}

/// Nothing is loaded from anywhere, and nothing runs.
const SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Page {
    /// The first line of a failure. The terminal has the rest.
    pub(super) fn failed(failure: &Failure) -> Self {
        Self::Failed { message: failure.message.lines().next().unwrap_or_default().to_owned() }
    }

    /// The page as a response.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let (status, is_good, title, text) = match self {
            Self::Done { secret } => (
                200,
                true,
                "Logged in",
                format!("The tokens are in <code>{}</code>. You can close this page.", escaped(secret)),
            ),
            Self::Failed { message } => {
                let message = escaped(&capitalized(message));
                (
                    200,
                    false,
                    "The login failed",
                    format!("{message}.</p><p>The terminal says what to do. You can close this page."),
                )
            }
            Self::NotOfThisLogin => {
                let text = "This address does not belong to the login that tokenctl waits for. Open the address that the terminal shows.";
                (400, false, "Another login", text.to_owned())
            }
            Self::Second => (
                409,
                false,
                "Already received",
                "tokenctl has already received this redirect. You can close this page.".to_owned(),
            ),
            Self::NotFound => (404, false, "Nothing here", "tokenctl is waiting for a login here.".to_owned()),
        };
        let (class, mark) = if is_good { ("good", "✓") } else { ("bad", "!") };
        let html = include_str!("page.html")
            .replace("{title}", title)
            .replace("{class}", class)
            .replace("{mark}", mark)
            .replace("{text}", &text);
        let mut response = Response::new(Full::new(Bytes::from(html)));
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", SECURITY_POLICY),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ] {
            response.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
        }
        response
    }
}

fn capitalized(text: &str) -> String {
    if text.starts_with("http") {
        return text.to_owned();
    }
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_contains_its_text_escaped() {
        use http_body_util::BodyExt;
        let page = Page::Failed { message: "<script>\"&".to_owned() }.response();
        let html = page.into_body().collect().await.unwrap().to_bytes();
        let html = std::str::from_utf8(&html).unwrap();
        assert!(html.contains("&lt;script&gt;&quot;&amp;.</p>"), "{html}");
        assert!(!html.contains('{') || !html.contains("{text}"), "{html}");
    }
}
