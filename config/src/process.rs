//! The part of a process that is alike in every program of Sluice: logs, signals, metrics, admin port.
//!
//! A program's `main` reads its settings, calls [`logging::init`], [`files::raise_limit`], [`metrics::install`] and
//! [`shutdown::on_signals`], binds its listeners, and runs [`admin::serve`] beside its own tasks. Every port that it
//! opens keeps to the rules of [`connections`].

pub mod admin;
pub mod command_line;
pub mod connections;
pub mod files;
#[cfg(feature = "lease")]
pub mod lease;
pub mod logging;
pub mod metrics;
pub mod openmetrics;
pub mod readiness;
pub mod shutdown;

pub use readiness::Readiness;
