//! Wiring of the subcommands: settings, logging, runtime, exit code.

use std::process::ExitCode;

use sluice_process::{logging, shutdown};

use crate::cli::{Cli, Command};
use crate::exit_code::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::{compare, demo, model, run};

/// Runs the subcommand that the flags choose, and returns the exit code of the program.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Model(flags) => serve_model(&flags),
        Command::Run(flags) => send_load(&flags),
        Command::Compare(flags) => compare_peers(&flags),
        Command::Demo(flags) => show_demo(*flags),
    }
}

fn serve_model(flags: &model::settings::Flags) -> ExitCode {
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(error) => return usage(&error),
    };
    if let Err(error) = logging::init(settings.log_format, &settings.log_level) {
        return usage(&error);
    }
    let profile = std::env::var(sluice_config::names::env::PROFILE).ok();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(model::run(settings, profile)) {
        Ok(()) => EXIT_OK.into(),
        Err(error @ model::ProgramError::Start(_)) => usage(&error),
        Err(error) => failed(&error),
    }
}

fn send_load(flags: &run::flags::Flags) -> ExitCode {
    if let Err(error) = logging::init(logging::LogFormat::Text, "warn") {
        return usage(&error);
    }
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(error) => return usage(&error),
    };
    let (plan, thresholds) = match settings.plan(flags.config.as_deref()) {
        Ok(planned) => planned,
        Err(error) => return usage(&error),
    };
    // The generator has its own thread and event loop; this runtime only prints progress.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run::program::run(&settings, plan, &thresholds)) {
        Ok(code) => code.into(),
        Err(error) => failed(&error),
    }
}

fn show_demo(flags: demo::flags::DemoFlags) -> ExitCode {
    if let Err(error) = logging::init(logging::LogFormat::Text, "warn") {
        return usage(&error);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let failures = runtime.block_on(async { demo::run(flags, shutdown::on_signals()?).await });
    match failures {
        Ok(failures) => {
            failures.iter().for_each(|failure| eprintln!("demo: {failure}"));
            if failures.is_empty() { EXIT_OK } else { EXIT_FAILED }.into()
        }
        Err(error @ demo::DemoError::Settings(_)) => usage(&error),
        Err(error) => failed(&error),
    }
}

fn compare_peers(flags: &compare::settings::Flags) -> ExitCode {
    if let Err(error) = logging::init(logging::LogFormat::Text, "warn") {
        return usage(&error);
    }
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(async {
        let stop = shutdown::on_signals().map_err(|error| error.to_string())?;
        tokio::select! {
            outcome = compare::run(&settings) => outcome.map_err(|error| error.to_string()),
            // Dropping the comparison ends the processes that it has started.
            () = stop.cancelled() => Err("interrupted".to_owned()),
        }
    });
    match outcome {
        Ok(outcome) => {
            println!("\n{outcome}");
            let failed = settings.strict && !outcome.is_complete_and_met();
            if failed { EXIT_FAILED } else { EXIT_OK }.into()
        }
        Err(error) => {
            eprintln!("sluice-loadtest: {error}");
            EXIT_FAILED.into()
        }
    }
}

fn usage(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sluice-loadtest: {error}");
    EXIT_USAGE.into()
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sluice-loadtest: {error}");
    EXIT_FAILED.into()
}
