//! The pages `/healthz` and `/metrics` of `tokenctl run`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::Full;
use hyper::{Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{
    failure::Failure,
    http_server::{accept, connection},
    run::Tick,
};
use crate::lambda::report::{Response as Report, SweepReport};

/// What the pages show.
#[derive(Clone)]
pub(super) struct Health {
    every: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ticks: u64,
    failed_ticks: u64,
    /// When the last tick ended in which secrets could be looked at.
    looked_at: Option<DateTime<Utc>>,
    last_seconds: f64,
    /// The sums over all ticks.
    outcomes: BTreeMap<&'static str, u64>,
    secrets: usize,
    failing: usize,
    soonest_expires_at: Option<DateTime<Utc>>,
}

impl Health {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a tick.
    pub(super) fn add(&self, tick: &Tick, started_at: DateTime<Utc>, ended_at: DateTime<Utc>) {
        let mut state = self.state();
        state.ticks += 1;
        state.last_seconds = (ended_at - started_at).as_seconds_f64();
        match tick {
            Ok(Report::Sweep(report)) => {
                state.looked_at = Some(ended_at);
                state.secrets = report.secrets;
                state.failing = report.failed;
                state.soonest_expires_at =
                    report.soonest_expires_in_seconds.map(|seconds| ended_at + TimeDelta::seconds(seconds));
                for (name, count) in outcomes(report) {
                    *state.outcomes.entry(name).or_default() += count as u64;
                }
            }
            Ok(_) => state.looked_at = Some(ended_at),
            Err(_) => state.failed_ticks += 1,
        }
    }

    /// Whether secrets were looked at within the last three ticks.
    fn is_healthy(&self, now: DateTime<Utc>) -> bool {
        let longest = TimeDelta::from_std(self.every * 3).unwrap_or(TimeDelta::MAX);
        self.state().looked_at.is_some_and(|looked_at| now - looked_at <= longest)
    }

    /// The metrics in the text format of Prometheus.
    fn metrics(&self, now: DateTime<Utc>) -> String {
        let state = self.state();
        let mut text = String::new();
        let mut add = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
            let _ = writeln!(text, "# HELP token_refresher_{name} {help}\n# TYPE token_refresher_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "token_refresher_{name}{labels} {value}");
            }
        };
        let one = |value: f64| vec![(String::new(), value)];
        #[expect(clippy::cast_precision_loss, reason = "the counts are small")]
        let number = |count: u64| count as f64;
        add("ticks_total", "counter", "Ticks of the scheduler.", &one(number(state.ticks)));
        let help = "Ticks in which no secret could be looked at.";
        add("failed_ticks_total", "counter", help, &one(number(state.failed_ticks)));
        let outcomes: Vec<_> =
            state.outcomes.iter().map(|(name, count)| (format!("{{outcome=\"{name}\"}}"), number(*count))).collect();
        add("runs_total", "counter", "Runs of secrets, by outcome.", &outcomes);
        add("secrets", "gauge", "Secrets of the last tick.", &one(number(state.secrets as u64)));
        add("failing", "gauge", "Secrets that failed in the last tick.", &one(number(state.failing as u64)));
        add("tick_seconds", "gauge", "How long the last tick took.", &one(state.last_seconds));
        if let Some(end) = state.soonest_expires_at {
            let help = "Seconds until the first access token expires; negative if one has expired.";
            add("soonest_expiry_seconds", "gauge", help, &one((end - now).as_seconds_f64()));
        }
        text
    }
}

fn outcomes(report: &SweepReport) -> [(&'static str, usize); 9] {
    [
        ("skipped", report.skipped),
        ("refreshed", report.refreshed.unwrap_or_default()),
        ("recovered", report.recovered.unwrap_or_default()),
        ("in_progress", report.in_progress),
        ("backing_off", report.backing_off),
        ("superseded", report.superseded),
        ("ignored", report.ignored),
        ("failed", report.failed),
        ("not_reached", report.not_reached),
    ]
}

/// Serves the pages. `address`: `PORT` on loopback, or `HOST:PORT`. Returns the address.
pub(super) async fn listen(address: &str, health: Health) -> Result<SocketAddr, Failure> {
    let full = if address.contains(':') { address.to_owned() } else { format!("127.0.0.1:{address}") };
    let failed = |error: std::io::Error| Failure::later(format!("cannot listen at {full}: {error}"));
    let listener = TcpListener::bind(&full).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        loop {
            let socket = accept(&listener).await;
            let health = health.clone();
            tokio::spawn(async move {
                let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                    let (status, text) = page(&health, request.uri().path(), Utc::now());
                    async move {
                        let mut response = Response::new(Full::new(Bytes::from(text)));
                        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
                        let text = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                        response.headers_mut().insert(hyper::header::CONTENT_TYPE, text);
                        Ok::<_, Infallible>(response)
                    }
                });
                let _ = connection().serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    Ok(address)
}

fn page(health: &Health, path: &str, now: DateTime<Utc>) -> (u16, String) {
    match path {
        "/healthz" if health.is_healthy(now) => (200, "ok\n".to_owned()),
        "/healthz" => (503, "no secret could be looked at for three ticks\n".to_owned()),
        "/metrics" => (200, health.metrics(now)),
        _ => (404, "see /healthz and /metrics\n".to_owned()),
    }
}
