//! `sluice-preloader`: reads flags and settings, runs, returns the exit code.

use std::process::ExitCode;

use sluice_preloader::run::run;
use sluice_preloader::settings::{Flags, Settings};
use sluice_process::program::{self, Program, Threads};
use sluice_process::settings::load;

fn main() -> ExitCode {
    // An error only means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    program::main("sluice-preloader", |flags: Flags| {
        let settings = load::<Settings>(flags.config.as_deref(), &flags)?.checked()?;
        let (format, level) = (settings.log_format, settings.log_level.clone());
        Ok(Program::new(format, &level, run(settings)).on(Threads::Many(2)))
    })
}
