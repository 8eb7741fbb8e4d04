//! Builds every program of the workspace and the simulated NVML library in one call, then becomes the
//! program that was asked for.
//!
//! `cargo run` builds one program only, and building one package after the other compiles shared
//! dependencies twice where their features differ. Standard library only, so that this itself builds in a
//! second.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Everything that the demo starts or loads.
const PACKAGES: [&str; 5] =
    ["sluice-driver", "sluice-batcher", "sluice-autoscaler", "sluice-loadtest", "sluice-nvml-sim"];

/// The program that the launcher becomes; its folder holds the others.
const ENTRY: &str = "sluice-loadtest";

const USAGE: &str = "usage: cargo demo [OPTIONS] | cargo figures [OPTIONS]\n\
                     Builds all programs (release), then runs `sluice-loadtest demo` or `figures` with OPTIONS;\n\
                     `cargo demo --help` lists them.";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let command = match arguments.next() {
        Some(command) if ["demo", "figures"].contains(&command.as_str()) => command,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    let folder = match build() {
        Ok(folder) => folder,
        Err(error) => return failure(&error),
    };
    let mut entry = Command::new(folder.join(ENTRY));
    entry.arg(command).arg("--bin-dir").arg(&folder).args(arguments);
    // Only returns when the program could not be started.
    failure(&format!("{}: {}", folder.join(ENTRY).display(), entry.exec()))
}

fn failure(error: &str) -> ExitCode {
    eprintln!("launcher: {error}");
    ExitCode::FAILURE
}

/// Builds [`PACKAGES`] and returns the folder where they lie.
fn build() -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let mut child = build.stdout(Stdio::piped()).spawn().map_err(|error| format!("cargo: {error}"))?;
    let stdout = child.stdout.take().ok_or("cargo: no standard output")?;
    let mut entry = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| format!("cargo: {error}"))?;
        if let Some(path) = executable(&line)
            && path.file_name().is_some_and(|name| name == ENTRY)
        {
            entry = Some(path);
        }
    }
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!("the build failed ({status}); its messages are above"));
    }
    entry
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_owned)
        .ok_or_else(|| format!("the build named no executable {ENTRY}"))
}

/// The value of `"executable"` in one of cargo's JSON messages, if it is a path.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    // A JSON string; only a quote or a backslash would be escaped, and neither is usual in a path.
    (!path.contains('\\')).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::executable;
    use std::path::PathBuf;

    #[test]
    fn the_executable_is_read_from_an_artifact_message() {
        let message =
            r#"{"reason":"compiler-artifact","fresh":true,"executable":"/t/release/sluice-loadtest"}"#;
        assert_eq!(executable(message), Some(PathBuf::from("/t/release/sluice-loadtest")));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
    }
}
