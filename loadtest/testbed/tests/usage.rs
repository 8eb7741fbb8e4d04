//! Wrong usage, as a shell sees it.

#[path = "../../../config/process/tests/usage/mod.rs"]
mod usage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-testbed");

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    usage::assert_refused(
        PROGRAM,
        &[
            (&["--nonsense"], "--nonsense"),
            (&["up", "--gpus", "two"], "--gpus"),
            (&["figures", "--rounds", "0"], "--rounds"),
            (&["nonsense"], "nonsense"),
        ],
    );
}

#[test]
fn help_and_version_are_no_errors_and_name_the_program() {
    usage::assert_tells_its_name(PROGRAM, "sluice-testbed");
}
