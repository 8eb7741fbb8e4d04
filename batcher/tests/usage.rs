//! Wrong usage, as a shell sees it: one exit code, and words that say what was meant.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-batcher")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    for (arguments, part) in [
        (vec!["--nonsense"], "--nonsense"),
        (vec!["--objective-ms", "5s"], "--objective-ms: milliseconds without a unit: 5000"),
        (vec!["--max-body-bytes", "2Gi"], "bytes without a unit: 2147483648"),
        (vec!["--listen", "8080"], "such as 127.0.0.1:8080"),
        (vec!["--upstream", "127.0.0.1:9", "--log-level", "warning"], "did you mean `warn`?"),
        (vec!["--upstream", "127.0.0.1:9", "--log-level", "sluice_batcher=verbose"], "did you mean `debug`?"),
        (
            vec!["--upstream", "127.0.0.1:9", "--after-drain", "stop"],
            "afterDrain: \"stop\" is not http://HOST:PORT/PATH",
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
        assert!(text.contains("sluice-batcher"), "{flag}: {text}");
    }
}
