//! The programs themselves: settings, objects in files, kill -9, SIGTERM, metrics, replay, explain.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sluice_autoscaler::fetch::Fetcher;
use tokio::time::Duration;

use crate::rig::{Rig, is_alive, until};

const AUTOSCALER: &str = env!("CARGO_BIN_EXE_sluice-autoscaler");
const KUBECTL: &str = env!("CARGO_BIN_EXE_kubectl-sluice");

/// The running program.
struct Program {
    child: Child,
    admin: String,
}

impl Drop for Program {
    /// Kills the program, so that a failed test leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(rig: &Rig, arguments: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let admin = format!("127.0.0.1:{port}");
        let log =
            std::fs::File::options().create(true).append(true).open(rig.dir.path().join("log")).unwrap();
        let child = command(rig)
            .args(["--admin-listen", &admin])
            .args(arguments)
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        Self { child, admin }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    async fn get(&self, path: &str) -> Option<String> {
        let fetcher = Fetcher::new(Duration::from_secs(5), 1 << 20);
        let body = fetcher.get_ok(&format!("http://{}{path}", self.admin)).await.ok()?;
        Some(String::from_utf8(body.to_vec()).unwrap())
    }
}

/// Returns the command that starts the program. Only its time windows are shortened.
fn command(rig: &Rig) -> Command {
    let mut command = Command::new(AUTOSCALER);
    let dir = |path: &PathBuf| path.to_string_lossy().into_owned();
    command.args(["--platform", "local"]);
    // These are set in the environment, so that a test's flags win.
    command.env("SLUICE_AUTOSCALER_TICK_MS", "100").env("SLUICE_AUTOSCALER_STALE_MS", "2000");
    command.args(["--objects", &dir(&objects_file(rig))]);
    command.args(["--store", &dir(&rig.config.store.root().to_path_buf())]);
    command.args(["--kubelet-dir", &dir(&rig.config.kubelet_dir)]);
    command.args(["--cdi-dir", &dir(&rig.config.cdi_dir)]);
    command.args(["--state-dir", &dir(&rig.config.state_dir)]);
    command
}

fn objects_file(rig: &Rig) -> PathBuf {
    rig.dir.path().join("objects.yaml")
}

fn write_objects(rig: &Rig, min_replicas: u32) {
    let deployment = serde_json::to_string(&rig.deployment()).unwrap();
    let autoscaler = format!(
        "apiVersion: sluice.dev/v1alpha1
kind: InferenceAutoscaler
metadata: {{name: bert, namespace: default}}
spec:
  scaleTargetRef: {{apiVersion: sluice.dev/v1alpha1, kind: LocalDeployment, name: bert}}
  model: bert
  objective: {{percentile: 99, latencyMs: 300}}
  minReplicas: {min_replicas}
  maxReplicas: 6
"
    );
    std::fs::write(objects_file(rig), format!("{autoscaler}---\n{deployment}\n")).unwrap();
}

fn log_bytes(rig: &Rig) -> u64 {
    std::fs::metadata(rig.config.state_dir.join("decisions-default.bert.jsonl")).unwrap().len()
}

async fn serving(rig: &Rig, replicas: usize) {
    until("so many upstreams", || rig.gateway.members().len() == replicas).await;
}

