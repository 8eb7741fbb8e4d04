//! Spans as OTLP/JSON: the protobuf JSON encoding of opentelemetry-proto's `ExportTraceServiceRequest`, where ids
//! are hexadecimal and 64-bit numbers are strings. Written here because the libraries for it are 40 crates.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::trace::SpanContext;

/// Role of a span in its exchange; numbered as in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client's request.
    Server = 2,
    /// The batcher's call to a model server.
    Client = 3,
}

/// A span, under way or ended.
#[derive(Debug, Clone)]
pub struct Span {
    /// Ids of the trace and of this span.
    pub context: SpanContext,
    /// Spans of the requests that this span serves.
    pub links: Vec<SpanContext>,
    /// Whether it ended with an error.
    pub failed: bool,
    parent: Option<u64>,
    name: String,
    kind: Kind,
    begin_ns: u64,
    end_ns: u64,
    attributes: Vec<(&'static str, Value)>,
}

impl Span {
    /// Begins a span now; `parent` is the id of the parent span.
    pub fn begin(name: impl Into<String>, kind: Kind, context: SpanContext, parent: Option<u64>) -> Self {
        Self {
            context,
            links: Vec::new(),
            failed: false,
            parent,
            name: name.into(),
            kind,
            begin_ns: now_ns(),
            end_ns: 0,
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push((key, value.into()));
    }

    /// Ends the span now.
    pub fn end(mut self) -> Self {
        self.end_ns = now_ns();
        self
    }

    fn to_json(&self) -> Value {
        let id = |context: &SpanContext| json!({"traceId": format!("{:032x}", context.trace_id), "spanId": format!("{:016x}", context.span_id)});
        let mut span = id(&self.context);
        span["name"] = json!(self.name);
        span["kind"] = json!(self.kind as u8);
        span["startTimeUnixNano"] = json!(self.begin_ns.to_string());
        span["endTimeUnixNano"] = json!(self.end_ns.to_string());
        span["attributes"] = self.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
        if let Some(parent) = self.parent {
            span["parentSpanId"] = json!(format!("{parent:016x}"));
        }
        if !self.links.is_empty() {
            span["links"] = self.links.iter().map(id).collect();
        }
        if self.failed {
            span["status"] = json!({"code": 2});
        }
        span
    }
}

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(text) => json!({"stringValue": text}),
        other => json!({"stringValue": other.to_string()}),
    };
    json!({"key": key, "value": value})
}

/// Returns the body of a request to `/v1/traces`.
pub fn export_request(spans: &[Span]) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [attribute("service.name", &json!("sluice-batcher"))]},
        "scopeSpans": [{"scope": {"name": "sluice"}, "spans": spans.iter().map(Span::to_json).collect::<Vec<_>>()}],
    }]})
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
