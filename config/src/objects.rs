//! Kubernetes objects in a directory: stands in for the API server on one machine.
//!
//! Layout: `<root>/<plural>[.<group>]/<namespace or _>/<name>.json`, where the group is left out for
//! Kubernetes' own kinds. Every write is a rename, so a reader sees the old object or the new one, never a
//! half; every object has one writer. Readers poll.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use sluice_process::atomic_file::write_atomic;

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The file system failed.
    #[error("object {path}: {source}")]
    Io {
        /// The object's file or folder.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file is not an object of that kind.
    #[error("object {path}: not a valid {kind}: {source}")]
    Invalid {
        /// The object's file.
        path: PathBuf,
        /// Kind that was expected.
        kind: &'static str,
        /// Error of the JSON reader or writer.
        source: serde_json::Error,
    },
    /// A name that cannot be a file name.
    #[error("object name {0:?} is not a valid Kubernetes name (a-z, 0-9, '-' and '.')")]
    Name(String),
}

/// A directory of objects. Cheap to clone; holds no handle.
#[derive(Debug, Clone)]
pub struct ObjectDir {
    root: PathBuf,
}

impl ObjectDir {
    /// Uses the directory at `root`, which is created when the first object is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns all objects of a kind in all namespaces, ordered by namespace and name.
    ///
    /// # Errors
    /// A file cannot be read or is not such an object. A kind without a folder has no objects.
    pub fn list<K: Resource + DeserializeOwned>(&self) -> Result<Vec<K>, ObjectError> {
        let (objects, errors) = self.list_readable()?;
        errors.into_iter().next().map_or(Ok(objects), Err)
    }

    /// Returns the objects, and the errors of files that are not valid: for readers that one broken file must not stop.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn list_readable<K: Resource + DeserializeOwned>(
        &self,
    ) -> Result<(Vec<K>, Vec<ObjectError>), ObjectError> {
        let (mut objects, mut errors) = (Vec::new(), Vec::new());
        for namespace in sorted_entries(&self.kind_dir::<K>())? {
            for file in sorted_entries(&namespace)? {
                if file.extension().is_some_and(|extension| extension == "json") {
                    match read(&file) {
                        Ok(object) => objects.extend(object),
                        Err(error) => errors.push(error),
                    }
                }
            }
        }
        Ok((objects, errors))
    }

    /// Returns one object; `None` if no object has that name. `namespace` is `None` for cluster-wide kinds.
    ///
    /// # Errors
    /// The file cannot be read or is not such an object: an error never counts as absence.
    pub fn get<K: Resource + DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<K>, ObjectError> {
        read(&self.file::<K>(namespace, name)?)
    }

    /// Creates or replaces one object, whole.
    ///
    /// # Errors
    /// The name is not valid or the file cannot be written.
    pub fn put<K: Resource + Serialize>(
        &self,
        namespace: Option<&str>,
        name: &str,
        object: &K,
    ) -> Result<(), ObjectError> {
        let path = self.file::<K>(namespace, name)?;
        let text = serde_json::to_vec_pretty(object).map_err(|source| ObjectError::Invalid {
            path: path.clone(),
            kind: K::KIND,
            source,
        })?;
        write_atomic(&path, &text).map_err(|source| ObjectError::Io { path, source })
    }

    /// Deletes one object; returns false if there was none.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn delete<K: Resource>(&self, namespace: Option<&str>, name: &str) -> Result<bool, ObjectError> {
        let path = self.file::<K>(namespace, name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ObjectError::Io { path, source }),
        }
    }

    fn kind_dir<K: Resource>(&self) -> PathBuf {
        let is_kubernetes_own = K::GROUP.is_empty() || K::GROUP.ends_with(".k8s.io");
        let folder = if is_kubernetes_own {
            K::URL_PATH_SEGMENT.to_owned()
        } else {
            format!("{}.{}", K::URL_PATH_SEGMENT, K::GROUP)
        };
        self.root.join(folder)
    }

    fn file<K: Resource>(&self, namespace: Option<&str>, name: &str) -> Result<PathBuf, ObjectError> {
        let namespace = namespace.unwrap_or("_");
        for part in [namespace, name] {
            let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
            if part.is_empty() || part.starts_with('.') || part.len() > 253 || !part.chars().all(valid) {
                return Err(ObjectError::Name(part.to_owned()));
            }
        }
        Ok(self.kind_dir::<K>().join(namespace).join(format!("{name}.json")))
    }
}

fn read<K: Resource + DeserializeOwned>(path: &Path) -> Result<Option<K>, ObjectError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| ObjectError::Invalid {
            path: path.to_owned(),
            kind: K::KIND,
            source,
        }),
        // Deleted since the folder was listed, or never there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ObjectError::Io { path: path.to_owned(), source }),
    }
}

fn sorted_entries(dir: &Path) -> Result<Vec<PathBuf>, ObjectError> {
    let failed = |source| ObjectError::Io { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};

    fn dir() -> (tempfile::TempDir, ObjectDir) {
        let temporary = tempfile::tempdir().unwrap();
        let objects = ObjectDir::new(temporary.path());
        (temporary, objects)
    }

    fn claim(uid: &str) -> ResourceClaim {
        let mut claim = ResourceClaim::default();
        claim.metadata.uid = Some(uid.to_owned());
        claim
    }

    #[test]
    fn an_object_is_read_back_replaced_and_deleted() {
        let (_temporary, objects) = dir();
        objects.put(Some("default"), "bert-0", &claim("1")).unwrap();
        objects.put(Some("default"), "bert-0", &claim("2")).unwrap();
        let read: ResourceClaim = objects.get(Some("default"), "bert-0").unwrap().unwrap();
        assert_eq!(read.metadata.uid.as_deref(), Some("2"));
        assert!(objects.delete::<ResourceClaim>(Some("default"), "bert-0").unwrap());
        assert!(!objects.delete::<ResourceClaim>(Some("default"), "bert-0").unwrap());
        assert!(objects.get::<ResourceClaim>(Some("default"), "bert-0").unwrap().is_none());
    }

    #[test]
    fn a_list_is_sorted_and_skips_what_is_being_written() {
        let (temporary, objects) = dir();
        objects.put(Some("default"), "b", &claim("b")).unwrap();
        objects.put(Some("default"), "a", &claim("a")).unwrap();
        fs::write(temporary.path().join("resourceclaims/default/.c.json.1.tmp"), "{").unwrap();
        let uids: Vec<_> = objects
            .list::<ResourceClaim>()
            .unwrap()
            .into_iter()
            .filter_map(|claim| claim.metadata.uid)
            .collect();
        assert_eq!(uids, ["a", "b"]);
        assert!(objects.list::<DeviceClass>().unwrap().is_empty());
    }

    #[test]
    fn a_broken_file_is_an_error_and_not_an_absent_object() {
        let (temporary, objects) = dir();
        objects.put(Some("default"), "a", &claim("a")).unwrap();
        fs::write(temporary.path().join("resourceclaims/default/a.json"), "{").unwrap();
        let error = objects.get::<ResourceClaim>(Some("default"), "a").unwrap_err().to_string();
        assert!(error.contains("a.json") && error.contains("ResourceClaim"), "{error}");
        objects.put(Some("default"), "b", &claim("b")).unwrap();
        assert!(objects.list::<ResourceClaim>().is_err());
        let (readable, errors) = objects.list_readable::<ResourceClaim>().unwrap();
        assert_eq!((readable.len(), errors.len()), (1, 1), "it does not hide the others");
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        let (_temporary, objects) = dir();
        assert!(objects.get::<ResourceClaim>(Some("default"), "../../etc").is_err());
    }
}
