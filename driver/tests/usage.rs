//! Wrong usage, as a shell sees it: one exit code, and words that say what was meant.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-driver")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    for (arguments, part) in [
        (vec!["--nonsense"], "--nonsense"),
        (vec!["--health-interval-seconds", "5s"], "--health-interval-seconds: seconds without a unit: 5"),
        (vec!["--health-interval-seconds", "5000"], "healthIntervalSeconds is 5000: give 1 to 3600 seconds"),
        (vec!["--log-level", "warning"], "did you mean `warn`?"),
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
        assert!(text.contains("sluice-driver"), "{flag}: {text}");
    }
}
