//! Gives opted-in pods what an inference pod needs: a sidecar in front of its model, and a scheduling gate that
//! holds its placement until a slice is free.
//!
//! | module | content |
//! |---|---|
//! | [`settings`] | flags and settings |
//! | [`inject`] | what is added to a pod, and which pods are refused (pure) |
//! | `gates` | which gates to lift, and why the others stay (pure) |
//! | `lifting` | watches pods and the inventory, and lifts gates |
//! | [`webhook`] | HTTPS for the API server |
//! | [`certificates`] | the webhook's certificate: created, renewed, trusted |
//! | `metrics` | metrics of the webhook |
//! | [`run`] | wiring: webhook, certificates, gates |

#![allow(missing_docs)] // A program: only its own modules and tests read most of it.

pub mod certificates;
mod gates;
pub mod inject;
mod lifting;
mod metrics;
pub mod run;
pub mod settings;
pub mod webhook;
