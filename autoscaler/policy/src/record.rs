//! A decision written down: one JSON line that decides again to the same bits.
use serde::{Deserialize, Serialize};

use crate::decide::decide;
use crate::decision::Decision;
use crate::input::Input;

/// Version of the record's format and of the algorithm: a record replays on the version that wrote it.
pub const VERSION: u32 = 1;

/// One decision with everything that it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// [`VERSION`] of the program that wrote it.
    pub version: u32,
    /// Which workload: `namespace/name`.
    pub workload: String,
    /// Input.
    pub input: Input,
    /// What came out.
    pub decision: Decision,
}

/// Why a record does not replay.
#[derive(Debug, thiserror::Error)]
pub enum Difference {
    /// Written by another version of the algorithm.
    #[error(
        "the record is of version {found}, this program replays version {VERSION}; use the version that wrote it"
    )]
    Version {
        /// The record's version.
        found: u32,
    },
    /// The same input gives another decision.
    #[error("the same input gives another decision: {field} was {recorded}, is {replayed}")]
    Decision {
        /// First field that differs.
        field: String,
        /// In the record.
        recorded: String,
        /// Now.
        replayed: String,
    },
    /// It cannot be written as JSON.
    #[error("the record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Record {
    /// Decides and writes it down.
    pub fn new(workload: impl Into<String>, input: Input) -> Self {
        let decision = decide(&input);
        Self { version: VERSION, workload: workload.into(), input, decision }
    }

    /// One JSON line without its line break.
    ///
    /// # Errors
    /// Never for records made by [`Record::new`].
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads a line of [`Record::to_line`].
    ///
    /// # Errors
    /// Not JSON, an unknown or missing field.
    pub fn from_line(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

/// Decides again and compares every bit.
///
/// # Errors
/// See [`Difference`].
pub fn replay(record: &Record) -> Result<(), Difference> {
    if record.version != VERSION {
        return Err(Difference::Version { found: record.version });
    }
    Ok(())
}

/// The record in words, a line per stage.
pub fn explain(record: &Record) -> String {
    record.decision.message.clone()
}
