//! Report of a run, for machines (JSON) and for people (`text`, `html`), and thresholds on it.

pub(crate) mod chart;
pub(crate) mod html;
pub(crate) mod page;
pub(crate) mod text;
pub mod threshold;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::plan::{Load, Plan, Protocol};
use crate::record::{Counts, Interval, Quantiles, RunRecord};
use threshold::{Judged, Threshold};

/// Maximum 99th percentile of the send lag, in milliseconds. A run above it is invalid: it measured the generator.
pub const SEND_LAG_LIMIT_MS: f64 = 1.0;

/// Report of a run. Thresholds use the names of its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the scenario.
    pub name: String,
    /// Address of the target.
    pub target: String,
    /// Description of what was sent.
    pub payload: String,
    /// Description of the schedule.
    pub load: String,
    /// Start, in seconds since 1970.
    pub started_unix_s: f64,
    /// Time from the start of the run to the last outcome, in seconds.
    pub duration_s: f64,
    /// Seed of schedule and mix.
    pub seed: u64,
    /// Whether each client waited for its answer (then latencies hide stalls).
    pub closed_loop: bool,
    /// Whether the run was stopped by a signal before the end of its schedule.
    pub stopped_early: bool,
    /// False if the generator missed its own schedule, so that the numbers are not the target's.
    pub valid: bool,
    /// Reasons why the run is invalid.
    pub invalid_because: Vec<String>,
    /// Number of requests.
    pub requests: u64,
    /// Number of requests by outcome.
    #[serde(flatten)]
    pub counts: Counts,
    /// Rejections with `Retry-After`.
    #[serde(default)]
    pub rejected_retry_after: u64,
    /// Lost requests by kind.
    pub lost_kinds: BTreeMap<String, u64>,
    /// Failed requests by status.
    pub failures: BTreeMap<String, u64>,
    /// Descriptions of the first wrong answers.
    pub wrong_examples: Vec<String>,
    /// Latency objective in milliseconds.
    pub objective_ms: Option<f64>,
    /// Correct answers within the objective ÷ all requests; `None` without an objective.
    pub attainment: Option<f64>,
    /// Requests sent per second.
    pub offered_rps: f64,
    /// Correct answers per second.
    pub throughput_rps: f64,
    /// Latency of correct answers, counted from the intended send time.
    #[serde(flatten)]
    pub latency: Option<Quantiles>,
    /// Send lag; `None` in a closed loop, which has no intended times.
    pub send_lag: Option<Quantiles>,
    /// Connections opened.
    pub connections_opened: u64,
    /// By protocol.
    pub by_protocol: BTreeMap<Protocol, ProtocolReport>,
    /// Thresholds, and whether they hold.
    pub thresholds: Vec<Judged>,
    /// Statistics per interval.
    pub series: Vec<Interval>,
}

/// Requests of one protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProtocolReport {
    /// All its requests.
    pub requests: u64,
    #[serde(flatten)]
    pub counts: Counts,
    /// Latency of its correct answers.
    #[serde(flatten)]
    pub latency: Option<Quantiles>,
}

