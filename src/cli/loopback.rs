//! The loopback redirect (RFC 8252 section 7.3): listens for the browser, and answers it with one page when the login has ended.

use std::{
    convert::Infallible,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use super::{
    authorization::{MAX_REDIRECT_BYTES, Redirect, RedirectError, Request},
    failure::Failure,
    http_server::{accept, connection},
    page::Page,
};

/// How long the browser has to take the page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Open sockets for one redirect address.
pub(super) struct Loopback {
    listeners: Vec<TcpListener>,
    pub redirect_uri: String,
    path: String,
}

/// A redirect of this login.
pub(super) struct Arrival {
    pub redirect: Result<Redirect, String>,
    pub browser: Browser,
}

/// The browser that waits for its page.
pub(super) struct Browser {
    page: oneshot::Sender<Page>,
    has_page: oneshot::Receiver<()>,
}

/// URL, port and IP addresses to listen on. `None`: not a loopback URI with a port.
fn loopback_address(uri: &str) -> Option<(Url, u16, Vec<IpAddr>)> {
    let url = Url::parse(uri).ok()?;
    // `Url` leaves out the port 80.
    let port = url.port().or_else(|| uri.contains(":80").then_some(80)).filter(|port| *port != 0)?;
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let addresses = match (url.scheme(), url.host_str()?) {
        ("http", "127.0.0.1") => vec![v4],
        ("http", "[::1]") => vec![v6],
        ("http", "localhost") => vec![v4, v6],
        _ => return None,
    };
    Some((url, port, addresses))
}

impl Loopback {
    /// Listens at this redirect address. `None`: it is not one of this machine, or it names no port.
    pub(super) async fn at(redirect_uri: &str) -> Result<Option<Self>, Failure> {
        let Some((url, port, addresses)) = loopback_address(redirect_uri) else { return Ok(None) };
        let mut listeners = Vec::new();
        for (index, address) in addresses.into_iter().enumerate() {
            match TcpListener::bind((address, port)).await {
                Ok(listener) => listeners.push(listener),
                // `localhost` has a second address on most machines, not on all.
                Err(error) if index > 0 && error.kind() != ErrorKind::AddrInUse => {}
                Err(error) => {
                    return Err(Failure::later(format!(
                        "port {port} of {address} cannot be used ({error}): end the program that uses it, or choose another with --port, \
                         which the provider must allow, too"
                    )));
                }
            }
        }
        Ok(Some(Self { listeners, redirect_uri: redirect_uri.to_owned(), path: url.path().to_owned() }))
    }

    /// Listens at a free port of 127.0.0.1.
    pub(super) async fn at_free_port() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::later(format!("no port of 127.0.0.1 can be used: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let path = "/callback".to_owned();
        Ok(Self { listeners: vec![listener], redirect_uri: format!("http://127.0.0.1:{port}{path}"), path })
    }

    /// Waits for the redirect of this request. Answers everything else, until the receiver is dropped.
    pub(super) fn serve(self, request: Arc<Request>) -> mpsc::Receiver<Arrival> {
        let (arrivals, receiver) = mpsc::channel(1);
        let server = Arc::new(Server { request, path: self.path, arrivals, has_arrived: AtomicBool::new(false) });
        for listener in self.listeners {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        socket = accept(&listener) => drop(tokio::spawn(Arc::clone(&server).answer(socket))),
                        () = server.arrivals.closed() => return,
                    }
                }
            });
        }
        receiver
    }
}

struct Server {
    request: Arc<Request>,
    path: String,
    arrivals: mpsc::Sender<Arrival>,
    has_arrived: AtomicBool,
}

impl Server {
    async fn answer(self: Arc<Self>, socket: tokio::net::TcpStream) {
        let (sent, has_page) = oneshot::channel();
        let has_page = Mutex::new(Some(has_page));
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let has_page = has_page.lock().unwrap_or_else(PoisonError::into_inner).take();
            let server = Arc::clone(&self);
            async move {
                let page = server.page(request.method(), request.uri(), has_page).await;
                Ok::<_, Infallible>(page.response())
            }
        });
        let mut connection = connection();
        connection.keep_alive(false).max_buf_size(2 * MAX_REDIRECT_BYTES);
        let _ = connection.serve_connection(TokioIo::new(socket), service).await;
        let _ = sent.send(());
    }

    async fn page(&self, method: &hyper::Method, uri: &hyper::Uri, has_page: Option<oneshot::Receiver<()>>) -> Page {
        let (&hyper::Method::GET, Some(has_page)) = (method, has_page) else { return Page::NotFound };
        let query = uri.query().unwrap_or_default();
        if uri.path() != self.path || query.len() > MAX_REDIRECT_BYTES {
            return Page::NotFound;
        }
        let redirect = match self.request.read(query) {
            Ok(redirect) => Ok(redirect),
            Err(RedirectError::Denied(message) | RedirectError::Wrong(message)) => Err(message),
            Err(RedirectError::NotOfThisLogin) => return Page::NotOfThisLogin,
        };
        if self.has_arrived.swap(true, Ordering::SeqCst) {
            return Page::Second;
        }
        let (page, answer) = oneshot::channel();
        let arrival = Arrival { redirect, browser: Browser { page, has_page } };
        let failed = || Page::Failed { message: "tokenctl has ended".to_owned() };
        if self.arrivals.send(arrival).await.is_err() {
            return failed();
        }
        answer.await.unwrap_or_else(|_| failed())
    }
}

impl Browser {
    /// Shows the page, and waits until the browser has it.
    pub(super) async fn show(self, page: Page) {
        if self.page.send(page).is_ok() {
            let _ = tokio::time::timeout(PAGE_TIMEOUT, self.has_page).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_with_a_port_are_listened_at() {
        for (uri, addresses) in [
            ("http://127.0.0.1:8080/callback", &["127.0.0.1"][..]),
            ("http://[::1]:8080/", &["::1"]),
            ("http://localhost:8080", &["127.0.0.1", "::1"]),
            ("http://localhost/callback", &[]),
            ("https://localhost:8080/callback", &[]),
            ("http://localhost.example:8080/", &[]),
            ("http://10.0.0.1:8080/", &[]),
            ("https://client.example/callback", &[]),
            ("My-RuName-1", &[]),
        ] {
            let found = loopback_address(uri).map(|(_, _, addresses)| addresses).unwrap_or_default();
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), addresses, "{uri}");
        }
    }
}
