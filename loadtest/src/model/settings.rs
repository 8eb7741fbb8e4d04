//! Settings of the reference model server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use sluice_process::logging::LogFormat;
use sluice_process::settings::{self, SettingsError};

use super::curve::Curve;
use super::generation::GenerationProfile;

/// Settings of `sluice-loadtest model`, from file, environment and flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Address for REST and gRPC; port 0 takes a free one and logs it.
    pub listen: String,
    /// Address of /metrics, /livez, /readyz and /control.
    pub admin_listen: String,
    /// Name of the model.
    pub name: String,
    /// Fixed cost of a batch on the reference slice, in milliseconds.
    pub alpha_ms: f64,
    /// Cost per row on the reference slice, in milliseconds.
    pub beta_ms: f64,
    /// Calls with more rows are answered with 400.
    pub max_batch_rows: usize,
    /// Compute slices of the slice for which `alphaMs` and `betaMs` hold.
    pub reference_compute_slices: u32,
    /// Simulated load time: not ready before it.
    pub load_ms: u64,
    /// Added once per batch size, in milliseconds.
    pub first_call_ms: f64,
    /// Each service time is spread evenly by ± this many per cent.
    pub jitter_pct: f64,
    /// Seed of the jitter.
    pub seed: u64,
    /// File to which each call is appended.
    pub journal: Option<PathBuf>,
    /// A call with this id is answered with 400.
    pub poison_id: Option<i64>,
    /// Completions (simulated generation): time to the first token.
    pub stream_first_token_ms: u64,
    /// Completions: time of each token after it.
    pub stream_token_ms: u64,
    /// Completions: tokens of an answer, where the request asks for no fewer.
    pub stream_tokens: usize,
    /// Completions: answers at a time; more wait inside, so that throughput grows no further.
    pub stream_concurrency: usize,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Filter of the log.
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9000".into(),
            admin_listen: "127.0.0.1:9090".into(),
            name: "reference".into(),
            alpha_ms: 2.0,
            beta_ms: 0.1,
            max_batch_rows: 64,
            reference_compute_slices: 7,
            load_ms: 0,
            first_call_ms: 0.0,
            jitter_pct: 0.0,
            seed: 1,
            journal: None,
            poison_id: None,
            stream_first_token_ms: 50,
            stream_token_ms: 10,
            stream_tokens: 32,
            stream_concurrency: 16,
            log_format: LogFormat::Text,
            log_level: "info".into(),
        }
    }
}

impl Settings {
    /// The service curve on the reference slice.
    pub fn curve(&self) -> Curve {
        Curve { alpha_ms: self.alpha_ms, beta_ms: self.beta_ms }
    }

