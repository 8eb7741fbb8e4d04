//! Observation of single requests: access log, traces, `/explain`, and load reports. All of it is off by default, and
//! then costs one look at the settings per request.
//!
//! | module | what is there |
//! |---|---|
//! | [`request_trace`] | what happens to a request, noted along its way |
//! | [`record`] | the record of a finished request, as it is shown |
//! | [`access_log`] | writes one line per request |
//! | [`explain`] | explains one of the last requests in sentences |
//! | [`trace`], [`spans`], [`export`] | W3C trace context, spans, and their export to a collector |
//! | [`orca`] | reports the load in a response header |

pub mod access_log;
pub mod explain;
pub mod export;
pub mod orca;
pub mod record;
pub mod request_trace;
pub mod spans;
pub mod trace;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use sluice_protocol::grpc::Code;

use self::access_log::AccessLog;
use self::export::Spans;
use self::record::{Inference, Record};
use self::request_trace::RequestTrace;
use self::spans::{Kind, Span};
use self::trace::{SpanContext, is_drawn, random};
use crate::clock::Clock;
use crate::metrics::Outcome;
use crate::settings::{AccessLogSetting, Live, Settings};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Prefix of the paths of health probes, which are not observed: they come every second and say nothing.
const PROBES: &str = "/v2/health/";
/// Maximum bytes that are kept of a path, an id, or another text from a client.
const MAX_TEXT_BYTES: usize = 512;

/// Collects observations: writes the access log, keeps the last requests and exports spans.
#[derive(Debug)]
pub struct Observe {
    settings: Live,
    clock: Clock,
    log: OnceLock<Option<AccessLog>>,
    spans: OnceLock<(String, Spans)>,
    kept: Mutex<VecDeque<Arc<Record>>>,
}

