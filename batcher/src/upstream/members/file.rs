//! Members from a file that may be replaced at any time.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::settings::{Member, check_members};

/// The members file, with its last text and its last error.
pub(super) struct MembersFile {
    path: PathBuf,
    text: String,
    trouble: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MembersDocument {
    upstreams: Vec<Member>,
}

impl MembersFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, text: String::new(), trouble: String::new() }
    }

    /// Reads the file; returns the members if its text has changed and is valid. `None` if it has not changed, is
    /// missing or is not valid.
    pub(super) fn changed(&mut self) -> Option<Vec<Member>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => {
                self.complain(&error.to_string());
                return None;
            }
        };
        if text == self.text {
            return None;
        }
        self.text.clone_from(&text);
        match read(&self.path) {
            Ok(members) => {
                self.trouble.clear();
                Some(members)
            }
            Err(trouble) => {
                self.complain(&trouble);
                None
            }
        }
    }

    fn complain(&mut self, trouble: &str) {
        if self.trouble != trouble {
            tracing::warn!(file = %self.path.display(), trouble, "Failed to read the members file; the membership stays as it is.");
            trouble.clone_into(&mut self.trouble);
        }
    }
}

/// Reads a members file, YAML or JSON.
fn read(path: &Path) -> Result<Vec<Member>, String> {
    let document: MembersDocument =
        sluice_process::settings::load(Some(path), &()).map_err(|error| error.to_string())?;
    check_members(&document.upstreams)?;
    Ok(document.upstreams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_file_is_reported_when_it_changes_and_kept_when_it_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members.json");
        let mut file = MembersFile::new(path.clone());
        assert_eq!(file.changed(), None, "a missing file changes nothing");
        std::fs::write(&path, r#"{"upstreams":[{"name":"a","address":"127.0.0.1:9001"}]}"#).unwrap();
        let members = file.changed().unwrap();
        assert_eq!(members[0].name, "a");
        assert_eq!(file.changed(), None);
        std::fs::write(&path, r#"{"upstreams":[{"name":"a","adress":"127.0.0.1:9001"}]}"#).unwrap();
        assert_eq!(file.changed(), None);
        assert!(file.trouble.contains("adress"), "{}", file.trouble);
        std::fs::write(&path, "upstreams: []\n").unwrap();
        assert_eq!(file.changed(), Some(Vec::new()), "YAML is read too");
    }

    #[test]
    fn a_mounted_config_map_changes_by_its_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let version = |number: u32, text: &str| {
            let folder = dir.path().join(format!("..{number}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("members.json"), text).unwrap();
            let new = dir.path().join("..data_tmp");
            std::os::unix::fs::symlink(&folder, &new).unwrap();
            std::fs::rename(&new, dir.path().join("..data")).unwrap();
        };
        version(1, r#"{"upstreams":[{"name":"a","address":"127.0.0.1:9001"}]}"#);
        let path = dir.path().join("members.json");
        std::os::unix::fs::symlink("..data/members.json", &path).unwrap();
        let mut file = MembersFile::new(path);
        assert_eq!(file.changed().unwrap()[0].name, "a");
        assert_eq!(file.changed(), None);
        version(2, r#"{"upstreams":[{"name":"b","grpcAddress":"127.0.0.1:9002"}]}"#);
        assert_eq!(file.changed().unwrap()[0].name, "b");
    }
}
