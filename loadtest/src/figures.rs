//! `sluice-loadtest figures`: what the batcher costs and gains, side by side in one run. A reference model
//! (simulated inference) alone and the same behind a sluice-batcher sidecar take turns under the same closed
//! loops, several rounds, so that a change of the machine's mood meets both.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | settings and flags |
//! | [`summary`] | pure: rounds → smallest, median, largest; added latency, ratio; the table |
//! | `children` | the two programs as child processes |

mod children;
pub mod settings;
pub mod summary;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use children::{Child, ChildError, free_address};
use settings::Settings;
use summary::{Arm, Measurement, Summary};

use crate::run::mix::Mix;
use crate::run::{self, Load, Payload, Plan, RunError};

/// Sent before each measurement and not counted: connections, curve and caches settle.
const SETTLE: Duration = Duration::from_millis(500);
/// Time for a child to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum FiguresError {
    /// A program could not be started or stopped.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A measurement failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Requests were lost or failed: latency of the rest would flatter.
    #[error("{arm}, {concurrency} clients: {wrong} of {requests} requests were not answered correctly")]
    NotAllAnswered {
        /// Which side.
        arm: Arm,
        /// Clients.
        concurrency: usize,
        /// Requests that were rejected, failed or lost.
        wrong: u64,
        /// All requests.
        requests: u64,
    },
    /// The summary cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Starts both programs, measures, stops them, and prints the table.
///
/// # Errors
/// [`FiguresError`].
pub async fn run(settings: &Settings, mix: &Mix) -> Result<Summary, FiguresError> {
    let bin_dir = settings.bin_dir()?;
    let model_address = free_address()?;
    let model_admin = free_address()?;
    let batcher_address = free_address()?;
    let batcher_admin = free_address()?;
    let model = Child::start(
        &bin_dir,
        "sluice-loadtest",
        &[
            "model",
            "--listen",
            &model_address.to_string(),
            "--admin-listen",
            &model_admin.to_string(),
            "--alpha-ms",
            &settings.alpha_ms.to_string(),
            "--beta-ms",
            &settings.beta_ms.to_string(),
            "--max-batch-rows",
            &settings.max_batch_rows.to_string(),
            "--log-level",
            "warn",
        ],
    )?;
    model.wait_ready(model_admin, START_TIMEOUT).await?;
    let batcher = Child::start(
        &bin_dir,
        "sluice-batcher",
        &[
            "--listen",
            &batcher_address.to_string(),
            "--admin-listen",
            &batcher_admin.to_string(),
            "--upstream",
            &model_address.to_string(),
            "--models",
            "reference",
            "--max-batch-rows",
            &settings.max_batch_rows.to_string(),
            "--objective-ms",
            &settings.objective_ms.to_string(),
            "--log-level",
            "warn",
        ],
    )?;
    batcher.wait_ready(batcher_admin, START_TIMEOUT).await?;

    let arms = [(Arm::Model, model_address), (Arm::Batcher, batcher_address)];
    let mut measurements = Vec::new();
    for round in 0..settings.rounds {
        for concurrency in &settings.concurrency {
            // Who goes first changes from round to round.
            for turn in 0..arms.len() {
                let (arm, address) = arms[(turn + round) % arms.len()];
                let measurement = measure(settings, mix, arm, address, *concurrency, round).await?;
                eprintln!("{measurement}");
                measurements.push(measurement);
            }
        }
    }
    batcher.stop().await?;
    model.stop().await?;
    Ok(Summary::of(settings, measurements))
}

async fn measure(
    settings: &Settings,
    mix: &Mix,
    arm: Arm,
    address: SocketAddr,
    concurrency: usize,
    round: usize,
) -> Result<Measurement, FiguresError> {
    let plan = |duration| Plan {
        name: format!("{arm}, {concurrency} clients"),
        address,
        payload: Payload::Reference {
            model: "reference".to_owned(),
            mix: mix.clone(),
            rows: 1,
            verify: true,
            first_id: 1,
        },
        load: Load::Closed { concurrency, duration },
        timeout: Duration::from_secs(10),
        objective: None,
        connections: concurrency,
        max_in_flight: concurrency,
        interval: Duration::from_secs(1),
        seed: round as u64,
    };
    run::start(plan(SETTLE)).map_err(RunError::System)?.finish().await?;
    let duration = Duration::from_millis(settings.duration_ms);
    let report = run::start(plan(duration)).map_err(RunError::System)?.finish().await?;
    let wrong = report.requests - report.counts.answered;
    match report.latency {
        Some(latency) if wrong == 0 => Ok(Measurement {
            round,
            arm,
            concurrency,
            requests: report.requests,
            throughput_rps: report.throughput_rps,
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
        }),
        _ => Err(FiguresError::NotAllAnswered { arm, concurrency, wrong, requests: report.requests }),
    }
}

/// Writes the summary where `settings` say.
///
/// # Errors
/// Names the file.
pub fn write(settings: &Settings, summary: &Summary) -> Result<(), FiguresError> {
    let Some(path) = &settings.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(summary).map_err(std::io::Error::from);
    let written = text.and_then(|text| std::fs::write(path, text + "\n"));
    written.map_err(|source| FiguresError::Write { path: path.clone(), source })
}
