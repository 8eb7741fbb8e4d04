//! Container Device Interface (CDI): the file that describes the devices of a claim to container runtimes.
//!
//! Each claim has one file, `sluice.dev-claim_<uid>.json`, with one CDI device for each device of the claim, named
//! `<uid>-<device>`. A name is never reused, because runtimes cache devices by name.
//!
//! A container may get devices of several claims and requests, and the kubelet does not prepare a prepared claim
//! again. So no variable may list the visible devices: a container would get the last list only. The device nodes
//! decide what is visible, and each device has variables of its own.

pub(crate) mod libraries;
pub(crate) mod nodes;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_config::names::{CDI_KIND, cdi_file_name, env};

use crate::checkpoint::{DeviceRecord, Instance};
pub(crate) use libraries::DriverFiles;
use libraries::Mount;
pub(crate) use nodes::Majors;
use nodes::{CharDevice, device_nodes};

/// CDI version of the files: the oldest that allows names which begin with a digit, as UIDs do. Runtimes refuse
/// versions that they do not know, so it is not higher than needed.
const CDI_VERSION: &str = "0.5.0";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    cdi_version: &'static str,
    kind: &'static str,
    /// Edits for every container that gets any of the devices.
    container_edits: ContainerEdits,
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    container_edits: ContainerEdits,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerEdits {
    env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_nodes: Vec<CharDevice>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount>,
}

/// Returns the qualified CDI name of a device of a claim, which the kubelet passes to the runtime.
pub(crate) fn device_id(claim_uid: &str, device: &str) -> String {
    format!("{CDI_KIND}={}", device_name(claim_uid, device))
}

fn device_name(claim_uid: &str, device: &str) -> String {
    format!("{claim_uid}-{device}")
}

/// MIG instances (ids of GPU instance and compute instance) on the GPUs that a claim monitors, by UUID of the GPU.
pub(crate) type Watched = BTreeMap<String, Vec<(u32, u32)>>;

/// Returns the UUID by which CUDA knows the device; `None` for a slice without an instance.
fn cuda_name(device: &DeviceRecord) -> Option<&str> {
    if let Some(watched) = &device.watches {
        return Some(watched);
    }
    match device.slice.as_ref().map(|slice| &slice.instance) {
        None => Some(&device.gpu_uuid),
        Some(Instance::Standing { compute, .. }) => Some(&compute.uuid),
        Some(Instance::Absent | Instance::Creating { .. }) => None,
    }
}

fn spec(
    claim_uid: &str,
    devices: &[DeviceRecord],
    watched: &Watched,
    majors: Majors,
    mounts: Vec<Mount>,
) -> Spec {
    let entry = |device: &DeviceRecord| {
        let uuid = cuda_name(device).map(|uuid| format!("{}={uuid}", env::uuid(&device.device)));
        let instances =
            device.watches.as_ref().and_then(|gpu| watched.get(gpu)).map_or(&[][..], Vec::as_slice);
        let about = [
            format!("{}={}", env::PROFILE, device.profile),
            format!("{}={}", env::DEVICE, device.device),
            format!("{}={claim_uid}", env::CLAIM_UID),
        ];
        Device {
            name: device_name(claim_uid, &device.device),
            container_edits: ContainerEdits {
                env: uuid.into_iter().chain(about).chain(device.sharing.container_env()).collect(),
                device_nodes: device_nodes(device, instances, majors),
                mounts: Vec::new(),
            },
        }
    };
    // Many images say "all", and NVIDIA's container runtime would then add every GPU of the node.
    let void = format!("{}={}", env::NVIDIA_VISIBLE_DEVICES, env::NVIDIA_VISIBLE_DEVICES_VOID);
    Spec {
        cdi_version: CDI_VERSION,
        kind: CDI_KIND,
        container_edits: ContainerEdits { env: vec![void], device_nodes: Vec::new(), mounts },
        devices: devices.iter().map(entry).collect(),
    }
}

/// Failure to write or remove a CDI file.
#[derive(Debug, thiserror::Error)]
#[error("CDI file {path}: {source}; check --cdi-dir and its free space")]
pub(crate) struct CdiError {
    /// Path of the file.
    pub path: PathBuf,
    /// Error of the file system.
    pub source: io::Error,
}

/// Directory of the CDI files.
#[derive(Debug, Clone)]
pub(crate) struct CdiDir {
    path: PathBuf,
    driver_root: PathBuf,
    majors: Majors,
    /// Files of the NVIDIA driver to mount; `None` if containers bring its libraries themselves.
    libraries: Option<DriverFiles>,
}

