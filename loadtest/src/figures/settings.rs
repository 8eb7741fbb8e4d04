//! Settings of `sluice-loadtest figures`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use sluice_config::settings::{self, SettingsError};

use super::children::ChildError;

/// Settings, from file, environment and flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Where sluice-loadtest and sluice-batcher are; beside this program unless set.
    pub bin_dir: Option<PathBuf>,
    /// Rounds; each measures every side under every concurrency.
    pub rounds: usize,
    /// Length of one measurement.
    pub duration_ms: u64,
    /// Clients of the closed loops.
    pub concurrency: Vec<usize>,
    /// Protocol or mix of the requests.
    pub protocol: String,
    /// Fixed cost of a batch of the reference model.
    pub alpha_ms: f64,
    /// Cost per row of the reference model.
    pub beta_ms: f64,
    /// Most rows of a batch.
    pub max_batch_rows: usize,
    /// The batcher's objective.
    pub objective_ms: u64,
    /// Summary as JSON.
    pub json: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bin_dir: None,
            rounds: 3,
            duration_ms: 4000,
            concurrency: vec![1, 64],
            protocol: "rest-json".into(),
            alpha_ms: 2.0,
            beta_ms: 0.1,
            max_batch_rows: 64,
            objective_ms: 1000,
            json: None,
        }
    }
}

impl Settings {
    /// The folder of the two programs.
    pub(super) fn bin_dir(&self) -> Result<PathBuf, ChildError> {
        if let Some(bin_dir) = &self.bin_dir {
            return Ok(bin_dir.clone());
        }
        let own = std::env::current_exe()?;
        Ok(own.parent().map(PathBuf::from).unwrap_or_default())
    }
}

/// Flags of `sluice-loadtest figures`; each sets the setting of its name.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// Settings file (YAML); flags and environment win over it
    #[arg(long, value_name = "FILE", env = "SLUICE_LOADTEST_FIGURES_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Folder of sluice-loadtest and sluice-batcher [default: that of this program]
    #[arg(long, value_name = "DIR", env = "SLUICE_LOADTEST_FIGURES_BIN_DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Rounds; each measures every side under every concurrency [default: 3]
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_FIGURES_ROUNDS")]
    pub rounds: Option<usize>,
    /// Length of one measurement [default: 4000]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_FIGURES_DURATION_MS")]
    pub duration_ms: Option<u64>,
    /// Clients of the closed loops [default: 1,64]
    #[arg(long, value_name = "N,…", value_delimiter = ',', env = "SLUICE_LOADTEST_FIGURES_CONCURRENCY")]
    pub concurrency: Option<Vec<usize>>,
    /// Protocol or mix of the requests [default: rest-json]
    #[arg(long, value_name = "MIX", env = "SLUICE_LOADTEST_FIGURES_PROTOCOL")]
    pub protocol: Option<String>,
    /// Fixed cost of a batch [default: 2]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_FIGURES_ALPHA_MS")]
    pub alpha_ms: Option<f64>,
    /// Cost per row [default: 0.1]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_FIGURES_BETA_MS")]
    pub beta_ms: Option<f64>,
    /// Most rows of a batch [default: 64]
    #[arg(long, value_name = "ROWS", env = "SLUICE_LOADTEST_FIGURES_MAX_BATCH_ROWS")]
    pub max_batch_rows: Option<usize>,
    /// The batcher's objective [default: 1000]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_FIGURES_OBJECTIVE_MS")]
    pub objective_ms: Option<u64>,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Flags {
    /// The settings that these flags, the environment and the file make together.
    ///
    /// # Errors
    /// Names the field, its place and the nearest valid name, or the value that cannot be.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let settings: Settings = settings::load(self.config.as_deref(), self)?;
        let counts = [("rounds", settings.rounds), ("durationMs", settings.duration_ms as usize)];
        for (name, value) in
            counts.into_iter().chain(settings.concurrency.iter().map(|n| ("concurrency", *n)))
        {
            if value == 0 {
                return Err(SettingsError::Flags(format!("{name} is 0: it must be 1 or more")));
            }
        }
        Ok(settings)
    }
}
