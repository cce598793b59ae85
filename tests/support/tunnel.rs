//! A proxy (`CONNECT`) that leads every connection to one server, whatever host is asked for: so a test can stand in for a real provider.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// The proxy. It stops when it is dropped.
pub struct Tunnel {
    url: String,
    serving: AbortHandle,
}

impl Tunnel {
    /// Starts a proxy to this `https` address.
    pub async fn to(url: &str) -> Self {
        let rest = url.strip_prefix("https://").expect("an address with TLS");
        let server = rest.split('/').next().expect("a host").to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.expect("a whole request"));
                    }
                    assert!(head.starts_with(b"CONNECT "));
                    let mut server = TcpStream::connect(server).await.expect("the server");
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("the client");
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { url, serving: serving.abort_handle() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
