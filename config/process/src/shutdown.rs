//! Signals: SIGTERM, SIGINT and a closed terminal as a token that every task watches; SIGHUP as a wish to reload.

use std::io::IsTerminal;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Returns a token that is cancelled by the first SIGTERM or SIGINT, or by the SIGHUP of a terminal that is closed.
///
/// Where standard input is no terminal, SIGHUP changes nothing but a log line: it must not kill what has requests
/// under way, and such a program reads its settings once.
///
/// # Errors
/// When the signal handlers cannot be set.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    listen(|| tracing::info!("SIGHUP changes nothing: settings are read at the start; restart for others."))
}

/// Returns the same token, and what is notified of SIGHUP, for programs that read their settings again.
///
/// # Errors
/// When the signal handlers cannot be set.
pub fn on_signals_and_hangups() -> std::io::Result<(CancellationToken, Arc<Notify>)> {
    let hangups = Arc::new(Notify::new());
    let told = Arc::clone(&hangups);
    // Kept until somebody waits: several that come at once are one wish.
    Ok((listen(move || told.notify_one())?, hangups))
}

fn listen(on_hangup: impl Fn() + Send + 'static) -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let of_terminal = std::io::stdin().is_terminal();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = loop {
            tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hangup.recv() => if of_terminal { break "SIGHUP" } else { on_hangup() },
            }
        };
        tracing::info!(signal = name, "Stopping.");
        cancelled.cancel();
    });
    Ok(token)
}
