//! Wrong usage, as a shell sees it.

#[path = "../../../config/process/tests/usage/mod.rs"]
mod usage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-preloader");

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    usage::assert_refused(
        PROGRAM,
        &[
            (&["--nonsense"], "--nonsense"),
            (&["--gate-deadline-seconds", "5m"], "seconds without a unit: 300"),
            (&["--gate-deadline-seconds", "300000"], "gateDeadlineSeconds"),
            (&["--mode", "watchdog", "--log-level", "warning"], "did you mean `warn`?"),
            (&["--mode", "watchdog", "--nonsense"], "--nonsense"),
        ],
    );
}

#[test]
fn help_and_version_are_no_errors_and_name_the_program() {
    usage::assert_tells_its_name(PROGRAM, "sluice-preloader");
}
