//! Settings of `sluice-loadtest run`, which are those of scenario files, and how they become a `Plan`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_process::settings::SettingsError;

use super::target::{self, TargetError};
use crate::arrivals::{RateCurve, RateError, Segment, Spacing, TraceError, parse_trace};
use crate::plan::{Load, Mix, Payload, Plan, UnknownProtocol};
use crate::report::threshold::{BadThreshold, Threshold};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Whether answers are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Row by row against the reference function.
    #[default]
    Reference,
    /// By status alone.
    None,
}

/// A scenario, from file, environment and flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Name of the scenario in reports.
    pub name: String,
    /// `HOST:PORT` or `http://HOST:PORT`.
    pub target: String,
    /// Allows a target that is not this machine.
    pub allow_remote: bool,
    pub model: String,
    /// A protocol, or a mix such as `rest-json=50,grpc=50`.
    pub protocol: String,
    /// Rows per request.
    pub rows_per_request: usize,
    /// Whether answers are checked.
    pub verify: Verify,
    /// Id of the first row.
    pub first_id: i64,
    /// File that is posted as it is, instead of rows of the reference function.
    pub body: Option<PathBuf>,
    /// Where `body` is posted to; `/v2/models/{model}/infer` unless set.
    pub path: Option<String>,
    /// Content type of `body`.
    pub content_type: String,
    /// `Inference-Header-Content-Length` of `body`, where binary tensors follow its JSON.
    pub json_bytes: Option<usize>,
    /// How arrivals are spaced.
    pub arrivals: Spacing,
    /// Load: a constant rate.
    pub rate_rps: Option<f64>,
    /// Load: rates one after the other, `RPS:MS,RPS:MS,…`.
    pub steps: Option<String>,
    /// Load: from one rate to another over `durationMs`, `RPS:RPS`.
    pub ramp: Option<String>,
    /// Load: a rate table (CSV `t_s,rate_rps`).
    pub trace: Option<PathBuf>,
    /// The trace's times are multiplied by this; 0.1 replays ten times faster.
    pub trace_time_scale: f64,
    /// The trace's rates are multiplied by this.
    pub trace_rate_scale: f64,
    /// Load: a closed loop of this many clients.
    pub concurrency: Option<usize>,
    /// Length of the run, where the load does not say it.
    pub duration_ms: u64,
    /// A request without an answer by then is lost.
    pub timeout_ms: u64,
    /// The objective that attainment is counted by.
    pub objective_ms: Option<u64>,
    /// Connections opened before the first request.
    pub connections: usize,
    /// Most requests in flight.
    pub max_in_flight: usize,
    /// Length of a reporting interval.
    pub interval_ms: u64,
    /// Seed of schedule and mix.
    pub seed: u64,
    /// Conditions such as `p99_ms<200` that decide the exit code.
    pub thresholds: Vec<String>,
    /// Report as JSON.
    pub json: Option<PathBuf>,
    /// Report as a page with charts.
    pub html: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "run".into(),
            target: "127.0.0.1:8000".into(),
            allow_remote: false,
            model: "reference".into(),
            protocol: "rest-json".into(),
            rows_per_request: 1,
            verify: Verify::Reference,
            first_id: 1,
            body: None,
            path: None,
            content_type: "application/json".into(),
            json_bytes: None,
            arrivals: Spacing::Poisson,
            rate_rps: None,
            steps: None,
            ramp: None,
            trace: None,
            trace_time_scale: 1.0,
            trace_rate_scale: 1.0,
            concurrency: None,
            duration_ms: 10_000,
            timeout_ms: 10_000,
            objective_ms: None,
            connections: 16,
            max_in_flight: 8192,
            interval_ms: 1000,
            seed: 1,
            thresholds: Vec::new(),
            json: None,
            html: None,
        }
    }
}

