//! Reboot of the node while the control plane keeps running: all processes of the node end at once; containers, their
//! mounts, files in /run and MIG instances disappear. Files on disk stay.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use crate::host::leftovers;
use crate::node::control::SupervisorClient;
use crate::node::simulated_gpus;
use crate::processes::{self, Identity};
use crate::workdir::Workdir;

/// The node's own processes, in the order in which they end.
const COMPONENTS: [&str; 3] = ["kubelet", "kube-proxy", "containerd"];
/// Program of the process that containerd starts for each pod, and that outlives containerd.
const SHIM: &str = "containerd-shim-runc-v2";
/// Folders of /run that are empty after a boot.
const RUN: [&str; 2] = ["/run/cdi", "/run/netns"];
/// File in which the driver records the boot of its MIG instances.
const CHECKPOINT: &str = "/var/lib/sluice/driver/checkpoint.json";
/// Time limit for the kernel to end a process.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Reboots the node. Runs inside the namespaces. Returns when its processes have been started again, which is before
/// it is ready.
///
/// # Errors
/// With the process, mount or component that could not be ended, unmounted or started.
pub(crate) fn reboot(workdir: &Workdir) -> Result<()> {
    let control = SupervisorClient::new(workdir.control_socket());
    for component in COMPONENTS {
        control.stop(component)?;
    }
    end_pods(workdir)?;
    let state = workdir.path("containerd/state");
    let kubelet = [workdir.path("kubelet/pods"), PathBuf::from("/var/lib/kubelet/pods")];
    unmount_below(&[&[state.clone(), PathBuf::from("/run/netns")][..], &kubelet].concat())?;
    for folder in RUN.map(PathBuf::from).iter().chain([&state]) {
        empty(folder)?;
    }
    simulated_gpus::open(workdir)?.reboot()?;
    change_boot()?;
    for component in COMPONENTS.iter().rev() {
        control.start(component)?;
    }
    Ok(())
}

/// Sends SIGKILL to every process of every pod, and to its shim.
fn end_pods(workdir: &Workdir) -> Result<()> {
    let root = workdir.cgroup_root();
    let is_of_pod = |pid: &u32| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroup.contains(root.as_str()) || processes::program(*pid).as_deref() == Some(SHIM)
    };
    let found: Vec<Identity> =
        processes::all().into_iter().filter(is_of_pod).filter_map(Identity::of).collect();
    for process in &found {
        process.signal(Signal::KILL);
    }
    for process in found {
        if !process.wait_gone(GONE_WITHIN) {
            bail!("process {} is still there after SIGKILL", process.pid);
        }
    }
    Ok(())
}

/// Removes the mounts of pods. One mount may be visible at several places and disappears from all of them at once, so the list is read
/// again after each.
fn unmount_below(folders: &[PathBuf]) -> Result<()> {
    loop {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        let below: Vec<PathBuf> =
            folders.iter().flat_map(|folder| leftovers::mounts_below(&mounts, folder)).collect();
        let Some(last) = below.last() else { return Ok(()) };
        let unmounted =
            below.iter().rev().filter(|mount| unmount(*mount, UnmountFlags::DETACH).is_ok()).count();
        if unmounted == 0 {
            bail!("cannot unmount {}", last.display());
        }
    }
}

fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty {}", folder.display()))
        }
        _ => fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display())),
    }
}

/// Changes the driver's record to an earlier boot: the kernel's boot id belongs to the machine and cannot change.
fn change_boot() -> Result<()> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the boot id")?;
    match fs::read_to_string(CHECKPOINT) {
        Ok(text) => {
            let earlier = text.replace(boot_id.trim(), "00000000-0000-0000-0000-000000000000");
            fs::write(CHECKPOINT, earlier).with_context(|| format!("cannot write {CHECKPOINT}"))
        }
        // The cluster has no Sluice.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context(CHECKPOINT),
    }
}
