//! Wrong usage, as a shell sees it: one exit code, and words that say what was meant.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-autoscaler")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    for (arguments, part) in [
        (vec!["--nonsense"], "--nonsense"),
        (vec!["replay"], "<FILE>"),
        (vec!["--tick-ms", "1s"], "--tick-ms: milliseconds without a unit: 1000"),
        (vec!["--platform", "kubernetes", "--log-level", "warning"], "did you mean `warn`?"),
        (
            vec!["--platform", "kubernetes", "--burst-window-ms", "1"],
            "burstWindowMs is 1, but must be at least tickMs",
        ),
    ] {
        let (code, text) = run(&arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {part:?} is not in {text}");
    }
}

#[test]
fn help_and_version_are_no_errors_and_name_the_program() {
    for flag in ["--help", "--version"] {
        let (code, text) = run(&[flag]);
        assert_eq!(code, Some(0), "{flag}: {text}");
        assert!(text.contains("sluice-autoscaler"), "{flag}: {text}");
    }
}

#[test]
fn the_plugin_of_kubectl_keeps_to_the_same_and_names_itself() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-sluice")).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    assert_eq!(run(&["--nonsense"]).0, Some(64));
    assert_eq!(run(&["explain"]).0, Some(64));
    let (code, text) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("kubectl-sluice "), "{text}");
}
