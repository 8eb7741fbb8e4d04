//! Leftovers of a cluster on the machine, found without relying on its record: processes with its mark, cgroups under
//! its root, mounts under its folder, and the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use crate::processes::{self, Identity};
use crate::workdir::Workdir;

/// Variable in the environment of every process of a cluster; its value is the cluster's folder.
pub(crate) const MARK: &str = "SLUICE_TESTBED";
/// Time limit for the kernel to end a process namespace.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// Time limit for a cgroup to become removable after its processes are gone.
const CGROUPS_WITHIN: Duration = Duration::from_secs(10);

/// Leftovers of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Processes outside of the process namespace, and its first process, with which the others end.
    pub processes: Vec<Identity>,
    /// Root cgroups of the cluster, one for each hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// Mounts visible outside of the namespaces, innermost last.
    pub mounts: Vec<PathBuf>,
    pub folder: Option<PathBuf>,
}

impl Leftovers {
    /// Finds the leftovers of a cluster.
    ///
    /// # Errors
    /// When the machine's mounts cannot be read.
    pub(crate) fn of(workdir: &Workdir) -> Result<Self> {
        let mark = format!("{MARK}={}", workdir.root().display());
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        Ok(Self {
            processes: processes::with_variable(&mark),
            cgroups: cgroups(Path::new("/sys/fs/cgroup"), &workdir.cgroup_root()),
            mounts: mounts_below(&mounts, workdir.root()),
            folder: workdir.root().exists().then(|| workdir.root().to_owned()),
        })
    }

    /// Returns whether there are no leftovers.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty()
            && self.cgroups.is_empty()
            && self.mounts.is_empty()
            && self.folder.is_none()
    }

    /// Removes all leftovers: processes, cgroups, mounts, folder.
    ///
    /// # Errors
    /// With the leftover that could not be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        for process in &self.processes {
            process.signal(Signal::KILL);
        }
        for process in &self.processes {
            if !process.wait_gone(GONE_WITHIN) {
                let command = processes::command_line(process.pid);
                bail!("process {} ({command}) is still there after SIGKILL", process.pid);
            }
        }
        for root in &self.cgroups {
            remove_cgroup(root)?;
        }
        for mount in self.mounts.iter().rev() {
            unmount(mount, UnmountFlags::DETACH)
                .with_context(|| format!("cannot unmount {}", mount.display()))?;
        }
        match &self.folder {
            // Its mounts are gone by now, so nothing of another file system is removed.
            Some(folder) => {
                fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
            }
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Leftovers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} processes, {} cgroups, {} mounts, {}",
            self.processes.len(),
            self.cgroups.len(),
            self.mounts.len(),
            self.folder
                .as_ref()
                .map_or_else(|| "no folder".to_owned(), |folder| folder.display().to_string()),
        )
    }
}

/// Returns the cgroups called `root` in each hierarchy of cgroup v1 below `mount`, or in the one of v2.
pub(crate) fn cgroups(mount: &Path, root: &str) -> Vec<PathBuf> {
    let root = root.trim_start_matches('/');
    let mut hierarchies = vec![mount.to_owned()];
    // With cgroup v1 each controller is a folder; combined ones (cpu,cpuacct) are also reachable by links.
    hierarchies.extend(
        fs::read_dir(mount)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path())),
    );
    hierarchies.into_iter().map(|hierarchy| hierarchy.join(root)).filter(|path| path.is_dir()).collect()
}

/// Removes a cgroup with all cgroups below it, innermost first.
fn remove_cgroup(root: &Path) -> Result<()> {
    let start = Instant::now();
    while let Err(error) = try_remove_cgroup(root) {
        if start.elapsed() > CGROUPS_WITHIN {
            return Err(error).with_context(|| format!("cannot remove the cgroup {}", root.display()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn try_remove_cgroup(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            try_remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// Returns the mount points in `mountinfo` at or below `folder`, in the order in which they were mounted.
pub(crate) fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(PathBuf::from).filter(|point| point.starts_with(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_are_its_own() {
        let mountinfo = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                         30 22 0:40 / /tmp/sluice-a rw - tmpfs tmpfs rw\n\
                         31 30 0:41 / /tmp/sluice-a/run rw - tmpfs tmpfs rw\n\
                         32 22 0:42 / /tmp/sluice-ab rw - tmpfs tmpfs rw\n";
        let expected = ["/tmp/sluice-a", "/tmp/sluice-a/run"].map(PathBuf::from);
        assert_eq!(mounts_below(mountinfo, Path::new("/tmp/sluice-a")), expected);
    }

    #[test]
    fn cgroups_are_found_in_every_hierarchy_and_by_their_whole_name() {
        let mount = tempfile::tempdir().unwrap();
        for folder in ["cpu/sluice-a/kubepods", "memory/sluice-a", "memory/sluice-ab", "pids"] {
            fs::create_dir_all(mount.path().join(folder)).unwrap();
        }
        let mut found = cgroups(mount.path(), "/sluice-a");
        found.sort();
        assert_eq!(found, [mount.path().join("cpu/sluice-a"), mount.path().join("memory/sluice-a")]);
        found.iter().for_each(|root| try_remove_cgroup(root).unwrap());
        assert!(cgroups(mount.path(), "/sluice-a").is_empty());
        assert!(mount.path().join("memory/sluice-ab").exists());
    }

    #[test]
    fn nothing_is_left_of_a_cluster_that_never_was() {
        let folder = tempfile::tempdir().unwrap();
        let workdir = Workdir::at(&"never-was".parse().unwrap(), &folder.path().join("none"));
        assert!(Leftovers::of(&workdir).unwrap().is_empty());
    }
}
