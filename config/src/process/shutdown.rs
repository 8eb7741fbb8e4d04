//! SIGTERM, SIGINT and a closed terminal as a token that every task watches.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT, or by the SIGHUP of a terminal that is closed.
///
/// SIGHUP is left as it is where standard input is no terminal: `nohup` ignores it there, and means it.
///
/// # Errors
/// When the signal handlers cannot be set.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = if std::io::stdin().is_terminal() { Some(signal(SignalKind::hangup())?) } else { None };
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            Some(_) = async { hangup.as_mut()?.recv().await } => "SIGHUP",
        };
        tracing::info!(signal = name, "Stopping.");
        cancelled.cancel();
    });
    Ok(token)
}
