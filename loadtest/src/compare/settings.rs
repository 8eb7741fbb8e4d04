//! Settings of `sluice-loadtest compare`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use sluice_process::settings::{self, SettingsError};

use super::peer::Peer;
use super::scenario::Scenario;

/// Settings, from file, environment and flags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Where sluice-loadtest and sluice-batcher are; beside this program unless set.
    pub bin_dir: Option<PathBuf>,
    /// Who is compared.
    pub peers: Vec<Peer>,
    /// What is measured.
    pub scenarios: Vec<Scenario>,
    /// Rounds; each measures every peer under every load.
    pub rounds: usize,
    /// Length of one measurement.
    pub duration_ms: u64,
    /// Python of the peers that are written in it: 3.11 for all of them to install.
    pub python: Option<PathBuf>,
    /// Where the peers' environments are kept; `sluice/compare` in the user's cache unless set.
    pub cache_dir: Option<PathBuf>,
    /// A missed goal or a peer that could not be measured is a failure.
    pub strict: bool,
    /// Result as JSON.
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
    /// The folder of the two programs.
    ///
    /// # Errors
    /// The system does not say where this program is.
    pub fn bin_dir(&self) -> std::io::Result<PathBuf> {
        if let Some(bin_dir) = &self.bin_dir {
            return Ok(bin_dir.clone());
        }
        let own = std::env::current_exe()?;
        Ok(own.parent().map(PathBuf::from).unwrap_or_default())
    }

    /// The folder of the peers' environments.
    ///
    /// # Errors
    /// Neither HOME nor `XDG_CACHE_HOME` says where a cache may be.
    pub fn cache_dir(&self) -> Result<PathBuf, SettingsError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        self.cache_dir.clone().or_else(|| Some(cache()?.join("sluice/compare"))).ok_or_else(|| {
            SettingsError::Flags("set HOME, XDG_CACHE_HOME or cacheDir: other programs are kept there".into())
        })
    }

    /// The Python that environments are made of.
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
    /// Who is compared [default: all]
    #[arg(
        long,
        value_enum,
        value_name = "NAME,…",
        value_delimiter = ',',
        env = "SLUICE_LOADTEST_COMPARE_PEERS"
    )]
    pub peers: Option<Vec<Peer>>,
    /// What is measured [default: all]
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
    /// The settings that these flags, the environment and the file make together.
    ///
    /// # Errors
    /// Names the field, its place and the nearest valid name, or the value that cannot be.
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
