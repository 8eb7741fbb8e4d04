//! Load on a Service: `sluice-loadtest run` beside the scenario, and its report.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::cluster::Cluster;

/// So that two runs do not write one report.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
    report: PathBuf,
}

impl Load {
    /// Starts to send to `target` (`10.0.0.1:8000`, or a Service's name and port); `arguments` are those of
    /// `sluice-loadtest run`.
    ///
    /// # Errors
    /// When the program does not start.
    pub(crate) fn start(cluster: &Cluster, target: &str, arguments: &[&str]) -> Result<Self> {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let report = cluster.workdir().path(&format!("load-{}-{number}.json", std::process::id()));
        let child = Command::new(cluster.workdir().program("sluice-loadtest"))
            .args(["run", "--target", target, "--allow-remote", "true", "--json"])
            .arg(&report)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start sluice-loadtest")?;
        Ok(Self { child, report })
    }

    /// Whether it still sends, or waits for answers.
    ///
    /// # Errors
    /// When the process cannot be looked at.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end; the result is its report, also where a threshold was violated.
    ///
    /// # Errors
    /// When it wrote none, with what it said.
    pub(crate) async fn finish(self) -> Result<Value> {
        let output = self.child.wait_with_output().await?;
        let Ok(report) = std::fs::read(&self.report) else {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("sluice-loadtest wrote no report ({}): {}", output.status, said.trim_end());
        };
        let _ = std::fs::remove_file(&self.report);
        serde_json::from_slice(&report).context("the report of sluice-loadtest")
    }
}
