//! Results of an arm and of the whole demo, and the rules by which they are a success.

use std::collections::BTreeMap;

use serde::Serialize;

use super::arm::Replicas;

/// Measurements of one arm in one second of the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Seconds since the load began.
    pub t_s: u32,
    /// Requests that were due in this second.
    pub sent: u64,
    /// Requests that were answered with a result in this second.
    pub answered: u64,
    /// Requests that were rejected with 429 in this second.
    pub rejected: u64,
    /// Median latency of this second's answers, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the latency of this second's answers, milliseconds.
    pub p99_ms: f64,
    /// Rows in the gateway's queue.
    pub queue_rows: f64,
    /// Replicas that the autoscaler wants.
    pub desired_replicas: f64,
    /// Replicas that take traffic.
    pub ready_replicas: f64,
    /// Slices that the driver has prepared.
    pub slices_in_use: f64,
    /// Free slices of the profile.
    pub slices_free: f64,
}

/// Counts and latencies of the load generator over the whole trace.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct LoadOutcome {
    /// Requests that were sent.
    pub requests: u64,
    /// Requests with any answer, 429 among them.
    pub answered: u64,
    /// Requests that were rejected with 429 or RESOURCE_EXHAUSTED.
    pub rejected: u64,
    /// Requests that got another error, which this load must not cause.
    pub failed: u64,
    /// Requests that were lost: no answer, a reset, a timeout, 502, 503, 504, a wrong or a second answer.
    pub lost: u64,
    /// Lost requests by kind.
    pub lost_kinds: BTreeMap<String, u64>,
    /// Correct answers within the objective over all requests.
    pub attainment: f64,
    /// Median latency from the intended send time, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the latency from the intended send time, milliseconds.
    pub p99_ms: f64,
    /// 99th percentile of the delay of the generator's own sends, milliseconds.
    pub send_lag_p99_ms: f64,
}

/// Summary of the replicas over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Scaling {
    /// Largest number of ready replicas at one time.
    pub max_replicas: u32,
    /// Number of times that the autoscaler wanted more replicas than before.
    pub scale_ups: u32,
    /// Number of times that the autoscaler wanted fewer replicas than before.
    pub scale_downs: u32,
}

impl Scaling {
    /// Summarizes the samples of an arm.
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let changes = |wanted: fn(f64) -> bool| {
            samples
                .windows(2)
                .filter(|pair| wanted(pair[1].desired_replicas - pair[0].desired_replicas))
                .count() as u32
        };
        Self {
            max_replicas: samples.iter().map(|sample| sample.ready_replicas as u32).max().unwrap_or(0),
            scale_ups: changes(|change| change > 0.0),
            scale_downs: changes(|change| change < 0.0),
        }
    }
}

/// Result of one arm.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ArmOutcome {
    pub name: String,
    /// Fixed number of replicas; `None` (`null`) for the autoscaled arm.
    pub static_replicas: Option<u32>,
    /// What the load generator counted.
    #[serde(flatten)]
    pub load: LoadOutcome,
    /// Replicas over time.
    #[serde(flatten)]
    pub scaling: Scaling,
    /// Slice-seconds, each slice counted from the start of prepare to the end of unprepare, by the driver's own
    /// counter.
    pub slice_seconds: f64,
    /// Slices that were left after the end: prepared claims or instances on the simulated GPUs, whichever are more.
    pub slices_left: u64,
    /// Number of restarts of driver, autoscaler and gateway.
    pub restarts: u32,
    /// Measurements, one per second.
    pub samples: Vec<Sample>,
}

/// Result of the whole run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DemoOutcome {
    /// Results of the arms; the first one is the autoscaled arm.
    pub arms: Vec<ArmOutcome>,
    /// Latency objective, milliseconds.
    pub objective_ms: u32,
    /// Share of requests, 0 to 1, that must meet the objective.
    pub objective_attainment: f64,
    /// Processes that had to be ended and sockets that still had a file when all was stopped.
    pub left_behind: Vec<String>,
    /// Errors while the arms were stopped.
    pub errors: Vec<String>,
}

impl DemoOutcome {
    /// Returns everything that makes the run a failure, one message each; an empty list is a success. `strict` adds the
    /// objective: the autoscaled arm and the larger static one must meet it, the smaller one must miss it.
    pub(crate) fn failures(&self, strict: bool) -> Vec<String> {
        let mut failures = self.errors.clone();
        failures.extend(self.left_behind.iter().map(|what| format!("left behind: {what}")));
        for arm in &self.arms {
            let name = &arm.name;
            if arm.load.requests == 0 {
                failures.push(format!("{name}: no request was sent"));
            }
            if arm.load.lost > 0 {
                failures
                    .push(format!("{name}: {} requests were lost: {:?}", arm.load.lost, arm.load.lost_kinds));
            }
            if arm.load.failed > 0 {
                failures.push(format!("{name}: {} requests got an error", arm.load.failed));
            }
            if arm.slices_left > 0 {
                failures.push(format!("{name}: {} slices were left behind", arm.slices_left));
            }
            if arm.static_replicas.is_none() && (arm.scaling.scale_ups == 0 || arm.scaling.scale_downs == 0) {
                failures.push(format!(
                    "{name}: scaled up {} and down {} times; both must happen",
                    arm.scaling.scale_ups, arm.scaling.scale_downs
                ));
            }
        }
        if strict {
            failures.extend(self.missed_objectives());
        }
        failures
    }

