//! The C ABI: NVML's functions by their names. All that is unsafe in this crate lies here and below.
//!
//! Every function is declared through [`nvml!`], which gives it the same frame: the fault gate, the check that the
//! library is initialised, the latency, a stop for panics, and the translation of the result into a return code.
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
use crate::fault::{FaultGate, When};
use crate::session::{self, Session};

/// The simulated functions, file by file. What `unsupported` lists is not among them.
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
        /// The functions of this file.
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

/// A call of a function that needs the library initialised.
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

/// A call of any function: the fault gate on both sides, and no panic beyond this point.
fn frame(name: &str, body: impl FnOnce() -> Result<(), Code>) -> u32 {
    let guarded = || {
        let gate = FaultGate::new(home::dir());
        gate.pass(name, When::Before)?;
        let result = body();
        gate.pass(name, When::After)?;
        result
    };
    match catch_unwind(AssertUnwindSafe(guarded)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}
