//! A proxy in front of a token endpoint that can hold a request or lose a response, to interrupt a run at that moment.

use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Forwarding {
    /// Forwards the request and its response.
    Forward,
    /// Holds the request.
    Hold,
    /// Forwards the request. The response is lost.
    LoseResponse,
}

/// A proxy on its own port. It ends with the test's runtime.
pub struct Proxy {
    /// The address of the token endpoint through this proxy.
    pub token_endpoint: String,
    forwarding: watch::Sender<Forwarding>,
    arrived: watch::Receiver<usize>,
}

impl Proxy {
    pub async fn in_front_of(token_endpoint: &str, forwarding: Forwarding) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let provider = token_endpoint.split('/').nth(2).expect("host and port").to_owned();
        let token_endpoint = token_endpoint.replace(&provider, &address);
        let (arrivals, arrived) = watch::channel(0);
        let forwarding = watch::Sender::new(forwarding);
        let changes = forwarding.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, provider.clone(), changes.clone(), arrivals.clone()));
            }
        });
        Self { token_endpoint, forwarding, arrived }
    }

    pub fn set(&self, forwarding: Forwarding) {
        self.forwarding.send_replace(forwarding);
    }

    /// Waits until a request has arrived.
    pub async fn until_request(&self) {
        self.arrived.clone().wait_for(|&arrived| arrived > 0).await.expect("a running proxy");
    }
}

async fn pass(
    mut client: TcpStream,
    provider: String,
    mut changes: watch::Receiver<Forwarding>,
    arrivals: watch::Sender<usize>,
) {
    if client.readable().await.is_err() {
        return;
    }
    arrivals.send_modify(|arrived| *arrived += 1);
    let Ok(forwarding) = changes.wait_for(|&now| now != Forwarding::Hold).await.map(|now| *now) else { return };
    let mut provider = TcpStream::connect(provider).await.expect("the provider");
    if forwarding == Forwarding::Forward {
        // An error means that one side disconnected.
        let _ = copy_bidirectional(&mut client, &mut provider).await;
        return;
    }
    let (mut from_client, _to_client) = client.split();
    let (mut from_provider, mut to_provider) = provider.split();
    let mut first_byte = [0];
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_provider) => panic!("the client disconnected before the response"),
        read = from_provider.read(&mut first_byte) => assert_eq!(read.expect("a response"), 1),
    }
}
