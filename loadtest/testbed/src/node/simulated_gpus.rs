//! Simulated GPUs in a node's driver root. Programs that look for a GPU driver there find them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nvidia_ml::Topology;
use nvidia_ml::installation::{Installation, built_library, install_library};

use crate::host::mounts::LIBRARY_DIR;
use crate::workdir::Workdir;

/// File name of the simulated library among built programs.
const BUILT_LIBRARY: &str = "libnvidia_ml.so";

/// Writes the driver root with `count` GPUs of `model`, MIG mode on.
///
/// # Errors
/// When the model is unknown, or the library was not built.
pub(crate) fn install(workdir: &Workdir, bin_dir: &Path, model: &str, count: usize) -> Result<()> {
    let beside = bin_dir.join(BUILT_LIBRARY);
    let library = if beside.exists() { beside } else { built_library()? };
    let topology = Topology::uniform(model, count).with_mig();
    install_library(&library, &library_dir(workdir), &topology).context("simulated GPUs")?;
    Ok(())
}

/// Opens the simulated GPUs of a cluster: their instances, faults and events.
///
/// # Errors
/// When there are none.
pub(crate) fn open(workdir: &Workdir) -> Result<Installation> {
    Ok(Installation::open(&library_dir(workdir))?)
}

fn library_dir(workdir: &Workdir) -> PathBuf {
    workdir.driver_root().join(LIBRARY_DIR)
}
