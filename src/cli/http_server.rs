//! What the HTTP servers of this program share: `loopback` and `health`.

use std::time::Duration;

use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};

/// How long a client has to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Before the next attempt, if no connection could be accepted: perhaps too many files are open.
const PAUSE: Duration = Duration::from_millis(50);

/// The next connection.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            return socket;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Serves a connection, with a time limit.
pub(super) fn connection() -> Builder {
    let mut connection = Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    connection
}
