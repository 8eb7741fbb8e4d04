//! sluice-driver: reads the settings, runs the driver, and reports how it ended.

use std::process::ExitCode;

use sluice_driver::run::run;
use sluice_driver::settings::{Flags, Settings};
use sluice_process::settings::{EXIT_USAGE, load};
use sluice_process::{command_line, logging};

fn main() -> ExitCode {
    // An error only means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = match settings() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<Settings, ExitCode> {
    let flags: Flags = command_line::parse()?;
    load::<Settings>(flags.config.as_deref(), &flags)
        .map_err(|error| error.to_string())
        .and_then(Settings::checked)
        .and_then(|settings| {
            logging::init(settings.log_format, &settings.log_level)?;
            Ok(settings)
        })
        .map_err(|error| {
            eprintln!("sluice-driver: {error}");
            ExitCode::from(EXIT_USAGE)
        })
}

fn start(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run(settings));
    // Does not wait for a thread that hangs in NVML.
    runtime.shutdown_background();
    Ok(ended?)
}
