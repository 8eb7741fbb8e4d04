//! Load for inference services, and what it takes to trust its numbers: an open-loop generator that keeps
//! and reports its own schedule, a reference model server whose answers can be checked row by row, reports
//! and thresholds.
//!
//! | to change | look in |
//! |---|---|
//! | flags, help texts, exit codes | `cli`, `exit_code`, the `flags.rs` of each subcommand |
//! | when requests are due: rates, traces, spacing | `arrivals` |
//! | what a run does: load, payload, protocols | `plan` |
//! | how requests are sent, how responses are checked | `run` |
//! | what is counted: outcomes, percentiles, intervals | `record` |
//! | thresholds; reports as JSON, text and page | `report` |
//! | the reference model server (simulated inference) | `model`; the function that it computes: `reference` |
//! | the demo of the whole of Sluice on one machine | `demo` |
//! | the comparison with other proxies and batchers | `compare` |
//! | what several of these use: a clock below a millisecond, JSON tensors, processes of a run, admin ports | `clock`, `tensor_text`, `marked`, `admin_port` |

#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod admin_port;
pub mod arrivals;
mod cli;
mod clock;
pub mod commands;
mod compare;
mod demo;
mod exit_code;
mod marked;
pub mod model;
mod plan;
mod record;
mod reference;
pub mod report;
pub mod run;
mod tensor_text;

pub use cli::Cli;
