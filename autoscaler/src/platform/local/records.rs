//! Replica records: what the next supervisor needs to know after kill -9. Each is one JSON file, replaced whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_process::atomic_file::write_atomic;

use super::procfs::Identity;
use crate::platform::Target;

/// Progress of one replica, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaRecord {
    /// Namespace of its LocalDeployment and its claim.
    pub namespace: String,
    /// Name of its LocalDeployment.
    pub deployment: String,
    /// Name of the replica, and of its claim.
    pub name: String,
    /// UID of its claim.
    pub claim_uid: String,
    /// DRA driver of its device.
    pub driver: String,
    /// Process of the replica; `None` while it has none.
    pub process: Option<Identity>,
    /// Loopback port of the process.
    pub port: Option<u16>,
    /// Name among the gateway's upstreams; `None` until it was added there.
    pub member: Option<String>,
    /// Number of processes started so far; each is another upstream to the gateway.
    pub starts: u32,
    /// Whether the replica is being stopped for good.
    pub terminating: bool,
}

impl ReplicaRecord {
    /// Returns the LocalDeployment of the replica.
    pub fn target(&self) -> Target {
        Target { namespace: self.namespace.clone(), name: self.deployment.clone() }
    }
}

/// The folder of all records.
#[derive(Debug, Clone)]
pub struct ReplicaRecords {
    dir: PathBuf,
}

impl ReplicaRecords {
    /// Keeps the records in `<state_dir>/replicas`.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("replicas") }
    }

    /// Returns every record. Records that are not valid are logged and left where they are.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<ReplicaRecord>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path).map(|bytes| serde_json::from_slice::<ReplicaRecord>(&bytes)) {
                Ok(Ok(record)) => records.push(record),
                Ok(Err(error)) => {
                    tracing::error!(path = %path.display(), %error, "A replica record is not readable; its claim must be removed by hand.");
                }
                // Removed since the folder was listed: its replica has ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        records.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(records)
    }

    /// Writes a record durably.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&self, record: &ReplicaRecord) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        write_atomic(&self.file(record), &text)
    }

    /// Removes a record; does nothing where it does not exist.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, record: &ReplicaRecord) -> io::Result<()> {
        match fs::remove_file(self.file(record)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn file(&self, record: &ReplicaRecord) -> PathBuf {
        self.dir.join(format!("{}.{}.json", record.namespace, record.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_a_broken_one_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let records = ReplicaRecords::new(dir.path());
        assert!(records.list().unwrap().is_empty());
        let record = ReplicaRecord {
            namespace: "default".to_owned(),
            deployment: "bert".to_owned(),
            name: "bert-0".to_owned(),
            claim_uid: "1".to_owned(),
            driver: "gpu.sluice.dev".to_owned(),
            process: Some(Identity { pid: 7, start_ticks: 8, boot_id: "9".to_owned() }),
            port: Some(9001),
            member: None,
            starts: 1,
            terminating: false,
        };
        records.put(&record).unwrap();
        fs::write(dir.path().join("replicas/broken.json"), "{").unwrap();
        assert_eq!(records.list().unwrap(), std::slice::from_ref(&record));
        records.remove(&record).unwrap();
        records.remove(&record).unwrap();
        assert!(records.list().unwrap().is_empty());
    }
}
