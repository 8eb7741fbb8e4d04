//! C ABI: NVML's functions by their names. All unsafe code of this crate is in this folder.
//!
//! Every function is declared through [`nvml!`], which adds the same frame to each: the fault points, the check that
//! the library is initialised, the latency, a stop for panics, and the conversion of the result to a return code.
#![allow(unsafe_code)]

mod compute_instance;
mod device;
mod event;
mod gpu_instance;
pub(crate) mod home;
mod lifecycle;
mod mig;
mod pointer;
mod telemetry;
mod unsupported;
mod version;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::code::Code;
use crate::fault::{FaultPoint, When};
use crate::session::{self, Session};

/// Names of the simulated functions, by file. Those in `unsupported` are not among them.
pub(crate) const NAMES: [&[&str]; 8] = [
    lifecycle::NAMES,
    version::NAMES,
    device::NAMES,
    telemetry::NAMES,
    mig::NAMES,
    gpu_instance::NAMES,
    compute_instance::NAMES,
    event::NAMES,
];

/// Declares exported functions. `|nvml|` names the open library in the body, which ends in a `Result<(), Code>`.
macro_rules! nvml {
    ($($(#[$attribute:meta])* fn $name:ident($($parameter:ident: $type:ty),* $(,)?) |$nvml:pat_param| $body:block)*) => {
        /// Names of the functions in this file.
        pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            $(#[$attribute])*
            #[allow(non_snake_case, clippy::too_many_arguments)]
            #[unsafe(no_mangle)]
            extern "C" fn $name($($parameter: $type),*) -> u32 {
                super::call(stringify!($name), |$nvml| $body)
            }
        )*
    };
}
use nvml;

/// Runs a function that needs the library initialised.
fn call(name: &str, body: impl FnOnce(Arc<Session>) -> Result<(), Code>) -> u32 {
    frame(name, || {
        let session = session::current()?;
        let latency = session.topology.latency_of(name);
        if !latency.is_zero() {
            std::thread::sleep(latency);
        }
        body(session)
    })
}

/// Runs any function between its two fault points. No panic leaves it.
fn frame(name: &str, body: impl FnOnce() -> Result<(), Code>) -> u32 {
    let guarded = || {
        let faults = FaultPoint::new(home::dir());
        faults.pass(name, When::Before)?;
        let result = body();
        faults.pass(name, When::After)?;
        result
    };
    match catch_unwind(AssertUnwindSafe(guarded)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}
