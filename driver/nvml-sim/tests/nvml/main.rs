//! The library as its clients see it: through nvml-wrapper and its raw bindings, loaded from an installation.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod client;
mod codes;
mod events;
mod faults;
mod lifecycle;
mod placements;
mod processes;
