//! Builds a part from its pinned Go modules into the user's cache, in one step and by one process at a time.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::programs::parts::{Part, Recipe};

/// Builds `part` into `folder`, which appears only when the build is complete. If another process builds the same
/// part, waits for it instead.
///
/// # Errors
/// When Go or, where C is needed, a compiler is missing; when the build fails, with Go's own messages above.
pub(crate) fn build(part: &Part, recipe: &Recipe, folder: &Path) -> Result<()> {
    let cache = folder.parent().context("the cache has no parent folder")?;
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let _lock = lock(&cache.join(format!("{}.lock", part.name)))?;
    if folder.exists() {
        return Ok(());
    }
    check_tools(recipe)?;
    println!("building {} {} from Go modules into {}", part.name, part.version, folder.display());
    let start = Instant::now();
    let scratch = cache.join(format!("{}.building", part.name));
    // No other build runs while the lock is held: a folder that exists is of a build that was killed.
    let _ = fs::remove_dir_all(&scratch);
    let source = scratch.join("source");
    fs::create_dir_all(&source)
        .and_then(|()| fs::write(source.join("go.mod"), recipe.go_mod))
        .and_then(|()| fs::write(source.join("go.sum"), recipe.go_sum))
        .with_context(|| format!("cannot write {}", source.display()))?;
    let programs = scratch.join("programs");
    for program in &part.programs {
        go_build(recipe, program.package, &source, &programs.join(program.file))?;
    }
    fs::rename(&programs, folder)
        .with_context(|| format!("cannot move the programs to {}", folder.display()))?;
    let _ = fs::remove_dir_all(&scratch);
    println!("built {} {} in {} s", part.name, part.version, start.elapsed().as_secs());
    Ok(())
}

fn go_build(recipe: &Recipe, package: &str, source: &Path, output: &Path) -> Result<()> {
    let status = Command::new("go")
        .args(["build", "-mod=readonly", "-trimpath", "-ldflags", &recipe.ldflags])
        .args((!recipe.tags.is_empty()).then(|| format!("-tags={}", recipe.tags)))
        .arg("-o")
        .arg(output)
        .arg(package)
        .current_dir(source)
        .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" })
        // The user's flags and workspaces are meant for other modules.
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .status()
        .context("cannot start go")?;
    if !status.success() {
        bail!("go build {package}: {status}; its messages are above");
    }
    Ok(())
}

fn check_tools(recipe: &Recipe) -> Result<()> {
    let works = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    if !works("go", &["version"]) {
        bail!(
            "go is missing: install Go 1.26 or newer, or name folders with ready programs with --binaries \
             (or SLUICE_TESTBED_BINARIES)"
        );
    }
    if recipe.cgo && !works("pkg-config", &["--exists", "libseccomp"]) {
        bail!(
            "libseccomp's headers are missing: install gcc, pkg-config and libseccomp-dev (Debian's names)"
        );
    }
    Ok(())
}

/// Locks a file, until the result is dropped; waits if another process holds the lock.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        println!("waiting for another build: {} is locked", path.display());
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}
