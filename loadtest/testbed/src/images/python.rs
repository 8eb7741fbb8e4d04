//! An image with a Python environment: the interpreter, its standard library and the packages, at the paths that
//! they have on this machine, for an environment knows itself by them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Entry, Image, libraries};

/// Folder of the standard library in an environment.
const ASK: &str = "import sysconfig; print(sysconfig.get_path('stdlib'))";
/// Folders and files that no program needs to run.
const LEFT_OUT: [&str; 10] = [
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "pip",
    "setuptools",
    "include",
];
/// Modules that want a screen.
const LEFT_OUT_MODULES: [&str; 1] = ["_tkinter"];

/// The image of an environment (`python -m venv --copies`) with further files; it runs `entrypoint` of its `bin`.
///
/// # Errors
/// When its interpreter does not run, or one of its files cannot be read.
pub(super) fn image(
    reference: &str,
    environment: &Path,
    entrypoint: &str,
    further: Vec<Entry>,
) -> Result<Image> {
    let standard_library = standard_library(environment)?;
    let mut files = Vec::new();
    // Packages of the interpreter itself are not the environment's.
    let own_packages = standard_library.join("site-packages");
    collect(&standard_library, &|path| path != own_packages, &mut files)?;
    collect(environment, &|_| true, &mut files)?;
    let native: Vec<PathBuf> = files.iter().filter(|file| is_native(file)).cloned().collect();
    let folders = [standard_library.as_path(), environment];
    let libraries = libraries::needed_by(&native)?.into_iter();
    files.extend(libraries.filter(|library| !folders.iter().any(|folder| library.starts_with(folder))));
    let mut entries = vec![Entry::folder("tmp", 0o1777)];
    for file in &files {
        entries.push(entry(file)?);
    }
    entries.extend(further);
    let entrypoint = environment.join("bin").join(entrypoint).display().to_string();
    Ok(Image { reference: reference.to_owned(), entrypoint, entries })
}

fn standard_library(environment: &Path) -> Result<PathBuf> {
    let python = environment.join("bin/python");
    let output = Command::new(&python).args(["-c", ASK]).output();
    let output = output.with_context(|| format!("cannot start {}", python.display()))?;
    if !output.status.success() {
        bail!("{}: {}", python.display(), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// All files and links in and below a folder, in order.
fn collect(folder: &Path, wanted: &dyn Fn(&Path) -> bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths.into_iter().filter(|path| wanted(path)) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kind = path.symlink_metadata().with_context(|| path.display().to_string())?.file_type();
        if kind.is_dir() {
            if !LEFT_OUT.contains(&name) {
                collect(&path, wanted, files)?;
            }
        } else if !LEFT_OUT_MODULES.iter().any(|module| name.starts_with(module)) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_native(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    (name.ends_with(".so") || name.contains(".so.") || name.starts_with("python3")) && file.is_file()
}

fn entry(file: &Path) -> Result<Entry> {
    let said = || file.display().to_string();
    let inside = file.to_str().with_context(|| format!("{} is not text", said()))?.trim_start_matches('/');
    let metadata = file.symlink_metadata().with_context(said)?;
    // A library's name is often a link, and then what it leads to is not among the files.
    let is_library = is_native(file) && !inside.contains("/bin/");
    if metadata.is_symlink() && !is_library {
        return Ok(Entry::link(inside, fs::read_link(file).with_context(said)?));
    }
    let executable = metadata.permissions().mode() & 0o111 != 0;
    Ok(Entry::file(inside, if executable { 0o755 } else { 0o644 }, file.to_owned()))
}
