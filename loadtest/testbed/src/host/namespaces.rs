//! Mount, network and process namespaces of one cluster, created and entered by the programs of util-linux: doing so
//! from this process would need `unsafe`.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::leftovers::MARK;
use crate::processes::{self, Identity};
use crate::workdir::{Record, Workdir};

/// Time limit for `unshare` to start the first process.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Starts `program` as the first process of new namespaces, detached from the terminal, with its output in `log`.
///
/// # Errors
/// When it does not start, with the content of `log`.
pub(crate) fn create(workdir: &Workdir, program: &Path, arguments: &[&OsStr], log: &Path) -> Result<Record> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = Command::new("setsid")
        .args(["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["--propagation", "private", "--"])
        .arg(program)
        .args(arguments)
        .env(MARK, workdir.root())
        // containerd finds its shim through PATH, the kubelet finds mount and others.
        .env("PATH", path_with_programs(workdir))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start setsid (Debian: util-linux)")?;
    let outer = Identity::of(child.id()).context("unshare ended at once")?;
    let start = Instant::now();
    loop {
        if let Some(init) = processes::children(outer.pid).first() {
            return Ok(Record { outer, init: *init });
        }
        if let Some(status) = child.try_wait()? {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("unshare ended with {status}: {}", said.trim_end());
        }
        if start.elapsed() > STARTED_WITHIN {
            bail!("unshare started nothing within {} s", STARTED_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a command that runs `program` inside the namespaces, in the current folder, with the cluster's programs in
/// PATH and its kubeconfig. The caller adds arguments.
pub(crate) fn inside(record: &Record, workdir: &Workdir, program: &OsStr) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &record.init.pid.to_string(), "--net", "--mount", "--pid", "--"])
        // A mount namespace is entered at its root; env returns to the caller's folder.
        .args(["env", "--chdir"])
        .arg(std::env::current_dir().unwrap_or_else(|_| "/".into()))
        .arg(format!("PATH={}", path_with_programs(workdir)))
        .arg(format!("KUBECONFIG={}", workdir.kubeconfig().display()))
        // For ctr: the node's containerd, and the containerd namespace that the kubelet uses.
        .arg(format!("CONTAINERD_ADDRESS={}", workdir.text("containerd.sock")))
        .arg("CONTAINERD_NAMESPACE=k8s.io")
        .arg(program);
    command
}

fn path_with_programs(workdir: &Workdir) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}:/usr/sbin:/sbin", workdir.text("bin"))
}
