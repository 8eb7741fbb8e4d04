//! sluice-autoscaler: parse, wire, exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_autoscaler::replay::replay_file;
use sluice_autoscaler::run::run;
use sluice_autoscaler::settings::{Flags, Settings};
use sluice_process::printable::printable_lines;
use sluice_process::settings::{EXIT_USAGE, load};
use sluice_process::{command_line, logging};

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
    /// Decides every decision of a log again and compares bit for bit; exit code 1 on any difference.
    Replay {
        /// `<state-dir>/decisions-<namespace>.<name>.jsonl`.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Some(Command::Replay { file }) => match replay_file(&file) {
            Ok(report) => {
                println!("{}", printable_lines(&report.to_string()));
                if report.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&format!("{}: {error}", file.display()), EXIT_USAGE),
        },
        None => serve(&cli.flags),
    }
}

fn serve(flags: &Flags) -> ExitCode {
    let settings = load::<Settings>(flags.config.as_deref(), flags)
        .map_err(|error| error.to_string())
        .and_then(|settings| settings.validate().map(|()| settings).map_err(|error| error.to_string()));
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    if let Err(error) = logging::init(settings.log_format, &settings.log_level) {
        return fail(&error, EXIT_USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime cannot be started: {error}"), 1),
    };
    match runtime.block_on(run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), if error.is_usage() { EXIT_USAGE } else { 1 }),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // It may quote an object file.
    eprintln!("sluice-autoscaler: {}", printable_lines(message));
    ExitCode::from(code)
}
