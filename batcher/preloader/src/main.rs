//! sluice-preloader: reads the settings, runs, and tells how it ended.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use sluice_config::process::logging;
use sluice_config::settings::{EXIT_USAGE, load};
use sluice_preloader::run::run;
use sluice_preloader::settings::{Flags, Settings};

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
    let flags = Flags::try_parse().map_err(|error| {
        // Nobody is there to read it when this fails.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
            _ => ExitCode::from(EXIT_USAGE),
        }
    })?;
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
