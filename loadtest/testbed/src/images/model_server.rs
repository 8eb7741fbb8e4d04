//! A model server that is not ours, unmodified, for scenarios: MLServer in a Python environment of pinned packages,
//! kept in the user's cache and put into an image together with a model of the reference function.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::images::{self, Entry, python};
use crate::programs::building;
use crate::workdir::Workdir;

/// Reference of the image.
pub(crate) const IMAGE: &str = "localhost/mlserver:1";
/// Folder of the model in the image.
pub(crate) const MODEL: &str = "/models/reference";
/// The interpreter that makes the environment.
const PYTHON: &str = "python3";
/// What is installed.
const REQUIREMENTS: &str = include_str!("../../mlserver/requirements.txt");
/// The model's files.
const FILES: [(&str, &str); 2] = [
    ("reference_model.py", include_str!("../../mlserver/reference/reference_model.py")),
    ("model-settings.json", include_str!("../../mlserver/reference/model-settings.json")),
];

/// The environment, made where it is not in `cache` yet. Outside of the namespaces: it needs a package index.
///
/// # Errors
/// When Python is missing or too new, or a package cannot be had.
pub(crate) fn environment(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("mlserver-{:08x}-{}", sum(REQUIREMENTS), std::env::consts::ARCH));
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let _lock = building::lock(&cache.join("mlserver.lock"))?;
    let made = folder.join("made");
    if made.exists() {
        return Ok(folder);
    }
    println!("installing MLServer into {}", folder.display());
    let start = Instant::now();
    // Not made whole, and under the lock: of one that was interrupted.
    let _ = fs::remove_dir_all(&folder);
    check_python()?;
    run(Command::new(PYTHON).args(["-m", "venv", "--copies"]).arg(&folder))?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).with_context(|| requirements.display().to_string())?;
    let pip = ["install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"];
    run(Command::new(folder.join("bin/pip")).args(pip).arg(&requirements))?;
    fs::write(&made, "").with_context(|| made.display().to_string())?;
    println!("installed MLServer in {} s", start.elapsed().as_secs());
    Ok(folder)
}

/// Makes the image and hands it to containerd. Inside the cluster's namespaces.
///
/// # Errors
/// When a file cannot be read, or containerd refuses.
pub(crate) fn import(workdir: &Workdir, environment: &Path) -> Result<()> {
    let file = |(name, content): (&str, &str)| {
        Entry::program(&format!("{}/{name}", MODEL.trim_start_matches('/')), content.as_bytes().to_vec())
    };
    let files = FILES.into_iter().map(file).collect();
    images::import_image(workdir, &python::image(IMAGE, environment, "mlserver", files)?)
}

fn check_python() -> Result<()> {
    let is_right = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))";
    let status = Command::new(PYTHON).args(["-c", is_right]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!(
            "{PYTHON} is not Python 3.11 or 3.12, which MLServer's packages need; put one first in PATH"
        ),
        Err(error) => bail!("--model-server needs {PYTHON} (3.11 or 3.12, with venv): {error}"),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}; its messages are above");
    }
    Ok(())
}

/// So that other requirements are another folder (FNV-1a).
fn sum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_to_one_version() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        assert!(lines.clone().any(|line| line.starts_with("mlserver==")));
        for line in lines {
            assert!(line.split_once("==").is_some_and(|(_, version)| !version.contains('*')), "{line}");
        }
    }

    #[test]
    fn other_requirements_are_another_folder() {
        assert_ne!(sum("mlserver==1.7.1"), sum("mlserver==1.7.2"));
    }
}
