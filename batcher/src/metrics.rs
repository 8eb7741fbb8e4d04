//! The batcher's metrics: names from `sluice_config`, handles resolved once per model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use sluice_batch_policy::Release;
use sluice_config::metric_names::batcher as names;
use sluice_protocol::WireFormat;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model answered.
    Ok,
    /// The model server or the batcher answered with a 4xx other than 429.
    ClientError,
    /// Rejected for overload (429).
    Rejected,
    /// No model server answered in time (503, 504).
    Unavailable,
    /// Any other 5xx.
    Error,
    /// The client left before there was an answer.
    Cancelled,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::ClientError, Self::Rejected, Self::Unavailable, Self::Error, Self::Cancelled];

    /// Returns the value of the label `outcome`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the outcome that an HTTP status stands for.
    pub fn of_status(status: u16) -> Self {
        match status {
            0..=399 => Self::Ok,
            429 => Self::Rejected,
            400..=499 => Self::ClientError,
            503 | 504 => Self::Unavailable,
            _ => Self::Error,
        }
    }
}

/// Why a request was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The model's queue is full.
    QueueFull,
    /// All waiting requests together hold too many bytes.
    BytesFull,
    /// On arrival: the answer is predicted to come after the deadline.
    TooLate,
    /// In the queue: the deadline can no longer be met.
    Expired,
    /// No model server became ready while the request was held.
    HoldExpired,
    /// The body is too large.
    BodyTooLarge,
    /// No model server is warm, and the request may not be held.
    Cold,
}

impl RejectReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::BytesFull,
        Self::TooLate,
        Self::Expired,
        Self::HoldExpired,
        Self::BodyTooLarge,
        Self::Cold,
    ];

    /// Returns the value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::BytesFull => "bytes_full",
            Self::TooLate => "too_late",
            Self::Expired => "expired",
            Self::HoldExpired => "hold_expired",
            Self::BodyTooLarge => "body_too_large",
            Self::Cold => "cold",
        }
    }
}

/// The metrics of one model.
pub struct ModelMetrics {
    /// Value of the label `model`.
    pub label: Arc<str>,
    /// Number of rows that arrived.
    pub demand_rows: Counter,
    /// Time from the last byte of the request to the first byte of the answer.
    pub request_seconds: Histogram,
    /// Time of a request in the queue.
    pub queue_seconds: Histogram,
    /// Time of a batch at the model server.
    pub upstream_seconds: Histogram,
    /// Rows of a batch.
    pub batch_rows: Histogram,
    /// Rows added to batches to give them an allowed size.
    pub padding_rows: Counter,
    /// Gauges, set by the owner of the queue.
    pub gauges: ModelGauges,
    /// Answers within the objective and others, since the gauge of attainment was set.
    pub attainment: AttainmentCounts,
    objective: Gauge,
    requests: [[Counter; 6]; WireFormat::ALL.len()],
    refused: [Counter; RejectReason::ALL.len()],
    batches: [Counter; 5],
}

/// The gauges of one model.
pub struct ModelGauges {
    /// Number of rows that wait.
    pub queue_rows: Gauge,
    /// Age of the oldest waiting request.
    pub oldest_wait: Gauge,
    /// Number of batches at the model servers.
    pub inflight: Gauge,
    /// Number of ready slots.
    pub slots: Gauge,
    /// Share of slot time that was busy.
    pub busy: Gauge,
    /// Predicted wait of a request that arrives now.
    pub predicted_wait: Gauge,
    /// Share of requests within the objective.
    pub attainment: Gauge,
    /// α of the service curve.
    pub alpha: Gauge,
    /// β of the service curve.
    pub beta: Gauge,
    /// Number of batches that the service curve was fitted to.
    pub samples: Gauge,
    /// B*, the maximum rows of a batch.
    pub limit: Gauge,
    /// 1 while requests were held for lack of a model server and none has been served since, else 0.
    pub latched: Gauge,
}

/// Answers that request tasks have counted for the gauge of attainment.
#[derive(Debug, Default)]
pub struct AttainmentCounts {
    met: AtomicU64,
    missed: AtomicU64,
}

impl AttainmentCounts {
    /// Counts an answer. `met`: a correct one within the objective.
    pub fn count(&self, met: bool) {
        if met { &self.met } else { &self.missed }.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the counts out: met, and missed.
    pub fn take(&self) -> (u64, u64) {
        (self.met.swap(0, Ordering::Relaxed), self.missed.swap(0, Ordering::Relaxed))
    }
}

impl std::fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelMetrics")
    }
}

