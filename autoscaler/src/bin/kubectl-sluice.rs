//! kubectl-sluice: parses the command line, reads objects, prints a text, and returns the exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_autoscaler::cli::{ApiServer, ObjectSource, capacity, explain};
use sluice_config::objects::ObjectDir;
use sluice_process::command_line;
use sluice_process::printable::printable_lines;

/// Shows which slices are free, and why a target has as many replicas as it has.
///
/// In a cluster, by the kubeconfig's current context:
///
///   kubectl sluice capacity
///   kubectl sluice explain bert -n default
///
/// On one machine without Kubernetes, by the object directory:
///
///   kubectl-sluice --store /var/lib/sluice/store capacity
#[derive(Parser)]
#[command(name = "kubectl-sluice", version, verbatim_doc_comment)]
struct Cli {
    /// Object directory that sluice-driver and sluice-autoscaler use on one machine; without it the
    /// cluster is asked.
    #[arg(long, env = "SLUICE_STORE", value_name = "DIR", global = true)]
    store: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Free and used slices by pool and profile, with their holders.
    Capacity {
        /// Format of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: capacity::Output,
    },
    /// Conditions and the last decisions of an InferenceAutoscaler, each with its steps.
    Explain {
        /// Name of the InferenceAutoscaler.
        name: String,
        /// Namespace of the InferenceAutoscaler; without it, that of the kubeconfig's context.
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match answer(cli) {
        Ok(text) => {
            // A closed pipe (head) is the reader's choice.
            let _ = std::io::stdout().write_all(format!("{}\n", printable_lines(text.trim_end())).as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            // The error may quote an object, a file or the server.
            eprintln!("kubectl-sluice: {}", printable_lines(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn answer(cli: Cli) -> anyhow::Result<String> {
    let source: Box<dyn ObjectSource> = match cli.store {
        Some(store) => Box::new(ObjectDir::new(store)),
        None => Box::new(ApiServer::connect()?),
    };
    match cli.command {
        Command::Capacity { output } => capacity::capacity(source.as_ref(), output),
        Command::Explain { name, namespace } => {
            explain::explain(source.as_ref(), namespace.as_deref(), &name)
        }
    }
}
