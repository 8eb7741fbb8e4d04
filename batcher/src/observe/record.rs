//! A request at its end, as the access log and `/explain` show it. Never its body.

use serde::Serialize;

use super::cut;
use super::request_trace::Facts;

/// Times are in milliseconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it ended, since 1970.
    pub time_unix_ms: u64,
    /// Its id: the client's (`x-request-id`, or the V2 request's), or made here.
    pub request_id: String,
    /// Of its trace, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// HTTP status; `None`: the client had gone.
    pub status: Option<u16>,
    /// gRPC status, where it is known with the answer's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// `ok`, `client_error`, `rejected`, `unavailable`, `error`, or `cancelled`.
    pub outcome: &'static str,
    /// From the head of the request to the last piece of the answer.
    pub total_ms: f64,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What follows is there for inference requests that came as far as the queue.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub inference: Option<Inference>,
    /// Why the batcher itself answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the queue knows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inference {
    /// The model.
    pub model: String,
    /// `json`, `binary`, `grpc` or `v1`.
    pub form: &'static str,
    /// Rows.
    pub rows: u32,
    /// Bytes of the body.
    pub bytes: usize,
    /// Its priority class, 1 is the first.
    pub priority: u32,
    /// How long it might take.
    pub deadline_ms: f64,
    /// How long it was expected to take, where that could be said on arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<f64>,
    /// Why it may share no batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone: Option<String>,
    /// In the queue, until the last batch that it was part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<f64>,
    /// At model servers, all calls together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
    /// Number of that batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_rows: Option<u32>,
    /// Its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_requests: Option<usize>,
    /// Why it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<&'static str>,
    /// The model server of the last call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Calls: more than one means that it ran again, alone or with half of its batch.
    pub calls: usize,
    /// Calls that had no answer.
    pub broken_calls: usize,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
}

impl Inference {
    /// From the trail.
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
