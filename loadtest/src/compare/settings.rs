//! Settings of `sluice-loadtest compare`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use sluice_process::settings::{self, SettingsError};

use super::peer::Peer;
use super::scenario::Scenario;

/// Settings of a comparison, from file, environment and flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of sluice-loadtest and sluice-batcher; `None`: that of this program.
    pub bin_dir: Option<PathBuf>,
    /// Peers to compare.
    pub peers: Vec<Peer>,
    /// Scenarios to measure.
    pub scenarios: Vec<Scenario>,
    /// Number of rounds, at least 1; each measures every peer under every load.
    pub rounds: usize,
    /// Length of one measurement, milliseconds.
    pub duration_ms: u64,
    /// Python of the peers that are written in it; with 3.11 all of them can be installed. `None`: `/usr/bin/python3`
    /// where it exists, else `python3`.
    pub python: Option<PathBuf>,
    /// Folder of the peers' environments; `None`: `sluice/compare` in the user's cache.
    pub cache_dir: Option<PathBuf>,
    /// Whether a missed goal, or a peer that could not be measured, makes the program fail.
    pub strict: bool,
    /// File to which the result is written as JSON.
    pub json: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bin_dir: None,
            peers: Peer::ALL.to_vec(),
            scenarios: Scenario::ALL.to_vec(),
            rounds: 3,
            duration_ms: 4000,
            python: None,
            cache_dir: None,
            strict: false,
            json: None,
        }
    }
}

impl Settings {
    /// Returns the folder of sluice-loadtest and sluice-batcher.
    ///
    /// # Errors
    /// When the system does not report the path of this program.
    pub fn bin_dir(&self) -> std::io::Result<PathBuf> {
        if let Some(bin_dir) = &self.bin_dir {
            return Ok(bin_dir.clone());
        }
        let own = std::env::current_exe()?;
        Ok(own.parent().map(PathBuf::from).unwrap_or_default())
    }

    /// Returns the folder of the peers' environments.
    ///
    /// # Errors
    /// When the setting, HOME and `XDG_CACHE_HOME` are all missing.
    pub fn cache_dir(&self) -> Result<PathBuf, SettingsError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        self.cache_dir.clone().or_else(|| Some(cache()?.join("sluice/compare"))).ok_or_else(|| {
            SettingsError::Flags("set HOME, XDG_CACHE_HOME or cacheDir: other programs are kept there".into())
        })
    }

    /// Returns the Python with which the peers' environments are created.
    pub fn python(&self) -> PathBuf {
        let debian = PathBuf::from("/usr/bin/python3");
        // Triton's Python backend needs the distribution's own.
        self.python.clone().unwrap_or_else(|| if debian.exists() { debian } else { "python3".into() })
    }
}

/// Flags of `sluice-loadtest compare`; each sets the setting of its name.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// Settings file (YAML); flags and environment win over it
    #[arg(long, value_name = "FILE", env = "SLUICE_LOADTEST_COMPARE_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Folder of sluice-loadtest and sluice-batcher [default: that of this program]
    #[arg(long, value_name = "DIR", env = "SLUICE_LOADTEST_COMPARE_BIN_DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Peers to compare [default: all]
    #[arg(
        long,
        value_enum,
        value_name = "NAME,…",
        value_delimiter = ',',
        env = "SLUICE_LOADTEST_COMPARE_PEERS"
    )]
    pub peers: Option<Vec<Peer>>,
    /// Scenarios to measure [default: all]
    #[arg(
        long,
        value_enum,
        value_name = "NAME,…",
        value_delimiter = ',',
        env = "SLUICE_LOADTEST_COMPARE_SCENARIOS"
    )]
    pub scenarios: Option<Vec<Scenario>>,
    /// Rounds; each measures every peer under every load [default: 3]
    #[arg(long, value_name = "N", env = "SLUICE_LOADTEST_COMPARE_ROUNDS")]
    pub rounds: Option<usize>,
    /// Length of one measurement [default: 4000]
    #[arg(long, value_name = "MS", env = "SLUICE_LOADTEST_COMPARE_DURATION_MS")]
    pub duration_ms: Option<u64>,
    /// Python of the other servers [default: /usr/bin/python3]
    #[arg(long, value_name = "PROGRAM", env = "SLUICE_LOADTEST_COMPARE_PYTHON")]
    pub python: Option<PathBuf>,
    /// Where the other servers are installed [default: sluice/compare in the user's cache]
    #[arg(long, value_name = "DIR", env = "SLUICE_LOADTEST_COMPARE_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Exit code 1 where a goal is missed or a peer could not be measured
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub strict: Option<bool>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Flags {
    /// Returns the settings from file, environment and these flags together.
    ///
    /// # Errors
    /// Names the field, its position in the file and the nearest valid name, or the value that is out of range.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let settings: Settings = settings::load(self.config.as_deref(), self)?;
        for (name, value) in [("rounds", settings.rounds as u64), ("durationMs", settings.duration_ms)] {
            if value == 0 {
                return Err(SettingsError::Flags(format!("{name} is 0: it must be 1 or more")));
            }
        }
        for (name, value, most) in
            [("rounds", settings.rounds as u64, 1000), ("durationMs", settings.duration_ms, 3_600_000)]
        {
            if value > most {
                return Err(SettingsError::Flags(format!("{name} is {value}: it must be at most {most}")));
            }
        }
        if settings.peers.is_empty() || settings.scenarios.is_empty() {
            return Err(SettingsError::Flags("peers or scenarios is empty: leave it out for all".into()));
        }
        Ok(settings)
    }
}
