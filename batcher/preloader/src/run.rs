//! The whole program: what runs in which mode.

use crate::settings::Settings;

/// Runs until a signal comes.
///
/// # Errors
/// When it cannot start: what, and what to do.
pub async fn run(_settings: Settings) -> anyhow::Result<()> {
    Ok(())
}
