//! Search for libnvidia-ml.so.1 below a driver root: `/` on a node whose NVIDIA driver is installed on the host,
//! `/run/nvidia/driver` where it comes in a container.

use std::path::{Path, PathBuf};

/// Soname of NVML.
pub(crate) const LIBRARY: &str = "libnvidia-ml.so.1";

/// Directories below the root, in the order in which they are tried: those of the distributions' packages and of
/// NVIDIA's installer.
const FOLDERS: [&str; 9] = [
    "",
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib",
    "usr/local/lib",
];

/// Error: the library is in none of the directories.
#[derive(Debug, thiserror::Error)]
#[error(
    "no {LIBRARY} under driver root {root}; tried {}. Install the NVIDIA driver, or point --driver-root at \
     where it is (with NVIDIA's driver container: /run/nvidia/driver)",
    tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
)]
pub(crate) struct LibraryNotFound {
    /// Root that was searched.
    pub root: PathBuf,
    /// Paths that were tried.
    pub tried: Vec<PathBuf>,
}

/// Returns the path of the library below `root`.
///
/// # Errors
/// Names every path that was tried.
pub(crate) fn find(root: &Path) -> Result<PathBuf, LibraryNotFound> {
    let tried: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder).join(LIBRARY)).collect();
    match tried.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(LibraryNotFound { root: root.to_owned(), tried }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_found_where_a_distribution_puts_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/x86_64-linux-gnu");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(LIBRARY), "").unwrap();
        assert_eq!(find(root.path()).unwrap(), folder.join(LIBRARY));
    }

    #[test]
    fn a_root_without_the_library_names_the_places_tried() {
        let error = find(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/usr/lib64/libnvidia-ml.so.1"), "{error}");
        assert!(error.contains("--driver-root"), "{error}");
    }
}
