//! Libraries and tools of the node's NVIDIA driver, as mounts of containers. CUDA in an image works with any driver,
//! but `libcuda.so.1` belongs to the driver and must have its version.
//!
//! Files are mounted one by one, under every name by which programs load them, so that neither a hook nor ldconfig is
//! needed. Their directories are those in which the loaders of the Debian and Red Hat families search anyway, so that
//! no search path of the image is replaced.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Serialize;

use crate::nvml::library;

/// Directories in which loaders search by default, by family of distributions.
#[cfg(target_arch = "aarch64")]
const LIBRARY_FOLDERS: [&str; 2] = ["/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
/// Directories in which loaders search by default, by family of distributions.
#[cfg(not(target_arch = "aarch64"))]
const LIBRARY_FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

/// Prefixes of the libraries for computing and monitoring. Graphics libraries are left out.
const LIBRARIES: [&str; 2] = ["libcuda", "libnv"];

/// Prefix of the library whose file name contains the driver's version.
const NVML: &str = "libnvidia-ml.so.";

/// Tools that users expect beside a GPU.
const TOOLS: [&str; 2] = ["nvidia-smi", "nvidia-debugdump"];
/// Directories of the tools below the root, in the order in which they are tried.
const TOOL_FOLDERS: [&str; 3] = ["usr/bin", "bin", "opt/bin"];

/// Mount of a file of the node in a container, as CDI spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    host_path: PathBuf,
    container_path: PathBuf,
    options: [&'static str; 5],
}

impl Mount {
    fn new(host_path: PathBuf, container_path: PathBuf) -> Self {
        Self { host_path, container_path, options: ["ro", "nosuid", "nodev", "rbind", "rprivate"] }
    }
}

/// Files of the NVIDIA driver.
#[derive(Debug, Clone)]
pub(crate) struct DriverFiles {
    root: PathBuf,
    on_host: PathBuf,
}

impl DriverFiles {
    /// Uses the files below `root`, which container runtimes see at `on_host`.
    pub(crate) fn new(root: impl Into<PathBuf>, on_host: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), on_host: on_host.into() }
    }

    /// Returns the mounts for containers. They are empty while the driver is not there, or if its version is unknown.
    ///
    /// # Errors
    /// Fails if an existing directory cannot be read.
    pub(super) fn mounts(&self) -> io::Result<Vec<Mount>> {
        let Ok(nvml) = library::find(&self.root) else { return Ok(Vec::new()) };
        let Ok(root) = Root::open(&self.root) else { return Ok(Vec::new()) };
        let folder = nvml.parent().and_then(|folder| folder.strip_prefix(&self.root).ok());
        let libraries = names(&root.libraries(folder.unwrap_or(Path::new("")))?);
        let mut mounts = Vec::new();
        for folder in LIBRARY_FOLDERS {
            for (name, file) in &libraries {
                mounts.push(Mount::new(self.on_host.join(file), Path::new(folder).join(name)));
            }
        }
        // Tools of an unknown version may not match the libraries.
        if !libraries.is_empty() {
            for tool in TOOLS {
                let mut places = TOOL_FOLDERS.iter().map(|folder| Path::new(folder).join(tool));
                if let Some(file) = places.find_map(|place| root.resolve(&place)) {
                    mounts.push(Mount::new(self.on_host.join(file), Path::new("/usr/bin").join(tool)));
                }
            }
        }
        Ok(mounts)
    }
}

/// Selects the names under which a container needs libraries, each with its file: those of the driver's version, and
/// every link to them. `entries` are the names in the libraries' directory, each with the file that it is or leads
/// to.
fn names(entries: &BTreeMap<String, PathBuf>) -> BTreeMap<String, PathBuf> {
    let file_name = |file: &Path| file.file_name().and_then(OsStr::to_str).map(str::to_owned);
    let nvml = entries.get(library::LIBRARY).and_then(|file| file_name(file));
    // A library whose file is only named by its soname has no known version.
    let Some(version) = nvml.as_deref().and_then(|name| name.strip_prefix(NVML)).filter(|v| v.contains('.'))
    else {
        return BTreeMap::new();
    };
    let suffix = format!(".so.{version}");
    let mut names = BTreeMap::new();
    for (name, file) in entries {
        if let Some(own) = file_name(file).filter(|own| own.ends_with(&suffix)) {
            names.insert(name.clone(), file.clone());
            names.insert(own, file.clone());
        }
    }
    names
}

/// Root directory in which links are resolved as for a process that has it as its root.
struct Root {
    path: PathBuf,
    folder: OwnedFd,
}

