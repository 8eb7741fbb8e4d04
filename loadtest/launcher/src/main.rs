//! Builds every program of the workspace and the simulated NVML library in one call, then replaces itself by the
//! requested program.
//!
//! `cargo run` builds one program only, and building one package after the other compiles shared dependencies twice
//! where their features differ. The launcher uses the standard library only, so that it builds in a second.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// All packages that the demo or a cluster needs. Both build this one list, so that neither rebuilds what the other has
/// built: another list of packages would select other features of shared dependencies.
const PACKAGES: [&str; 7] = [
    "sluice-driver",
    "sluice-batcher",
    "sluice-preloader",
    "sluice-autoscaler",
    "sluice-loadtest",
    "sluice-nvml-sim",
    "sluice-testbed",
];

/// Commands for a cluster that exists: they use the program that created it, without a build.
const WITHOUT_BUILD: [&str; 7] = ["down", "exec", "status", "stop", "start", "crash", "help"];

const USAGE: &str = "usage: cargo demo [OPTIONS] | cargo compare [OPTIONS] | cargo e2e [-- COMMAND]\n\
                     Builds all programs (release), then runs `sluice-loadtest demo` or `compare` with OPTIONS, or\n\
                     `sluice-testbed` with COMMAND; `cargo demo --help` and `cargo e2e -- --help` list them.";

/// Program of the workspace to run.
struct Target {
    /// File name of the program; the other programs are in the same folder.
    program: &'static str,
    /// Arguments before and after `--bin-dir`.
    arguments: (Vec<OsString>, Vec<OsString>),
    /// Whether a program that was built earlier may be used.
    any_build: bool,
}

fn main() -> ExitCode {
    let Some(target) = Target::of(env::args_os().skip(1).collect()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let earlier = || target.any_build.then(|| built_earlier(target.program)).flatten();
    let folder = match earlier().map_or_else(|| build(target.program), Ok) {
        Ok(folder) => folder,
        Err(error) => return failure(&error),
    };
    let program = folder.join(target.program);
    let mut command = Command::new(&program);
    command.args(target.arguments.0).arg("--bin-dir").arg(&folder).args(target.arguments.1);
    // `exec` returns only when the program could not be started.
    failure(&format!("{}: {}", program.display(), command.exec()))
}

fn failure(error: &str) -> ExitCode {
    eprintln!("launcher: {error}");
    ExitCode::FAILURE
}

impl Target {
    fn of(mut arguments: Vec<OsString>) -> Option<Self> {
        if arguments.is_empty() {
            return None;
        }
        let command = arguments.remove(0);
        match command.to_str()? {
            "demo" | "compare" => Some(Self {
                program: "sluice-loadtest",
                arguments: (vec![command], arguments),
                any_build: false,
            }),
            "e2e" => Some(Self::cluster(arguments)),
            _ => None,
        }
    }

    fn cluster(mut arguments: Vec<OsString>) -> Self {
        if arguments.first().is_some_and(|first| first == "--") {
            arguments.remove(0);
        }
        let first = arguments.first().map(|first| first.to_string_lossy().into_owned()).unwrap_or_default();
        // `cargo e2e` and `cargo e2e -- --kubernetes 1.34` run everything.
        if (first.is_empty() || first.starts_with('-'))
            && !["-h", "--help", "-V", "--version"].contains(&&*first)
        {
            arguments.insert(0, "all".into());
        }
        let any_build = WITHOUT_BUILD.contains(&&*first) || first.starts_with("-h") || first == "--help";
        Self { program: "sluice-testbed", arguments: (Vec::new(), arguments), any_build }
    }
}

/// Returns the folder of release programs beside the folder of this one; `None` where it does not have `program` yet.
fn built_earlier(program: &str) -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let folder = own.parent()?.parent()?.join("release");
    folder.join(program).exists().then_some(folder)
}

/// Builds [`PACKAGES`] and returns the folder of the programs, `program` among them.
fn build(program: &str) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    // Variables of this package: with them build scripts would see another environment than in a build by hand, and
    // cargo would rebuild.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            build.env_remove(name);
        }
    }
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let mut child = build.stdout(Stdio::piped()).spawn().map_err(|error| format!("cargo: {error}"))?;
    let stdout = child.stdout.take().ok_or("cargo: no standard output")?;
    let mut entry = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| format!("cargo: {error}"))?;
        if let Some(path) = executable(&line)
            && path.file_name().is_some_and(|name| name == program)
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
        .ok_or_else(|| format!("the build named no executable {program}"))
}

/// Returns the value of `"executable"` in one of cargo's JSON messages; `None` where there is no path.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    // The value is a JSON string, in which only quotes and backslashes of a path are escaped; both are unusual.
    (!path.contains('\\')).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn after_folder(words: &[&str]) -> Vec<OsString> {
        Target::of(arguments(words)).unwrap().arguments.1
    }

    #[test]
    fn the_executable_is_read_from_an_artifact_message() {
        let message =
            r#"{"reason":"compiler-artifact","fresh":true,"executable":"/t/release/sluice-loadtest"}"#;
        assert_eq!(executable(message), Some(PathBuf::from("/t/release/sluice-loadtest")));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
    }

    #[test]
    fn e2e_alone_or_with_options_means_everything() {
        assert_eq!(after_folder(&["e2e"]), arguments(&["all"]));
        assert_eq!(
            after_folder(&["e2e", "--", "--kubernetes", "1.34"]),
            arguments(&["all", "--kubernetes", "1.34"])
        );
        assert_eq!(after_folder(&["e2e", "--", "up", "--gpus", "4"]), arguments(&["up", "--gpus", "4"]));
        assert_eq!(after_folder(&["e2e", "--", "--help"]), arguments(&["--help"]));
    }

    #[test]
    fn a_command_for_a_cluster_that_is_up_builds_nothing() {
        for (words, any_build) in [("exec", true), ("down", true), ("up", false), ("scenarios", false)] {
            assert_eq!(Target::of(arguments(&["e2e", words])).unwrap().any_build, any_build, "{words}");
        }
    }

    #[test]
    fn the_demo_takes_its_options_as_before() {
        let target = Target::of(arguments(&["demo", "--json", "x"])).unwrap();
        assert_eq!(target.arguments, (arguments(&["demo"]), arguments(&["--json", "x"])));
        assert!(Target::of(arguments(&["other"])).is_none());
    }
}
