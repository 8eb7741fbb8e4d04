//! The series of one model's streams.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use sluice_config::metric_names::batcher as names;

use super::events::Usage;
use crate::metrics::{Outcome, RejectReason};

/// Handles of the series, resolved once.
pub struct StreamMetrics {
    /// Time from arrival to the first token.
    pub first_token_seconds: Histogram,
    /// Time from one token to the next.
    pub inter_token_seconds: Histogram,
    /// Time from arrival to the end.
    pub stream_seconds: Histogram,
    /// Time that a stream waited for admission.
    pub queue_seconds: Histogram,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    outcomes: [Counter; Outcome::ALL.len()],
    refused: [Counter; RejectReason::ALL.len()],
    in_flight: Gauge,
    waiting: Gauge,
    oldest_wait: Gauge,
    predicted_wait: Gauge,
    limit: Gauge,
    latched: Gauge,
}

/// State of the owner, for the gauges.
pub(super) struct View {
    pub(super) in_flight: u32,
    pub(super) waiting: usize,
    pub(super) oldest_wait_us: u64,
    pub(super) predicted_wait_us: u64,
    pub(super) limit: f64,
    pub(super) latched: bool,
    pub(super) has_queue: bool,
}

impl std::fmt::Debug for StreamMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamMetrics")
    }
}

impl StreamMetrics {
    pub(super) fn new(label: &Arc<str>) -> Self {
        let m = || Arc::clone(label);
        Self {
            first_token_seconds: histogram!(names::STREAM_FIRST_TOKEN_SECONDS, "model" => m()),
            inter_token_seconds: histogram!(names::STREAM_INTER_TOKEN_SECONDS, "model" => m()),
            stream_seconds: histogram!(names::STREAM_DURATION_SECONDS, "model" => m()),
            queue_seconds: histogram!(names::STREAM_QUEUE_DURATION_SECONDS, "model" => m()),
            prompt_tokens: counter!(names::STREAM_TOKENS_TOTAL, "model" => m(), "kind" => "prompt"),
            completion_tokens: counter!(names::STREAM_TOKENS_TOTAL, "model" => m(), "kind" => "completion"),
            outcomes: Outcome::ALL
                .map(|outcome| counter!(names::STREAMS_TOTAL, "model" => m(), "outcome" => outcome.label())),
            refused: RejectReason::ALL.map(
                |reason| counter!(names::STREAMS_REJECTED_TOTAL, "model" => m(), "reason" => reason.label()),
            ),
            in_flight: gauge!(names::STREAMS_IN_FLIGHT, "model" => m()),
            waiting: gauge!(names::STREAMS_WAITING, "model" => m()),
            oldest_wait: gauge!(names::STREAMS_OLDEST_WAIT_SECONDS, "model" => m()),
            predicted_wait: gauge!(names::STREAMS_PREDICTED_WAIT_SECONDS, "model" => m()),
            limit: gauge!(names::STREAMS_LIMIT, "model" => m()),
            latched: gauge!(names::DEMAND_LATCHED, "model" => m()),
        }
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].increment(1);
    }

    pub(super) fn count_refused(&self, reason: RejectReason) {
        self.refused[reason as usize].increment(1);
    }

    pub(super) fn count_tokens(&self, usage: Usage) {
        self.prompt_tokens.increment(usage.prompt_tokens);
        self.completion_tokens.increment(usage.completion_tokens);
    }

    pub(super) fn set_gauges(&self, view: &View) {
        self.in_flight.set(f64::from(view.in_flight));
        self.waiting.set(view.waiting as f64);
        self.oldest_wait.set(view.oldest_wait_us as f64 / 1e6);
        self.predicted_wait.set(view.predicted_wait_us as f64 / 1e6);
        self.limit.set(view.limit);
        // If the model has a queue, that has set the gauge to its own state.
        if view.latched {
            self.latched.set(1.0);
        } else if !view.has_queue {
            self.latched.set(0.0);
        }
    }
}