/// Reason why a scenario is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// A field is unknown or of the wrong type.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The protocol.
    #[error(transparent)]
    Protocol(#[from] UnknownProtocol),
    /// A threshold.
    #[error(transparent)]
    Threshold(#[from] BadThreshold),
    /// The rates.
    #[error("load: {0}")]
    Rate(#[from] RateError),
    /// The trace.
    #[error("trace {path}: {source}")]
    Trace {
        path: PathBuf,
        /// What is wrong.
        source: TraceError,
    },
    /// A file that a setting names cannot be read.
    #[error("{field} {path}: {source}")]
    File {
        /// Name of the setting.
        field: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A setting has a value that is not allowed.
    #[error("{0}")]
    Value(String),
}

impl Settings {
    /// Returns the plan and the thresholds. Relative paths are looked up in the working directory, then beside `scenario`.
    ///
    /// # Errors
    /// Names the setting and what would be allowed.
    pub fn plan(&self, scenario: Option<&Path>) -> Result<(Plan, Vec<Threshold>), ScenarioError> {
        let value = |message: String| Err(ScenarioError::Value(message));
        let limits = [
            ("rowsPerRequest", self.rows_per_request as u64, 1..=65_536),
            ("durationMs", self.duration_ms, 1..=7 * DAY_MS),
            ("timeoutMs", self.timeout_ms, 1..=HOUR_MS),
            ("maxInFlight", self.max_in_flight as u64, 1..=1_000_000),
            ("connections", self.connections as u64, 0..=60_000),
            ("objectiveMs", self.objective_ms.unwrap_or(1), 1..=HOUR_MS),
            ("concurrency", self.concurrency.unwrap_or(1) as u64, 1..=60_000),
            ("intervalMs", self.interval_ms, 50..=HOUR_MS),
        ];
        if let Some((name, found, allowed)) =
            limits.iter().find(|(_, found, allowed)| !allowed.contains(found))
        {
            return value(format!("{name} is {found}: it must be {} to {}", allowed.start(), allowed.end()));
        }
        if let Some(objective_ms) = self.objective_ms.filter(|ms| *ms > self.timeout_ms) {
            return value(format!(
                "objectiveMs is {objective_ms}: it must be at most timeoutMs ({}), after which a request is lost",
                self.timeout_ms
            ));
        }
        if self.json_bytes.is_some() && self.body.is_none() {
            return value(
                "jsonBytes is set without body: it is the length of a part of that body".to_owned(),
            );
        }
        if self.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return value(format!(
                "path is {:?}: it must begin with /",
                self.path.as_deref().unwrap_or_default()
            ));
        }
        if self.model.is_empty() {
            return value("model is empty: leave it out for `reference`".to_owned());
        }
        if self.first_id < 1 {
            return value(format!("firstId is {}: ids of clients are above 0 (0 is warm-up)", self.first_id));
        }
        let thresholds: Vec<Threshold> =
            self.thresholds.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        if self.objective_ms.is_none()
            && let Some(threshold) =
                self.thresholds.iter().find(|text| text.trim_start().starts_with("attain"))
        {
            return value(format!(
                "threshold `{threshold}` needs an objective: set objectiveMs (--objective-ms)"
            ));
        }
        let plan = Plan {
            name: self.name.clone(),
            address: target::resolve(&self.target, self.allow_remote)?,
            payload: self.payload(scenario)?,
            load: self.load(scenario)?,
            timeout: Duration::from_millis(self.timeout_ms),
            objective: self.objective_ms.map(Duration::from_millis),
            connections: self.connections.max(self.concurrency.unwrap_or(0)),
            max_in_flight: self.max_in_flight.max(self.concurrency.unwrap_or(0)),
            interval: Duration::from_millis(self.interval_ms),
            seed: self.seed,
        };
        Ok((plan, thresholds))
    }

    fn payload(&self, scenario: Option<&Path>) -> Result<Payload, ScenarioError> {
        if let Some(path) = &self.body {
            return Ok(Payload::Body {
                path: self.path.clone().unwrap_or_else(|| format!("/v2/models/{}/infer", self.model)),
                body: read("body", path, scenario)?.into(),
                content_type: self.content_type.clone(),
                json_bytes: self.json_bytes,
            });
        }
        if self.path.is_some() {
            return Err(ScenarioError::Value(
                "path is set without body: only a body of yours has a path".into(),
            ));
        }
        let mix: Mix = self.protocol.parse()?;
        let verify = self.verify == Verify::Reference;
        let rows = self.rows_per_request;
        Ok(Payload::Reference { model: self.model.clone(), mix, rows, verify, first_id: self.first_id })
    }

    fn load(&self, scenario: Option<&Path>) -> Result<Load, ScenarioError> {
        let duration_s = self.duration_ms as f64 / 1e3;
        let flat = self.rate_rps.map(|rate_rps| vec![Segment::flat(rate_rps, duration_s)]);
        let steps = self.steps.as_deref().map(parse_steps).transpose()?;
        let ramp = self.ramp.as_deref().map(|text| parse_ramp(text, duration_s)).transpose()?;
        let trace = self.trace.as_deref().map(|path| self.read_trace(path, scenario)).transpose()?;
        let mut curves: Vec<RateCurve> = trace.into_iter().collect();
        for segments in [flat, steps, ramp].into_iter().flatten() {
            curves.push(RateCurve::new(segments)?);
        }
        match (curves.pop(), curves.is_empty(), self.concurrency) {
            (None, _, Some(concurrency)) => {
                Ok(Load::Closed { concurrency, duration: Duration::from_millis(self.duration_ms) })
            }
            (Some(rate), true, None) => Ok(Load::Open { rate, spacing: self.arrivals }),
            (None, _, None) => Err(ScenarioError::Value(
                "no load: set one of rateRps, steps, ramp, trace (open loop) or concurrency (closed loop)"
                    .into(),
            )),
            _ => Err(ScenarioError::Value(
                "more than one load: set only one of rateRps, steps, ramp, trace and concurrency".into(),
            )),
        }
    }

    fn read_trace(&self, path: &Path, scenario: Option<&Path>) -> Result<RateCurve, ScenarioError> {
        for (name, scale) in
            [("traceTimeScale", self.trace_time_scale), ("traceRateScale", self.trace_rate_scale)]
        {
            if !(scale.is_finite() && scale > 0.0) {
                return Err(ScenarioError::Value(format!("{name} is {scale}: it must be above 0")));
            }
        }
        let text = String::from_utf8_lossy(&read("trace", path, scenario)?).into_owned();
        parse_trace(&text, self.trace_time_scale, self.trace_rate_scale)
            .map_err(|source| ScenarioError::Trace { path: path.to_owned(), source })
    }
}

fn read(field: &'static str, path: &Path, scenario: Option<&Path>) -> Result<Vec<u8>, ScenarioError> {
    let beside = scenario.and_then(Path::parent).map(|folder| folder.join(path));
    let found = beside.filter(|beside| !path.exists() && beside.exists()).unwrap_or_else(|| path.to_owned());
    std::fs::read(&found).map_err(|source| ScenarioError::File { field, path: found, source })
}

fn parse_steps(text: &str) -> Result<Vec<Segment>, ScenarioError> {
    let step = |part: &str| {
        let (rate_rps, duration_ms) = part.split_once(':')?;
        Some(Segment::flat(rate_rps.trim().parse().ok()?, duration_ms.trim().parse::<f64>().ok()? / 1e3))
    };
    let segments = text.split(',').map(step).collect::<Option<Vec<_>>>();
    segments.ok_or_else(|| {
        ScenarioError::Value(format!("steps `{text}`: expected RPS:MS,RPS:MS,… such as 100:10000,400:5000"))
    })
}

fn parse_ramp(text: &str, duration_s: f64) -> Result<Vec<Segment>, ScenarioError> {
    let ends = text
        .split_once(':')
        .and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
    let (from_rps, to_rps) =
        ends.ok_or_else(|| ScenarioError::Value(format!("ramp `{text}`: expected RPS:RPS such as 0:500")))?;
    Ok(vec![Segment { duration_s, from_rps, to_rps }])
}
