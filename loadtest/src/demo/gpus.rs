//! Simulated GPUs of the node: a driver root with the simulated NVML library in the place of the real one.

use std::path::Path;

use anyhow::anyhow;
use nvidia_ml::Topology;
use nvidia_ml::installation::{Installation, install_library};
use nvidia_ml::topology::{Gpu, UuidMode};

/// File name of the simulated library among the built programs.
const LIBRARY: &str = "libnvidia_ml.so";

/// Creates `driver_root` with GPUs of these models, in MIG mode.
///
/// # Errors
/// When a model is not known or the library was not built.
pub(crate) fn install(bin_dir: &Path, driver_root: &Path, models: &[String]) -> anyhow::Result<()> {
    let gpu = |model: &String| Gpu {
        model: model.clone(),
        uuid: None,
        minor: None,
        bus_id: None,
        mig_enabled: true,
        serial: None,
    };
    let topology = Topology {
        driver_version: "580.95.05".to_owned(),
        cuda_driver_version: 13_000,
        gpus: models.iter().map(gpu).collect(),
        latency_ms: Default::default(),
        uuid_mode: UuidMode::Deterministic,
    };
    install_library(&bin_dir.join(LIBRARY), driver_root, &topology)
        .map(|_| ())
        .map_err(|error| anyhow!("simulated GPUs: {error}"))
}

/// Returns the number of MIG instances on the GPUs of `driver_root`.
///
/// # Errors
/// When the simulator's state cannot be read.
pub(crate) fn instances(driver_root: &Path) -> anyhow::Result<u64> {
    Installation::open(driver_root)
        .and_then(|installation| installation.instances())
        .map(|instances| instances.len() as u64)
        .map_err(|error| anyhow!("simulated GPUs: {error}"))
}
