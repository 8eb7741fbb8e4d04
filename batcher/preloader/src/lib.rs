//! Gives opted-in pods what an inference pod needs: a sidecar in front of its model, and a scheduling gate that
//! holds its placement until a slice is free.
//!
//! | module | what is there |
//! |---|---|
//! | [`settings`] | what can be set |
//! | [`inject`] | what is added to a pod, and which pods are refused (pure) |
//! | [`run`] | wiring: webhook, certificates, gates |

pub mod inject;
pub mod run;
pub mod settings;