fn kubectl(rig: &Rig, arguments: &[&str]) -> Output {
    Command::new(KUBECTL).arg("--store").arg(rig.config.store.root()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_followed_kill_9_is_survived_and_sigterm_leaves_nothing() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    write_objects(&rig, 1);
    let mut program = Program::start(&rig, &[]);
    serving(&rig, 1).await;
    write_objects(&rig, 2);
    serving(&rig, 2).await;
    // A half-saved file changes nothing.
    std::fs::write(objects_file(&rig), "apiVersion: sluice.dev/v1alpha1\nkind: Infer").unwrap();

    let pids = rig.started_pids();
    let decided = || log_bytes(&rig);
    let before = decided();
    until("it goes on deciding", || decided() > before).await;
    program.signal(Signal::KILL);
    program.ended().await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));

    write_objects(&rig, 2);
    let before = decided();
    let mut program = Program::start(&rig, &[]);
    until("it decides again", || decided() > before + 10_000).await;
    assert_eq!(rig.started_pids(), pids, "the same processes, no others");
    assert!(!rig.journal.has("left"));
    assert_eq!(rig.gateway.members().len(), 2);

    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(0));
    assert!(rig.claims().is_empty() && rig.records().is_empty() && rig.gateway.members().is_empty());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_keep_them_it_leaves_the_servers_to_the_next() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    write_objects(&rig, 1);
    let mut program = Program::start(&rig, &["--on-exit", "keep"]);
    serving(&rig, 1).await;
    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(0));
    let pid = rig.started_pids()[0];
    assert!(is_alive(pid));
    assert_eq!(rig.gateway.members().len(), 1);

    let before = log_bytes(&rig);
    let mut program = Program::start(&rig, &["--on-exit", "stop"]);
    until("it decides", || log_bytes(&rig) > before).await;
    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(0));
    assert!(!is_alive(pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_status_explain_capacity_and_replay_tell_the_same_story() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    rig.gateway.set_page("sluice_batcher_demand_rows_total{model=\"bert\"} 7\n");
    write_objects(&rig, 2);
    let mut program = Program::start(&rig, &[]);
    serving(&rig, 2).await;
    let mut page = String::new();
    for _ in 0..1000 {
        page = program.get("/metrics").await.unwrap_or_default();
        if page.contains("sluice_autoscaler_ready_replicas{name=\"default/bert\"} 2") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for line in [
        "sluice_autoscaler_ready_replicas{name=\"default/bert\"} 2",
        "sluice_autoscaler_current_replicas{name=\"default/bert\"} 2",
        "sluice_autoscaler_desired_replicas{name=\"default/bert\"} 2",
        "sluice_autoscaler_free_slices{profile=\"2g.10gb\"} 1",
        "sluice_autoscaler_capacity_limited{name=\"default/bert\"} 0",
        "sluice_autoscaler_decisions_total{name=\"default/bert\",reason=",
        "sluice_autoscaler_tick_duration_seconds_bucket{name=\"default/bert\",le=",
    ] {
        assert!(page.contains(line), "{line} is missing in:\n{page}");
    }
    assert_eq!(program.get("/readyz").await.as_deref(), Some("ok\n"));

    let capacity = kubectl(&rig, &["capacity"]);
    assert!(capacity.status.success());
    let capacity = stdout(&capacity);
    let row = capacity.lines().find(|line| line.contains("2g.10gb")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..4], ["node/gpu", "2g.10gb", "1", "2"], "{capacity}");
    assert!(row.contains("default/bert-0") && row.contains("default/bert-1"), "{capacity}");
    let json: serde_json::Value =
        serde_json::from_slice(&kubectl(&rig, &["capacity", "-o", "json"]).stdout).unwrap();
    assert_eq!(json[0]["profiles"][0]["inUse"], 2);

    let explain = stdout(&kubectl(&rig, &["explain", "bert"]));
    for part in [
        "default/bert scales LocalDeployment bert",
        "p99 of model bert within 300 ms",
        "AtMinimum",
        "MetricsFresh",
    ] {
        assert!(explain.contains(part), "{part} is missing in:\n{explain}");
    }
    assert!(explain.contains("after min and max"), "each step:\n{explain}");
    let unknown = kubectl(&rig, &["explain", "bart"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("default/bert"), "{}", stderr(&unknown));

    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(0));
    let log = rig.config.state_dir.join("decisions-default.bert.jsonl");
    let replay = Command::new(AUTOSCALER).arg("replay").arg(&log).output().unwrap();
    assert!(replay.status.success(), "{}", stdout(&replay));
    assert!(stdout(&replay).contains(" decisions replayed, 0 differ, 0 lines unreadable"));
    let forged = std::fs::read_to_string(&log).unwrap().replacen("\"desired\":2", "\"desired\":3", 1);
    std::fs::write(&log, forged).unwrap();
    let replay = Command::new(AUTOSCALER).arg("replay").arg(&log).output().unwrap();
    assert_eq!(replay.status.code(), Some(1));
    assert!(stdout(&replay).contains("decision.desired was 3, is 2"), "{}", stdout(&replay));
}

#[tokio::test]
async fn silent_clients_of_the_admin_port_and_a_hangup_change_nothing() {
    let rig = Rig::new().await;
    write_objects(&rig, 1);
    let program = Program::start(&rig, &[]);
    let mut lives = false;
    for _ in 0..1000 {
        lives = program.get("/livez").await.is_some();
        if lives {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(lives);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::TcpStream::connect(&program.admin).await.unwrap());
    }
    assert_eq!(program.get("/livez").await.as_deref(), Some("ok\n"));
    program.signal(Signal::HUP);
    let log = || std::fs::read_to_string(rig.dir.path().join("log")).unwrap();
    until("the hangup is logged", || log().contains("SIGHUP changes nothing")).await;
    assert!(log().contains("limit of open files"), "{}", log());
    assert_eq!(program.get("/livez").await.as_deref(), Some("ok\n"));
}

#[tokio::test]
async fn a_second_autoscaler_on_the_same_state_is_refused() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    write_objects(&rig, 1);
    let mut first = Program::start(&rig, &[]);
    serving(&rig, 1).await;
    let second = command(&rig).args(["--admin-listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("another sluice-autoscaler"), "{}", stderr(&second));
    first.signal(Signal::TERM);
    first.ended().await;
}

#[tokio::test]
async fn bad_input_ends_with_64_and_names_the_field() {
    let rig = Rig::new().await;
    let refused = |arguments: &[&str], settings: &str, expected: &[&str]| {
        let file = rig.dir.path().join("settings.yaml");
        std::fs::write(&file, settings).unwrap();
        let output = command(&rig).arg("--config").arg(&file).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        for part in expected {
            assert!(stderr(&output).contains(part), "{part:?} is missing in {}", stderr(&output));
        }
    };
    write_objects(&rig, 1);
    refused(&[], "tickMS: 5\n", &["settings.yaml", "line 1", "tickMS", "did you mean `tickMs`?"]);
    refused(&["--stale-ms", "150"], "", &["staleMs is 150"]);
    refused(&["--tick"], "", &["--tick"]);
    write_objects(&rig, 9);
    refused(&[], "", &["objects.yaml", "document 1", "spec.maxReplicas"]);
    let text = std::fs::read_to_string(objects_file(&rig)).unwrap();
    std::fs::write(objects_file(&rig), text.replace("minReplicas", "minReplica")).unwrap();
    refused(&[], "", &["document 1", "did you mean `minReplicas`?"]);
    std::fs::remove_file(objects_file(&rig)).unwrap();
    refused(&[], "", &["objects.yaml"]);
    let nowhere = Command::new(KUBECTL).args(["--store", "/nonexistent", "capacity"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("/nonexistent"));
}
