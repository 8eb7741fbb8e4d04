//! Simulated metrics page of a batcher, and a simulated Prometheus that has scraped it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::objects::until;

/// Service curve of the pages. Within the objective of the tests one replica serves somewhat less than 640 rows/s.
const CURVE: [(&str, f64); 4] = [
    ("sluice_batcher_curve_alpha_seconds", 0.02),
    ("sluice_batcher_curve_beta_seconds", 0.00125),
    ("sluice_batcher_batch_rows_limit", 64.0),
    ("sluice_batcher_curve_samples", 1000.0),
];

/// Rows counted so far, which grow at a rate; whether a request is held because there is no replica; and how often the
/// page was read.
#[derive(Clone, Default)]
pub(crate) struct Counter(
    Arc<Mutex<(f64, f64, Option<tokio::time::Instant>)>>,
    Arc<AtomicBool>,
    Arc<AtomicU64>,
);

impl Counter {
    pub(crate) fn set_rate(&self, rows_per_second: f64) {
        let rows = self.rows();
        *self.0.lock().unwrap() = (rows, rows_per_second, Some(tokio::time::Instant::now()));
    }

    pub(crate) fn latch(&self, is_held: bool) {
        self.1.store(is_held, Ordering::SeqCst);
    }

    pub(crate) fn rows(&self) -> f64 {
        let (rows, rate, since) = *self.0.lock().unwrap();
        rows + since.map_or(0.0, |since| since.elapsed().as_secs_f64() * rate)
    }

    /// Waits until the page was read `times` more times; this many rounds of the controller have begun then.
    pub(crate) async fn read(&self, times: u64) {
        let enough = self.2.load(Ordering::SeqCst) + times;
        until("the page is read again", || self.2.load(Ordering::SeqCst) >= enough).await;
    }

    fn metrics(&self) -> Vec<(&'static str, f64)> {
        self.2.fetch_add(1, Ordering::SeqCst);
        let held = if self.1.load(Ordering::SeqCst) { 1.0 } else { 0.0 };
        let mut metrics =
            vec![("sluice_batcher_demand_rows_total", self.rows()), ("sluice_batcher_demand_latched", held)];
        metrics.extend(CURVE);
        metrics
    }
}

/// Server on the loopback interface that gives every request the same kind of response, until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(kind: &'static str, body: impl Fn() -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 8192];
                let _ = stream.read(&mut request).await;
                let body = body();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, task }
    }

    /// Serves the page of a sidecar or a gateway.
    pub(crate) async fn batcher(counter: &Counter) -> Self {
        Self::batcher_of(counter, "bert").await
    }

    /// Serves a page of this text.
    pub(crate) async fn of_text(page: String) -> Self {
        Self::start("text/plain", move || page.clone()).await
    }

    /// Serves the page of a sidecar or a gateway of this model.
    pub(crate) async fn batcher_of(counter: &Counter, model: &'static str) -> Self {
        let counter = counter.clone();
        Self::start("text/plain", move || {
            let lines = counter.metrics().into_iter();
            lines.map(|(name, value)| format!("{name}{{model=\"{model}\"}} {value}\n")).collect()
        })
        .await
    }

    /// Serves as a Prometheus that scraped the pod a moment ago.
    pub(crate) async fn prometheus(pod: &'static str, counter: &Counter) -> Self {
        let counter = counter.clone();
        Self::start("application/json", move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            let series: Vec<Value> = counter
                .metrics()
                .into_iter()
                .map(|(name, value)| {
                    json!({
                        "metric": {"__name__": name, "pod": pod, "namespace": "ns", "model": "bert", "job": "x"},
                        "values": [[now, value.to_string()]],
                    })
                })
                .collect();
            json!({"status": "success", "data": {"resultType": "matrix", "result": series}}).to_string()
        })
        .await
    }
}