impl Root {
    fn open(path: &Path) -> io::Result<Self> {
        let folder = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { path: std::fs::canonicalize(path)?, folder })
    }

    /// Returns the file that `path` is or leads to, below the root; `None` if there is no such file.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let is_file = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        is_file.then(|| path.strip_prefix(&self.path).ok().map(Path::to_owned))?
    }

    /// Returns NVIDIA's libraries in `folder` by name, each with the file that it is or leads to.
    fn libraries(&self, folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(self.path.join(folder))? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if LIBRARIES.iter().any(|beginning| name.starts_with(beginning))
                && let Some(file) = self.resolve(&folder.join(name))
            {
                found.insert(name.to_owned(), file);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn entries(entries: &[(&str, &str)]) -> BTreeMap<String, PathBuf> {
        entries.iter().map(|(name, file)| ((*name).to_owned(), Path::new("usr/lib64").join(file))).collect()
    }

    #[test]
    fn every_name_of_a_library_of_the_drivers_version_is_taken_and_nothing_else() {
        let found = entries(&[
            ("libnvidia-ml.so.1", "libnvidia-ml.so.550.54.14"),
            ("libnvidia-ml.so.550.54.14", "libnvidia-ml.so.550.54.14"),
            ("libcuda.so", "libcuda.so.550.54.14"),
            ("libcuda.so.1", "libcuda.so.550.54.14"),
            ("libcuda.so.535.1.1", "libcuda.so.535.1.1"),
            ("libnvidia-nvvm.so.4", "alternatives/libnvidia-nvvm.so.550.54.14"),
            ("libnvrtc.so.12", "libnvrtc.so.12.4.99"),
        ]);
        let names = names(&found);
        let taken: Vec<_> = names.keys().map(String::as_str).collect();
        let expected = [
            "libcuda.so",
            "libcuda.so.1",
            "libcuda.so.550.54.14",
            "libnvidia-ml.so.1",
            "libnvidia-ml.so.550.54.14",
            "libnvidia-nvvm.so.4",
            "libnvidia-nvvm.so.550.54.14",
        ];
        assert_eq!(taken, expected);
        assert_eq!(names["libcuda.so"], Path::new("usr/lib64/libcuda.so.550.54.14"));
    }

    #[test]
    fn a_library_without_a_version_gives_nothing() {
        assert!(names(&entries(&[("libnvidia-ml.so.1", "libnvidia-ml.so.1")])).is_empty());
        assert!(names(&entries(&[("libcuda.so.1", "libcuda.so.550.54.14")])).is_empty());
    }

    #[test]
    fn links_are_followed_below_the_root_and_paths_are_the_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let folder = root.join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(folder.join("nvidia")).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(folder.join("nvidia/libnvidia-ml.so.550.54"), "").unwrap();
        fs::write(folder.join("nvidia/libnvidia-cfg.so.550.54"), "").unwrap();
        symlink("nvidia/libnvidia-ml.so.550.54", folder.join("libnvidia-ml.so.1")).unwrap();
        // An absolute link, relative to the root.
        let cfg = "/usr/lib/x86_64-linux-gnu/nvidia/libnvidia-cfg.so.550.54";
        symlink(cfg, folder.join("libnvidia-cfg.so.1")).unwrap();
        // A link out of the root, to a file that the node has at another path.
        fs::write(dir.path().join("libcuda.so.550.54"), "").unwrap();
        symlink("../../../../libcuda.so.550.54", folder.join("libcuda.so.1")).unwrap();
        fs::write(root.join("usr/bin/nvidia-smi"), "").unwrap();
        let mounts = DriverFiles::new(&root, "/run/nvidia/driver").mounts().unwrap();
        let pairs: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.host_path.to_str().unwrap(), mount.container_path.to_str().unwrap()))
            .collect();
        let nvml = "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/nvidia/libnvidia-ml.so.550.54";
        assert!(pairs.contains(&(nvml, "/usr/lib64/libnvidia-ml.so.1")), "{pairs:?}");
        let cfg = format!("/run/nvidia/driver{cfg}");
        assert!(pairs.contains(&(&cfg, "/usr/lib64/libnvidia-cfg.so.1")), "{pairs:?}");
        assert!(pairs.contains(&("/run/nvidia/driver/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi")));
        assert!(!pairs.iter().any(|(_, path)| path.contains("libcuda")), "{pairs:?}");
        assert!(DriverFiles::new(dir.path().join("none"), "/").mounts().unwrap().is_empty());
    }
}
