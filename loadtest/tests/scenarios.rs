//! The scenario files that are shipped, and what is said about wrong ones.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

use std::path::{Path, PathBuf};

use sluice_loadtest::run::flags::Flags;
use sluice_loadtest::run::settings::Settings;

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // The demo's settings lie there too; they are no scenario of `run`.
    let files = files.filter(|path| !path.ends_with("demo.yaml"));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn load(path: &Path) -> Result<Settings, String> {
    let flags = Flags { config: Some(path.to_owned()), ..Flags::default() };
    flags.settings().map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.yaml");
    std::fs::write(&path, text).unwrap();
    match load(&path) {
        Err(message) => message,
        Ok(settings) => settings.plan(Some(&path)).unwrap_err().to_string(),
    }
}

#[test]
fn every_shipped_scenario_is_a_plan() {
    let shipped = shipped();
    assert!(shipped.len() >= 6, "{shipped:?}");
    for path in shipped {
        let settings = load(&path).unwrap();
        let (plan, thresholds) =
            settings.plan(Some(&path)).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_ne!(plan.name, "run", "{path:?} has a name");
        assert!(!thresholds.is_empty(), "{path:?} can fail");
    }
}

#[test]
fn flags_win_over_the_scenario() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/mixed.yaml");
    let flags = Flags { config: Some(path), rate_rps: Some(7.0), ..Flags::default() };
    let settings = flags.settings().unwrap();
    assert_eq!((settings.rate_rps, settings.objective_ms), (Some(7.0), Some(200)));
}

#[test]
fn a_wrong_scenario_is_refused_with_what_would_be_right() {
    for (text, parts) in [
        ("rateRsp: 10\n", vec!["rateRsp", "line 1", "did you mean `rateRps`?"]),
        ("name: x\n", vec!["no load", "rateRps", "concurrency"]),
        ("rateRps: 10\nconcurrency: 2\n", vec!["more than one load"]),
        ("rateRps: -1\n", vec!["-1 requests/s"]),
        ("steps: 10x5\n", vec!["steps `10x5`", "100:10000,400:5000"]),
        ("rateRps: 1\nthresholds: [p99ms<2]\n", vec!["p99ms<2", "did you mean `p99_ms`"]),
        ("rateRps: 1\nthresholds: [attainment>0.9]\n", vec!["objectiveMs"]),
        ("rateRps: 1\ntarget: 192.0.2.1:80\n", vec!["--allow-remote"]),
        ("rateRps: 1\nprotocol: http\n", vec!["protocol `http`", "rest-json"]),
        ("trace: nowhere.csv\n", vec!["trace", "nowhere.csv"]),
        ("rateRps: 1\nfirstId: 0\n", vec!["firstId is 0"]),
        (
            "rateRps: 1\nmaxInFlight: 9223372036854775807\n",
            vec!["maxInFlight is 9223372036854775807", "1000000"],
        ),
        ("rateRps: 1\nintervalMs: 10\n", vec!["intervalMs is 10", "50 to"]),
        ("rateRps: 1\nmodel: 1234\n", vec!["scenario.yaml", "1234", "quotes"]),
    ] {
        let message = refused(text);
        for part in parts {
            assert!(message.contains(part), "{text:?}: {part:?} is not in {message:?}");
        }
    }
}

#[test]
fn a_trace_is_found_beside_its_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.yaml");
    std::fs::write(folder.path().join("rates.csv"), "t_s,rate_rps\n0,5\n10,10\n").unwrap();
    std::fs::write(&path, "trace: rates.csv\ntraceTimeScale: 0.5\n").unwrap();
    let (plan, _) = load(&path).unwrap().plan(Some(&path)).unwrap();
    assert!(plan.load.describe().contains("for 10.0 s"), "{}", plan.load.describe());
}
