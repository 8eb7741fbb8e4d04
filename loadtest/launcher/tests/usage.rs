//! Exit code and message of a wrong usage of `cargo demo`, `cargo compare` and `cargo e2e`.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;

#[test]
fn an_unknown_command_ends_with_64_and_the_known_ones_are_named() {
    for arguments in [&[][..], &["nonsense"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice-launcher")).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {text}");
        assert!(text.contains("cargo demo") && text.contains("cargo e2e"), "{text}");
    }
}
