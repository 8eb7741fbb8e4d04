//! The processes of a node. [`run`] is the first one inside the namespaces: it sets up mounts and networks, then
//! supervises the others.

pub(crate) mod components;
pub(crate) mod control;
pub(crate) mod pki;
pub(crate) mod reboot;
pub(crate) mod simulated_gpus;
mod supervisor;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::mounts;
use crate::host::network;
use crate::workdir::Workdir;

/// Folders that must be there before the components start.
const FOLDERS: [&str; 2] = ["/run/cdi", "/run/netns"];

/// Sets up mounts, networks and cgroups, then supervises the components. Returns only on failure.
///
/// # Errors
/// When mounts, networks or cgroups cannot be set up.
pub(crate) fn run(workdir: &Workdir) -> Result<()> {
    let spec = workdir.spec()?;
    mounts::set_up(workdir)?;
    for folder in FOLDERS {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    network::set_up()?;
    if spec.network_policies {
        network::filter_bridged()?;
    }
    make_cgroups(Path::new("/sys/fs/cgroup"), &workdir.cgroup_root())?;
    let components = components::all(workdir, &spec);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
    runtime.block_on(supervisor::run(components, &workdir.control_socket(), &workdir.path("log")))
}

/// Creates the kubelet's root cgroup, in each hierarchy of cgroup v1 or in the one of v2; the kubelet requires it.
fn make_cgroups(mount: &Path, root: &str) -> Result<()> {
    let root = root.trim_start_matches('/');
    if let Ok(controllers) = fs::read_to_string(mount.join("cgroup.controllers")) {
        for controller in controllers.split_whitespace() {
            // Most are delegated already. The kubelet reports one that cannot be.
            let _ = fs::write(mount.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        return make(&mount.join(root));
    }
    let entries = fs::read_dir(mount).with_context(|| mount.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let folder = entry.path().join(root);
        make(&folder)?;
        // A new group of this controller has neither, and so accepts no process.
        for list in ["cpuset.cpus", "cpuset.mems"] {
            let above = entry.path().join(list);
            if above.exists() {
                fs::copy(&above, folder.join(list)).with_context(|| format!("cannot set {list}"))?;
            }
        }
    }
    Ok(())
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the cgroup {}", folder.display()))
}
