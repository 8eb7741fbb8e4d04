//! Mounts of a cluster. Everything that it writes outside of its folder is redirected into its folder, so that the
//! shipped manifests find the usual paths and the machine's own files do not change.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use crate::addresses::{CLUSTER_DOMAIN, DNS_SERVICE};
use crate::workdir::Workdir;

/// Kernel settings of the whole machine that a kubelet would change, with the values that it wants. It reads these
/// values from files mounted over the settings, and so changes nothing.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Driver root of the GPUs on a node.
pub(crate) const DRIVER_ROOT: &str = "/run/nvidia/driver";
/// Folder of the NVML library in a driver root.
pub(crate) const LIBRARY_DIR: &str = "usr/lib64";

/// Sets up the mounts of this process's own mount namespace.
///
/// # Errors
/// Names the mount that failed.
pub(crate) fn set_up(workdir: &Workdir) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")?;
    // The cluster gets a /run of its own: sockets and locks of the host are not for it.
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), c"mode=755").context("cannot mount a /run")?;
    overlay(workdir, "/var")?;
    for (folder, below) in [("/var/lib/kubelet", "kubelet"), (DRIVER_ROOT, "driver")] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
        bind(&workdir.path(below), Path::new(folder))?;
    }
    // A mount of its own: where a pod mounts the driver root read-only, the simulated GPUs' state beside the library
    // stays writable, as the state of a real driver does, which is in the kernel.
    let library_dir = Path::new(DRIVER_ROOT).join(LIBRARY_DIR);
    bind(&workdir.driver_root().join(LIBRARY_DIR), &library_dir)?;
    for (setting, value) in KERNEL_SETTINGS {
        let file = workdir.path(&format!("etc/{}", setting.replace('/', "-")));
        fs::write(&file, format!("{value}\n")).with_context(|| format!("cannot write {}", file.display()))?;
        bind(&file, &Path::new("/proc/sys").join(setting))?;
    }
    resolver(workdir)?;
    // Volumes that the kubelet mounts must become visible in running containers.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("cannot share the mounts with containers")
}

/// Mounts an overlay on `folder`: its files stay readable, writes go to the cluster's folder.
fn overlay(workdir: &Workdir, folder: &str) -> Result<()> {
    let (upper, work) = (workdir.text("var/upper"), workdir.text("var/work"));
    for layer in [&upper, &work] {
        fs::create_dir_all(layer).with_context(|| format!("cannot make {layer}"))?;
    }
    let options = std::ffi::CString::new(format!("lowerdir={folder},upperdir={upper},workdir={work}"))?;
    mount("overlay", folder, "overlay", MountFlags::empty(), options.as_c_str())
        .with_context(|| format!("cannot mount an overlay of {folder}"))
}

/// Makes programs inside the cluster resolve names by the cluster's DNS.
fn resolver(workdir: &Workdir) -> Result<()> {
    let file = workdir.path("etc/resolv.conf");
    let lines = format!(
        "nameserver {DNS_SERVICE}\nsearch default.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}\noptions ndots:5\n"
    );
    fs::write(&file, lines).with_context(|| format!("cannot write {}", file.display()))?;
    let target = fs::read_link("/etc/resolv.conf")
        .map_or_else(|_| PathBuf::from("/etc/resolv.conf"), |link| Path::new("/etc").join(link));
    if !target.exists() {
        // The target is in /run, which is empty now.
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(&target, "").with_context(|| format!("cannot write {}", target.display()))?;
    }
    bind(&file, &target)
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount_bind(from, to).with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}
