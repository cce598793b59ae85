//! A way to a token endpoint that can be held up, or lose an answer: the moments in which a run is interrupted.

use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// It gets its answer.
    Through,
    /// It waits here.
    Held,
    /// The provider does as asked, and the answer is lost.
    AnswerLost,
}

/// A proxy on a port of its own. Nothing outlives the test's runtime.
pub struct Proxy {
    /// The token endpoint's address by this way.
    pub token_endpoint: String,
    way: watch::Sender<Way>,
    arrived: watch::Receiver<usize>,
}

impl Proxy {
    pub async fn before(token_endpoint: &str, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let provider = token_endpoint.split('/').nth(2).expect("host and port").to_owned();
        let token_endpoint = token_endpoint.replace(&provider, &address);
        let (arrivals, arrived) = watch::channel(0);
        let way = watch::Sender::new(way);
        let ways = way.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, provider.clone(), ways.clone(), arrivals.clone()));
            }
        });
        Self { token_endpoint, way, arrived }
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Returns once a request is here.
    pub async fn request(&self) {
        self.arrived.clone().wait_for(|&arrived| arrived > 0).await.expect("a running proxy");
    }
}

async fn pass(mut client: TcpStream, provider: String, mut ways: watch::Receiver<Way>, arrivals: watch::Sender<usize>) {
    if client.readable().await.is_err() {
        return;
    }
    arrivals.send_modify(|arrived| *arrived += 1);
    let Ok(way) = ways.wait_for(|&way| way != Way::Held).await.map(|way| *way) else { return };
    let mut provider = TcpStream::connect(provider).await.expect("the provider");
    if way == Way::Through {
        // An error is a side that went away.
        let _ = copy_bidirectional(&mut client, &mut provider).await;
        return;
    }
    let (mut from_client, _to_client) = client.split();
    let (mut from_provider, mut to_provider) = provider.split();
    let mut first_byte = [0];
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_provider) => panic!("the client left before the provider answered"),
        answered = from_provider.read(&mut first_byte) => assert_eq!(answered.expect("an answer"), 1),
    }
}
