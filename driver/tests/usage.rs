//! Wrong usage on the command line.

#[path = "../../config/process/tests/usage/mod.rs"]
mod usage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-driver");

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    usage::assert_refused(
        PROGRAM,
        &[
            (&["--nonsense"], "--nonsense"),
            (&["--health-interval-seconds", "5s"], "--health-interval-seconds: seconds without a unit: 5"),
            (&["--health-interval-seconds", "5000"], "healthIntervalSeconds is 5000: give 1 to 3600 seconds"),
            (&["--log-level", "warning"], "did you mean `warn`?"),
        ],
    );
}

#[test]
fn help_and_version_are_no_errors_and_name_the_program() {
    usage::assert_tells_its_name(PROGRAM, "sluice-driver");
}
