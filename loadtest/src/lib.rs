//! Load for inference services, and what it takes to trust its numbers: an open-loop generator that keeps
//! and reports its own schedule, a reference model server whose answers can be checked row by row, reports
//! and thresholds.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@reference`] | the function that the reference model computes and the generator checks |
//! | [`clock`] | time below a millisecond |
//! | [`model`] | `sluice-loadtest model`: the reference model server (simulated inference) |
//! | [`arrivals`] | pure: when requests are due |
//! | [`run`] | `sluice-loadtest run`, and the engine behind it for programs that drive load themselves |
//! | [`report`] | what a run found: JSON, text, page with charts; thresholds |
//! | [`tensor_text`] | numbers of JSON tensors |
//! | [`demo`] | `sluice-loadtest demo`: the whole of Sluice on one machine |
//! | [`compare`] | `sluice-loadtest compare`: the batcher beside the model alone, other proxies and other batchers |
//! | [`marked`] | processes of a run, found by the mark in their environment |
//! | [`admin_port`] | the other programs' metrics and upstreams |
//! | [`cli`] | the command line |

#![forbid(unsafe_code)]

pub mod admin_port;
pub mod arrivals;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod demo;

pub mod marked;
pub mod model;
pub mod reference;
pub mod report;
pub mod run;
pub mod tensor_text;