impl Report {
    /// Creates the report of a finished run, without thresholds.
    pub(crate) fn of(plan: &Plan, record: &RunRecord, started: SystemTime) -> Self {
        let tally = &record.tally;
        let counts = tally.all.counts.clone();
        let closed_loop = matches!(plan.load, Load::Closed { .. });
        let send_lag = if closed_loop { None } else { tally.send_lag() };
        let lost_kinds: BTreeMap<String, u64> =
            tally.lost_kinds.iter().map(|(kind, count)| (kind.as_str().to_owned(), *count)).collect();
        let invalid_because = invalid_because(send_lag, lost_kinds.get("unsent").copied().unwrap_or(0));
        let requests = counts.requests();
        let duration_s = tally.elapsed_s().max(f64::MIN_POSITIVE);
        let by_protocol = tally.by_protocol.iter().map(|(protocol, group)| {
            let (counts, latency) = (group.counts.clone(), group.latency());
            (*protocol, ProtocolReport { requests: counts.requests(), counts, latency })
        });
        let attainment =
            plan.objective.filter(|_| requests > 0).map(|_| counts.attained as f64 / requests as f64);
        Self {
            name: plan.name.clone(),
            target: plan.address.to_string(),
            payload: plan.payload.describe(),
            load: plan.load.describe(),
            started_unix_s: started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            duration_s,
            seed: plan.seed,
            closed_loop,
            stopped_early: record.stopped_early,
            valid: invalid_because.is_empty(),
            invalid_because,
            requests,
            lost_kinds,
            rejected_retry_after: tally.rejected_retry_after,
            failures: tally.failures.clone(),
            wrong_examples: tally.examples.clone(),
            objective_ms: plan.objective.map(|objective| objective.as_secs_f64() * 1e3),
            attainment,
            offered_rps: requests as f64 / duration_s,
            throughput_rps: counts.answered as f64 / duration_s,
            latency: tally.all.latency(),
            send_lag,
            connections_opened: record.connections_opened as u64,
            by_protocol: by_protocol.collect(),
            thresholds: Vec::new(),
            series: record.series.clone(),
            counts,
        }
    }

    /// Returns the value of a metric; `None` if the run has none (no answers, no objective).
    pub fn metric(&self, metric: threshold::Metric) -> Option<f64> {
        use threshold::Metric;
        let latency = |value: fn(&Quantiles) -> f64| self.latency.as_ref().map(value);
        let lag = |value: fn(&Quantiles) -> f64| self.send_lag.as_ref().map(value);
        match metric {
            Metric::Requests => Some(self.requests as f64),
            Metric::Answered => Some(self.counts.answered as f64),
            Metric::Attained => Some(self.counts.attained as f64),
            Metric::Attainment => self.attainment,
            Metric::Rejected => Some(self.counts.rejected as f64),
            Metric::Failed => Some(self.counts.failed as f64),
            Metric::Lost => Some(self.counts.lost as f64),
            Metric::ThroughputRps => Some(self.throughput_rps),
            Metric::MeanMs => latency(|latency| latency.mean_ms),
            Metric::P50Ms => latency(|latency| latency.p50_ms),
            Metric::P90Ms => latency(|latency| latency.p90_ms),
            Metric::P95Ms => latency(|latency| latency.p95_ms),
            Metric::P99Ms => latency(|latency| latency.p99_ms),
            Metric::P99_9Ms => latency(|latency| latency.p99_9_ms),
            Metric::MaxMs => latency(|latency| latency.max_ms),
            Metric::SendLagP50Ms => lag(|lag| lag.p50_ms),
            Metric::SendLagP99Ms => lag(|lag| lag.p99_ms),
            Metric::SendLagMaxMs => lag(|lag| lag.max_ms),
        }
    }

    /// Evaluates thresholds and stores the results.
    pub fn judge(&mut self, thresholds: &[Threshold]) {
        self.thresholds =
            thresholds.iter().map(|threshold| threshold.judge(self.metric(threshold.metric))).collect();
    }

    /// Returns whether every threshold holds.
    pub fn passed(&self) -> bool {
        self.thresholds.iter().all(|judged| judged.passed)
    }
}

fn invalid_because(send_lag: Option<Quantiles>, unsent: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(lag) = send_lag
        && lag.p99_ms > SEND_LAG_LIMIT_MS
    {
        reasons.push(format!(
            "the send lag's 99th percentile is {:.3} ms (limit {SEND_LAG_LIMIT_MS} ms): the generator was late itself",
            lag.p99_ms
        ));
    }
    if unsent > 0 {
        reasons.push(format!("{unsent} requests were never sent: too many were in flight (maxInFlight)"));
    }
    reasons
}
