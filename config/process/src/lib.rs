//! How every program of Sluice starts, reads settings, logs, listens, leads and stops.
//!
//! | module | feature | content |
//! |---|---|---|
//! | [`settings`] | – | file, environment and flags with one precedence; strict, with suggestions |
//! | [`printable`] | – | text from outside, made safe for a terminal and a log |
//! | [`atomic_file`] | – | files that are replaced whole, or not at all |
//! | [`backoff`] | – | growing pauses between attempts, with jitter |
//! | [`program`] | `runtime` | the prologue of a `main`: flags, settings, logs, threads, work, exit code |
//! | [`command_line`] | `runtime` | flags, and the exit code of wrong usage |
//! | [`logging`] | `runtime` | log lines as text or JSON, and their filter |
//! | [`files`] | `runtime` | the limit of open files |
//! | [`metrics`], [`openmetrics`] | `runtime` | the metrics registry, and its text |
//! | [`connections`] | `runtime` | limits and deadlines that the connections of every port keep to |
//! | [`admin`], [`readiness`] | `runtime` | the admin port: `/metrics`, `/livez`, `/readyz` |
//! | [`shutdown`] | `runtime` | SIGTERM and SIGINT |
//! | [`events`] | `events` | Kubernetes Events, published beside the work |
//! | [`lease`] | `lease` | which of several replicas acts |
//!
//! A program's `main` is one call of [`program::main`]; its `run` calls [`files::raise_limit`], [`metrics::install`] and
//! [`shutdown::on_signals`], binds its listeners, and runs [`admin::serve`] beside its own tasks.
//!
//! The default features are empty: a pure crate takes no runtime with this one.

#![forbid(unsafe_code)]

#[cfg(feature = "runtime")]
pub mod admin;
pub mod atomic_file;
pub mod backoff;
#[cfg(feature = "runtime")]
pub mod command_line;
#[cfg(feature = "runtime")]
pub mod connections;
#[cfg(feature = "events")]
pub mod events;
#[cfg(feature = "runtime")]
pub mod files;
#[cfg(feature = "lease")]
pub mod lease;
#[cfg(feature = "runtime")]
pub mod logging;
#[cfg(feature = "runtime")]
pub mod metrics;
#[cfg(feature = "runtime")]
pub mod openmetrics;
pub mod printable;
#[cfg(feature = "runtime")]
pub mod program;
#[cfg(feature = "runtime")]
pub mod readiness;
pub mod settings;
#[cfg(feature = "runtime")]
pub mod shutdown;

#[cfg(feature = "runtime")]
pub use readiness::Readiness;
