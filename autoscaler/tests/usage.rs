//! Wrong usage: exit codes and messages, as a shell sees them.

#[path = "../../config/process/tests/usage/mod.rs"]
mod usage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-autoscaler");

#[test]
fn wrong_usage_ends_with_64_and_says_what_was_meant() {
    usage::assert_refused(
        PROGRAM,
        &[
            (&["--nonsense"], "--nonsense"),
            (&["replay"], "<FILE>"),
            (&["--tick-ms", "1s"], "--tick-ms: milliseconds without a unit: 1000"),
            (&["--platform", "kubernetes", "--log-level", "warning"], "did you mean `warn`?"),
            (
                &["--platform", "kubernetes", "--burst-window-ms", "1"],
                "burstWindowMs is 1, but must be at least tickMs",
            ),
        ],
    );
}

#[test]
fn help_and_version_are_no_errors_and_name_the_program() {
    usage::assert_tells_its_name(PROGRAM, "sluice-autoscaler");
}

#[test]
fn the_plugin_of_kubectl_keeps_to_the_same_and_names_itself() {
    let run = |arguments: &[&str]| usage::run(env!("CARGO_BIN_EXE_kubectl-sluice"), arguments);
    assert_eq!(run(&["--nonsense"]).0, Some(64));
    assert_eq!(run(&["explain"]).0, Some(64));
    let (code, text) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("kubectl-sluice "), "{text}");
}
