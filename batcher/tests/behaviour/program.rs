//! The program itself: signals, and the limit of open files.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::{get, infer_json};
use crate::model::{Behaviour, Model};
use crate::start::until;

struct Program {
    child: Child,
    front: SocketAddr,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

impl Program {
    /// Starts the program for this model, with a limit of open files (`ulimit -n`) and with a settings file.
    async fn start(model: &Model, name: &str, ulimit: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (front, admin) = (port(), port());
        std::fs::write(folder.path().join("settings.yaml"), "objectiveMs: 60000\n").unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("ulimit {ulimit}; exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_sluice-batcher"))
            .arg("--config")
            .arg(folder.path().join("settings.yaml"))
            .args(["--models", name, "--upstream", &model.upstream(), "--max-batch-rows", "4"])
            .args(["--listen", &front.to_string(), "--admin-listen", &admin.to_string()])
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let program = Self { child, front, admin, folder };
        until("the program is up", async || TcpStream::connect(admin).await.is_ok()).await;
        until("it is ready", async || get(admin, "/readyz").await.status == 200).await;
        program
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

#[tokio::test]
async fn a_hangup_reads_the_settings_again_and_kills_nothing() {
    let name = "hangup";
    let model = Model::start(name, Behaviour::default()).await;
    let mut program = Program::start(&model, name, "-Sn 1000").await;
    model.close_gate();
    let front = program.front;
    let waiting = tokio::spawn(infer_json(front, name, &[5]));
    until("it is at the model", async || model.at_gate() == 1).await;
    program.signal(Signal::HUP);
    until("it is said that nothing changed", async || program.log().contains("has not changed")).await;
    std::fs::write(program.folder.path().join("settings.yaml"), "objectiveMs: 50000\n").unwrap();
    program.signal(Signal::HUP);
    until("the change is taken over", async || program.log().contains("objectiveMs")).await;
    model.open_gate();
    assert_eq!(waiting.await.unwrap().output("twice"), [10]);
    program.signal(Signal::TERM);
    assert!(program.child.wait().await.unwrap().success(), "{}", program.log());
}

#[tokio::test]
async fn silent_clients_beyond_the_soft_limit_of_files_keep_nobody_away() {
    let name = "soft-files";
    let model = Model::start(name, Behaviour::default()).await;
    let program = Program::start(&model, name, "-Sn 256").await;
    assert!(program.log().contains("The limit of open files was raised"), "{}", program.log());
    keeps_answering(&program, name).await;
}

#[tokio::test]
async fn silent_clients_beyond_the_hard_limit_of_files_make_room() {
    let name = "hard-files";
    let model = Model::start(name, Behaviour::default()).await;
    let program = Program::start(&model, name, "-n 256").await;
    assert!(program.log().contains("maxConnections is more than"), "{}", program.log());
    keeps_answering(&program, name).await;
}

#[tokio::test]
async fn without_a_file_left_idle_clients_make_room_and_the_log_stays_short() {
    let name = "no-files";
    let model = Model::start(name, Behaviour::default()).await;
    let program = Program::start(&model, name, "-n 36").await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(program.admin).await.unwrap());
    }
    assert_eq!(get(program.admin, "/readyz").await.status, 200);
    let lines = program.log().matches("Failed to accept connections").count();
    assert!((1..=3).contains(&lines), "{}", program.log());
}

/// Connects 300 silent clients to each port, and asks.
async fn keeps_answering(program: &Program, name: &str) {
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(program.front).await.unwrap());
        silent.push(TcpStream::connect(program.admin).await.unwrap());
    }
    assert_eq!(get(program.front, "/v2/health/ready").await.status, 200);
    assert_eq!(get(program.admin, "/readyz").await.status, 200);
    assert_eq!(infer_json(program.front, name, &[7]).await.output("twice"), [14]);
    // A request that passes through needs another connection to the model server.
    assert_eq!(get(program.front, &format!("/v2/models/{name}")).await.status, 200);
}
