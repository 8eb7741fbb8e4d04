//! The part of a process that is alike in every program of Sluice: logs, signals, metrics, admin port.
//!
//! A program's `main` reads its settings, calls [`logging::init`], [`metrics::install`] and
//! [`shutdown::on_signals`], binds its listeners, and runs [`admin::serve`] beside its own tasks.

pub mod admin;
#[cfg(feature = "lease")]
pub mod lease;
pub mod logging;
pub mod metrics;
pub mod openmetrics;
pub mod readiness;
pub mod shutdown;

pub use readiness::Readiness;
