//! A simulated `libnvidia-ml.so.1`: simulated GPUs behind NVML's real C ABI.
//!
//! Whoever speaks NVML (a driver, nvidia-ml-py, a monitor) runs on it unmodified and finds GPUs that can be cut into MIG
//! instances, created, listed and destroyed by several processes at once. The library needs no configuration beyond the
//! folder that it lies in:
//!
//! - `topology.yaml` says which GPUs there are ([`topology`]),
//! - `state.json` holds the instances and the events ([`state`]); all processes share it,
//! - `faults/` makes calls fail or wait ([`fault`]), so that a test can kill a process before or after any call's effect.
//!
//! A test or a demonstration makes such a folder with [`install`] and works on it through [`Installation`].
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`geometry`] | what each model can be cut into, as tables |
//! | `mig` | which changes MIG allows: pure, with NVML's return codes |
//! | [`state`], `store` | what processes share, and the file that it lies in |
//! | [`topology`], `identity`, `functions` | the GPUs, their derived names, the names of NVML's functions |
//! | [`fault`], `waiting` | calls that fail or wait; events that a process waits for |
//! | `handles`, `session` | what one process has open |
//! | `abi` | the exported C functions; all that is unsafe |
//! | [`installation`] | the side of tests and demonstrations |

mod abi;
pub mod code;
pub mod fault;
pub mod functions;
pub mod geometry;
mod handles;
mod identity;
pub mod installation;
mod mig;
mod session;
pub mod state;
mod store;
pub mod topology;
mod waiting;

pub use code::Code;
pub use fault::{Fault, When};
pub use installation::{Installation, Instance, built_library, install};
pub use topology::Topology;

/// Says on the standard error output what the return code alone cannot: a library has no log of its own.
fn report(error: &dyn std::error::Error) {
    eprintln!("libnvidia-ml (simulated): {error}.");
}
