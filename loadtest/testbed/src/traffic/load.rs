//! Load on a Service by `sluice-loadtest run`.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::cluster::Cluster;

/// Number of runs so far, so that each has a report file of its own.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A run in progress. Dropping it kills its process.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
    report: PathBuf,
}

impl Load {
    /// Starts a run against `target` (`10.0.0.1:8000`, or a Service's name and port) with `arguments` of
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

    /// Returns whether the process still runs.
    ///
    /// # Errors
    /// When the state of the process cannot be read.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for the end of the run and returns its report, also where a threshold was violated.
    ///
    /// # Errors
    /// When it wrote no report, with its standard error.
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
