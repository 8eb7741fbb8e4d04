//! Faults on demand: files in `faults/` that make a call fail, or make it wait until a test has killed the caller.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::functions;

mod gate;

pub(crate) use gate::FaultGate;

/// One fault: the contents of `faults/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// An NVML function by its exact name, or `*` for all but `nvmlEventSetWait*` (which a driver calls all the time);
    /// nor does `*` fail `nvmlShutdown`, which no state of the driver keeps from its work.
    pub function: String,
    /// Before or after the call's effect.
    pub when: When,
    /// What happens.
    pub action: Action,
    /// The return code of `error`; 999 (unknown error) where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// Matching calls that go through before the fault begins.
    #[serde(default)]
    pub skip: u32,
    /// Calls that it hits; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// On which side of the call's effect a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Nothing has happened yet.
    Before,
    /// The effect is in the state file; the caller does not know it yet.
    After,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// The call writes a marker (see [`Blocked`]) and waits until the fault's file is gone.
    Block,
    /// The call returns `code`.
    Error,
}

/// The marker of a waiting call, `faults/<name>.<pid>-<n>.blocked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// The process that waits.
    pub pid: u32,
    /// The function that it called.
    pub function: String,
    /// The side of the effect.
    pub when: When,
}

/// Why a fault file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The file system refused.
    #[error("cannot use the fault file {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Not YAML, or not of this shape.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The name is not fit for a file.
    #[error("`{name}` is not a fault's name: letters, digits, `-` and `_` only")]
    BadName {
        /// What was given.
        name: String,
    },
    /// No call can ever match.
    #[error("function: `{function}` is not simulated; the nearest is `{nearest}`, and `*` stands for all")]
    UnknownFunction {
        /// What was given.
        function: String,
        /// What may have been meant.
        nearest: &'static str,
    },
    /// Nothing waited within the deadline.
    #[error("no call waits at the fault `{name}` after {waited:?}")]
    NothingBlocked {
        /// The fault.
        name: String,
        /// The deadline.
        waited: Duration,
    },
}

impl Fault {
    /// A call to `function` waits, on this side of its effect.
    pub fn block(function: &str, when: When) -> Fault {
        Fault { function: function.to_owned(), when, action: Action::Block, code: None, skip: 0, count: None }
    }

    /// A call to `function` returns `code`.
    pub fn error(function: &str, when: When, code: Code) -> Fault {
        Fault { action: Action::Error, code: Some(code.0), ..Fault::block(function, when) }
    }

    /// The same, after `calls` matching calls went through.
    pub fn after_calls(self, calls: u32) -> Fault {
        Fault { skip: calls, ..self }
    }

    /// The same, for the first `calls` hits only.
    pub fn times(self, calls: u32) -> Fault {
        Fault { count: Some(calls), ..self }
    }

    /// Refuses a fault that can never strike.
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
