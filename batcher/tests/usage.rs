//! Wrong usage, as a shell sees it.

#[path = "../../config/process/tests/usage/mod.rs"]
mod usage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-batcher");

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    usage::assert_refused(
        PROGRAM,
        &[
            (&["--nonsense"], "--nonsense"),
            (&["--objective-ms", "5s"], "--objective-ms: milliseconds without a unit: 5000"),
            (&["--max-body-bytes", "2Gi"], "bytes without a unit: 2147483648"),
            (&["--listen", "8080"], "such as 127.0.0.1:8080"),
            (&["--upstream", "127.0.0.1:9", "--log-level", "warning"], "did you mean `warn`?"),
            (
                &["--upstream", "127.0.0.1:9", "--log-level", "sluice_batcher=verbose"],
                "did you mean `debug`?",
            ),
            (
                &["--upstream", "127.0.0.1:9", "--after-drain", "stop"],
                "afterDrain: \"stop\" is not http://HOST:PORT/PATH",
            ),
        ],
    );
}

#[test]
fn help_and_version_are_no_errors_and_name_the_program() {
    usage::assert_tells_its_name(PROGRAM, "sluice-batcher");
}
