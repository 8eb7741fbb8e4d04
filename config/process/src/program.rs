//! The prologue of every program: flags, settings, logs, runtime, work, exit code.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::command_line;
use crate::logging::{self, LogFormat};
use crate::printable::printable_lines;
use crate::settings::EXIT_USAGE;

/// A program whose flags and settings are valid: what it does, and what it does it with.
pub struct Program<W, E> {
    log_format: LogFormat,
    log_level: String,
    threads: Threads,
    waits_for_threads: bool,
    is_usage: fn(&E) -> bool,
    work: W,
}

/// Threads that run a program's tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The main thread alone.
    One,
    /// This number of threads.
    Many(usize),
    /// One for each core that the process may use.
    PerCore,
}

impl<W, E> Program<W, E>
where
    W: Future<Output = Result<(), E>>,
    E: Display,
{
    /// Creates a program that logs by these settings and ends with `work`; its tasks run on a thread for each core.
    pub fn new(log_format: LogFormat, log_level: &str, work: W) -> Self {
        Self {
            log_format,
            log_level: log_level.to_owned(),
            threads: Threads::PerCore,
            waits_for_threads: true,
            is_usage: |_| false,
            work,
        }
    }

    /// Runs the tasks on these threads.
    #[must_use]
    pub fn on(self, threads: Threads) -> Self {
        Self { threads, ..self }
    }

    /// Ends the process without waiting for threads that are blocked in a system or library call.
    #[must_use]
    pub fn without_waiting_for_threads(self) -> Self {
        Self { waits_for_threads: false, ..self }
    }

    /// Ends with [`EXIT_USAGE`] where `is_usage` finds the user's input at fault.
    #[must_use]
    pub fn usage_errors(self, is_usage: fn(&E) -> bool) -> Self {
        Self { is_usage, ..self }
    }

    /// Starts logging and works; returns the exit code.
    fn run(self, name: &str) -> ExitCode {
        if let Err(error) = logging::init(self.log_format, &self.log_level) {
            return wrong_usage(name, &error);
        }
        let runtime = match runtime(self.threads) {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "The threads cannot be started.");
                return ExitCode::FAILURE;
            }
        };
        let ended = runtime.block_on(self.work);
        if !self.waits_for_threads {
            runtime.shutdown_background();
        }
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if (self.is_usage)(&error) => wrong_usage(name, &error),
            Err(error) => {
                // The alternate form of an `anyhow::Error` names its causes too.
                tracing::error!(error = format!("{error:#}"), "{name} cannot run.");
                ExitCode::FAILURE
            }
        }
    }
}

/// Reads flags and environment, makes a [`Program`] of them, and runs it. An error of `program` is one of the
/// settings.
pub fn main<F, W, E>(
    name: &str,
    program: impl FnOnce(F) -> Result<Program<W, E>, Box<dyn Error + Send + Sync>>,
) -> ExitCode
where
    F: Parser,
    W: Future<Output = Result<(), E>>,
    E: Display,
{
    match command_line::parse() {
        Ok(flags) => run(name, program(flags)),
        Err(code) => code,
    }
}

/// Runs a program that was made of its flags, as [`main`] does.
pub fn run<W, E>(name: &str, program: Result<Program<W, E>, Box<dyn Error + Send + Sync>>) -> ExitCode
where
    W: Future<Output = Result<(), E>>,
    E: Display,
{
    match program {
        Ok(program) => program.run(name),
        Err(error) => wrong_usage(name, &error),
    }
}

/// Prints an error of the user's input; returns the exit code of wrong usage.
pub fn wrong_usage(name: &str, error: &impl Display) -> ExitCode {
    // It may quote a file of somebody else.
    eprintln!("{name}: {}", printable_lines(&error.to_string()));
    ExitCode::from(EXIT_USAGE)
}

fn runtime(threads: Threads) -> std::io::Result<Runtime> {
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::Many(_) | Threads::PerCore => Builder::new_multi_thread(),
    };
    if let Threads::Many(threads) = threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}
