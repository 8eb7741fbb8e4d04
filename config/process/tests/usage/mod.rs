//! Wrong usage of a program, as a shell sees it: one exit code, and words that say what was meant. The tests of each
//! program include this file.

#![allow(clippy::unwrap_used, reason = "what a helper of tests cannot do fails the test")]

use std::process::Command;

/// Runs a program; returns its exit code, and all that it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

/// Asserts that each command line ends with 64 and a text that has the part beside it.
pub(crate) fn assert_refused(program: &str, cases: &[(&[&str], &str)]) {
    for (arguments, part) in cases {
        let (code, text) = run(program, arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {part:?} is not in {text}");
    }
}

/// Asserts that `--help` and `--version` are no errors and name the program.
pub(crate) fn assert_tells_its_name(program: &str, name: &str) {
    for flag in ["--help", "--version"] {
        let (code, text) = run(program, &[flag]);
        assert_eq!(code, Some(0), "{flag}: {text}");
        assert!(text.contains(name), "{flag}: {text}");
    }
}
