//! Flags and environment of `sluice-loadtest run`; both name the same settings as a scenario file.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sluice_process::settings::{self, SettingsError};

use super::settings::{Settings, Verify};
use crate::arrivals::Spacing;

/// Flags of `sluice-loadtest run`; each sets the setting of its name.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// Scenario file (YAML); flags and environment win over it
    #[arg(long, visible_alias = "scenario", value_name = "FILE", env = "SLUICE_LOADTEST_RUN_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Name of the scenario in reports [default: run]
    #[arg(long)]
    pub name: Option<String>,
    /// Where to send [default: 127.0.0.1:8000]
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_LOADTEST_RUN_TARGET")]
    pub target: Option<String>,
    /// Allow a target that is not this machine
    #[arg(long, num_args = 0..=1, default_missing_value = "true", env = "SLUICE_LOADTEST_RUN_ALLOW_REMOTE")]
    pub allow_remote: Option<bool>,
    /// Name of the model [default: reference]
    #[arg(long, env = "SLUICE_LOADTEST_RUN_MODEL")]
    pub model: Option<String>,
    /// rest-json, rest-binary, grpc, or a mix such as rest-json=50,grpc=50 [default: rest-json]
    #[arg(long, value_name = "MIX", env = "SLUICE_LOADTEST_RUN_PROTOCOL")]
    pub protocol: Option<String>,
    /// Rows per request [default: 1]
    #[arg(long, value_name = "ROWS", env = "SLUICE_LOADTEST_RUN_ROWS_PER_REQUEST")]
    pub rows_per_request: Option<usize>,
    /// Check answers row by row, or by status alone [default: reference]
    #[arg(long, value_enum, env = "SLUICE_LOADTEST_RUN_VERIFY")]
    pub verify: Option<Verify>,
    /// Id of the first row; ids grow by one over the run [default: 1]
    #[arg(long, value_name = "ID", env = "SLUICE_LOADTEST_RUN_FIRST_ID")]
    pub first_id: Option<i64>,
    /// Post this file as it is, to drive any model
    #[arg(long, value_name = "FILE", env = "SLUICE_LOADTEST_RUN_BODY")]
    pub body: Option<PathBuf>,
    /// Where --body is posted to [default: /v2/models/MODEL/infer]
    #[arg(long, env = "SLUICE_LOADTEST_RUN_PATH")]
    pub path: Option<String>,
    /// Content type of --body [default: application/json]
    #[arg(long, env = "SLUICE_LOADTEST_RUN_CONTENT_TYPE")]
    pub content_type: Option<String>,
    /// Inference-Header-Content-Length of --body, where binary tensors follow its JSON
    #[arg(long, value_name = "BYTES", env = "SLUICE_LOADTEST_RUN_JSON_BYTES")]
    pub json_bytes: Option<usize>,
    /// How arrivals are spaced [default: poisson]
    #[arg(long, value_enum, env = "SLUICE_LOADTEST_RUN_ARRIVALS")]
    pub arrivals: Option<Spacing>,
    /// Open loop: requests per second
    #[arg(long, value_name = "RPS", env = "SLUICE_LOADTEST_RUN_RATE_RPS")]
    pub rate_rps: Option<f64>,
    /// Open loop: rates one after the other, such as 100:10000,400:5000
    #[arg(long, value_name = "RPS:MS,…", env = "SLUICE_LOADTEST_RUN_STEPS")]
    pub steps: Option<String>,
    /// Open loop: from one rate to another over --duration-ms
    #[arg(long, value_name = "RPS:RPS", env = "SLUICE_LOADTEST_RUN_RAMP")]
    pub ramp: Option<String>,
    /// Open loop: a rate table, CSV `t_s,rate_rps`
    #[arg(long, value_name = "FILE", env = "SLUICE_LOADTEST_RUN_TRACE")]
    pub trace: Option<PathBuf>,
    /// Multiply the trace's times; 0.1 replays ten times faster [default: 1]
    #[arg(long, value_name = "FACTOR", env = "SLUICE_LOADTEST_RUN_TRACE_TIME_SCALE")]
    pub trace_time_scale: Option<f64>,
    /// Multiply the trace's rates [default: 1]
    #[arg(long, value_name = "FACTOR", env = "SLUICE_LOADTEST_RUN_TRACE_RATE_SCALE")]
    pub trace_rate_scale: Option<f64>,
    /// Closed loop: this many clients, each of which waits for its answer
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_RUN_CONCURRENCY")]
    pub concurrency: Option<usize>,
    /// Length of the run, where steps or trace do not say it [default: 10000]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_RUN_DURATION_MS")]
    pub duration_ms: Option<u64>,
    /// A request without an answer by then is lost [default: 10000]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_RUN_TIMEOUT_MS")]
    pub timeout_ms: Option<u64>,
    /// The objective that attainment is counted by
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_RUN_OBJECTIVE_MS")]
    pub objective_ms: Option<u64>,
    /// Connections opened before the first request; more when all are busy [default: 16]
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_RUN_CONNECTIONS")]
    pub connections: Option<usize>,
    /// Most requests in flight; one more makes the run invalid [default: 8192]
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_RUN_MAX_IN_FLIGHT")]
    pub max_in_flight: Option<usize>,
    /// Length of a reporting interval [default: 1000]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_RUN_INTERVAL_MS")]
    pub interval_ms: Option<u64>,
    /// Seed of schedule and mix [default: 1]
    #[arg(long, env = "SLUICE_LOADTEST_RUN_SEED")]
    pub seed: Option<u64>,
    /// Condition on the report, such as p99_ms<200, lost==0, attainment>=0.99; may be repeated
    #[arg(long = "threshold", value_name = "CONDITION")]
    pub thresholds: Option<Vec<String>>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as a page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl Flags {
    /// The settings that these flags, the environment and the scenario file make together.
    ///
    /// # Errors
    /// Names the field, its place and the nearest valid name.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        settings::load(self.config.as_deref(), self)
    }
}
