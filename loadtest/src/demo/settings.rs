//! Settings of the demo: the trace, the objective, the simulated node and model, and the windows that are
//! compressed together with the trace's time.

use anyhow::bail;
use serde::{Deserialize, Serialize};
use sluice_config::api::Behavior;
use sluice_config::api::inference_autoscaler::Objective;

/// Default settings of the demo: `loadtest/scenarios/demo.yaml`.
pub(crate) const DEFAULT: &str = include_str!("../../scenarios/demo.yaml");

/// Name and text of the only trace that ships with the demo; its first lines name source and licence.
pub(crate) const TRACE: (&str, &str) =
    ("servegen-m-mid-71-day01", include_str!("../../traces/servegen-m-mid-71-day01.csv"));

/// Settings of the demo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DemoSettings {
    /// Name of the trace; only [`TRACE`] is known.
    pub trace: String,
    /// Time in which the whole trace is replayed, seconds.
    pub duration_seconds: u32,
    /// Requests per second at the trace's peak.
    pub peak_rps: f64,
    /// Shares of the protocols, such as `rest-json=1,grpc=1`.
    pub protocols: String,
    /// Seed of the arrivals; all arms get the same schedule.
    pub seed: u64,
    /// Objective of the autoscaler and the gateway.
    pub objective: Objective,
    /// Models of the node's simulated GPUs.
    pub gpus: Vec<String>,
    /// Device class that each replica claims.
    pub device_class_name: String,
    /// Settings of the reference model (simulated inference).
    pub model: ModelSettings,
    /// Fewest replicas of the autoscaled arm.
    pub min_replicas: u32,
    /// Most replicas of the autoscaled arm.
    pub max_replicas: u32,
    /// Start-up time that the autoscaler assumes before it has measured one, seconds.
    pub expected_startup_seconds: u32,
    /// Compressed windows of sluice-autoscaler's own settings, passed on as its settings file.
    pub autoscaler: serde_json::Map<String, serde_json::Value>,
    /// Compressed windows and rate policies of the InferenceAutoscaler.
    pub behavior: Behavior,
    /// Fewest fixed replicas that meet the objective on this trace.
    pub static_peak: u32,
    /// Fixed replicas that the mean rate suggests, which are too few.
    pub static_mean: u32,
}

/// Service curve and start-up of the reference model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ModelSettings {
    /// Fixed time of a batch, milliseconds.
    pub alpha_ms: f64,
    /// Time per row, milliseconds.
    pub beta_ms: f64,
    /// Number of compute slices of the MIG slice on which the two times hold.
    pub reference_compute_slices: u32,
    /// Most rows of one batch.
    pub max_batch_rows: u32,
    /// Time to load the model before it is ready, milliseconds.
    pub load_ms: u32,
    /// Additional time of the first call of each batch size, milliseconds.
    pub first_call_ms: u32,
}

impl DemoSettings {
    /// Checks the values beyond their types.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        if self.trace != TRACE.0 {
            bail!("trace is {:?}, but only {:?} ships with the demo", self.trace, TRACE.0);
        }
        if !(10..=3600).contains(&self.duration_seconds) {
            bail!("durationSeconds is {}, but must be 10 to 3600", self.duration_seconds);
        }
        if !(self.peak_rps > 0.0 && self.peak_rps <= 5000.0) {
            bail!("peakRps is {}, but must be above 0 and at most 5000", self.peak_rps);
        }
        self.objective.validate().map_err(anyhow::Error::msg)?;
        if !(1..=self.max_replicas).contains(&self.min_replicas) {
            bail!(
                "minReplicas is {}, but must be 1 to maxReplicas ({})",
                self.min_replicas,
                self.max_replicas
            );
        }
        for (name, replicas) in [("staticPeak", self.static_peak), ("staticMean", self.static_mean)] {
            if replicas == 0 {
                bail!("{name} is 0, but the arm with fixed replicas needs at least 1");
            }
        }
        if self.gpus.is_empty() {
            bail!("gpus is empty, but the node needs at least one simulated GPU");
        }
        Ok(())
    }

    /// Returns the factor by which the trace runs faster than it was recorded.
    pub(crate) fn compression(&self) -> f64 {
        86_400.0 / f64::from(self.duration_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_ship_are_valid() {
        let settings: DemoSettings = serde_saphyr::from_str(DEFAULT).unwrap();
        settings.validate().unwrap();
        assert!(settings.static_mean < settings.static_peak);
        assert!(settings.static_peak <= settings.max_replicas);
    }
}
