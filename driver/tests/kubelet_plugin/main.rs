//! Tests of the real program with a stand-in for the kubelet, on a simulated NVML. sluice-driver is a process of its
//! own, called over its Unix sockets. The state of the simulated GPUs shows what it really did.

// clippy.toml allows it in tests, which for clippy are only the functions with #[test].
#![allow(clippy::unwrap_used)]

mod kubelet;
mod node;

mod devices;
mod gpu_faults;
mod kill;
mod lifecycle;
mod nvml_session;
mod publishing;
mod refusals;
mod upkeep;
