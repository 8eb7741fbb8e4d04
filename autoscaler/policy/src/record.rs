//! A decision as one line of JSON, from which the same decision can be replayed to the bit.
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decide::decide;
use crate::decision::Decision;
use crate::input::Input;

/// Version of the record's format and of the algorithm. A record replays only on the version that wrote it.
pub const VERSION: u32 = 3;

/// One decision with everything that it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecisionRecord {
    /// [`VERSION`] of the program that wrote the record.
    pub version: u32,
    /// Workload: `namespace/name`.
    pub workload: String,
    /// Input.
    pub input: Input,
    /// Decision.
    pub decision: Decision,
}

/// Reason why a record does not replay.
#[derive(Debug, thiserror::Error)]
pub enum Difference {
    /// Another version of the algorithm wrote it.
    #[error(
        "the record is of version {found}, this program replays version {VERSION}; use the version that wrote it"
    )]
    Version {
        /// The record's version.
        found: u32,
    },
    /// The same input gives another decision.
    #[error("the same input gives another decision: {field} was {recorded}, is {replayed}")]
    Decision {
        /// Path of the first field that differs.
        field: String,
        /// Value in the record.
        recorded: String,
        /// Value now.
        replayed: String,
    },
    /// It cannot be serialised.
    #[error("the record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl DecisionRecord {
    /// Decides, and returns the decision with its input.
    pub fn new(workload: impl Into<String>, input: Input) -> Self {
        let decision = decide(&input);
        Self { version: VERSION, workload: workload.into(), input, decision }
    }

    /// Returns the record as one line of JSON without its line break.
    ///
    /// # Errors
    /// Never fails for records made by [`DecisionRecord::new`].
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Parses a line of [`DecisionRecord::to_line`].
    ///
    /// # Errors
    /// Fails for invalid JSON and for an unknown or missing field.
    pub fn from_line(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

/// Decides again from the record's input and compares every bit of the decision.
///
/// # Errors
/// Returns the first [`Difference`].
pub fn replay(record: &DecisionRecord) -> Result<(), Difference> {
    if record.version != VERSION {
        return Err(Difference::Version { found: record.version });
    }
    // As text: JSON writes floats to the last bit, and unlike `==` it tells 0 from -0 and equals NaN to NaN.
    let recorded = serde_json::to_value(&record.decision)?;
    let replayed = serde_json::to_value(decide(&record.input))?;
    match difference("decision", &recorded, &replayed) {
        None => Ok(()),
        Some((field, recorded, replayed)) => Err(Difference::Decision { field, recorded, replayed }),
    }
}

/// Returns path and both values of the first difference; `None` where the two are equal.
fn difference(path: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().find_map(|(key, value)| difference(&format!("{path}.{key}"), value, &b[key]))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| difference(&format!("{path}[{i}]"), a, b))
        }
        _ => {
            let (a, b) = (a.to_string(), b.to_string());
            (a != b).then(|| (path.to_owned(), a, b))
        }
    }
}

/// Explains a record, one line per stage.
pub fn explain(record: &DecisionRecord) -> String {
    let (input, decision) = (&record.input, &record.decision);
    let steps = &decision.steps;
    let mut lines = vec![format!("{} at {} ms: {}", record.workload, input.now_ms, decision.message)];
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("  {name:<22}{value}"));
        }
    };
    let per_second = |value: Option<f64>| value.map(|v| format!("{v:.2} rows/s"));
    line("current", Some(format!("{} asked for, {} ready", input.current.replicas, input.current.ready)));
    for one in &input.standing.obstacles {
        let words = [one.pod.as_str(), one.detail.as_str()].map(str::trim).join(" ");
        line("not ready", Some(format!("{} {:?} {}", one.replicas, one.cause, words.trim())));
    }
    line("rate now", per_second(steps.rate_rows_per_second));
    line("burst", per_second(steps.burst_rows_per_second));
    line("forecast", per_second(steps.forecast_rows_per_second));
    line("backlog", per_second(steps.backlog_rows_per_second));
    line("demand", per_second(steps.demand_rows_per_second));
    line("burstiness", steps.burstiness.map(|v| format!("{v} (1 = Poisson)")));
    line(
        "service curve",
        input.signals.curve.map(|c| {
            format!(
                "{:.3} ms + {:.4} ms per row, at most {} rows, from {} batches",
                c.alpha_ms, c.beta_ms, c.batch_rows_limit, c.samples
            )
        }),
    );
    let second = &input.signals.second_source;
    line("from second source", (!second.is_empty()).then(|| second.join(", ")));
    line("correction", steps.correction.map(|v| format!("{v:.3} (observed / predicted)")));
    line(
        "predicted quantile",
        steps.predicted_quantile_ms.map(|v| format!("{v:.1} ms at the current replicas")),
    );
    line("one replica serves", per_second(steps.capacity_per_replica_rows_per_second));
    line("need", steps.need.map(|v| format!("{v:.3} replicas")));
    let replicas = |value: Option<u32>| value.map(|v| format!("{v}"));
    line("model", replicas(steps.model));
    line("after panic", replicas(steps.panic));
    line("after stabilisation", replicas(steps.stabilized));
    line("after rate policies", replicas(steps.rate_limited));
    line("after min and max", replicas(steps.bounded));
    line("after failing starts", replicas(steps.failing));
    line("after capacity", replicas(steps.capacity));
    line("after a rollout", replicas(steps.rollout));
    line(
        "free slices",
        Some(match input.free.slices {
            Some(free) => {
                let (profile, reason) = (&input.spec.profile, &input.free.reason);
                // The inventory's reason may begin with the profile: once is enough.
                let why = reason.strip_prefix(&format!("{profile}: ")).unwrap_or(reason);
                format!("{free} of {profile}: {why}")
            }
            None => format!("not known: {}", input.free.reason),
        }),
    );
    line("reason", Some(format!("{:?}", decision.reason)));
    let applied = if decision.apply { "to be applied" } else { "nothing to apply" };
    line("desired", Some(format!("{} ({applied})", decision.desired)));
    lines.join("\n")
}
