//! The command `run`: prints a line per interval, then the report, and returns an exit code.

use std::path::{Path, PathBuf};

use tokio::sync::broadcast::error::RecvError;

use super::RunError;
use super::settings::Settings;
use crate::exit_code::{EXIT_FAILED, EXIT_INVALID, EXIT_OK};
use crate::plan::Plan;
use crate::report::threshold::Threshold;
use crate::report::{Report, html, text};

/// Reason why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A report could not be written.
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// Runs `plan`, prints its progress, writes the reports that `settings` name, and returns the exit code.
///
/// # Errors
/// [`ProgramError`]: the target cannot be reached, or a report cannot be written.
pub async fn run(settings: &Settings, plan: Plan, thresholds: &[Threshold]) -> Result<u8, ProgramError> {
    let signals = sluice_process::shutdown::on_signals().map_err(RunError::System)?;
    eprintln!("{} → {}: {}; {}", plan.name, plan.address, plan.load.describe(), plan.payload.describe());
    let mut run = super::start(plan).map_err(RunError::System)?;
    let mut intervals = run.subscribe();
    let stop = run.stop_token();
    loop {
        tokio::select! {
            interval = intervals.recv() => match interval {
                Ok(interval) => eprintln!("{}", text::live_line(&interval)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
            () = signals.cancelled(), if !stop.is_cancelled() => stop.cancel(),
        }
    }
    let mut report = run.finish().await?;
    report.judge(thresholds);
    println!("{}", text::report(&report));
    if let Some(path) = &settings.json {
        let json = serde_json::to_string_pretty(&report).map_err(std::io::Error::from);
        let written = json.and_then(|json| std::fs::write(path, json + "\n"));
        written.map_err(|source| write_error(path, source))?;
    }
    if let Some(path) = &settings.html {
        std::fs::write(path, html::run_page(&report)).map_err(|source| write_error(path, source))?;
    }
    Ok(exit_code(&report))
}

fn write_error(path: &Path, source: std::io::Error) -> ProgramError {
    ProgramError::Write { path: path.to_owned(), source }
}

/// Returns the exit code of a run. That of an invalid run wins over thresholds: its numbers are not the target's.
pub fn exit_code(report: &Report) -> u8 {
    match (report.valid, report.passed()) {
        (false, _) => EXIT_INVALID,
        (true, false) => EXIT_FAILED,
        (true, true) => EXIT_OK,
    }
}
