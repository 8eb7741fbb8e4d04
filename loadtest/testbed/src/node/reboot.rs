//! A reboot of the node while the control plane goes on: every process of the node ends at once, and with them
//! go the containers, their mounts, whatever lies in /run, and the MIG instances. What is on disk stays.

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
/// The process that containerd starts for each pod, and that outlives it.
const SHIM: &str = "containerd-shim-runc-v2";
/// Folders of /run whose files a boot does not find.
const RUN: [&str; 2] = ["/run/cdi", "/run/netns"];
/// Where the driver keeps which boot its MIG instances are of.
const CHECKPOINT: &str = "/var/lib/sluice/driver/checkpoint.json";
/// How long the kernel may take to end a process.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Reboots the node. Inside the namespaces; returns when its processes are started again, which is before it is
/// ready.
///
/// # Errors
/// Names what could not be ended, unmounted or started.
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

/// SIGKILL for every process of a pod, and for what looks after it.
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

/// One mount may be seen at several places, and goes from all of them at once; so what is left is looked up again.
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

/// The kernel's boot id is the machine's and stays; so what the driver remembers is made that of an earlier boot.
fn change_boot() -> Result<()> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the boot id")?;
    match fs::read_to_string(CHECKPOINT) {
        Ok(text) => {
            let earlier = text.replace(boot_id.trim(), "00000000-0000-0000-0000-000000000000");
            fs::write(CHECKPOINT, earlier).with_context(|| format!("cannot write {CHECKPOINT}"))
        }
        // A cluster without Sluice.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context(CHECKPOINT),
    }
}
