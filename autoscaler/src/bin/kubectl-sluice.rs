//! kubectl-sluice: parse, read, print, exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_autoscaler::cli::{capacity, explain};
use sluice_config::objects::ObjectDir;
use sluice_config::settings::EXIT_USAGE;

/// What is free, and why replicas are as many as they are.
///
///   kubectl-sluice --store /var/lib/sluice/store capacity
///   kubectl-sluice --store /var/lib/sluice/store explain bert
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    /// Object directory that sluice-driver and sluice-autoscaler use.
    #[arg(
        long,
        env = "SLUICE_STORE",
        value_name = "DIR",
        default_value = "/var/lib/sluice/store",
        global = true
    )]
    store: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Free and used slices by pool and profile, with their holders.
    Capacity {
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: capacity::Output,
    },
    /// Conditions and the last decisions of an InferenceAutoscaler, each with its steps.
    Explain {
        /// Its name.
        name: String,
        /// Its namespace.
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let store = ObjectDir::new(cli.store);
    let text = match cli.command {
        Command::Capacity { output } => capacity::capacity(&store, output),
        Command::Explain { name, namespace } => explain::explain(&store, &namespace, &name),
    };
    match text {
        Ok(text) => {
            // A closed pipe (head) is the reader's choice.
            let _ = std::io::stdout().write_all(format!("{}\n", text.trim_end()).as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kubectl-sluice: {error}");
            ExitCode::FAILURE
        }
    }
}
