//! `sluice-loadtest`: parses flags, runs, returns the exit code.

use std::process::ExitCode;

use sluice_config::process::command_line;
use sluice_loadtest::{Cli, commands};

fn main() -> ExitCode {
    match command_line::parse::<Cli>() {
        Ok(cli) => commands::run(cli),
        Err(code) => code,
    }
}
