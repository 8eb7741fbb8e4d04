//! Measures the time of a deployment's replicas from being asked for until they take traffic.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_process::atomic_file::write_atomic;

/// Weight of the newest measurement.
const WEIGHT: f64 = 0.3;

/// Smoothed start-up time that survives restarts.
#[derive(Debug)]
pub(super) struct Startup {
    path: PathBuf,
    smoothed_ms: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    startup_ms: f64,
}

impl Startup {
    /// Loads the earlier measurement from `<state_dir>/startup/<namespace>.<name>.json`.
    pub(super) fn load(state_dir: &Path, namespace: &str, name: &str) -> Self {
        let path = state_dir.join("startup").join(format!("{namespace}.{name}.json"));
        let file = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<File>(&bytes).ok());
        let smoothed_ms = file.map(|file| file.startup_ms).filter(|ms| ms.is_finite() && *ms >= 0.0);
        Self { path, smoothed_ms }
    }

    /// Adds the time of one replica, milliseconds, and writes the file. The measurement counts even if that fails.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a start")]
    pub(super) fn measured(&mut self, ms: u64) -> io::Result<()> {
        let ms = ms as f64;
        let smoothed = self.smoothed_ms.map_or(ms, |before| before + WEIGHT * (ms - before));
        self.smoothed_ms = Some(smoothed);
        write_atomic(&self.path, &serde_json::to_vec(&File { startup_ms: smoothed })?)
    }

    /// Returns the smoothed time, milliseconds; `None` before the first measurement.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked or measured, so >= 0"
    )]
    pub(super) fn smoothed_ms(&self) -> Option<u64> {
        self.smoothed_ms.map(|ms| ms.round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_smoothed_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut startup = Startup::load(dir.path(), "default", "bert");
        assert_eq!(startup.smoothed_ms(), None);
        startup.measured(1000).unwrap();
        startup.measured(2000).unwrap();
        assert_eq!(startup.smoothed_ms(), Some(1300));
        assert_eq!(Startup::load(dir.path(), "default", "bert").smoothed_ms(), Some(1300));
    }
}
