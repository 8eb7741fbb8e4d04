//! The program as a shell sees it: messages and exit codes.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn program() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sluice-loadtest"));
    command.env_remove("SLUICE_PROFILE");
    command
}

/// A model server as a child process; killed when dropped.
struct Model {
    child: Child,
    address: String,
    admin: String,
}

impl Model {
    fn start() -> Self {
        let mut child = program()
            .args(["model", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--alpha-ms", "0.1", "--beta-ms", "0.01", "--log-format", "json"])
            .env("SLUICE_PROFILE", "7g.80gb")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut addresses = Vec::new();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        while addresses.len() < 2 {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the model server ended");
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            addresses.extend(record["fields"]["address"].as_str().map(str::to_owned));
        }
        // Somebody must read the rest, or the server would wait for it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let admin = addresses.remove(1);
        Self { child, address: addresses.remove(0), admin }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(target: &str, arguments: &[&str]) -> (i32, String) {
    let output = program()
        .args(["run", "--target", target, "--rate-rps", "50", "--duration-ms", "500"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn thresholds_decide_the_exit_code() {
    let model = Model::start();
    // On a machine that is busy with other tests the generator may be late; that is 2 and tested elsewhere.
    let (code, text) = run(&model.address, &["--threshold", "lost==0"]);
    assert!(matches!(code, 0 | 2), "{code} {text}");
    assert_eq!(code == 2, text.contains("INVALID"), "{text}");
    let (code, text) = run(&model.address, &["--threshold", "requests<1"]);
    assert!(matches!(code, 1 | 2), "{code} {text}");
    assert!(text.contains("VIOLATED requests<1"), "{text}");
}

#[test]
fn the_reports_hold_what_was_found() {
    let model = Model::start();
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("report.json"), folder.path().join("report.html"));
    let flag = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = ["--objective-ms", "5000", "--json", &flag(&json), "--html", &flag(&html)];
    run(&model.address, &arguments);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for number in [
        "requests",
        "answered",
        "attained",
        "rejected",
        "failed",
        "lost",
        "attainment",
        "objective_ms",
        "p50_ms",
        "p90_ms",
        "p95_ms",
        "p99_ms",
        "p99_9_ms",
        "max_ms",
        "throughput_rps",
        "duration_s",
    ] {
        assert!(report[number].is_number(), "{number} in {report}");
    }
    assert_eq!(report["lost"], 0);
    assert!(report["send_lag"]["p99_ms"].is_number());
    assert!(report["valid"].is_boolean());
    assert!(!report["series"].as_array().unwrap().is_empty());
    let html = std::fs::read_to_string(html).unwrap();
    assert!(html.contains("<svg") && html.contains("Latency of correct answers"));
}

#[test]
fn wrong_usage_is_64_and_says_what_is_meant() {
    for (arguments, part) in [
        (vec!["run", "--rate", "5"], "--rate-rps"),
        (vec!["run"], "no load"),
        (vec!["run", "--rate-rps", "5", "--target", "192.0.2.1:80"], "--allow-remote"),
        (vec!["model"], "SLUICE_PROFILE is not set"),
        (vec!["model", "--jitter-pct", "200"], "jitterPct is 200"),
        (vec!["nonsense"], "nonsense"),
        (
            vec!["run", "--rate-rps", "5", "--duration-ms", "10s"],
            "--duration-ms: milliseconds without a unit: 10000",
        ),
        (vec!["run", "--rate-rps", "5", "--objective-ms", "20000"], "it must be at most timeoutMs (10000)"),
        (vec!["run", "--rate-rps", "5", "--json-bytes", "5"], "jsonBytes is set without body"),
        (vec!["run", "--rate-rps", "5", "--threshold", "p99<5"], "did you mean `p99_ms`?"),
        (vec!["model", "--log-level", "warning"], "did you mean `warn`?"),
        (vec!["compare", "--rounds", "0"], "rounds is 0"),
        (vec!["demo", "--static", "0"], "--static"),
    ] {
        let output = program().args(&arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {part:?} is not in {text:?}");
    }
}

#[test]
fn a_target_that_is_not_there_is_a_failure() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = run(&unused.to_string(), &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("is the server started?"), "{text}");
}

#[test]
fn the_curve_of_a_running_model_is_changed_by_its_admin_port_alone() {
    let model = Model::start();
    let post = |address: &str, body: &str| http(address, "POST", "/control", body);
    assert!(post(&model.admin, r#"{"alphaMs":1.5,"betaMs":0.2}"#).starts_with("HTTP/1.1 200"));
    assert!(post(&model.admin, r#"{"alphaMs":-1,"betaMs":0.2}"#).contains("alphaMs is -1"));
    assert!(post(&model.admin, r#"{"alpha":1,"betaMs":0.2}"#).contains("unknown field `alpha`"));
    assert!(post(&model.address, r#"{"alphaMs":1.5,"betaMs":0.2}"#).starts_with("HTTP/1.1 404"));
    assert!(http(&model.admin, "GET", "/metrics", "").contains("sluice_model_calls_total 0"));
}

fn http(address: &str, method: &str, path: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
