//! Load in the answer, for balancers that ask (ORCA): the request header `endpoint-load-metrics-format: json|text`
//! is answered by `endpoint-load-metrics`, as Triton and vLLM do.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// The question.
pub const FORMAT: HeaderName = HeaderName::from_static("endpoint-load-metrics-format");
/// The answer.
pub const REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// The load of all models together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Warm slots.
    pub slots: u32,
    /// Of them, those with a batch.
    pub busy_slots: u32,
    /// Rows that wait.
    pub queued_rows: u64,
    /// Batches that these rows are.
    pub queued_batches: f64,
    /// Longest predicted wait of a request that arrives now.
    pub predicted_wait_seconds: f64,
}

impl Load {
    /// Work there is for each slot, in batches: beyond 1 it queues. Without slots there is no room at all.
    pub fn utilization(&self) -> f64 {
        if self.slots == 0 {
            return 1.0 + self.queued_batches;
        }
        (f64::from(self.busy_slots) + self.queued_batches) / f64::from(self.slots)
    }

    /// The report in the form that was asked for; nothing where that is none.
    pub fn report(&self, format: &str) -> Option<HeaderValue> {
        let named = [
            ("queued_rows", self.queued_rows as f64),
            ("busy_slots", f64::from(self.busy_slots)),
            ("slots", f64::from(self.slots)),
            ("predicted_wait_seconds", self.predicted_wait_seconds),
        ];
        let utilization = self.utilization();
        let report = if format.eq_ignore_ascii_case("json") {
            let named: serde_json::Map<_, _> =
                named.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            format!("JSON {}", json!({"application_utilization": utilization, "named_metrics": named}))
        } else if format.eq_ignore_ascii_case("text") {
            let named = named.map(|(name, value)| format!("named_metrics.{name}={value}")).join(", ");
            format!("TEXT application_utilization={utilization}, {named}")
        } else {
            return None;
        };
        HeaderValue::try_from(report).ok()
    }
}

/// The form that a request asks for.
pub fn wanted(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(FORMAT)?.to_str().ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_reported_in_both_forms() {
        let load = Load {
            slots: 2,
            busy_slots: 1,
            queued_rows: 6,
            queued_batches: 1.5,
            predicted_wait_seconds: 0.25,
        };
        assert_eq!(load.utilization(), 1.25);
        assert_eq!(
            load.report("text").unwrap(),
            "TEXT application_utilization=1.25, named_metrics.queued_rows=6, named_metrics.busy_slots=1, \
             named_metrics.slots=2, named_metrics.predicted_wait_seconds=0.25"
        );
        let json = load.report("JSON").unwrap();
        let json: serde_json::Value =
            serde_json::from_str(json.to_str().unwrap().strip_prefix("JSON ").unwrap()).unwrap();
        assert_eq!(json["application_utilization"], 1.25);
        assert_eq!(json["named_metrics"]["queued_rows"], 6.0);
        assert!(load.report("binary").is_none());
    }
}
