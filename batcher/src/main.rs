//! Reads settings, binds the listeners, runs, and says by its exit code how it went.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use sluice_batcher::batcher::{Listeners, run};
use sluice_batcher::cli::Flags;
use sluice_batcher::metrics::buckets;
use sluice_batcher::settings::{Live, Reload, Settings};
use sluice_process::settings::{EXIT_USAGE, load};
use sluice_process::{command_line, files, logging, metrics, shutdown};
use tokio::net::TcpListener;
use tokio::sync::Notify;

fn main() -> ExitCode {
    let flags: Flags = match command_line::parse() {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    let settings = match settings(&flags) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("sluice-batcher: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let reload = flags.config.clone().map(|file| {
        Reload::new(file, move || load(flags.config.as_deref(), &flags).map_err(|error| error.to_string()))
    });
    match start(settings, reload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "The batcher cannot run.");
            ExitCode::FAILURE
        }
    }
}

fn settings(flags: &Flags) -> Result<Settings, String> {
    let settings: Settings = load(flags.config.as_deref(), flags).map_err(|error| error.to_string())?;
    settings.validate().map_err(|error| error.to_string())?;
    logging::init(settings.log_format, &settings.log_level)?;
    Ok(settings)
}

fn start(settings: Settings, reload: Option<Reload>) -> anyhow::Result<()> {
    let mut runtime = match settings.worker_threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            if threads > 0 {
                builder.worker_threads(threads);
            }
            builder
        }
    };
    runtime.enable_all().build().context("the runtime")?.block_on(async {
        let (stop, hangups) = shutdown::on_signals_and_hangups().context("signal handlers")?;
        files::raise_limit();
        let buckets = buckets(settings.objective_ms, settings.max_batch_rows);
        let buckets: Vec<(&str, &[f64])> =
            buckets.iter().map(|(name, bounds)| (*name, bounds.as_slice())).collect();
        let metrics = metrics::install(&buckets).map_err(anyhow::Error::msg)?;
        let bind = async |address, what| {
            TcpListener::bind(address).await.with_context(|| format!("{what} {address}"))
        };
        let listeners = Listeners {
            front: bind(settings.listen, "front port").await?,
            admin: bind(settings.admin_listen, "admin port").await?,
        };
        tracing::info!(role = ?settings.role, listen = %settings.listen, admin = %settings.admin_listen, "The batcher is up.");
        let live = Live::new(settings);
        match reload {
            Some(reload) => drop(tokio::spawn(reload.run(live.clone(), hangups, stop.clone()))),
            None => drop(tokio::spawn(without_file(hangups))),
        }
        run(live, listeners, metrics, stop).await;
        Ok(())
    })
}

/// Answers those who wish for a reload where there is nothing to read again.
async fn without_file(hangups: Arc<Notify>) {
    loop {
        hangups.notified().await;
        tracing::info!("SIGHUP changes nothing: there is no settings file (--config).");
    }
}
