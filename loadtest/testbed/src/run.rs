//! Wiring: runs the command that the flags choose.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cli::{AllFlags, Cli, Command, FiguresFlags, ScenarioFlags};
use crate::commands::{down, up};
use crate::contents::{discovery, install};
use crate::host::namespaces;
use crate::node::control::SupervisorClient;
use crate::node::{self, reboot};
use crate::workdir::Workdir;
use crate::{benchmarks, harness};

/// Runs the command that the flags choose, and returns the exit code of the program.
///
/// # Errors
/// When the command fails.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let workdir = Workdir::of(&cli.name);
    let bin_dir = bin_dir(cli.bin_dir)?;
    match cli.command {
        Command::All(flags) => return all(&workdir, &flags, &bin_dir),
        Command::Up(flags) => up::up(&workdir, &flags, &bin_dir)?,
        Command::Down => down::down(&workdir)?,
        Command::Exec { command } => {
            let (program, arguments) = command.split_first().context("no command")?;
            let error = namespaces::inside(&workdir.running()?, &workdir, program).args(arguments).exec();
            return Err(error).context("cannot start nsenter (Debian: util-linux)");
        }
        Command::Status => {
            for status in control(&workdir)?.status()? {
                let pid = status.pid.map_or_else(|| "ended".to_owned(), |pid| format!("process {pid}"));
                let end = status.last_end.map_or_else(String::new, |end| format!(", last: {end}"));
                println!("{:24} {pid}, {} restarts{end}", status.name, status.restarts);
            }
        }
        Command::Stop { component } => control(&workdir)?.stop(&component)?,
        Command::Start { component } => control(&workdir)?.start(&component)?,
        Command::Crash { component } => control(&workdir)?.crash(&component)?,
        Command::Reload => return inside(&workdir, &["reload-inside"], &bin_dir),
        Command::Scenarios(flags) => return scenarios(&workdir, &flags, &bin_dir),
        Command::Figures(flags) => return measure(&workdir, &flags, &bin_dir),
        Command::FiguresInside(flags) => block_on(benchmarks::run(&workdir, &flags))?,
        Command::Reboot => return inside(&workdir, &["reboot-inside"], &bin_dir),
        Command::RebootInside => reboot::reboot(&workdir)?,
        Command::Node => node::run(&workdir)?,
        Command::Discover => block_on(discovery::run(&workdir))?,
        Command::Provision => block_on(up::provision(&workdir))?,
        Command::ReloadInside => {
            up::import(&workdir, &bin_dir)?;
            block_on(install::restart(&workdir))?;
        }
        Command::ScenariosInside(flags) => return harness::run(&workdir, &flags),
    }
    Ok(ExitCode::SUCCESS)
}

fn control(workdir: &Workdir) -> Result<SupervisorClient> {
    workdir.running()?;
    Ok(SupervisorClient::new(workdir.control_socket()))
}

/// Brings a cluster up, runs the scenarios in it and takes it down again, also after a failure.
fn all(workdir: &Workdir, flags: &AllFlags, bin_dir: &Path) -> Result<ExitCode> {
    down::down(workdir)?;
    // Ctrl-C also reaches the child processes: they end, and so do the calls here that wait for them.
    let _interrupt = harness::ignore_interrupts()?;
    let ran =
        up::up(workdir, &flags.up, bin_dir).and_then(|()| scenarios(workdir, &flags.scenarios, bin_dir));
    if flags.keep {
        return ran;
    }
    down::down(workdir)?;
    ran
}

fn scenarios(workdir: &Workdir, flags: &ScenarioFlags, bin_dir: &Path) -> Result<ExitCode> {
    if flags.list {
        harness::list(flags);
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = vec!["scenarios-inside"];
    let attempts = flags.flake_attempts.to_string();
    arguments.extend(["--flake-attempts", &attempts]);
    arguments.extend(flags.core.then_some("--core"));
    let load = flags.load.and_then(|load| load.to_possible_value());
    if let Some(load) = &load {
        arguments.extend(["--load", load.get_name()]);
    }
    arguments.extend(flags.filter.as_deref());
    inside(workdir, &arguments, bin_dir)
}

fn measure(workdir: &Workdir, flags: &FiguresFlags, bin_dir: &Path) -> Result<ExitCode> {
    let rounds = flags.rounds.to_string();
    let mut arguments = vec!["figures-inside", "--rounds", &rounds];
    let only = flags.only.and_then(|figure| figure.to_possible_value());
    if let Some(only) = &only {
        arguments.extend(["--only", only.get_name()]);
    }
    let json = flags.json.as_ref().map(|path| path.display().to_string());
    if let Some(json) = &json {
        arguments.extend(["--json", json]);
    }
    inside(workdir, &arguments, bin_dir)
}

/// Runs this program inside the cluster's namespaces.
fn inside(workdir: &Workdir, arguments: &[&str], bin_dir: &Path) -> Result<ExitCode> {
    let own = std::env::current_exe().context("/proc/self/exe")?;
    let status = namespaces::inside(&workdir.running()?, workdir, own.as_os_str())
        .arg("--bin-dir")
        .arg(bin_dir)
        .args(["--name", &workdir.name().to_string()])
        .args(arguments)
        .status()
        .context("cannot start nsenter (Debian: util-linux)")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Runtime::new().context("tokio")?.block_on(work)
}

fn bin_dir(named: Option<PathBuf>) -> Result<PathBuf> {
    let own = || {
        let own = std::env::current_exe().context("/proc/self/exe")?;
        own.parent().map(ToOwned::to_owned).context("the path of this program has no parent folder")
    };
    named.map_or_else(own, |named| std::path::absolute(named).context("--bin-dir"))
}
