//! `sluice-driver`: reads flags and settings, runs, returns the exit code.

use std::process::ExitCode;

use sluice_driver::run::run;
use sluice_driver::settings::{Flags, Settings};
use sluice_process::program::{self, Program};
use sluice_process::settings::load;

fn main() -> ExitCode {
    // An error only means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    program::main("sluice-driver", |flags: Flags| {
        let settings = load::<Settings>(flags.config.as_deref(), &flags)?.checked()?;
        let (format, level) = (settings.log_format, settings.log_level.clone());
        // Does not wait for a thread that hangs in NVML.
        Ok(Program::new(format, &level, run(settings)).without_waiting_for_threads())
    })
}
