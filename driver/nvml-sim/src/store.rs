//! State file: read at any time by any process, changed under a lock, and replaced in one step.
//!
//! A process that is killed at any point leaves either the old or the new state, and no lock.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::code::Code;
use crate::state::State;
use crate::topology::Board;

/// State of the simulated GPUs in one directory.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    dir: PathBuf,
    boards: std::sync::Arc<[Board]>,
}

/// Reason why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system failed.
    #[error("cannot use the state file {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not a state file of this library.
    #[error("{}: {source}; remove the file to start with GPUs without instances", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: serde_json::Error,
    },
}

impl From<StateError> for Code {
    fn from(error: StateError) -> Code {
        crate::report(&error);
        Code::UNKNOWN
    }
}

impl StateFile {
    pub(crate) fn new(dir: PathBuf, boards: Vec<Board>) -> StateFile {
        StateFile { dir, boards: boards.into() }
    }

    /// Returns the GPUs in the order of the state.
    pub(crate) fn boards(&self) -> &[Board] {
        &self.boards
    }

    /// Reads the present state. That needs no lock, because the file is replaced and never written in place.
    pub(crate) fn read(&self) -> Result<State, StateError> {
        let path = self.dir.join("state.json");
        let state = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| StateError::Malformed { path, source })?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        Ok(state.on(&self.boards))
    }

    /// Changes the state under the lock. If `change` fails, nothing is written.
    pub(crate) fn update<T, E: From<StateError>>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = self.lock()?;
        let mut state = self.read()?;
        let result = change(&mut state)?;
        self.write(&state)?;
        Ok(result)
    }

    /// Takes the lock, which lasts until the file is dropped. The kernel releases the lock of a process that dies.
    fn lock(&self) -> Result<File, StateError> {
        let path = self.dir.join("state.lock");
        let open = || -> std::io::Result<File> {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
                if error != rustix::io::Errno::INTR {
                    return Err(error.into());
                }
            }
            Ok(file)
        };
        open().map_err(|source| StateError::Io { path: path.clone(), source })
    }

    fn write(&self, state: &State) -> Result<(), StateError> {
        let path = self.dir.join("state.json");
        // One name is enough, because only the holder of the lock writes.
        let temporary = self.dir.join("state.json.new");
        let bytes = serde_json::to_vec_pretty(state)
            .map_err(|source| StateError::Malformed { path: path.clone(), source })?;
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| StateError::Io { path, source })
    }
}
