//! The command line of every program: one exit code for wrong usage, and errors that say what was meant.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, Parser};

use crate::printable::printable_lines;
use crate::settings::{EXIT_USAGE, meant, nearest_within};

/// Similarity, 0 to 1, from which an environment variable counts as a misspelt one of ours.
const LIKELY: f64 = 0.95;

/// Parses flags and environment.
///
/// # Errors
/// The exit code with which the program must end, after the reason was printed. It is 0 after `--help` and `--version`.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    let known = variables(&T::command());
    for (name, meant) in misspelt(&known, std::env::vars_os().map(|(name, _)| name)) {
        eprintln!("warning: the variable {name} of the environment is no setting; did you mean {meant}?");
    }
    T::try_parse().map_err(|error| {
        if !error.use_stderr() {
            // If stdout is closed there is nothing left to do.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        // The message quotes the arguments, which may come from an untrusted source.
        eprintln!("{}", printable_lines(error.to_string().trim_end()));
        if let Some(hint) = hint(&error) {
            eprintln!("\n{hint}");
        }
        ExitCode::from(EXIT_USAGE)
    })
}

/// Returns what clap's message about an invalid value leaves out: the unit, or the form of an address.
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

/// Returns all environment variables that set a setting.
fn variables(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env());
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// Returns unknown variables with our prefix that are similar to a known one, each with that one.
fn misspelt(known: &[String], given: impl Iterator<Item = OsString>) -> Vec<(String, String)> {
    let unknown = given.filter_map(|name| name.into_string().ok()).filter(|name| {
        name.starts_with("SLUICE_")
            && !known.contains(name)
            // Kubernetes itself sets these for a Service of the program's name.
            && !name.contains("_SERVICE_")
            && !name.contains("_PORT")
    });
    unknown
        .filter_map(|name| {
            let meant = nearest_within(&name, known.iter().map(String::as_str), LIKELY)?.to_owned();
            // A setting of another program may have the same name.
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
