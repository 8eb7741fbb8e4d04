//! Finds sockets that programs of a run have left behind.

use std::path::Path;

/// Returns the sockets below `dir` that still have a file.
pub(crate) fn sockets(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) if path.extension().is_some_and(|extension| extension == "sock") => {
                    found.push(path.display().to_string());
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}
