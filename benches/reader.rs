//! The cost of a reader, compared with `aws_secretsmanager_caching` in the same run: a cache hit, with one thread and with several,
//! and the first read. Both get their secret through the AWS SDK from a response in memory. The agent is a server on loopback.

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    num::NonZeroUsize,
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_secretsmanager_caching::SecretsManagerCachingClient;
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use criterion::{Criterion, criterion_group, criterion_main};
use token_refresher::{
    Reader,
    reader::{SecretReader, SecretText, SecretVersion, Source},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
};

const SECRET_ID: &str = "myapp/prod/upwork";
const VERSION_ID: &str = "8b9a7a2e-3d8b-4f0e-9a8b-0c5b6f1d2e3f";

/// A typical token secret: tokens of some hundred characters, and other members.
fn token_secret() -> String {
    let token = "t".repeat(800);
    format!(
        r#"{{"accessToken":"{token}","refreshToken":"{token}","expiresAt":4070908800000,"refreshedAt":4070905200000,
            "tokenEndpoint":"https://id.example/token","clientId":"client","scope":"read write","tokenType":"Bearer",
            "tokenResponse":{{"instance_url":"https://eu.example"}}}}"#
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The response to `GetSecretValue`. That of the agent is the same, except for the form of the date.
fn response() -> String {
    let secret = quoted(&token_secret());
    format!(
        r#"{{"ARN":"arn:aws:secretsmanager:eu-central-1:1:secret:x-AbCdEf","Name":"{SECRET_ID}","VersionId":"{VERSION_ID}",
            "VersionStages":["AWSCURRENT"],"CreatedDate":1767225600.5,"SecretString":{secret}}}"#
    )
}

/// An HTTP client that always returns the same response.
#[derive(Clone, Debug)]
struct Canned(String);

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Canned {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = aws_smithy_runtime_api::http::StatusCode::try_from(200).expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.0.clone()))))
    }
}

fn sdk() -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("k", "s", None, None, "bench")))
        .http_client(Canned(response()))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}

fn reader() -> Reader {
    Reader::new(Source::secrets_manager(&sdk()).expect("a Region"), SECRET_ID)
}

fn text_reader() -> SecretReader<SecretText> {
    SecretReader::builder(Source::secrets_manager(&sdk()).expect("a Region"), SECRET_ID)
        .ttl(Duration::from_hours(24))
        .text()
}

fn caching() -> SecretsManagerCachingClient {
    let client = aws_sdk_secretsmanager::Client::new(&sdk());
    let one = NonZeroUsize::MIN;
    SecretsManagerCachingClient::new(client, one, Duration::from_hours(24), true).expect("a cache")
}

/// The result of a future that is ready at once, like that of a hit.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the future is not ready"),
    }
}

fn caching_hit(client: &SecretsManagerCachingClient) -> usize {
    let got = now(client.get_secret_value(SECRET_ID, None, Some("AWSCURRENT"), false)).expect("a hit");
    got.secret_string.expect("a text").len()
}

/// The time for so many hits, divided among threads that start at the same time.
fn concurrent_hits(threads: u32, hits: u64, hit: impl Fn() -> usize + Sync) -> Duration {
    let barrier = std::sync::Barrier::new(threads as usize + 1);
    let each = hits.div_ceil(u64::from(threads));
    thread::scope(|scope| {
        let hit = &hit;
        let barrier = &barrier;
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || {
                    hit();
                    barrier.wait();
                    for _ in 0..each {
                        black_box(hit());
                    }
                })
            })
            .collect();
        barrier.wait();
        let began = Instant::now();
        for thread in running {
            thread.join().expect("a thread that ends");
        }
        began.elapsed()
    })
}

fn hits(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (reader, text, caching) = (reader(), text_reader(), caching());
    runtime.block_on(async {
        reader.access_token().await.expect("a token");
        text.get().await.expect("a secret");
        caching.get_secret_value(SECRET_ID, None, Some("AWSCURRENT"), false).await.expect("a secret");
    });
    let mut group = criterion.benchmark_group("hit");
    for threads in [1, 2, 8] {
        group.bench_function(format!("Reader::access_token, {threads} threads"), |bencher| {
            bencher.iter_custom(|hits| {
                concurrent_hits(threads, hits, || now(reader.access_token()).expect("a hit").expose().len())
            });
        });
        group.bench_function(format!("SecretReader::get, {threads} threads"), |bencher| {
            bencher
                .iter_custom(|hits| concurrent_hits(threads, hits, || now(text.get()).expect("a hit").expose().len()));
        });
        group.bench_function(format!("aws_secretsmanager_caching, {threads} threads"), |bencher| {
            bencher.iter_custom(|hits| concurrent_hits(threads, hits, || caching_hit(&caching)));
        });
    }
    // Most of the time of a hit is a read of the clock.
    group.bench_function("the clock alone", |bencher| {
        let clock = token_refresher::clock::Clock::system();
        bencher.iter(|| black_box(clock.now().timestamp_millis()));
    });
}

/// A server like the agent on a loopback port: one response for each connection.
async fn agent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let body = response();
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let response = response.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(response.as_bytes()).await;
            });
        }
    });
    port
}

fn first_reads(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let port = runtime.block_on(agent());
    let in_memory = Source::from_fn(|_| async { Ok(SecretVersion::text(VERSION_ID, token_secret())) });
    let sdk = Source::secrets_manager(&sdk()).expect("a Region");
    let mut group = criterion.benchmark_group("first read");
    for (name, source) in [
        ("Reader, from memory", in_memory),
        ("Reader, through the SDK", sdk),
        ("Reader, from an agent over loopback", Source::agent(port, "token")),
    ] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                let token = Reader::new(source.clone(), SECRET_ID).access_token().await.expect("a token");
                Ok::<_, Infallible>(token.expose().len())
            });
        });
    }
    group.bench_function("aws_secretsmanager_caching, through the SDK", |bencher| {
        let client = caching();
        bencher.to_async(&runtime).iter(|| async {
            // With a forced read, because a new client for each read would cost more.
            let got = client.get_secret_value(SECRET_ID, None, Some("AWSCURRENT"), true).await.expect("a secret");
            got.secret_string.map(|text| text.len())
        });
    });
}

criterion_group!(benches, hits, first_reads);
criterion_main!(benches);
