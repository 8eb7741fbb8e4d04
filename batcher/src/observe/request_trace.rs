//! Trace of one request: the code along its way notes what happens, and the record at its end is made of that. A
//! request has a trace only if the access log, `/explain` or span export is on.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Request};

use super::export::Spans;
use super::spans::{Kind, Span};
use super::trace::SpanContext;
use crate::clock::Clock;
use crate::failure::Failure;

tokio::task_local! {
    /// Trace of the request that this task serves; task-local, so that functions need not pass it on.
    static CURRENT: Arc<RequestTrace>;
}

/// Maximum number of calls to model servers that are noted.
const MAX_CALLS: usize = 32;

/// Trace of one request.
#[derive(Debug)]
pub struct RequestTrace {
    facts: Mutex<Facts>,
    /// Context of the request's span, and the exporter; `None` if spans are not exported.
    pub trace: Option<(SpanContext, Spans)>,
}

/// What was noted about a request. Times are in microseconds of the process's clock.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The inference request; `None` if it did not reach the queue.
    pub asked: Option<Asked>,
    /// Time of the answer that was predicted on arrival; `None` without a prediction.
    pub predicted_finish_us: Option<u64>,
    /// The last batch with this request.
    pub batch: Option<Batch>,
    /// Calls to model servers, in order.
    pub calls: Vec<Call>,
    /// Error response of the batcher itself, if it answered.
    pub failure: Option<Failure>,
}

/// An inference request that reached the queue.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Name of the model.
    pub model: Arc<str>,
    /// Wire format: `json`, `binary`, `grpc` or `v1`.
    pub form: &'static str,
    /// Id in the V2 request.
    pub id: Option<String>,
    /// Rows; 1 if they are not known.
    pub rows: u32,
    /// Bytes of the body.
    pub bytes: usize,
    /// Why the request may not share a batch; `None` if it may.
    pub alone: Option<String>,
    /// Priority class; 0 is served first.
    pub class: u8,
    /// When the last byte of the request came.
    pub arrived_us: u64,
    /// Deadline of the answer.
    pub deadline_us: u64,
}

/// A batch that a request was part of.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Number of the batch, counted per model.
    pub number: u64,
    /// Rows of the batch.
    pub rows: u32,
    /// Number of requests.
    pub requests: usize,
    /// Why the batch was cut.
    pub release: &'static str,
    /// When the batch was cut.
    pub cut_us: u64,
}

/// A call to a model server.
#[derive(Debug, Clone)]
pub struct Call {
    /// Name of the model server.
    pub upstream: String,
    /// When the call was sent.
    pub sent_us: u64,
    /// When the answer was complete, or the call was given up.
    pub ended_us: u64,
    /// HTTP status of the answer; `None` if there was no answer.
    pub status: Option<u16>,
}

impl RequestTrace {
    /// Creates an empty trace of a request that begins.
    pub fn new(trace: Option<(SpanContext, Spans)>) -> Arc<Self> {
        Arc::new(Self { facts: Mutex::default(), trace })
    }

    /// Runs the future of a request with this trace as the current one.
    pub async fn scope<F: Future>(self: &Arc<Self>, task: F) -> F::Output {
        CURRENT.scope(Arc::clone(self), task).await
    }

    /// Returns the trace of the request that this task serves; `None` if it has none.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Returns what has been noted so far.
    pub fn facts(&self) -> Facts {
        self.with(|facts| facts.clone())
    }

    /// Notes the inference request.
    pub fn asked(&self, asked: Asked) {
        self.with(|facts| facts.asked = Some(asked));
    }

    /// Notes the predicted time of the answer.
    pub fn expected(&self, predicted_finish_us: Option<u64>) {
        self.with(|facts| facts.predicted_finish_us = predicted_finish_us);
    }

    /// Notes an error response of the batcher itself.
    pub fn failed(&self, failure: &Failure) {
        self.with(|facts| facts.failure = Some(failure.clone()));
    }

    fn with<T>(&self, note: impl FnOnce(&mut Facts) -> T) -> T {
        // Each note is written whole, so a panic elsewhere leaves nothing half done.
        note(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes a batch that was cut in the traces of its requests.
pub fn cut<'a>(trails: impl Iterator<Item = &'a Arc<RequestTrace>>, batch: &Batch) {
    trails.for_each(|trail| trail.with(|facts| facts.batch = Some(batch.clone())));
}

/// A call to a model server under way. Noted when dropped; without `answered` it counts as unanswered.
#[derive(Debug)]
pub struct Sending {
    trails: Vec<Arc<RequestTrace>>,
    call: Call,
    clock: Clock,
    /// Span of the call, if one of its requests has a span.
    span: Option<(Span, Spans)>,
}

impl Sending {
    /// Begins a call for `requests` requests; `None` if none of them has a trace. If one has a span, the call gets a
    /// span too, which is sent to the model server as `traceparent`.
    pub fn begin<B>(
        trails: Vec<Arc<RequestTrace>>,
        requests: usize,
        upstream: &str,
        clock: Clock,
        request: &mut Request<B>,
    ) -> Option<Self> {
        if trails.is_empty() {
            return None;
        }
        let sent_us = clock.now_us();
        let call = Call { upstream: upstream.to_owned(), sent_us, ended_us: 0, status: None };
        let span = batch_span(&trails, requests, upstream);
        if let Some((span, _)) = &span
            && let Ok(value) = HeaderValue::try_from(span.context.to_string())
        {
            request.headers_mut().insert("traceparent", value);
        }
        Some(Self { trails, call, clock, span })
    }

    /// Notes the status of the model server's answer.
    pub fn answered(mut self, status: u16) {
        self.call.status = Some(status);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.call.ended_us = self.clock.now_us();
        for trail in &self.trails {
            trail.with(|facts| {
                if facts.calls.len() < MAX_CALLS {
                    facts.calls.push(self.call.clone());
                }
            });
        }
        if let Some((mut span, spans)) = self.span.take() {
            span.failed = self.call.status.is_none_or(|status| status >= 400);
            spans.send(span.end());
        }
    }
}

/// Begins the span of a call: a child of the request's span if one request alone has a span; else the root of a new
/// trace with links to the requests' spans. `None` if no request has a span.
fn batch_span(trails: &[Arc<RequestTrace>], requests: usize, upstream: &str) -> Option<(Span, Spans)> {
    let traced: Vec<&(SpanContext, Spans)> = trails.iter().filter_map(|trail| trail.trace.as_ref()).collect();
    let (_, spans) = traced.first()?;
    let links: Vec<SpanContext> = traced.iter().map(|(context, _)| *context).collect();
    let (context, parent) = match links[..] {
        [only] => (only.child(), Some(only.span_id)),
        _ => (SpanContext::root(links.iter().any(|link| link.sampled)), None),
    };
    let mut span = Span::begin("batch", Kind::Client, context, parent);
    span.links = links;
    span.attribute("sluice.upstream", upstream);
    span.attribute("sluice.batch.requests", requests as i64);
    if let Some(batch) = trails.first().and_then(|trail| trail.with(|facts| facts.batch.clone())) {
        span.attribute("sluice.batch.number", batch.number as i64);
        span.attribute("sluice.batch.rows", i64::from(batch.rows));
        span.attribute("sluice.batch.release", batch.release);
    }
    Some((span, spans.clone()))
}
