//! Journal of the calls that the model executed: one JSON line per call, in order of execution.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_protocol::WireFormat;

/// A journal that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("journal {path}: {source}")]
pub struct JournalError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Entry of one call.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// Start of the execution, in microseconds since 1970.
    pub t_us: u64,
    /// Process id of the server.
    pub pid: u32,
    /// Number of rows of the call.
    pub rows: usize,
    /// Ids of the rows; 0 marks a warm-up row.
    pub ids: &'a [i64],
    /// `json`, `binary` or `grpc`.
    pub form: &'static str,
    /// Simulated service time, in microseconds.
    pub service_us: u64,
}

impl<'a> Entry<'a> {
    /// Creates the entry of a call that this process executes.
    pub fn new(t_us: u64, ids: &'a [i64], form: WireFormat, service_us: u64) -> Self {
        Self { t_us, pid: std::process::id(), rows: ids.len(), ids, form: form.as_str(), service_us }
    }
}

/// Journal in a file. Each line is written by one system call before its call is executed, so that the journal is
/// complete even when the process is killed; several servers may share one file.
#[derive(Debug)]
pub struct Journal {
    file: File,
    line: Vec<u8>,
}

impl Journal {
    /// Opens `path` for appending, and creates it if it does not exist.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = File::options().append(true).create(true).open(path);
        let file = file.map_err(|source| JournalError { path: path.to_owned(), source })?;
        Ok(Self { file, line: Vec::new() })
    }

    /// Appends an entry.
    pub fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, entry)?;
        self.line.push(b'\n');
        self.file.write_all(&self.line)
    }

    /// Syncs the file to disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
