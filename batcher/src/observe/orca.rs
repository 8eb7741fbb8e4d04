//! Load reports for load balancers (ORCA): a request with the header `endpoint-load-metrics-format: json|text` gets the
//! load in the response header `endpoint-load-metrics`, as Triton and vLLM do.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// Request header that asks for a report, and its format.
pub const FORMAT: HeaderName = HeaderName::from_static("endpoint-load-metrics-format");
/// Response header that contains the report.
pub const REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// Load of one model, or of all together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Number of warm slots.
    pub slots: u32,
    /// Number of slots that run a batch.
    pub busy_slots: u32,
    /// Number of rows that wait.
    pub queued_rows: u64,
    /// Number of batches that these rows make.
    pub queued_batches: f64,
    /// Predicted wait of a request that arrives now; of several models the longest.
    pub predicted_wait_seconds: f64,
}

impl Load {
    /// Returns the batches, running and waiting, per slot: above 1, batches wait. Without slots it is at least 1.
    pub fn utilization(&self) -> f64 {
        if self.slots == 0 {
            return 1.0 + self.queued_batches;
        }
        (f64::from(self.busy_slots) + self.queued_batches) / f64::from(self.slots)
    }

    /// Returns the report in a format, `json` or `text`; `None` for any other.
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

/// Returns the format of the report that a request asks for; `None` if it asks for none.
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
