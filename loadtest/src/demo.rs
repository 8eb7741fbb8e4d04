//! `sluice-loadtest demo`: the whole of Sluice on one machine, compared with fixed replicas.
//!
//! Each arm of the comparison is a [`stack`] of its own: simulated GPUs, driver, gateway, autoscaler and model
//! servers. All arms get the same schedule of requests at the same time, so that a noisy machine is noisy for
//! all of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`], [`flags`], [`arm`] | what is run |
//! | [`stack`], [`process`], [`gpus`], [`kill`] | the programs: started, crashed on schedule, stopped |
//! | [`drive`] | the load and what is seen each second |
//! | [`live`], [`outcome`], [`table`], [`page`] | what is shown |
//! | [`leftovers`] | sockets that must not be left behind |

mod arm;
mod drive;
pub(crate) mod flags;
mod gpus;
mod kill;
mod leftovers;
mod live;
mod outcome;
mod page;
mod ports;
mod process;
pub(crate) mod settings;
mod stack;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use arm::Arm;
use drive::Driven;
use flags::DemoFlags;
use outcome::{ArmOutcome, DemoOutcome, Scaling};
use settings::DemoSettings;
use stack::{Run, Stack};

use crate::marked;

/// Reason why the demo has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The settings are wrong.
    #[error("{0}")]
    Settings(anyhow::Error),
    /// SIGINT or SIGTERM; everything was stopped.
    #[error("interrupted; everything was stopped")]
    Interrupted,
    /// A program, a generator or a file failed.
    #[error("{0}")]
    Failed(#[from] anyhow::Error),
    /// No signal handlers.
    #[error("signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// Runs the demo and returns its failures, as sentences; none means success.
///
/// # Errors
/// When it has no result. Everything is stopped in that case too.
pub(crate) async fn run(flags: DemoFlags, stop: CancellationToken) -> Result<Vec<String>, DemoError> {
    let settings = read_settings(flags.settings.as_deref()).map_err(DemoError::Settings)?;
    let bin_dir = match &flags.bin_dir {
        Some(dir) => std::path::absolute(dir).map_err(|error| anyhow!("--bin-dir: {error}"))?,
        None => own_folder()?,
    };
    check_kills(&flags.kill, &settings).map_err(DemoError::Settings)?;
    let run = Run::new(bin_dir)?;
    let report = flags.report.clone().unwrap_or_else(|| default_report(&run.bin_dir));
    // Found before the run, not after three minutes: that a file cannot be written.
    for file in std::iter::once(&report).chain(&flags.json) {
        write(file, "").map_err(DemoError::Settings)?;
    }
    let sweep = marked::Sweep::of(&run.id);
    let outcome = run_arms(&run, &arms(&flags, &settings), &settings, &flags, &stop).await;
    let mut left_behind: Vec<_> =
        sweep.end().into_iter().map(|(pid, command)| format!("process {pid}: {command}")).collect();
    for socket in leftovers::sockets(&run.dir) {
        // Folders that are kept hold logs, but no sockets of ended programs.
        let _ = std::fs::remove_file(&socket);
        left_behind.push(format!("socket {socket}"));
    }
    // The logs explain a failure.
    if flags.keep || matches!(outcome, Err(DemoError::Failed(_))) {
        say(&format!("Logs, journals, objects and decisions: {}", run.dir.display()));
    } else {
        let _ = std::fs::remove_dir_all(&run.dir);
    }
    let mut outcome = outcome?;
    outcome.left_behind = left_behind;
    publish(&outcome, &settings, &flags, &report)?;
    Ok(outcome.failures(flags.strict))
}

fn read_settings(file: Option<&Path>) -> anyhow::Result<DemoSettings> {
    let settings: DemoSettings = match file {
        Some(path) => sluice_process::settings::load(Some(path), &())?,
        None => serde_saphyr::from_str(settings::DEFAULT)?,
    };
    settings.validate()?;
    Ok(settings)
}

fn check_kills(kills: &[kill::Kill], settings: &DemoSettings) -> anyhow::Result<()> {
    match kills.iter().find(|kill| kill.at_s >= settings.duration_seconds) {
        Some(kill) => Err(anyhow!(
            "--kill at second {}: the run has only {} (durationSeconds)",
            kill.at_s,
            settings.duration_seconds
        )),
        None => Ok(()),
    }
}

fn own_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| anyhow!("own path: {error}"))?;
    own.parent().map(Path::to_owned).ok_or_else(|| anyhow!("{} has no folder", own.display()))
}

