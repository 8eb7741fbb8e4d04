//! Sends spans to a collector in the background. The queue is bounded: if the collector is slow or gone, spans are
//! dropped and counted.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use metrics::counter;
use sluice_config::metric_names::batcher as names;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::spans::{Span, export_request};

/// Maximum number of spans that wait to be sent.
const QUEUE_SPANS: usize = 4096;
/// Maximum number of spans in one request to the collector.
const SEND_SPANS: usize = 512;
/// Time for which spans are gathered before they are sent.
const GATHER: Duration = Duration::from_secs(1);
/// Longest time that one request to the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends spans to the task that exports them.
#[derive(Debug, Clone)]
pub struct Spans(mpsc::Sender<Span>);

impl Spans {
    /// Starts the export to the collector at `host:port` (OTLP over HTTP, JSON).
    pub fn to(endpoint: &str) -> Self {
        let (sender, spans) = mpsc::channel(QUEUE_SPANS);
        tokio::spawn(run(format!("http://{endpoint}/v1/traces"), spans));
        Self(sender)
    }

    /// Sends a span if its trace is sampled.
    pub fn send(&self, span: Span) {
        if span.context.sampled && self.0.try_send(span).is_err() {
            counter!(names::SPANS_DROPPED_TOTAL).increment(1);
        }
    }
}

async fn run(uri: String, mut spans: mpsc::Receiver<Span>) {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut batch = Vec::with_capacity(SEND_SPANS);
    let mut failing = false;
    while spans.recv_many(&mut batch, SEND_SPANS).await > 0 {
        if batch.len() < SEND_SPANS {
            tokio::time::sleep(GATHER).await;
            while batch.len() < SEND_SPANS
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
        }
        let sent = send(&client, &uri, &batch).await;
        if let Err(reason) = &sent {
            counter!(names::SPANS_DROPPED_TOTAL).increment(batch.len() as u64);
            if !failing {
                tracing::warn!(%uri, reason, "Failed to export spans to the collector; they are lost.");
            }
        }
        failing = sent.is_err();
        batch.clear();
    }
}

async fn send(client: &Client<HttpConnector, Full<Bytes>>, uri: &str, batch: &[Span]) -> Result<(), String> {
    let request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(export_request(batch).to_string())))
        .map_err(|error| error.to_string())?;
    match timeout(PATIENCE, client.request(request)).await {
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(response)) if !response.status().is_success() => {
            Err(format!("it answers {}", response.status()))
        }
        Ok(Ok(_)) => Ok(()),
    }
}
