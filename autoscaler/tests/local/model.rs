//! A model server: this test program itself, started again as a process. It answers every request with 200, and notes
//! in the journal how it was started and how it was stopped.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::journal::Journal;

/// Variable with the journal's path; without it the process is not a model server.
const JOURNAL: &str = "TEST_MODEL_JOURNAL";
/// Variable that makes the model server end at once with exit code 3.
const CRASH: &str = "TEST_MODEL_CRASH";

/// The command of a LocalDeployment whose replicas are this process. The test harness takes the port and
/// the name as further filters, which match no test.
pub(crate) fn command() -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let name = "model::model_server_process";
    [&program, name, "--exact", "--ignored", "--nocapture", "port={port}", "name={name}"]
        .map(str::to_owned)
        .to_vec()
}

pub(crate) fn env(journal: &Journal, crashes: bool) -> Vec<(String, String)> {
    let mut env = vec![(JOURNAL.to_owned(), journal.path().to_string_lossy().into_owned())];
    if crashes {
        env.push((CRASH.to_owned(), "1".to_owned()));
    }
    env
}

fn argument(name: &str) -> String {
    let prefix = format!("{name}=");
    std::env::args().find_map(|argument| argument.strip_prefix(&prefix).map(str::to_owned)).unwrap()
}

#[tokio::test]
#[ignore = "not a test: the model server that other tests start as a process"]
async fn model_server_process() {
    let Ok(journal) = std::env::var(JOURNAL) else { return };
    let journal = Journal::at(journal.as_ref());
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    journal.write(&format!(
        "start {} pid={} profile={} device={} visible={} claim={} own={}",
        argument("name"),
        std::process::id(),
        variable("SLUICE_PROFILE"),
        variable("SLUICE_DEVICE"),
        variable("CUDA_VISIBLE_DEVICES"),
        variable("SLUICE_CLAIM_UID"),
        variable("OWN"),
    ));
    if std::env::var(CRASH).is_ok() {
        std::process::exit(3);
    }
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let listener = TcpListener::bind(format!("127.0.0.1:{}", argument("port"))).await.unwrap();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut stream, _) = accepted.unwrap();
                tokio::spawn(async move {
                    let mut head = [0_u8; 1024];
                    if stream.read(&mut head).await.is_ok_and(|bytes| bytes > 0) {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                        let _ = stream.write_all(answer).await;
                    }
                });
            }
            // A failed test removes only its directory, so the process must end itself.
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {
                if journal.is_over() {
                    std::process::exit(0);
                }
            }
            _ = terminate.recv() => {
                journal.write(&format!("sigterm {}", argument("name")));
                std::process::exit(0);
            }
        }
    }
}
