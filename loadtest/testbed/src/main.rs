//! `sluice-testbed`: parses flags, runs, returns the exit code.

use std::process::ExitCode;

use sluice_process::command_line;
use sluice_testbed::cli::Cli;

fn main() -> ExitCode {
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    // An error only means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match sluice_testbed::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sluice-testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
