//! Request batcher: sidecar of an inference pod, or gateway in front of several model servers.
//!
//! Requests come in over one port ([`front`]), wait in one queue per model ([`queue`]) and leave as batches over
//! connections to model servers that are known to be warm ([`upstream`]). What to admit, when to cut and how fast
//! the model is, is decided by the pure crate `sluice-batch-policy`; how bodies are merged and split, by the pure
//! crate `sluice-protocol`. This crate is the sockets, tasks and timers around them.
//!
//! | state | its only owner |
//! |---|---|
//! | what waits, free slots, the service curve of one model | [`queue::owner`], a task per model |
//! | epoch and barrier of one model server | [`upstream::monitor`], a task per model server |
//! | membership | [`upstream::members`], one task |
//! | who waits and runs of one model's streams, and their limit | `streams::owner`, a task per model |
//! | answers until they are taken, and which are given up | [`answers::relief`], one task |
//! | a batch under way, and its connection | [`queue::dispatch`], a task per batch |
//!
//! [`run::run`] wires them; everything that it needs from outside (listeners, stop signal) is given to it.

#![forbid(unsafe_code)]

pub mod address;
pub mod admin;
pub mod after_drain;
pub mod answers;
pub mod cli;
pub mod clock;
pub mod confirm;
pub mod drain;
pub mod failure;
pub mod forward;
pub mod front;
pub mod hop_by_hop;
pub mod labels;
pub mod media_type;
pub mod metrics;
pub mod observe;
pub mod offload;
pub mod queue;
pub mod registry;
pub mod retry_after;
pub mod run;
pub mod settings;
pub mod slots;
pub mod streams;
pub mod upload;
pub mod upstream;