impl CdiDir {
    /// Creates the writer of files in `path`, which is created when needed. At each write the major numbers are read
    /// from the kernel, because they change when modules are loaded again; `majors` are used where neither
    /// `driver_root` nor the host lists them. `libraries` are mounted into every container.
    pub(crate) fn new(
        path: impl Into<PathBuf>,
        driver_root: impl Into<PathBuf>,
        majors: Majors,
        libraries: Option<DriverFiles>,
    ) -> Self {
        Self { path: path.into(), driver_root: driver_root.into(), majors, libraries }
    }

    /// Writes the file of a claim unless it exists with the right content. Returns whether it was written.
    ///
    /// # Errors
    /// Fails if the file system does.
    pub(crate) fn write(
        &self,
        claim_uid: &str,
        devices: &[DeviceRecord],
        watched: &Watched,
    ) -> Result<bool, CdiError> {
        let path = self.path.join(cdi_file_name(claim_uid));
        let write = || -> io::Result<bool> {
            let majors = self.majors.of_kernel(&self.driver_root)?;
            let mounts = self.libraries.as_ref().map(DriverFiles::mounts).transpose()?.unwrap_or_default();
            let text = serde_json::to_vec_pretty(&spec(claim_uid, devices, watched, majors, mounts))?;
            if std::fs::read(&path).is_ok_and(|there| there == text) {
                return Ok(false);
            }
            sluice_process::atomic_file::write_atomic(&path, &text).map(|()| true)
        };
        write().map_err(|source| failed(&path, source))
    }

    /// Removes the file of a claim. A missing file is a success.
    ///
    /// # Errors
    /// Fails if the file system does.
    pub(crate) fn remove(&self, claim_uid: &str) -> Result<(), CdiError> {
        let path = self.path.join(cdi_file_name(claim_uid));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> CdiError {
    CdiError { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::SliceRecord;
    use crate::gpus::ComputeInstance;
    use sluice_inventory::Placement;

    fn slice(device: &str, uuid: &str) -> DeviceRecord {
        DeviceRecord {
            requests: vec!["gpu".to_owned()],
            device: device.to_owned(),
            gpu_uuid: "GPU-1".to_owned(),
            gpu_minor: 1,
            watches: None,
            sharing: Default::default(),
            profile: "2g.10gb".to_owned(),
            slice: Some(SliceRecord {
                profile_id: 14,
                placement: Placement { start: 4, size: 2 },
                instance: Instance::Standing {
                    boot_id: "b".to_owned(),
                    gpu_instance: 5,
                    compute: ComputeInstance { id: 0, uuid: uuid.to_owned() },
                },
            }),
        }
    }

    #[test]
    fn a_slice_is_named_to_cuda_and_to_the_runtime() {
        let devices = [slice("gpu-1-mig-2g-10gb-4", "MIG-x")];
        let spec = spec("1234", &devices, &Watched::new(), Majors::default(), Vec::new());
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json["cdiVersion"], "0.5.0");
        assert_eq!(json["kind"], "sluice.dev/claim");
        assert_eq!(json["devices"][0]["name"], "1234-gpu-1-mig-2g-10gb-4");
        assert_eq!(
            json["devices"][0]["containerEdits"]["env"],
            serde_json::json!([
                "SLUICE_UUID_GPU_1_MIG_2G_10GB_4=MIG-x",
                "SLUICE_PROFILE=2g.10gb",
                "SLUICE_DEVICE=gpu-1-mig-2g-10gb-4",
                "SLUICE_CLAIM_UID=1234",
            ])
        );
        assert_eq!(device_id("1234", "gpu-1"), "sluice.dev/claim=1234-gpu-1");
    }

    #[test]
    fn no_variable_of_one_device_has_a_value_that_another_device_replaces_and_would_hide_it() {
        let devices = [slice("a", "MIG-x"), slice("b", "MIG-y")];
        let spec = spec("1234", &devices, &Watched::new(), Majors::default(), Vec::new());
        let all: Vec<&String> = spec.devices.iter().flat_map(|device| &device.container_edits.env).collect();
        assert!(all.iter().all(|variable| !variable.starts_with("CUDA_VISIBLE_DEVICES")), "{all:?}");
        assert!(all.iter().any(|variable| *variable == "SLUICE_UUID_A=MIG-x"));
        assert!(all.iter().any(|variable| *variable == "SLUICE_UUID_B=MIG-y"));
        assert_eq!(spec.container_edits.env, ["NVIDIA_VISIBLE_DEVICES=void"]);
    }
}
