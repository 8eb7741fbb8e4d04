//! Gives opted-in pods what an inference pod needs: a sidecar in front of its model, and a scheduling gate that
//! holds its placement until a slice is free.
//!
//! | module | what is there |
//! |---|---|
//! | [`settings`] | what can be set |
//! | [`inject`] | what is added to a pod, and which pods are refused (pure) |
//! | [`gates`] | which gates to lift, and why the others stay (pure) |
//! | [`lifting`] | watches, and lifts gates |
//! | [`webhook`] | HTTPS for the API server |
//! | [`certificates`] | the webhook's certificate: made, renewed, trusted |
//! | [`metrics`] | what is measured |
//! | [`run`] | wiring: webhook, certificates, gates |

pub mod certificates;
pub mod gates;
pub mod inject;
pub mod lifting;
pub mod metrics;
pub mod run;
pub mod settings;
pub mod webhook;
