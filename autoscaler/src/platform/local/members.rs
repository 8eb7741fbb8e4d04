//! A gateway's file of upstreams. One task owns it; replicas ask the task to add or remove them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_process::atomic_file::write_atomic;
use tokio::sync::{mpsc, oneshot};

/// Upstreams: `host:port` by name.
pub(super) type Members = BTreeMap<String, String>;

/// Handle to the task that owns a members file.
#[derive(Debug, Clone)]
pub(super) struct MembersFile {
    mailbox: mpsc::Sender<Change>,
}

#[derive(Debug)]
struct Change {
    name: String,
    /// Address to add; `None` = remove the upstream.
    address: Option<String>,
    reply: oneshot::Sender<io::Result<()>>,
}

#[derive(Serialize)]
struct File<'a> {
    upstreams: Vec<Upstream<'a>>,
}

#[derive(Serialize)]
struct Upstream<'a> {
    name: &'a str,
    address: &'a str,
}

impl MembersFile {
    /// Starts the task that owns the file at `path`. It writes `members` at once, so that the gateway keeps adopted
    /// upstreams and forgets the others.
    pub(super) fn own(path: PathBuf, members: Members) -> Self {
        let (mailbox, changes) = mpsc::channel(64);
        tokio::spawn(keep(path, members, changes));
        Self { mailbox }
    }

    /// Adds an upstream. Returns once the file has it. After a failed write the next successful one adds it.
    pub(super) async fn join(&self, name: &str, address: String) -> io::Result<()> {
        self.change(name, Some(address)).await
    }

    /// Removes an upstream. Returns once the file does not have it any more.
    pub(super) async fn leave(&self, name: &str) -> io::Result<()> {
        self.change(name, None).await
    }

    async fn change(&self, name: &str, address: Option<String>) -> io::Result<()> {
        let gone = || io::Error::other("the task of the members file has ended");
        let (reply, answer) = oneshot::channel();
        let change = Change { name: name.to_owned(), address, reply };
        self.mailbox.send(change).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn keep(path: PathBuf, mut members: Members, mut changes: mpsc::Receiver<Change>) {
    if let Err(error) = write(&path, &members).await {
        tracing::error!(path = %path.display(), %error, "Failed to write the gateway's members file.");
    }
    while let Some(Change { name, address, reply }) = changes.recv().await {
        match address {
            Some(address) => members.insert(name, address),
            None => members.remove(&name),
        };
        // The change is made even if the replica that asked has ended.
        let _ = reply.send(write(&path, &members).await);
    }
}

async fn write(path: &Path, members: &Members) -> io::Result<()> {
    let upstreams = members.iter().map(|(name, address)| Upstream { name, address }).collect();
    let text = serde_json::to_vec_pretty(&File { upstreams })?;
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || write_atomic(&path, &text)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_has_who_is_in_and_not_who_is_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/members.json");
        let adopted = Members::from([("a".to_owned(), "127.0.0.1:1".to_owned())]);
        let members = MembersFile::own(path.clone(), adopted);
        members.join("b", "127.0.0.1:2".to_owned()).await.unwrap();
        let read = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read()["upstreams"][0]["name"], "a");
        assert_eq!(read()["upstreams"][1]["address"], "127.0.0.1:2");
        members.leave("a").await.unwrap();
        assert_eq!(read()["upstreams"].as_array().unwrap().len(), 1);
    }
}
