//! Files that are replaced whole, or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` by `bytes`: temporary file, fsync, rename, fsync of the folder. When this returns, the new
/// content survives the loss of power; until then the old one does. Missing folders are created.
///
/// # Errors
/// The file system refused.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let replaced = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // A full disk must not fill up further with partial files; the first error is the one to return.
        let _ = fs::remove_file(&temporary);
    }
    replaced?;
    fs::File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_nothing_half_written() {
        let temporary = tempfile::tempdir().unwrap();
        let taken = temporary.path().join("a.json");
        fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"{}").is_err());
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    }
}
