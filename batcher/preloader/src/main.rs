//! sluice-preloader: reads the settings, runs, and tells how it ended.

use std::process::ExitCode;

use sluice_preloader::run::run;
use sluice_preloader::settings::{Flags, Settings};
use sluice_process::settings::{EXIT_USAGE, load};
use sluice_process::{command_line, logging};

fn main() -> ExitCode {
    // Fails only when there is one already, which is as good.
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
            eprintln!("sluice-preloader: {error}");
            ExitCode::from(EXIT_USAGE)
        })
}

fn start(settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(settings))
}
