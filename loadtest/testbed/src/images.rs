//! Container images of this tree's programs: one binary and the libraries that it needs, nothing else. They are
//! written as files and imported, because there is neither an engine nor a registry.

mod libraries;
pub(crate) mod model_server;
mod oci;
mod python;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workdir::Workdir;

pub(crate) use oci::{Entry, Image};

/// Image of every pod's sandbox.
pub(crate) const PAUSE: &str = "localhost/pause:1";
/// Image of the cluster's DNS.
pub(crate) const COREDNS: &str = "localhost/coredns:1";
/// Folder of the program in an image.
const PROGRAM_DIR: &str = "usr/local/bin";

/// Programs of this tree that have an image.
pub(crate) const PRODUCT: [&str; 5] =
    ["sluice-driver", "sluice-batcher", "sluice-preloader", "sluice-autoscaler", "sluice-loadtest"];

/// Image to build.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// `sluice.dev/sluice-driver:0.1.0`.
    pub reference: String,
    pub program: PathBuf,
}

/// Returns the image reference of a program of this tree.
pub(crate) fn reference(program: &str) -> String {
    format!("sluice.dev/{program}:{}", env!("CARGO_PKG_VERSION"))
}

/// Returns the images of a cluster, and the names of programs that `bin_dir` lacks.
pub(crate) fn sources(bin_dir: &Path, coredns: &Path) -> (Vec<Source>, Vec<&'static str>) {
    let mut sources = vec![
        Source { reference: PAUSE.to_owned(), program: bin_dir.join("sluice-testbed-pause") },
        Source { reference: COREDNS.to_owned(), program: coredns.to_owned() },
    ];
    let mut missing = Vec::new();
    for name in PRODUCT {
        let program = bin_dir.join(name);
        if program.exists() {
            sources.push(Source { reference: reference(name), program });
        } else {
            missing.push(name);
        }
    }
    (sources, missing)
}

/// Builds an image and imports it into containerd. Runs inside the cluster's namespaces.
///
/// # Errors
/// When the program or one of its libraries cannot be read, or containerd refuses.
pub(crate) fn import(workdir: &Workdir, source: &Source) -> Result<()> {
    import_image(workdir, &build(source)?)
}

/// Imports a built image into containerd.
///
/// # Errors
/// When a file of it cannot be read, or containerd refuses.
pub(crate) fn import_image(workdir: &Workdir, image: &Image) -> Result<()> {
    let file = workdir.path(&format!("image-{}.tar", std::process::id()));
    fs::write(&file, image.tar()?).with_context(|| format!("cannot write {}", file.display()))?;
    let output = Command::new(workdir.program("ctr"))
        .arg("--address")
        .arg(workdir.path("containerd.sock"))
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(&file)
        .output()
        .context("cannot start ctr")?;
    let _ = fs::remove_file(&file);
    if !output.status.success() {
        bail!(
            "containerd refuses {}: {}",
            image.reference,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

fn build(source: &Source) -> Result<Image> {
    let name =
        source.program.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let path = format!("{PROGRAM_DIR}/{name}");
    let mut entries = vec![Entry::folder("tmp", 0o1777), Entry::program(&path, read(&source.program)?)];
    for library in libraries::needed(&source.program)? {
        let inside =
            library.to_str().context("a library's path is not text")?.trim_start_matches('/').to_owned();
        entries.push(Entry::program(&inside, read(&library)?));
    }
    Ok(Image { reference: source.reference.clone(), entrypoint: format!("/{path}"), entries })
}
