//! The command line of every program: one exit code for wrong usage, and errors that say what was meant.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, Parser};

use crate::printable::printable_lines;
use crate::settings::{EXIT_USAGE, meant, nearest_within};

/// Closeness from which on a variable of the environment is taken for a misspelt one.
const LIKELY: f64 = 0.95;

/// Flags and environment as a `T`.
///
/// # Errors
/// The exit code with which the program is to end; why was printed. It is 0 after `--help` and `--version`.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    let known = variables(&T::command());
    for (name, meant) in misspelt(&known, std::env::vars_os().map(|(name, _)| name)) {
        eprintln!("warning: the variable {name} of the environment is no setting; did you mean {meant}?");
    }
    T::try_parse().map_err(|error| {
        if !error.use_stderr() {
            // Nobody is there to read it when this fails.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        // It quotes what was given, which may come from a stranger.
        eprintln!("{}", printable_lines(error.to_string().trim_end()));
        if let Some(hint) = hint(&error) {
            eprintln!("\n{hint}");
        }
        ExitCode::from(EXIT_USAGE)
    })
}

/// What clap's own words leave out of an invalid value: the unit, or the form of an address.
fn hint(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (argument, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let name = argument.split([' ', '=']).next().unwrap_or_default();
    let said = error.to_string();
    if said.contains("socket address") {
        return Some(format!("{name}: write an IP address and a port, such as 127.0.0.1:8080"));
    }
    if !(said.contains("digit") || said.contains("float") || said.contains("number too")) {
        return None;
    }
    Some(format!("{name}: {}", meant(name, value)?))
}

/// Every variable that a setting can be given by.
fn variables(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env());
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// Variables that begin as the program's do, are none of them, and are near to one: with what was probably meant.
fn misspelt(known: &[String], given: impl Iterator<Item = OsString>) -> Vec<(String, String)> {
    let unknown = given.filter_map(|name| name.into_string().ok()).filter(|name| {
        name.starts_with("SLUICE_")
            && !known.contains(name)
            // Kubernetes itself sets these for a Service that is called as the program is.
            && !name.contains("_SERVICE_")
            && !name.contains("_PORT")
    });
    unknown
        .filter_map(|name| {
            let meant = nearest_within(&name, known.iter().map(String::as_str), LIKELY)?.to_owned();
            // Another program's setting of the same name is none of ours.
            (program_of(&meant) == program_of(&name)).then_some((name, meant))
        })
        .collect()
}

/// `SLUICE_BATCHER_HOLD_MS` → `BATCHER`.
fn program_of(variable: &str) -> &str {
    variable.split('_').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "example")]
    struct Flags {
        #[arg(long, env = "SLUICE_EXAMPLE_TICK_MS")]
        tick_ms: Option<u64>,
        #[arg(long)]
        rate_rps: Option<f64>,
        #[arg(long)]
        listen: Option<std::net::SocketAddr>,
    }

    fn hint_of(arguments: &[&str]) -> Option<String> {
        let all = std::iter::once(&"example").chain(arguments);
        hint(&Flags::try_parse_from(all).unwrap_err())
    }

    #[test]
    fn a_number_with_a_unit_is_told_what_to_write() {
        let told = |arguments: &[&str]| hint_of(arguments).unwrap_or_default();
        assert_eq!(told(&["--tick-ms", "5s"]), "--tick-ms: milliseconds without a unit: 5000");
        assert_eq!(told(&["--tick-ms=-5"]), "--tick-ms: milliseconds without a unit, such as 300");
        assert_eq!(told(&["--rate-rps", "50rps"]), "--rate-rps: requests per second without a unit: 50");
        assert!(told(&["--listen", "8080"]).ends_with("such as 127.0.0.1:8080"));
        assert_eq!(hint_of(&["--nonsense"]), None);
        assert_eq!(hint_of(&["--tick-ms", "fast"]), None);
    }

    #[test]
    fn a_misspelt_variable_is_told_and_those_of_others_are_not() {
        let known = variables(&<Flags as clap::CommandFactory>::command());
        assert_eq!(known, ["SLUICE_EXAMPLE_TICK_MS"]);
        let given = [
            "SLUICE_EXAMPLE_TIKC_MS",
            "SLUICE_EXAMPLE_TICK_MS",
            "SLUICE_EXAMPLE_SERVICE_HOST",
            "SLUICE_ANOTHER_TICK_MS",
            "HOME",
        ];
        let told = misspelt(&known, given.into_iter().map(OsString::from));
        assert_eq!(told, [("SLUICE_EXAMPLE_TIKC_MS".to_owned(), "SLUICE_EXAMPLE_TICK_MS".to_owned())]);
    }
}
