//! The library as its clients see it: through nvml-wrapper and its raw bindings, loaded from an installation.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "nvml/client.rs"]
mod client;
#[path = "nvml/codes.rs"]
mod codes;
#[path = "nvml/events.rs"]
mod events;
#[path = "nvml/faults.rs"]
mod faults;
#[path = "nvml/lifecycle.rs"]
mod lifecycle;
#[path = "nvml/placements.rs"]
mod placements;
#[path = "nvml/processes.rs"]
mod processes;