impl Observe {
    /// Creates a collector that follows these settings. Files and connections are opened at first use.
    pub fn new(settings: Live, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            settings,
            clock,
            log: OnceLock::new(),
            spans: OnceLock::new(),
            kept: Mutex::default(),
        })
    }

    /// Begins to observe a request; `None` if no kind of observation is on, or the request is a health probe. With
    /// traces on, the request gets a span, and its `traceparent` names that span as the parent for the model server.
    pub fn begin<B>(self: &Arc<Self>, request: &mut Request<B>) -> Option<Observation> {
        let settings = self.settings.now();
        let is_on = settings.observe.access_log != AccessLogSetting::Off
            || settings.observe.explain_requests > 0
            || settings.observe.otlp_endpoint.is_some();
        if !is_on || request.uri().path().starts_with(PROBES) {
            return None;
        }
        let headers = request.headers();
        let parent = headers
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok())
            .and_then(SpanContext::parse)
            .filter(|_| headers.get_all(TRACEPARENT).iter().count() == 1);
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            (!value.is_empty()).then(|| cut(value))
        };
        let id = text(REQUEST_ID.as_str());
        let tenant =
            (!settings.order.tenant_header.is_empty()).then(|| text(&settings.order.tenant_header)).flatten();
        let span = self.spans(&settings).map(|spans| {
            let context = match parent {
                Some(parent) => parent.child(),
                None => SpanContext::root(is_drawn(settings.observe.trace_sample_ratio)),
            };
            let name = request.method().as_str().to_owned();
            (Span::begin(name, Kind::Server, context, parent.map(|parent| parent.span_id)), spans)
        });
        let trace = span.as_ref().map(|(span, spans)| (span.context, spans.clone()));
        let mut sighting = Observation {
            observe: Arc::clone(self),
            trail: RequestTrace::new(trace),
            method: request.method().as_str().to_owned(),
            path: cut(request.uri().path_and_query().map_or("/", |path| path.as_str())),
            trace_id: parent.map(|parent| parent.trace_id),
            tenant,
            id,
            begin_us: self.clock.now_us(),
            status: None,
            grpc_status: None,
            end: End::Left,
            span,
        };
        if let Some((span, _)) = &sighting.span {
            sighting.trace_id = Some(span.context.trace_id);
            pass_on(span.context, parent.is_some(), request.headers_mut());
        }
        Some(sighting)
    }

    /// Returns the records of the last requests, oldest first.
    pub fn kept(&self) -> Vec<Arc<Record>> {
        self.lock().iter().cloned().collect()
    }

    fn spans(&self, settings: &Settings) -> Option<Spans> {
        let endpoint = settings.observe.otlp_endpoint.as_ref()?;
        let (_, spans) = self.spans.get_or_init(|| (endpoint.clone(), Spans::to(endpoint)));
        Some(spans.clone())
    }

    fn log(&self, settings: &Settings) -> Option<&AccessLog> {
        let opened = self.log.get_or_init(|| {
            AccessLog::to(settings.observe.access_log_file.clone())
                .inspect_err(|error| {
                    let file = &settings.observe.access_log_file;
                    tracing::error!(%error, ?file, "Failed to open the access log; requests are not logged.");
                })
                .ok()
        });
        opened.as_ref()
    }

    fn take(&self, record: Record) {
        let settings = self.settings.now();
        let record = Arc::new(record);
        let is_ok = record.outcome == Outcome::Ok.label();
        let is_logged = match settings.observe.access_log {
            AccessLogSetting::Off => false,
            AccessLogSetting::Errors => !is_ok,
            AccessLogSetting::All => !is_ok || is_drawn(settings.observe.access_log_sample),
        };
        if is_logged && let Some(log) = self.log(&settings) {
            log.log(Arc::clone(&record));
        }
        let mut kept = self.lock();
        if settings.observe.explain_requests > 0 {
            kept.push_back(record);
        }
        while kept.len() > settings.observe.explain_requests {
            kept.pop_front();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Record>>> {
        // The deque holds whole records, so a panic elsewhere leaves nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the batcher's span the parent of the model server's. Removes `tracestate` if there is no valid parent, because
/// it belongs to one.
fn pass_on(context: SpanContext, has_parent: bool, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::try_from(context.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    if !has_parent {
        headers.remove(TRACESTATE);
    }
}

/// Cuts a text to at most [`MAX_TEXT_BYTES`], at the end of a character.
fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].to_owned()
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client has left, as far as is known.
    Left,
    /// The client has received all of it.
    Whole,
    /// The model server broke off its answer.
    Broken,
}

/// Observation of one request, until the client has received its answer or has left. Recorded when dropped.
#[derive(Debug)]
pub struct Observation {
    observe: Arc<Observe>,
    /// Trace of the request.
    pub trail: Arc<RequestTrace>,
    method: String,
    path: String,
    trace_id: Option<u128>,
    tenant: Option<String>,
    id: Option<String>,
    begin_us: u64,
    status: Option<u16>,
    grpc_status: Option<u8>,
    end: End,
    span: Option<(Span, Spans)>,
}

impl Observation {
    /// Notes the head of the answer. With `explainRequests` set, adds the header `x-request-id`, which `/explain`
    /// accepts as id.
    pub fn answered<B>(&mut self, response: &mut Response<B>) {
        self.status = Some(response.status().as_u16());
        let grpc_status = response.headers().get("grpc-status");
        self.grpc_status = grpc_status.and_then(|value| value.to_str().ok()?.parse().ok());
        let id = self.id();
        if self.observe.settings.now().observe.explain_requests > 0
            && !response.headers().contains_key(REQUEST_ID)
            && let Ok(value) = HeaderValue::try_from(&id)
        {
            response.headers_mut().insert(REQUEST_ID, value);
        }
    }

    /// Notes how the answer ended.
    pub fn ended(&mut self, end: End) {
        self.end = end;
    }

    fn id(&mut self) -> String {
        let trail = &self.trail;
        let own = || trail.facts().asked.and_then(|asked| asked.id).filter(|id| !id.is_empty());
        self.id
            .get_or_insert_with(|| own().map_or_else(|| format!("{:016x}", random()), |id| cut(&id)))
            .clone()
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let facts = self.trail.facts();
        let outcome = match (self.end, self.status, self.grpc_status) {
            (End::Broken, _, _) => Outcome::Error,
            (End::Left, _, _) | (_, None, _) => Outcome::Cancelled,
            (End::Whole, _, Some(code @ 1..)) => {
                Outcome::of_status(Code::from_header(code.to_string().as_bytes()).to_http())
            }
            (End::Whole, Some(status), _) => Outcome::of_status(status),
        };
        let total_us = self.observe.clock.now_us().saturating_sub(self.begin_us);
        let record = Record {
            time_unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            request_id: self.id(),
            trace_id: self.trace_id.map(|id| format!("{id:032x}")),
            method: std::mem::take(&mut self.method),
            path: std::mem::take(&mut self.path),
            status: self.status,
            grpc_status: self.grpc_status,
            outcome: outcome.label(),
            total_ms: total_us as f64 / 1e3,
            tenant: self.tenant.take(),
            inference: Inference::of(&facts),
            error: facts.failure.as_ref().map(|failure| cut(&failure.message)),
        };
        if let Some((mut span, spans)) = self.span.take() {
            span.failed = matches!(outcome, Outcome::Error | Outcome::Unavailable);
            span.attribute("url.path", record.path.as_str());
            span.attribute("sluice.outcome", record.outcome);
            span.attribute("sluice.request_id", record.request_id.as_str());
            if let Some(status) = record.status {
                span.attribute("http.response.status_code", i64::from(status));
            }
            if let Some(inference) = &record.inference {
                span.attribute("sluice.model", inference.model.as_str());
                if let Some(batch) = inference.batch {
                    span.attribute("sluice.batch.number", batch as i64);
                }
            }
            spans.send(span.end());
        }
        self.observe.take(record);
    }
}
