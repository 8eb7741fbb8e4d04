//! Records of finished requests, as the access log and `/explain` show them. They never contain bodies.

use serde::Serialize;

use super::cut;
use super::request_trace::Facts;

/// A finished request. Times are in milliseconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When the request ended, since 1970.
    pub time_unix_ms: u64,
    /// Id from the client (`x-request-id`, or the V2 request's), else a random one.
    pub request_id: String,
    /// Id of the trace, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// HTTP status; `None` if the client left before there was an answer.
    pub status: Option<u16>,
    /// gRPC status, if the head of the answer contained it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// `ok`, `client_error`, `rejected`, `unavailable`, `error`, or `cancelled`.
    pub outcome: &'static str,
    /// Time from the head of the request to the last piece of the answer.
    pub total_ms: f64,
    /// Tenant that the request belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Details of an inference request that reached the queue.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub inference: Option<Inference>,
    /// Error message, if the batcher itself answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Details of an inference request that reached the queue. Times are in milliseconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inference {
    /// Name of the model.
    pub model: String,
    /// Wire format: `json`, `binary`, `grpc` or `v1`.
    pub form: &'static str,
    /// Rows of the request; 1 if they are not known.
    pub rows: u32,
    /// Bytes of the body.
    pub bytes: usize,
    /// Priority class; 1 is served first.
    pub priority: u32,
    /// Time from arrival to the deadline.
    pub deadline_ms: f64,
    /// Time until the answer that was predicted on arrival; `None` without a prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<f64>,
    /// Why the request may not share a batch; `None` if it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone: Option<String>,
    /// Time from arrival until the last batch with this request was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<f64>,
    /// Time at model servers, of all calls together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
    /// Number of the last batch with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Rows of that batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_rows: Option<u32>,
    /// Number of requests in that batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_requests: Option<usize>,
    /// Why that batch was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<&'static str>,
    /// Name of the model server of the last call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Number of calls to model servers. More than one means that the request ran again, alone or with part of its
    /// batch.
    pub calls: usize,
    /// Number of calls that had no answer.
    pub broken_calls: usize,
    /// Reason of the rejection, if the request was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
}

impl Inference {
    /// Extracts the details from what was noted; `None` if the request did not reach the queue.
    pub fn of(facts: &Facts) -> Option<Self> {
        let asked = facts.asked.as_ref()?;
        let since_arrival = |us: u64| ms(us.saturating_sub(asked.arrived_us));
        let batch = facts.batch.as_ref();
        let upstream_us: u64 =
            facts.calls.iter().map(|call| call.ended_us.saturating_sub(call.sent_us)).sum();
        Some(Self {
            model: cut(&asked.model),
            form: asked.form,
            rows: asked.rows,
            bytes: asked.bytes,
            priority: u32::from(asked.class) + 1,
            deadline_ms: since_arrival(asked.deadline_us),
            predicted_ms: facts.predicted_finish_us.map(since_arrival),
            alone: asked.alone.as_deref().map(cut),
            wait_ms: batch.map(|batch| since_arrival(batch.cut_us)),
            upstream_ms: (!facts.calls.is_empty()).then(|| ms(upstream_us)),
            batch: batch.map(|batch| batch.number),
            batch_rows: batch.map(|batch| batch.rows),
            batch_requests: batch.map(|batch| batch.requests),
            release: batch.map(|batch| batch.release),
            upstream: facts.calls.last().map(|call| call.upstream.clone()),
            calls: facts.calls.len(),
            broken_calls: facts.calls.iter().filter(|call| call.status.is_none()).count(),
            refusal: facts.failure.as_ref().and_then(|failure| failure.refusal).map(|reason| reason.label()),
        })
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::MAX_TEXT_BYTES;
    use crate::observe::request_trace::Asked;

    #[test]
    fn what_clients_wrote_is_cut_to_whole_characters() {
        // Two bytes each, and one that shifts them off the limit.
        let long = format!("m{}", "ä".repeat(50_000));
        let asked = Asked {
            model: long.as_str().into(),
            form: "grpc",
            id: None,
            rows: 1,
            bytes: 8,
            alone: Some(long),
            class: 0,
            arrived_us: 0,
            deadline_us: 1000,
        };
        let facts = Facts { asked: Some(asked), ..Facts::default() };
        let inference = Inference::of(&facts).unwrap();
        for text in [Some(inference.model), inference.alone] {
            let bytes = text.unwrap().len();
            assert!((MAX_TEXT_BYTES - 1..=MAX_TEXT_BYTES).contains(&bytes), "{bytes}");
        }
    }
}
