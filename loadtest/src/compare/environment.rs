//! Installs peers on demand in folders of their own under the user's cache, so that nothing else on the machine changes:
//! servers from PyPI with all packages pinned; proxies from Debian, unpacked without being installed, unless the machine
//! has them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::process::Command;

use super::peer::Peer;

/// Time limit of one step of an installation; the largest download is 400 MB.
const STEP_TIMEOUT: Duration = Duration::from_secs(900);
/// The proxies and the libraries that a plain system lacks.
const DEBIAN_PACKAGES: [&str; 5] =
    ["nginx", "haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"];

/// Embedded files of a peer: its server and the packages that it needs.
struct Source {
    serve: &'static str,
    requirements: &'static str,
}

/// Embeds the files of a peer that is written in Python.
macro_rules! source {
    ($folder:literal) => {
        Source {
            serve: include_str!(concat!("../../compare/", $folder, "/serve.py")),
            requirements: include_str!(concat!("../../compare/", $folder, "/requirements.txt")),
        }
    };
}

fn source(peer: Peer) -> Option<Source> {
    match peer {
        Peer::Mosec => Some(source!("mosec")),
        Peer::Pytriton => Some(source!("pytriton")),
        Peer::Litserve => Some(source!("litserve")),
        Peer::Bentoml => Some(source!("bentoml")),
        Peer::Kserve => Some(source!("kserve")),
        _ => None,
    }
}

/// Returns the compared package with its version, for the table: the first line of the peer's requirements file that is
/// no comment.
pub(crate) fn package(peer: Peer) -> Option<String> {
    let first = source(peer)?.requirements.lines().find(|line| !line.starts_with('#'))?;
    Some(first.replace("==", " "))
}

/// Creates the virtual environment of a peer in `folder`, unless it exists with these packages.
///
/// # Errors
/// When a step fails; the message has the last lines of its output.
pub(crate) async fn python(peer: Peer, folder: &Path, python: &Path) -> Result<()> {
    let source = source(peer).ok_or_else(|| anyhow!("{peer} is no server from PyPI"))?;
    let failed = |error: std::io::Error| anyhow!("{}: {error}", folder.display());
    let interpreter = folder.join("bin/python");
    let made_of = folder.join("made-of");
    let wanted = format!("{}\n{}", python.display(), source.requirements);
    if std::fs::read_to_string(&made_of).unwrap_or_default() != wanted {
        eprintln!("installing {} into {}", package(peer).unwrap_or_default(), folder.display());
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(failed)?;
        }
        let venv = [OsStr::new("-m"), "venv".as_ref(), folder.as_os_str()];
        step(Command::new(python).args(venv)).await?;
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, source.requirements).map_err(failed)?;
        let install = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "-r"];
        step(Command::new(&interpreter).args(install).arg(&requirements)).await?;
        std::fs::write(&made_of, &wanted).map_err(failed)?;
    }
    std::fs::write(folder.join("serve.py"), source.serve).map_err(failed)
}

/// Program of a proxy, with the folder of its libraries.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub program: PathBuf,
    /// Folder of the libraries that were unpacked with the proxy; `None`: it uses the system's.
    pub libraries: Option<PathBuf>,
}

/// Finds a proxy on this machine, or unpacks Debian's into `folder`.
///
/// # Errors
/// When a step fails; the message says what would help.
pub(crate) async fn proxy(name: &str, folder: &Path) -> Result<Proxy> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|dir| dir.join(name));
    if let Some(program) = installed.into_iter().find(|program| program.is_file()) {
        return Ok(Proxy { program, libraries: None });
    }
    let program = folder.join("usr/sbin").join(name);
    if !program.is_file() {
        eprintln!("unpacking {} into {}", DEBIAN_PACKAGES.join(", "), folder.display());
        unpack(folder).await.map_err(|error| anyhow!("{name} is missing, and {error}; install {name}"))?;
    }
    let libraries = folder.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    Ok(Proxy { program, libraries: Some(libraries) })
}

async fn unpack(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| anyhow!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    let download = || {
        let mut command = Command::new("apt-get");
        command.arg("download").args(DEBIAN_PACKAGES).current_dir(folder);
        command
    };
    if step(&mut download()).await.is_err() {
        // The package lists are missing or older than the repository.
        step(Command::new("apt-get").args(["update", "-qq"])).await?;
        step(&mut download()).await?;
    }
    for entry in std::fs::read_dir(folder).map_err(failed)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            step(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(folder)).await?;
        }
    }
    Ok(())
}

/// Returns the version that a proxy reports.
pub(crate) async fn proxy_version(proxy: &Proxy) -> Option<String> {
    let mut command = Command::new(&proxy.program);
    command.arg("-v").stdin(Stdio::null());
    if let Some(libraries) = &proxy.libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command.output().await.ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // "nginx version: nginx/1.22.1", "HAProxy version 2.6.12-1 2023/12/16 - …"
    let version = said.lines().next()?.split(' ').find(|word| word.contains(|c: char| c.is_ascii_digit()))?;
    Some(version.replace('/', " ").trim_start_matches("nginx ").to_owned())
}

async fn step(command: &mut Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(STEP_TIMEOUT, running)
        .await
        .map_err(|_| anyhow!("{name} took longer than {} s", STEP_TIMEOUT.as_secs()))?
        .map_err(|error| anyhow!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last: Vec<&str> = said.trim_end().lines().rev().take(3).collect();
    bail!("{name} ended with {}: {}", output.status, last.into_iter().rev().collect::<Vec<_>>().join(" / "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_of_a_peer_is_pinned() {
        for peer in Peer::ALL {
            let Some(source) = source(peer) else { continue };
            for line in source.requirements.lines().filter(|line| !line.starts_with('#')) {
                assert!(line.contains("=="), "{peer}: {line}");
            }
            let package = package(peer).unwrap();
            assert!(package.contains(peer.name()), "{peer}: {package} is not the package that is compared");
        }
    }
}