    fn missed_objectives(&self) -> Vec<String> {
        let goal = self.objective_attainment;
        let largest_static = self.arms.iter().filter_map(|arm| arm.static_replicas).max();
        self.arms
            .iter()
            .filter_map(|arm| {
                let is_meant_to_miss = self.arms.len() > 1
                    && arm.static_replicas.is_some()
                    && arm.static_replicas != largest_static;
                let meets = arm.load.attainment >= goal;
                let text = format!("{}: attainment {:.4}, objective {goal}", arm.name, arm.load.attainment);
                match (is_meant_to_miss, meets) {
                    (false, false) => Some(text),
                    (true, true) => Some(format!("{text}: it was meant to be too small")),
                    _ => None,
                }
            })
            .collect()
    }

    /// Returns the JSON of `--json`: the first arm's numbers at the top, those of all arms below `arms`.
    pub(crate) fn to_json(&self, strict: bool) -> serde_json::Value {
        let static_slice_seconds = self
            .arms
            .iter()
            .filter(|arm| arm.static_replicas.is_some())
            .max_by_key(|arm| arm.static_replicas)
            .map(|arm| arm.slice_seconds);
        let mut json = serde_json::json!({
            "objective_ms": self.objective_ms,
            "objective_attainment": self.objective_attainment,
            "static_slice_seconds": static_slice_seconds,
            "left_behind": self.left_behind,
            "failures": self.failures(strict),
            "arms": self.arms,
        });
        if let (Some(first), Some(top)) = (self.arms.first(), json.as_object_mut())
            && let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(first)
        {
            fields.remove("samples");
            top.extend(fields);
        }
        json
    }
}

/// Returns the fixed number of replicas; `None` for autoscaled ones.
pub(crate) fn static_replicas(replicas: Replicas) -> Option<u32> {
    match replicas {
        Replicas::Autoscaled => None,
        Replicas::Static(replicas) => Some(replicas),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(static_replicas: Option<u32>, attainment: f64) -> ArmOutcome {
        ArmOutcome {
            name: static_replicas.map_or("sluice".to_owned(), |replicas| format!("static-{replicas}")),
            static_replicas,
            load: LoadOutcome { requests: 100, answered: 100, attainment, ..Default::default() },
            scaling: Scaling { max_replicas: 5, scale_ups: 3, scale_downs: 3 },
            slice_seconds: 100.0,
            slices_left: 0,
            restarts: 0,
            samples: Vec::new(),
        }
    }

    fn outcome() -> DemoOutcome {
        DemoOutcome {
            arms: vec![arm(None, 0.995), arm(Some(5), 0.999), arm(Some(2), 0.6)],
            objective_ms: 300,
            objective_attainment: 0.99,
            left_behind: Vec::new(),
            errors: Vec::new(),
        }
    }

    #[test]
    fn a_clean_run_that_meets_the_objective_is_a_success() {
        assert_eq!(outcome().failures(true), Vec::<String>::new());
    }

    #[test]
    fn a_lost_request_a_slice_left_or_no_scaling_is_a_failure() {
        let mut lost = outcome();
        lost.arms[2].load.lost = 1;
        assert_eq!(lost.failures(false), ["static-2: 1 requests were lost: {}"]);
        let mut left = outcome();
        left.arms[0].slices_left = 2;
        assert_eq!(left.failures(false), ["sluice: 2 slices were left behind"]);
        let mut still = outcome();
        still.arms[0].scaling.scale_downs = 0;
        assert_eq!(still.failures(false).len(), 1);
        let mut process = outcome();
        process.left_behind.push("process 12 model".to_owned());
        assert_eq!(process.failures(false).len(), 1);
    }

    #[test]
    fn only_a_strict_run_fails_for_the_objective() {
        let mut missed = outcome();
        missed.arms[0].load.attainment = 0.98;
        missed.arms[2].load.attainment = 0.995;
        assert!(missed.failures(false).is_empty());
        assert_eq!(missed.failures(true).len(), 2);
    }

    #[test]
    fn changes_of_what_was_asked_for_are_counted_by_direction() {
        let samples: Vec<_> = [1.0, 1.0, 3.0, 4.0, 2.0, 2.0]
            .into_iter()
            .map(|replicas| Sample {
                desired_replicas: replicas,
                ready_replicas: replicas,
                ..Default::default()
            })
            .collect();
        assert_eq!(Scaling::of(&samples), Scaling { max_replicas: 4, scale_ups: 2, scale_downs: 1 });
    }

    #[test]
    fn the_json_has_the_first_arms_numbers_at_the_top() {
        let json = outcome().to_json(true);
        for field in [
            "requests",
            "answered",
            "lost",
            "attainment",
            "objective_ms",
            "p50_ms",
            "p99_ms",
            "slice_seconds",
            "static_slice_seconds",
            "max_replicas",
            "scale_ups",
            "scale_downs",
        ] {
            assert!(json.get(field).is_some_and(|value| value.is_number()), "{field} in {json}");
        }
        assert_eq!(json["attainment"], 0.995);
    }
}
