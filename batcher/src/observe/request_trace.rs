//! What happened to one request on its way: noted down by whom it passes, read at its end. There is one only where
//! somebody will read it (access log, `/explain`, traces); without it nothing is noted.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Request};

use super::export::Spans;
use super::spans::{Kind, Span};
use super::trace::SpanContext;
use crate::clock::Clock;
use crate::failure::Failure;

tokio::task_local! {
    /// The trail of the request that this task serves: so that none of the functions in between has to carry it.
    static CURRENT: Arc<RequestTrace>;
}

/// Most calls to model servers that are noted.
const MAX_CALLS: usize = 32;

/// The trail of one request.
#[derive(Debug)]
pub struct RequestTrace {
    facts: Mutex<Facts>,
    /// Its own span and where spans go, where it is traced.
    pub trace: Option<(SpanContext, Spans)>,
}

/// What is known of a request.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What was asked, where it came as far as the queue.
    pub asked: Option<Asked>,
    /// When its answer was expected on arrival, where that could be said.
    pub predicted_finish_us: Option<u64>,
    /// The last batch that it was part of.
    pub batch: Option<Batch>,
    /// Calls to model servers, in order.
    pub calls: Vec<Call>,
    /// Why the batcher itself answered.
    pub failure: Option<Failure>,
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The model.
    pub model: Arc<str>,
    /// How.
    pub form: &'static str,
    /// The V2 request's own id.
    pub id: Option<String>,
    /// Rows; 1 where they are not known.
    pub rows: u32,
    /// Bytes of the body.
    pub bytes: usize,
    /// Why it may share no batch.
    pub alone: Option<String>,
    /// Its class; 0 is the first.
    pub class: u8,
    /// When its last byte had come.
    pub arrived_us: u64,
    /// When it was due.
    pub deadline_us: u64,
}

/// A batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its number, per model.
    pub number: u64,
    /// Its rows.
    pub rows: u32,
    /// Its requests.
    pub requests: usize,
    /// Why it was cut.
    pub release: &'static str,
    /// When.
    pub cut_us: u64,
}

/// A call to a model server.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub upstream: String,
    /// When it was sent.
    pub sent_us: u64,
    /// When its answer was there, or it was given up.
    pub ended_us: u64,
    /// The answer's status; `None`: there was none.
    pub status: Option<u16>,
}

impl RequestTrace {
    /// Of a request that begins.
    pub fn new(trace: Option<(SpanContext, Spans)>) -> Arc<Self> {
        Arc::new(Self { facts: Mutex::default(), trace })
    }

    /// Runs the task of a request with its trail.
    pub async fn scope<F: Future>(self: &Arc<Self>, task: F) -> F::Output {
        CURRENT.scope(Arc::clone(self), task).await
    }

    /// The trail of the request that this task serves.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// What is known now.
    pub fn facts(&self) -> Facts {
        self.with(|facts| facts.clone())
    }

    /// Notes what is asked.
    pub fn asked(&self, asked: Asked) {
        self.with(|facts| facts.asked = Some(asked));
    }

    /// Notes when its answer is expected.
    pub fn expected(&self, predicted_finish_us: Option<u64>) {
        self.with(|facts| facts.predicted_finish_us = predicted_finish_us);
    }

    /// Notes an answer of the batcher's own.
    pub fn failed(&self, failure: &Failure) {
        self.with(|facts| facts.failure = Some(failure.clone()));
    }

    fn with<T>(&self, note: impl FnOnce(&mut Facts) -> T) -> T {
        // Each note is written whole: a panic elsewhere leaves nothing half done.
        note(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes that a batch was cut, with those of its requests that have a trail.
pub fn cut<'a>(trails: impl Iterator<Item = &'a Arc<RequestTrace>>, batch: &Batch) {
    trails.for_each(|trail| trail.with(|facts| facts.batch = Some(batch.clone())));
}

/// A call to a model server under way; dropped without an answer, there was none.
#[derive(Debug)]
pub struct Sending {
    trails: Vec<Arc<RequestTrace>>,
    call: Call,
    clock: Clock,
    /// Its own span, with links to the requests', where one of them is recorded.
    span: Option<(Span, Spans)>,
}

impl Sending {
    /// Begins a call for so many requests, where one of them has a trail. Where they are traced, the call gets a span of
    /// its own, which the model server is told.
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

    /// The model server has answered.
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

/// Below the request's span where there is one alone; else a trace of its own, with links.
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
