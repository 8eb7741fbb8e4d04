//! `sluice-loadtest`: parses flags, runs, returns the exit code.

use std::process::ExitCode;

use sluice_loadtest::{Cli, commands};
use sluice_process::command_line;

fn main() -> ExitCode {
    match command_line::parse::<Cli>() {
        Ok(cli) => commands::run(cli),
        Err(code) => code,
    }
}
