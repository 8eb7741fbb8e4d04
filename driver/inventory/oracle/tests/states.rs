//! Small states with the scheduler's known answer. Each of them once showed a difference, or occurs in practice.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::fs;
use std::path::Path;

use sluice_inventory_oracle::answer::Answer;
use sluice_inventory_oracle::state::Known;

#[test]
fn each_known_state_has_the_schedulers_answer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states");
    let mut differences = Vec::new();
    let mut states = 0;
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let known: Known = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let difference = Answer::of(&known.state).differs_from(&known.answer);
        differences.extend(difference.map(|difference| format!("{}: {difference}", file.display())));
        states += 1;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(states >= 8, "{states} states are in the folder");
}
