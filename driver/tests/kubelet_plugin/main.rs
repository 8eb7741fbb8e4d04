//! The real program against a stand-in for the kubelet, on a simulated NVML: sluice-driver is a process
//! of its own, called over its unix sockets, and told apart from what it says by the simulated GPUs' own
//! state.

// clippy.toml allows it in tests, which for clippy ends at the functions that bear #[test].
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
