//! sluice-autoscaler: parses the command line, runs the program or a replay, and returns the exit code.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_autoscaler::replay::replay_file;
use sluice_autoscaler::run::{RunError, run};
use sluice_autoscaler::settings::{Flags, Settings};
use sluice_process::command_line;
use sluice_process::printable::printable_lines;
use sluice_process::program::{self, Program};
use sluice_process::settings::load;

/// The program's name in messages.
const NAME: &str = "sluice-autoscaler";

/// Keeps inference deployments inside their latency objective on as few GPU slices as possible.
///
/// On one machine (--platform local) it reads InferenceAutoscaler and LocalDeployment objects from YAML
/// files, measures demand at the batchers, finds free slices, claims them, and starts and stops
/// model-server processes behind a gateway:
///
///   sluice-autoscaler --objects bert.yaml --store /var/lib/sluice/store
///
/// In a cluster (--platform kubernetes) it watches InferenceAutoscalers, measures demand at the sidecars
/// of their targets' pods, and patches the targets' scale; of several replicas one acts.
///
/// Why it scaled or did not: kubectl-sluice explain NAME. What is free: kubectl-sluice capacity.
#[derive(Parser)]
#[command(version, verbatim_doc_comment, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Repeats every decision of a log and compares the results bit for bit; exit code 1 on any difference.
    Replay {
        /// `<state-dir>/decisions-<namespace>.<name>.jsonl`.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match command_line::parse() {
        Ok(Cli { command: Some(Command::Replay { file }), .. }) => replay(&file),
        Ok(Cli { command: None, flags }) => program::run(NAME, program(&flags)),
        Err(code) => code,
    }
}

fn program(
    flags: &Flags,
) -> Result<Program<impl Future<Output = Result<(), RunError>>, RunError>, Box<dyn Error + Send + Sync>> {
    let settings = load::<Settings>(flags.config.as_deref(), flags)?;
    settings.validate()?;
    let (format, level) = (settings.log_format, settings.log_level.clone());
    Ok(Program::new(format, &level, run(settings)).usage_errors(RunError::is_usage))
}

fn replay(file: &Path) -> ExitCode {
    match replay_file(file) {
        Ok(report) => {
            println!("{}", printable_lines(&report.to_string()));
            if report.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => program::wrong_usage(NAME, &format!("{}: {error}", file.display())),
    }
}
