//! A gateway's file of upstreams: one task owns it, replicas ask it to be in or out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_process::atomic_file::write_atomic;
use tokio::sync::{mpsc, oneshot};

/// Name and `host:port` of each upstream.
pub(super) type Members = BTreeMap<String, String>;

/// Speaks to the task that owns a members file.
#[derive(Debug, Clone)]
pub(super) struct MembersFile {
    mailbox: mpsc::Sender<Change>,
}

#[derive(Debug)]
struct Change {
    name: String,
    /// `None`: out.
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
    /// Owns the file at `path` from now on; it is written at once with `members`, so that a gateway keeps
    /// what was adopted and forgets what has gone.
    pub(super) fn own(path: PathBuf, members: Members) -> Self {
        let (mailbox, changes) = mpsc::channel(64);
        tokio::spawn(keep(path, members, changes));
        Self { mailbox }
    }

    /// Adds an upstream. Returns once the file has it.
    ///
    /// # Errors
    /// The file cannot be written; the upstream is added with the next write that succeeds.
    pub(super) async fn join(&self, name: &str, address: String) -> io::Result<()> {
        self.change(name, Some(address)).await
    }

    /// Removes an upstream. Returns once the file does not have it any more.
    ///
    /// # Errors
    /// The file cannot be written.
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
        tracing::error!(path = %path.display(), %error, "The gateway's members file cannot be written.");
    }
    while let Some(Change { name, address, reply }) = changes.recv().await {
        match address {
            Some(address) => members.insert(name, address),
            None => members.remove(&name),
        };
        // Who asked and has gone (stopped) has its change nevertheless.
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
