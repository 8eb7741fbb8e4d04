//! Shared libraries that a program needs, including its ELF interpreter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Files for one call of ldd.
const AT_ONCE: usize = 200;

/// The files, by the paths at which the program looks for them; none for a static program.
pub(super) fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let output = output.context("cannot start ldd (Debian: libc-bin)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if said.contains("statically linked") || complaint.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        bail!("ldd {}: {}", program.display(), complaint.trim_end());
    }
    parse(&said).with_context(|| format!("libraries of {}", program.display()))
}

/// The libraries of many files at once, each once.
pub(super) fn needed_by(files: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for some in files.chunks(AT_ONCE) {
        let output = Command::new("ldd").args(some).env("LC_ALL", "C").output();
        let output = output.context("cannot start ldd (Debian: libc-bin)")?;
        libraries.extend(parse(&String::from_utf8_lossy(&output.stdout))?);
    }
    Ok(libraries)
}

fn parse(said: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, `linux-vdso.so.1 (0x…)`
        let place = line.split_once("=>").map_or(line, |(_, place)| place.trim());
        if place.starts_with("not found") {
            bail!("{line}");
        }
        if place.ends_with(':') {
            // Of several files each has its name above its libraries.
            continue;
        }
        let path = place.split(" (").next().unwrap_or(place);
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_interpreter_are_found_and_the_kernels_own_is_none() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(said).unwrap(), expected);
    }

    #[test]
    fn names_of_files_above_their_libraries_are_none() {
        let said = "/a.so:\n\tlibm.so.6 => /lib/libm.so.6 (0x7)\n/b.so:\n\tstatically linked\n";
        assert_eq!(parse(said).unwrap(), [PathBuf::from("/lib/libm.so.6")]);
    }

    #[test]
    fn a_library_that_is_nowhere_is_an_error() {
        let error = parse("\tlibnone.so.1 => not found\n").unwrap_err().to_string();
        assert_eq!(error, "libnone.so.1 => not found");
    }

    #[test]
    fn this_very_program_needs_its_c_library() {
        let libraries = needed(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().any(|path| path.to_str().unwrap().contains("libc.so")), "{libraries:?}");
    }
}