impl ModelMetrics {
    /// Resolves all handles of one model.
    pub fn new(model: &str) -> Self {
        let model: Arc<str> = Arc::from(model);
        let m = || Arc::clone(&model);
        Self {
            label: m(),
            objective: gauge!(names::OBJECTIVE_SECONDS, "model" => m()),
            demand_rows: counter!(names::DEMAND_ROWS_TOTAL, "model" => m()),
            request_seconds: histogram!(names::REQUEST_DURATION_SECONDS, "model" => m()),
            queue_seconds: histogram!(names::QUEUE_DURATION_SECONDS, "model" => m()),
            upstream_seconds: histogram!(names::UPSTREAM_DURATION_SECONDS, "model" => m()),
            batch_rows: histogram!(names::BATCH_ROWS, "model" => m()),
            padding_rows: counter!(names::PADDING_ROWS_TOTAL, "model" => m()),
            attainment: AttainmentCounts::default(),
            gauges: ModelGauges {
                queue_rows: gauge!(names::QUEUE_ROWS, "model" => m()),
                oldest_wait: gauge!(names::OLDEST_WAIT_SECONDS, "model" => m()),
                inflight: gauge!(names::INFLIGHT_BATCHES, "model" => m()),
                slots: gauge!(names::SLOTS, "model" => m()),
                busy: gauge!(names::BUSY_FRACTION, "model" => m()),
                predicted_wait: gauge!(names::PREDICTED_WAIT_SECONDS, "model" => m()),
                attainment: gauge!(names::ATTAINMENT_RATIO, "model" => m()),
                alpha: gauge!(names::CURVE_ALPHA_SECONDS, "model" => m()),
                beta: gauge!(names::CURVE_BETA_SECONDS, "model" => m()),
                samples: gauge!(names::CURVE_SAMPLES, "model" => m()),
                limit: gauge!(names::BATCH_ROWS_LIMIT, "model" => m()),
                latched: gauge!(names::DEMAND_LATCHED, "model" => m()),
            },
            requests: WireFormat::ALL.map(|form| {
                Outcome::ALL.map(|outcome| {
                    counter!(names::REQUESTS_TOTAL, "model" => m(), "form" => form.as_str(), "outcome" => outcome.label())
                })
            }),
            refused: RejectReason::ALL.map(
                |reason| counter!(names::REJECTED_TOTAL, "model" => m(), "reason" => reason.label()),
            ),
            batches: Release::ALL.map(
                |release| counter!(names::BATCHES_TOTAL, "model" => m(), "release" => release.label()),
            ),
        }
    }

    /// Sets the gauge of the latency objective.
    pub fn set_objective(&self, objective_ms: u64) {
        self.objective.set(objective_ms as f64 / 1e3);
    }

    /// Counts an answered request.
    pub fn count_request(&self, form: WireFormat, outcome: Outcome) {
        self.requests[form as usize][outcome as usize].increment(1);
    }

    /// Counts a rejected request.
    pub fn count_refused(&self, reason: RejectReason) {
        self.refused[reason as usize].increment(1);
    }

    /// Counts a batch.
    pub fn count_batch(&self, release: Release) {
        self.batches[release as usize].increment(1);
    }
}

/// Returns the upper bounds of the histograms' buckets, in seconds and rows. They are dense around the objective, so
/// that the share within the objective is exact and quantiles near it are accurate.
pub fn buckets(objective_ms: u64, max_batch_rows: u32) -> Vec<(&'static str, Vec<f64>)> {
    let objective = objective_ms as f64 / 1e3;
    let fine = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let around = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0];
    let mut seconds: Vec<f64> =
        fine.into_iter().chain(around.into_iter().map(|share| share * objective)).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    let mut rows: Vec<f64> = std::iter::successors(Some(1_u32), |rows| rows.checked_mul(2))
        .take_while(|&rows| rows < max_batch_rows)
        .map(f64::from)
        .collect();
    rows.push(f64::from(max_batch_rows));
    // From the pace of small models to one that is useless to a reader.
    let tokens =
        [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0];
    let streams = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0];
    vec![
        (names::STREAM_FIRST_TOKEN_SECONDS, seconds.clone()),
        (names::STREAM_QUEUE_DURATION_SECONDS, seconds.clone()),
        (names::STREAM_INTER_TOKEN_SECONDS, tokens.to_vec()),
        (names::STREAM_DURATION_SECONDS, streams.to_vec()),
        (names::REQUEST_DURATION_SECONDS, seconds.clone()),
        (names::QUEUE_DURATION_SECONDS, seconds.clone()),
        (names::UPSTREAM_DURATION_SECONDS, seconds),
        (names::BATCH_ROWS, rows),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objective_is_a_bound_of_the_latency_histogram() {
        let buckets = buckets(70, 48);
        let (name, seconds) = &buckets[4];
        assert_eq!(*name, names::REQUEST_DURATION_SECONDS);
        assert!(seconds.iter().any(|&bound| (bound - 0.07).abs() < 1e-12));
        assert!(seconds.is_sorted());
        assert_eq!(buckets[7].1, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 48.0]);
    }
}
