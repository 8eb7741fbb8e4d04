//! Scales inference deployments on latency percentiles and on free GPU slices.
//!
//! ```text
//!  object files ─▶ manifests ─▶ controller (a task per InferenceAutoscaler)
//!                                 │ each tick:
//!  batchers ──/metrics──▶ signals ┤            ┌▶ decisions (log, made to be replayed)
//!  platform ──slices────▶ capacity┼▶ decide ───┼▶ status (conditions, last decisions)
//!  platform ──replicas────────────┘ (pure)     └▶ platform.set_replicas
//! ```
//!
//! - [`settings`], [`run`]: settings, and the wiring of the parts
//! - `manifests`: object files, read again when they change; `kubernetes`: objects, status and Events of a cluster
//! - `controller`: the loop; `signals`: reading of metrics; [`capacity`]: free slices; `spec`: from the object to the
//!   policy's specification; `contest`: detection of others that set the replicas back
//! - [`platform`]: replicas as pods of a cluster, or as processes on this machine
//! - `decisions`, [`replay`]: the decision log and its replay; `status`, `status_store`: the objects' status; `metrics`
//! - [`cli`]: `kubectl sluice`
//!
//! Numbers are decided in `sluice-scaling-policy`, slices counted in `sluice-inventory`; both are pure.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "the library of a program: only its own binaries and tests use it")]

mod announcements;
pub mod capacity;
pub mod cli;
mod clock;
mod contest;
mod controller;
mod controllers;
mod decisions;
pub mod fetch;
mod kubernetes;
mod manifests;
mod metrics;
pub mod platform;
pub mod replay;
pub mod run;
pub mod settings;
mod signals;
mod spec;
mod status;
mod status_store;
