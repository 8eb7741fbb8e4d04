//! Faults for tests: files in `faults/` that make a call fail, or make it wait until a test has killed the caller.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::functions;

mod point;

pub(crate) use point::FaultPoint;

/// Fault: content of `faults/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Exact name of an NVML function, or `*` for all except `nvmlEventSetWait*`, which a driver calls all the time.
    /// `*` does not make `nvmlShutdown` fail either, because no state of the driver prevents that.
    pub function: String,
    /// Whether the fault strikes before or after the call's effect.
    pub when: When,
    /// What the fault does.
    pub action: Action,
    /// Return code of an `error`; 999 (unknown error) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// Number of matching calls that pass before the fault begins.
    #[serde(default)]
    pub skip: u32,
    /// Number of calls that the fault strikes; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// Side of the call's effect on which a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Before the effect: nothing has happened.
    Before,
    /// After the effect: it is in the state file, but the caller does not know it yet.
    After,
}

/// Action of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// The call writes a marker (see [`Blocked`]) and waits until the file of the fault is removed.
    Block,
    /// The call returns `code`.
    Error,
}

/// Content of the marker of a waiting call, `faults/<name>.<pid>-<n>.blocked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// Id of the waiting process.
    pub pid: u32,
    /// Function that it called.
    pub function: String,
    /// Side of the call's effect.
    pub when: When,
}

/// Reason why a fault cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The file system failed.
    #[error("cannot use the fault file {}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file is not YAML, or not a fault.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The name is not valid as a file name.
    #[error("`{name}` is not a fault's name: letters, digits, `-` and `_` only")]
    BadName {
        /// Given name.
        name: String,
    },
    /// No such function is simulated, so no call can match.
    #[error("function: `{function}` is not simulated; the nearest is `{nearest}`, and `*` stands for all")]
    UnknownFunction {
        /// Given function.
        function: String,
        /// Most similar name of a function.
        nearest: &'static str,
    },
    /// No call waited within the deadline.
    #[error("no call waits at the fault `{name}` after {waited:?}")]
    NothingBlocked {
        /// Name of the fault.
        name: String,
        /// Deadline.
        waited: Duration,
    },
}

impl Fault {
    /// Creates a fault that makes a call to `function` wait on a side of its effect.
    pub fn block(function: &str, when: When) -> Fault {
        Fault { function: function.to_owned(), when, action: Action::Block, code: None, skip: 0, count: None }
    }

    /// Creates a fault that makes a call to `function` return `code`.
    pub fn error(function: &str, when: When, code: Code) -> Fault {
        Fault { action: Action::Error, code: Some(code.0), ..Fault::block(function, when) }
    }

    /// Returns the fault with `calls` matching calls passing before it begins.
    pub fn after_calls(self, calls: u32) -> Fault {
        Fault { skip: calls, ..self }
    }

    /// Returns the fault limited to `calls` strikes.
    pub fn times(self, calls: u32) -> Fault {
        Fault { count: Some(calls), ..self }
    }

    /// Checks that the fault can strike.
    pub(crate) fn check(&self) -> Result<(), FaultError> {
        if self.function == "*" || functions::simulated().any(|name| name == self.function) {
            return Ok(());
        }
        let nearest = functions::nearest(&self.function);
        Err(FaultError::UnknownFunction { function: self.function.clone(), nearest })
    }

    fn matches(&self, function: &str, when: When) -> bool {
        let is_failed_shutdown = function == "nvmlShutdown" && self.action == Action::Error;
        let is_exempt = function.starts_with("nvmlEventSetWait") || is_failed_shutdown;
        let any = self.function == "*" && !is_exempt;
        self.when == when && (any || self.function == function)
    }
}
