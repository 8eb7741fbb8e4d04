//! Device nodes of a GPU or MIG slice with their numbers, so that the container gets them even if the host has no
//! such files.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{DeviceRecord, Instance};

/// Minor number of /dev/nvidiactl.
const CONTROL_MINOR: u32 = 255;

/// Major numbers of NVIDIA's character devices. `gpu` is registered with the kernel's maintainers, the others are
/// assigned when the modules are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Majors {
    /// Major number of `/dev/nvidia<minor>` and /dev/nvidiactl (`nvidia` or `nvidia-frontend` in /proc/devices).
    pub gpu: u32,
    /// Major number of /dev/nvidia-uvm (`nvidia-uvm`).
    pub uvm: u32,
    /// Major number of /dev/nvidia-caps/* (`nvidia-caps`).
    pub caps: u32,
}

impl Default for Majors {
    /// Returns what nodes usually have: the first free numbers below 512 for those that are assigned at load.
    fn default() -> Self {
        Self { gpu: 195, uvm: 511, caps: 510 }
    }
}

impl Majors {
    /// Returns the numbers of the running kernel, from `<driver_root>/proc/devices` if it exists, else from
    /// /proc/devices. Numbers that are not listed there stay as they are in `self`.
    ///
    /// # Errors
    /// Fails if an existing list cannot be read.
    pub fn of_kernel(self, driver_root: &Path) -> io::Result<Self> {
        for path in [driver_root.join("proc/devices"), "/proc/devices".into()] {
            match std::fs::read_to_string(&path) {
                Ok(list) => return Ok(self.listed(&list)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self)
    }

    fn listed(mut self, proc_devices: &str) -> Self {
        let characters = proc_devices.split("Block devices:").next().unwrap_or_default();
        for line in characters.lines() {
            let mut words = line.split_whitespace();
            let (Some(Ok(major)), Some(name)) = (words.next().map(str::parse), words.next()) else {
                continue;
            };
            match name {
                "nvidia" | "nvidia-frontend" => self.gpu = major,
                "nvidia-uvm" => self.uvm = major,
                "nvidia-caps" => self.caps = major,
                _ => {}
            }
        }
        self
    }
}

/// Character device, as CDI spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct CharDevice {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    major: u32,
    minor: u32,
}

fn node(path: impl Into<String>, major: u32, minor: u32) -> CharDevice {
    CharDevice { path: path.into(), kind: "c", major, minor }
}

/// Returns the minor number of the capability of a GPU instance, or of a compute instance inside it.
///
/// The number is `3 + 135·gpu + 9·gi`, and `+ 1 + ci` for a compute instance, as the kernel module numbers them
/// (nv-caps.c of NVIDIA's open kernel modules; /proc/driver/nvidia-caps/mig-minors lists the same).
fn capability_minor(gpu_minor: u32, gpu_instance: u32, compute_instance: Option<u32>) -> u32 {
    3 + 135 * gpu_minor + 9 * gpu_instance + compute_instance.map_or(0, |compute| 1 + compute)
}

/// Minor number of the capability to monitor all instances of all GPUs.
const MONITOR_CAPABILITY: u32 = 2;

/// Returns the device nodes that a container needs to use the device, and no more: the capabilities of a slice open
/// that slice only. `instances` (ids of GPU instance and compute instance) are those that a monitoring device opens.
pub(super) fn device_nodes(
    device: &DeviceRecord,
    instances: &[(u32, u32)],
    majors: Majors,
) -> Vec<CharDevice> {
    let minor = device.gpu_minor;
    let mut nodes = vec![
        node(format!("/dev/nvidia{minor}"), majors.gpu, minor),
        node("/dev/nvidiactl", majors.gpu, CONTROL_MINOR),
        node("/dev/nvidia-uvm", majors.uvm, 0),
    ];
    if let Some(Instance::Standing { gpu_instance, compute, .. }) =
        device.slice.as_ref().map(|slice| &slice.instance)
    {
        for compute in [None, Some(compute.id)] {
            let capability = capability_minor(minor, *gpu_instance, compute);
            nodes.push(node(format!("/dev/nvidia-caps/nvidia-cap{capability}"), majors.caps, capability));
        }
    }
    if device.watches.is_some() {
        let of_instances = instances.iter().flat_map(|(gpu_instance, compute)| {
            [None, Some(*compute)].map(|compute| capability_minor(minor, *gpu_instance, compute))
        });
        let mut capabilities: Vec<u32> = of_instances.chain([MONITOR_CAPABILITY]).collect();
        capabilities.sort_unstable();
        capabilities.dedup();
        let path = |minor| format!("/dev/nvidia-caps/nvidia-cap{minor}");
        nodes.extend(capabilities.into_iter().map(|minor| node(path(minor), majors.caps, minor)));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_minors_are_the_kernel_modules() {
        assert_eq!(capability_minor(0, 0, None), 3);
        assert_eq!(capability_minor(0, 5, None), 48);
        assert_eq!(capability_minor(1, 5, Some(0)), 3 + 135 + 45 + 1);
        // Last capability of the kernel module.
        assert_eq!(capability_minor(31, 14, Some(7)), 4322);
    }

    #[test]
    fn majors_come_from_the_kernels_list_and_else_from_the_settings() {
        let list = "Character devices:\n  1 mem\n195 nvidia-frontend\n234 nvidia-caps\n\nBlock devices:\n  8 nvidia-uvm\n";
        let majors = Majors { gpu: 1, uvm: 2, caps: 3 };
        assert_eq!(majors.listed(list), Majors { gpu: 195, uvm: 2, caps: 234 });
    }

    #[test]
    fn a_driver_roots_own_list_is_preferred() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/devices"), "Character devices:\n77 nvidia-caps\n").unwrap();
        assert_eq!(Majors::default().of_kernel(root.path()).unwrap().caps, 77);
    }
}
