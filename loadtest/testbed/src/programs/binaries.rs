//! Where the node's programs come from: folders that the user names, PATH where the version is the pinned one,
//! the user's cache, and last a build into that cache. The cluster's folder then links to all of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs::building;
use crate::programs::parts::{Part, Program};

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// Folders that the user named.
    pub folders: Vec<PathBuf>,
    /// Folders of PATH.
    pub path: Vec<PathBuf>,
    /// The user's cache of built programs.
    pub cache: PathBuf,
}

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub program: Program,
    pub path: PathBuf,
}

impl Sources {
    /// The folders of this process's environment.
    ///
    /// # Errors
    /// When the environment names no place for a cache.
    pub(crate) fn of_environment(folders: Vec<PathBuf>) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache =
            cache.or_else(home).context("set HOME or XDG_CACHE_HOME: built programs are kept there")?;
        Ok(Self {
            folders,
            path: std::env::split_paths(&path).collect(),
            cache: cache.join("sluice/testbed"),
        })
    }

    /// All programs of `parts`, building what is nowhere.
    ///
    /// # Errors
    /// When a part is nowhere and cannot be built.
    pub(crate) fn find_or_build(&self, parts: &[Part]) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for part in parts {
            match self.find(part) {
                Some(found) => all.extend(found),
                None => all.extend(self.build(part)?),
            }
        }
        Ok(all)
    }

    /// The programs of `part`, all from one place.
    pub(crate) fn find(&self, part: &Part) -> Option<Vec<Found>> {
        let named = self.folders.iter().filter_map(|folder| complete(part, folder, fits_the_release));
        let in_path = self.path.iter().filter_map(|folder| complete(part, folder, is_the_version));
        let cached = self.cached(part);
        let in_cache = complete(part, &cached, |_, _| true);
        named.chain(in_path).next().or(in_cache)
    }

    fn build(&self, part: &Part) -> Result<Vec<Found>> {
        let Some(recipe) = &part.recipe else {
            bail!(
                "{} {} is in none of the folders of --binaries, and there are no pinned modules to build it from; \
                 name a folder that holds {}",
                part.name,
                part.version,
                part.programs.iter().map(|program| program.file).collect::<Vec<_>>().join(", ")
            );
        };
        let folder = self.cached(part);
        building::build(part, recipe, &folder)?;
        complete(part, &folder, |_, _| true)
            .with_context(|| format!("the build of {} left no programs in {}", part.name, folder.display()))
    }

    fn cached(&self, part: &Part) -> PathBuf {
        self.cache.join(format!("{}-{}-{}", part.name, part.version, std::env::consts::ARCH))
    }
}

/// Creates a link to each program in `folder`.
///
/// # Errors
/// When a link cannot be made.
pub(crate) fn link(found: &[Found], folder: &Path) -> Result<()> {
    for Found { program, path } in found {
        let link = folder.join(program.file);
        let parent = link.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        symlink(path, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

/// Returns the programs of `part` in `folder`, if all are there and the first one has the right version.
fn complete(part: &Part, folder: &Path, right: impl Fn(&Part, &Path) -> bool) -> Option<Vec<Found>> {
    let found = part.programs.iter().map(|program| {
        // Either in the layout of the cache, or all in one folder.
        let name = Path::new(program.file).file_name()?;
        let path =
            [folder.join(program.file), folder.join(name)].into_iter().find(|path| is_executable(path))?;
        Some(Found { program: *program, path: std::path::absolute(path).ok()? })
    });
    let found: Vec<Found> = found.collect::<Option<_>>()?;
    right(part, &found.first()?.path).then_some(found)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Checks the version of a program in PATH: it must be the pinned one, because the program may be there for other reasons.
fn is_the_version(part: &Part, path: &Path) -> bool {
    part.tells.as_ref().is_some_and(|(arguments, expected)| tells(path, arguments, expected))
}

/// Checks a program in a folder that the user names. Only Kubernetes must have the right minor release: there may be a
/// folder for each.
fn fits_the_release(part: &Part, path: &Path) -> bool {
    if part.name != "kubernetes" {
        return true;
    }
    let minor = part.version.rsplit_once('.').map_or(part.version.as_str(), |(minor, _)| minor);
    tells(path, "--version", &format!("Kubernetes v{minor}."))
}

fn tells(path: &Path, argument: &str, expected: &str) -> bool {
    Command::new(path).arg(argument).output().is_ok_and(|output| {
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(expected)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        Part {
            name: "thing",
            version: "1.2".to_owned(),
            programs: vec![
                Program { file: "thing", package: "example.com/thing" },
                Program { file: "sub/helper", package: "example.com/helper" },
            ],
            tells: Some(("--version", "thing 1.2".to_owned())),
            recipe: None,
        }
    }

    fn write(folder: &Path, says: &str) {
        for name in ["thing", "helper"] {
            let path = folder.join(name);
            fs::create_dir_all(folder).unwrap();
            fs::write(&path, format!("#!/bin/sh\necho {says}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn places() -> (tempfile::TempDir, Sources) {
        let root = tempfile::tempdir().unwrap();
        let sources = Sources {
            folders: vec![root.path().join("named")],
            path: vec![root.path().join("path")],
            cache: root.path().join("cache"),
        };
        (root, sources)
    }

    fn place(sources: &Sources) -> Option<PathBuf> {
        sources.find(&part()).map(|found| found[0].path.parent().unwrap().to_owned())
    }

    #[test]
    fn a_named_folder_comes_before_path_and_path_before_the_cache() {
        let (root, sources) = places();
        let cache = sources.cached(&part());
        write(&cache, "anything");
        assert_eq!(place(&sources), Some(cache));
        write(&root.path().join("path"), "thing 1.2");
        assert_eq!(place(&sources), Some(root.path().join("path")));
        write(&root.path().join("named"), "thing 9");
        assert_eq!(place(&sources), Some(root.path().join("named")));
    }

    #[test]
    fn another_version_in_path_does_not_count() {
        let (root, sources) = places();
        write(&root.path().join("path"), "thing 1.1");
        assert_eq!(place(&sources), None);
    }

    #[test]
    fn a_folder_with_a_part_of_the_programs_does_not_count() {
        let (root, sources) = places();
        write(&root.path().join("named"), "thing 1.2");
        fs::remove_file(root.path().join("named/helper")).unwrap();
        assert_eq!(place(&sources), None);
    }

    #[test]
    fn what_is_nowhere_and_cannot_be_built_is_named() {
        let (_root, sources) = places();
        let error = sources.find_or_build(&[part()]).unwrap_err().to_string();
        assert!(error.contains("thing 1.2") && error.contains("sub/helper"), "{error}");
    }
}
