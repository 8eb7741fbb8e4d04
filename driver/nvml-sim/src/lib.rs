//! Simulated `libnvidia-ml.so.1`: simulated GPUs behind NVML's real C ABI.
//!
//! A client of NVML (a driver, nvidia-ml-py, a monitor) runs on it unmodified and finds GPUs with MIG. Several
//! processes can create, list and destroy MIG instances at a time. The library needs no configuration beyond the
//! folder that contains it:
//!
//! - `topology.yaml` lists the GPUs ([`topology`]),
//! - `state.json` holds the instances and events ([`state`]), which all processes share,
//! - `faults/` makes calls fail or wait ([`fault`]), so that a test can kill a process before or after the effect of
//!   any call.
//!
//! A test or a demonstration creates such a folder with [`install`] and uses it through [`Installation`].
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`geometry`] | MIG profiles of each model, as tables |
//! | `mig` | changes that MIG allows: pure, with NVML's return codes |
//! | [`state`], `store` | state that processes share, and its file |
//! | [`topology`], `identity`, `functions` | the GPUs, their derived UUIDs, the names of NVML's functions |
//! | [`fault`], `waiting` | calls that fail or wait; events that a process waits for |
//! | `handles`, `session` | open handles and sessions of one process |
//! | `abi` | exported C functions; all unsafe code |
//! | [`installation`] | use by tests and demonstrations |

mod abi;
pub mod code;
pub mod fault;
mod functions;
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

/// Prints an error to standard error, because a return code alone does not explain it and a library has no log.
fn report(error: &dyn std::error::Error) {
    eprintln!("libnvidia-ml (simulated): {error}.");
}
