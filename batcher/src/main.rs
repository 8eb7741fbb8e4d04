//! `sluice-batcher`: reads flags and settings, binds the ports and runs the batcher.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use sluice_batcher::cli::Flags;
use sluice_batcher::metrics::buckets;
use sluice_batcher::run::{Listeners, run};
use sluice_batcher::settings::{Live, Reload, Settings};
use sluice_process::program::{self, Program, Threads};
use sluice_process::settings::load;
use sluice_process::{files, metrics, shutdown};
use tokio::net::TcpListener;
use tokio::sync::Notify;

fn main() -> ExitCode {
    program::main("sluice-batcher", |flags: Flags| {
        let settings: Settings = load(flags.config.as_deref(), &flags)?;
        settings.validate()?;
        let (format, level) = (settings.process.log_format, settings.process.log_level.clone());
        let threads = match settings.process.worker_threads {
            0 => Threads::PerCore,
            1 => Threads::One,
            threads => Threads::Many(threads),
        };
        let reload = flags.config.clone().map(|file| {
            Reload::new(file, move || {
                load(flags.config.as_deref(), &flags).map_err(|error| error.to_string())
            })
        });
        Ok(Program::new(format, &level, start(settings, reload)).on(threads))
    })
}

async fn start(settings: Settings, reload: Option<Reload>) -> anyhow::Result<()> {
    let (stop, hangups) = shutdown::on_signals_and_hangups().context("signal handlers")?;
    files::raise_limit();
    let buckets = buckets(settings.batching.objective_ms, settings.batching.max_batch_rows);
    let buckets: Vec<(&str, &[f64])> =
        buckets.iter().map(|(name, bounds)| (*name, bounds.as_slice())).collect();
    let metrics = metrics::install(&buckets).map_err(anyhow::Error::msg)?;
    let bind =
        async |address, what| TcpListener::bind(address).await.with_context(|| format!("{what} {address}"));
    let listeners = Listeners {
        front: bind(settings.process.listen, "front port").await?,
        admin: bind(settings.process.admin_listen, "admin port").await?,
    };
    tracing::info!(role = ?settings.servers.role, listen = %settings.process.listen, admin = %settings.process.admin_listen, "The batcher is up.");
    let live = Live::new(settings);
    match reload {
        Some(reload) => drop(tokio::spawn(reload.run(live.clone(), hangups, stop.clone()))),
        None => drop(tokio::spawn(without_file(hangups))),
    }
    run(live, listeners, metrics, stop).await;
    Ok(())
}

/// Logs a line at each SIGHUP when there is no settings file to reload.
async fn without_file(hangups: Arc<Notify>) {
    loop {
        hangups.notified().await;
        tracing::info!("SIGHUP changes nothing: there is no settings file (--config).");
    }
}
