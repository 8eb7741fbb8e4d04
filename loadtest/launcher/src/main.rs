//! Builds every program of the workspace and the simulated NVML library in one call, then becomes the
//! program that was asked for.
//!
//! `cargo run` builds one program only, and building one package after the other compiles shared
//! dependencies twice where their features differ. Standard library only, so that this itself builds in a
//! second.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Everything that the demo or a cluster runs or is made with. One list, so that neither builds anew what the other
/// has built: other packages are other features of shared dependencies.
const PACKAGES: [&str; 7] = [
    "sluice-driver",
    "sluice-batcher",
    "sluice-preloader",
    "sluice-autoscaler",
    "sluice-loadtest",
    "sluice-nvml-sim",
    "sluice-testbed",
];

/// Commands for a cluster that is there: they take the program that brought it up as it is.
const WITHOUT_BUILD: [&str; 7] = ["down", "exec", "status", "stop", "start", "crash", "help"];

const USAGE: &str = "usage: cargo demo [OPTIONS] | cargo compare [OPTIONS] | cargo e2e [-- COMMAND]\n\
                     Builds all programs (release), then runs `sluice-loadtest demo` or `compare` with OPTIONS, or\n\
                     `sluice-testbed` with COMMAND; `cargo demo --help` and `cargo e2e -- --help` list them.";

/// A program of the workspace, to become.
struct Target {
    /// Its name; its folder holds the others.
    program: &'static str,
    /// Arguments before and after the folder of the programs.
    arguments: (Vec<OsString>, Vec<OsString>),
    /// Whether one that was built earlier will do.
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
    // Only returns when the program could not be started.
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
        // `cargo e2e` and `cargo e2e -- --kubernetes 1.34`: everything.
        if (first.is_empty() || first.starts_with('-'))
            && !["-h", "--help", "-V", "--version"].contains(&&*first)
        {
            arguments.insert(0, "all".into());
        }
        let any_build = WITHOUT_BUILD.contains(&&*first) || first.starts_with("-h") || first == "--help";
        Self { program: "sluice-testbed", arguments: (Vec::new(), arguments), any_build }
    }
}

/// The folder of release programs beside that of this one, where it has `program` already.
fn built_earlier(program: &str) -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let folder = own.parent()?.parent()?.join("release");
    folder.join(program).exists().then_some(folder)
}

/// Builds [`PACKAGES`] and returns the folder where they lie, with `program` among them.
fn build(program: &str) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    // Variables of this package, by which build scripts would take a build by hand for another one.
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

/// The value of `"executable"` in one of cargo's JSON messages, if it is a path.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    // A JSON string; only a quote or a backslash would be escaped, and neither is usual in a path.
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