    /// How text is generated.
    pub fn pace(&self) -> GenerationProfile {
        GenerationProfile {
            first_token: Duration::from_millis(self.stream_first_token_ms),
            token: Duration::from_millis(self.stream_token_ms),
            tokens: self.stream_tokens,
            concurrency: self.stream_concurrency,
        }
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(self) -> Result<Self, SettingsError> {
        let refuse = |message: String| Err(SettingsError::Flags(message));
        if let Err(error) = self.curve().check() {
            return refuse(error.to_string());
        }
        if !(self.first_call_ms.is_finite() && self.first_call_ms >= 0.0) {
            return refuse(format!("firstCallMs is {}: it must be 0 or more", self.first_call_ms));
        }
        if !(0.0..=100.0).contains(&self.jitter_pct) {
            return refuse(format!("jitterPct is {}: it must be between 0 and 100", self.jitter_pct));
        }
        if self.max_batch_rows == 0 || self.reference_compute_slices == 0 {
            return refuse("maxBatchRows and referenceComputeSlices must be 1 or more".into());
        }
        if self.stream_tokens == 0 || !(1..=65_536).contains(&self.stream_concurrency) {
            return refuse(format!(
                "streamTokens is {}, streamConcurrency {}: they must be 1 or more, and concurrency at most 65536",
                self.stream_tokens, self.stream_concurrency
            ));
        }
        if self.name.is_empty() || self.name.contains('/') {
            return refuse(format!("name is {:?}: it must be one segment of a URL path", self.name));
        }
        Ok(self)
    }
}

/// Flags of `sluice-loadtest model`; each sets the setting of its name.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// Settings file (YAML); flags and environment win over it
    #[arg(long, value_name = "FILE", env = "SLUICE_LOADTEST_MODEL_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address for REST and gRPC; port 0 takes a free one [default: 127.0.0.1:9000]
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_LOADTEST_MODEL_LISTEN")]
    pub listen: Option<String>,
    /// Address of /metrics, /livez, /readyz, /control [default: 127.0.0.1:9090]
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_LOADTEST_MODEL_ADMIN_LISTEN")]
    pub admin_listen: Option<String>,
    /// Name of the model [default: reference]
    #[arg(long, env = "SLUICE_LOADTEST_MODEL_NAME")]
    pub name: Option<String>,
    /// Fixed cost of a batch on the reference slice [default: 2]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_MODEL_ALPHA_MS")]
    pub alpha_ms: Option<f64>,
    /// Cost per row on the reference slice [default: 0.1]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_MODEL_BETA_MS")]
    pub beta_ms: Option<f64>,
    /// Calls with more rows are answered with 400 [default: 64]
    #[arg(long, value_name = "ROWS", env = "SLUICE_LOADTEST_MODEL_MAX_BATCH_ROWS")]
    pub max_batch_rows: Option<usize>,
    /// Compute slices for which alpha and beta hold [default: 7]
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_MODEL_REFERENCE_COMPUTE_SLICES")]
    pub reference_compute_slices: Option<u32>,
    /// Simulated load time; not ready before it [default: 0]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_MODEL_LOAD_MS")]
    pub load_ms: Option<u64>,
    /// Added to the first call of each batch size [default: 0]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_MODEL_FIRST_CALL_MS")]
    pub first_call_ms: Option<f64>,
    /// Spread of each service time, ± per cent [default: 0]
    #[arg(long, value_name = "PCT", env = "SLUICE_LOADTEST_MODEL_JITTER_PCT")]
    pub jitter_pct: Option<f64>,
    /// Seed of the jitter [default: 1]
    #[arg(long, env = "SLUICE_LOADTEST_MODEL_SEED")]
    pub seed: Option<u64>,
    /// Append a JSON line per call to this file
    #[arg(long, value_name = "FILE", env = "SLUICE_LOADTEST_MODEL_JOURNAL")]
    pub journal: Option<PathBuf>,
    /// Answer 400 to any call that has a row with this id
    #[arg(long, value_name = "ID", env = "SLUICE_LOADTEST_MODEL_POISON_ID")]
    pub poison_id: Option<i64>,
    /// Completions: time to the first token [default: 50]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_MODEL_STREAM_FIRST_TOKEN_MS")]
    pub stream_first_token_ms: Option<u64>,
    /// Completions: time of each token after the first [default: 10]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_MODEL_STREAM_TOKEN_MS")]
    pub stream_token_ms: Option<u64>,
    /// Completions: tokens of an answer [default: 32]
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_MODEL_STREAM_TOKENS")]
    pub stream_tokens: Option<usize>,
    /// Completions: answers at a time; more wait inside [default: 16]
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_MODEL_STREAM_CONCURRENCY")]
    pub stream_concurrency: Option<usize>,
    /// Form of the log [default: text]
    #[arg(long, value_enum, env = "SLUICE_LOADTEST_MODEL_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Filter of the log [default: info]
    #[arg(long, env = "SLUICE_LOADTEST_MODEL_LOG_LEVEL")]
    pub log_level: Option<String>,
}

impl Flags {
    /// The settings that these flags, the environment and the file make together.
    ///
    /// # Errors
    /// Names the field, its place and what would be allowed.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        settings::load::<Settings>(self.config.as_deref(), self)?.check()
    }
}
