//! What reached the model: one JSON line per call, in the order of execution.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_protocol::WireFormat;

/// A journal that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("journal {path}: {source}")]
pub struct JournalError {
    /// Its path.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// One call, as it stands in the journal.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// When its execution began: microseconds since 1970.
    pub t_us: u64,
    /// The server's process.
    pub pid: u32,
    /// Rows of the call.
    pub rows: usize,
    /// Their ids; 0 is a warm-up row.
    pub ids: &'a [i64],
    /// `json`, `binary` or `grpc`.
    pub form: &'static str,
    /// The time it was given, in microseconds.
    pub service_us: u64,
}

impl<'a> Entry<'a> {
    /// The entry of a call that begins now.
    pub fn new(t_us: u64, ids: &'a [i64], form: WireFormat, service_us: u64) -> Self {
        Self { t_us, pid: std::process::id(), rows: ids.len(), ids, form: form.as_str(), service_us }
    }
}

/// Appends to a file. Each line is one write before its call is executed, so that the journal is true up
/// to the last call even when the process is killed; several servers may share one file.
#[derive(Debug)]
pub struct Journal {
    file: File,
    line: Vec<u8>,
}

impl Journal {
    /// Opens `path` for appending, creating it if need be.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = File::options().append(true).create(true).open(path);
        let file = file.map_err(|source| JournalError { path: path.to_owned(), source })?;
        Ok(Self { file, line: Vec::new() })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, entry)?;
        self.line.push(b'\n');
        self.file.write_all(&self.line)
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// What the system said.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
