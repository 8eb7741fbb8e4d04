//! Checkpoint on disk: one file that is replaced as a whole, in a directory that one driver locks.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sluice_process::atomic_file::write_atomic;

use super::{Checkpoint, VERSION};

const FILE: &str = "checkpoint.json";
const LOCK: &str = "lock";

/// Reason why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system failed.
    #[error("state {path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// Another driver uses the directory.
    #[error(
        "state folder {path} is in use by another sluice-driver; stop that one, or give this one another \
         --state-dir and --kubelet-dir"
    )]
    Locked {
        /// Directory.
        path: PathBuf,
    },
    /// The file is not a checkpoint.
    #[error(
        "checkpoint {path} is damaged: {source}. Without it the driver cannot tell its own MIG instances from \
         foreign ones; restore it, or destroy the instances by hand (nvidia-smi mig -dci; -dgi) and move the \
         file away"
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: serde_json::Error,
    },
    /// The file has a later format.
    #[error(
        "checkpoint {path} has format {found}, this sluice-driver reads up to {VERSION}; go back to the newer \
         driver, or unprepare all claims with it first"
    )]
    Newer {
        /// Path of the file.
        path: PathBuf,
        /// Version of its format.
        found: u32,
    },
}

/// State directory, locked for this process. The lock ends with the process, even with kill -9.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the directory if needed, and locks it.
    ///
    /// # Errors
    /// Returns [`StateError::Locked`] if another process has locked it.
    pub(crate) fn lock(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Locked { path: path.to_owned() }),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Loads the checkpoint; an empty one if the file does not exist.
    ///
    /// # Errors
    /// Fails if the file is damaged or has a later format. Such a file is never overwritten.
    pub(crate) fn load(&self) -> Result<Checkpoint, StateError> {
        let path = self.path.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let damaged = |source| StateError::Damaged { path: path.clone(), source };
        // The version is checked first, because the rest of a later format may not parse.
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > u64::from(VERSION) {
            return Err(StateError::Newer {
                path: path.clone(),
                found: u32::try_from(found).unwrap_or(u32::MAX),
            });
        }
        serde_json::from_value(value).map_err(damaged)
    }

    /// Replaces the checkpoint. When this returns, the new one survives a loss of power.
    ///
    /// # Errors
    /// Fails if the file system does; the old checkpoint stays then.
    pub(crate) fn save(&self, checkpoint: &Checkpoint) -> Result<(), StateError> {
        let path = self.path.join(FILE);
        let write = || write_atomic(&path, &serde_json::to_vec_pretty(checkpoint).map_err(io::Error::other)?);
        write().map_err(|source| StateError::Io { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_driver_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::lock(dir.path()).unwrap();
        assert!(matches!(StateDir::lock(dir.path()), Err(StateError::Locked { .. })));
        drop(first);
        StateDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn what_was_saved_is_loaded_and_a_folder_without_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        assert_eq!(state.load().unwrap(), Checkpoint::default());
        let mut checkpoint = Checkpoint::default();
        checkpoint.ended_slice_ms.insert("2g.10gb".to_owned(), 7);
        state.save(&checkpoint).unwrap();
        assert_eq!(state.load().unwrap(), checkpoint);
    }

    #[test]
    fn a_damaged_or_newer_checkpoint_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        fs::write(dir.path().join(FILE), "{\"version\":1,\"claims\":[").unwrap();
        assert!(matches!(state.load(), Err(StateError::Damaged { .. })));
        fs::write(dir.path().join(FILE), "{\"version\":2,\"claims\":[]}").unwrap();
        assert!(matches!(state.load(), Err(StateError::Newer { found: 2, .. })));
        assert!(dir.path().join(FILE).exists());
    }
}
