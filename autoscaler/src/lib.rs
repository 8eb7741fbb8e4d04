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
//! - [`settings`], [`run`]: what the program is told, and how its parts are wired
//! - [`manifests`]: the objects, read again when their files change
//! - [`controller`]: the loop; [`signals`]: what is measured; [`capacity`]: what is free; [`spec`]: the
//!   object as the policy wants it
//! - [`contest`]: whether others set the replicas back
//! - [`platform`]: where replicas live; [`platform::local`]: processes on this machine
//! - [`decisions`], [`replay`]: the log and its proof; [`status`], [`status_store`]: what the object says; [`metrics`]: what the metrics say
//! - [`cli`]: `kubectl sluice`
//!
//! Numbers are decided in `sluice-scaling-policy`, slices counted in `sluice-inventory`; both are pure.
#![forbid(unsafe_code)]

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
