//! Topology: the simulated GPUs, from `topology.yaml` beside the library. `nvmlInit` reads it strictly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::functions;

mod board;

pub(crate) use board::{Board, PciAddress};

/// Maximum GPUs of a topology. PCI bus numbers are derived from the index; a real machine has at most 16 GPUs.
pub const MAX_GPUS: usize = 32;

/// Content of the file. Field names are camelCase in YAML, and an unknown field is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// Version that `nvmlSystemGetDriverVersion` returns.
    #[serde(default = "default_driver_version")]
    pub driver_version: String,
    /// Version that `nvmlSystemGetCudaDriverVersion` returns: 1000 × major + 10 × minor, such as 13000 for CUDA 13.0.
    #[serde(default = "default_cuda_driver_version")]
    pub cuda_driver_version: u32,
    /// GPUs in order of their index.
    pub gpus: Vec<Gpu>,
    /// Latency added to each call in milliseconds, by function name (`nvmlGpuInstanceDestroy`) or by operation: see
    /// `functions::OPERATIONS`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency_ms: BTreeMap<String, u64>,
    /// How MIG devices get their UUIDs.
    #[serde(default)]
    pub uuid_mode: UuidMode,
}

/// Simulated GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gpu {
    /// Name of the model: see [`Model::all`](crate::geometry::Model::all).
    pub model: String,
    /// `GPU-` and a UUID; derived from model and index if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Number of `/dev/nvidia<minor>`; the index if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// PCI address as NVML writes it (`00000000:07:00.0`); derived from the index if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_id: Option<String>,
    /// Whether MIG mode is on when the GPU is seen first. Afterwards `nvmlDeviceSetMigMode` decides.
    #[serde(default)]
    pub mig_enabled: bool,
    /// Board serial number; derived from the index if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// How MIG devices get their UUIDs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UuidMode {
    /// From GPU UUID, GPU-instance id and compute-instance id, so a slice that is created again has the same UUID, as
    /// on real GPUs.
    #[default]
    Deterministic,
    /// A new one for each creation.
    Random,
}

/// Reason why a topology is refused.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file does not exist or cannot be read.
    #[error("cannot read the topology file {}: {source}; put a topology.yaml beside libnvidia-ml.so.1", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not YAML, or not a topology.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Message of the parser, with line and column.
        reason: String,
    },
    /// A value is not valid.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field, such as `gpus[1].model`.
        field: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

fn default_driver_version() -> String {
    "580.95.05".to_owned()
}

fn default_cuda_driver_version() -> u32 {
    13_000
}

impl Topology {
    /// Creates a topology of `count` GPUs of one model with MIG off and defaults otherwise.
    pub fn uniform(model: &str, count: usize) -> Topology {
        let gpu = Gpu {
            model: model.to_owned(),
            uuid: None,
            minor: None,
            bus_id: None,
            mig_enabled: false,
            serial: None,
        };
        Topology {
            driver_version: default_driver_version(),
            cuda_driver_version: default_cuda_driver_version(),
            gpus: vec![gpu; count],
            latency_ms: BTreeMap::new(),
            uuid_mode: UuidMode::default(),
        }
    }

    /// Turns MIG on for every GPU from the start.
    pub fn with_mig(mut self) -> Topology {
        self.gpus.iter_mut().for_each(|gpu| gpu.mig_enabled = true);
        self
    }

    /// Reads and checks a topology file.
    pub fn read(path: &Path) -> Result<Topology, TopologyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TopologyError::Unreadable { path: path.to_owned(), source })?;
        let malformed = |reason| TopologyError::Malformed { path: path.to_owned(), reason };
        let topology: Topology =
            serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        topology.boards().map_err(|error| malformed(error.to_string()))?;
        Ok(topology)
    }

    /// Returns the latency to add to a call of `function`.
    pub(crate) fn latency_of(&self, function: &str) -> std::time::Duration {
        let milliseconds =
            self.latency_ms.iter().filter(|(key, _)| functions::named_by(key).contains(&function));
        std::time::Duration::from_millis(milliseconds.map(|(_, ms)| *ms).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Topology, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Topology::read(file.path()).map_err(|error| error.to_string())
    }

    fn refused(text: &str, words: &[&str]) {
        let error = read(text).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }

    #[test]
    fn a_short_file_is_enough() {
        let topology =
            read("gpus:\n- model: A100-SXM4-40GB\n- model: A30-24GB\n  migEnabled: true\n").unwrap();
        let boards = topology.boards().unwrap();
        assert_eq!((boards[0].minor, boards[1].minor), (0, 1));
        assert_eq!(boards[0].bus.to_string(), "00000000:07:00.0");
        assert_eq!((boards[0].mig_enabled, boards[1].mig_enabled), (false, true));
        assert_ne!(boards[0].uuid, boards[1].uuid);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        refused("gpus: [{model: A30-24GB, colour: red}]", &["colour", "migEnabled"]);
        refused("gpus: [{model: A31}]", &["gpus[0].model", "A31", "A30-24GB"]);
        refused("gpus: []", &["gpus", "1 to 32"]);
        refused("gpus: [{model: A30-24GB, busId: nine}]", &["gpus[0].busId", "00000000:07:00.0"]);
        refused("gpus: [{model: A30-24GB, uuid: x}]", &["gpus[0].uuid", "GPU-"]);
        refused("gpus: [{model: A30-24GB, minor: 1}, {model: A30-24GB}]", &["gpus[1].minor", "another GPU"]);
        refused(
            "gpus: [{model: A30-24GB}]\nlatencyMs: {gpuInstanceMake: 1}",
            &["gpuInstanceMake", "gpuInstanceCreate"],
        );
        refused("gpus: [{model: A30-24GB}]\nuuidMode: sometimes", &["sometimes", "deterministic"]);
    }

    #[test]
    fn latencies_are_set_by_function_or_by_operation() {
        let topology =
            read("gpus: [{model: A30-24GB}]\nlatencyMs: {gpuInstanceCreate: 100, nvmlShutdown: 5}").unwrap();
        let ms = |function| topology.latency_of(function).as_millis();
        assert_eq!(
            (ms("nvmlDeviceCreateGpuInstance"), ms("nvmlDeviceCreateGpuInstanceWithPlacement")),
            (100, 100)
        );
        assert_eq!((ms("nvmlShutdown"), ms("nvmlGpuInstanceDestroy")), (5, 0));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let topology = Topology::uniform("H100-80GB-HBM3", 2).with_mig();
        assert_eq!(read(&serde_saphyr::to_string(&topology).unwrap()), Ok(topology));
    }
}