fn arms(flags: &DemoFlags, settings: &DemoSettings) -> Vec<Arm> {
    match flags.fixed {
        Some(replicas) => vec![Arm::fixed(replicas)],
        None if flags.alone => vec![Arm::autoscaled()],
        None => {
            vec![Arm::autoscaled(), Arm::fixed(settings.static_peak), Arm::fixed(settings.static_mean)]
        }
    }
}

async fn run_arms(
    run: &Run,
    arms: &[Arm],
    settings: &DemoSettings,
    flags: &DemoFlags,
    stop: &CancellationToken,
) -> Result<DemoOutcome, DemoError> {
    say(&format!(
        "Starting {} on simulated GPUs ({}), each arm with a stack of its own.",
        arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(", "),
        settings.gpus.join(" + ")
    ));
    let starting = join_all(arms.iter().map(|arm| Stack::start(run, arm, settings)));
    let started = tokio::select! {
        started = starting => started,
        // Stacks that were still starting are removed as leftovers.
        () = stop.cancelled() => return Err(DemoError::Interrupted),
    };
    let mut stacks = Vec::new();
    let mut failure = None;
    for stack in started {
        match stack {
            Ok(stack) => stacks.push(stack),
            Err(error) => failure = Some(error),
        }
    }
    let driven = match failure {
        Some(error) => Err(DemoError::Failed(error)),
        None => {
            for (arm, stack) in arms.iter().zip(&stacks) {
                say(&arm.name);
                stack.describe().await.iter().for_each(|line| say(&format!("  {line}")));
            }
            drive::all(run, arms, &stacks, settings, &flags.kill, stop).await
        }
    };
    let ends = join_all(stacks.into_iter().map(Stack::stop)).await;
    let mut errors = Vec::new();
    let outcomes = arms.iter().zip(driven?).zip(ends).map(|((arm, driven), end)| {
        errors.extend(end.errors);
        let Driven { load, samples } = driven;
        ArmOutcome {
            name: arm.name.clone(),
            static_replicas: outcome::static_replicas(arm.replicas),
            load,
            scaling: Scaling::of(&samples),
            slice_seconds: end.slice_seconds,
            slices_left: end.slices_left,
            restarts: end.restarts,
            samples,
        }
    });
    Ok(DemoOutcome {
        arms: outcomes.collect(),
        objective_ms: settings.objective.latency_ms,
        objective_attainment: settings.objective.percentile / 100.0,
        left_behind: Vec::new(),
        errors,
    })
}

/// Returns the folder of logs and reports: beside that of the programs, so that a checkout stays clean.
fn default_report(bin_dir: &Path) -> PathBuf {
    bin_dir.parent().unwrap_or(bin_dir).join("sluice-demo/report.html")
}

fn publish(
    outcome: &DemoOutcome,
    settings: &DemoSettings,
    flags: &DemoFlags,
    report: &Path,
) -> anyhow::Result<()> {
    say(table::text(outcome).trim_end());
    write(report, &page::html(outcome, settings, flags.strict))?;
    say(&format!("Report: {}", report.display()));
    if let Some(path) = &flags.json {
        write(path, &format!("{:#}\n", outcome.to_json(flags.strict)))?;
    }
    Ok(())
}

/// Prints a line on standard output. Ignores that the reader has closed it (`| head`), where `println!` would panic.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| anyhow!("{}: {error}", path.display()))
}
