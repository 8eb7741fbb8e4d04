//! Store of the checkpoint: one thread owns it. Other threads send changes and wait until they are on disk, and may
//! read the last state that is.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::watch;

use super::file::{StateDir, StateError};
use super::{Change, Checkpoint, DeviceHeld};

/// Maximum changes that wait for the thread. Their callers block until they are answered.
const WAITING: usize = 64;

/// Reason why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// Another claim holds the device.
    #[error(transparent)]
    DeviceHeld(#[from] DeviceHeld),
    /// The checkpoint could not be written.
    #[error("{0}")]
    NotWritten(String),
    /// The thread has ended.
    #[error("the checkpoint's thread has ended; restart sluice-driver")]
    Gone,
}

struct Request {
    changes: Vec<Change>,
    reply: Sender<Result<(), CheckpointError>>,
}

/// Handle of the store. Cheap to clone; the thread ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct CheckpointStore {
    requests: Sender<Request>,
    durable: watch::Receiver<Arc<Checkpoint>>,
}

impl CheckpointStore {
    /// Loads the checkpoint and starts the thread.
    ///
    /// # Errors
    /// Fails if the checkpoint cannot be read or the thread cannot be started.
    pub(crate) fn open(state: StateDir) -> Result<Self, StateError> {
        let checkpoint = Arc::new(state.load()?);
        let (requests, inbox) = bounded(WAITING);
        let (publish, durable) = watch::channel(Arc::clone(&checkpoint));
        std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || keep(&state, checkpoint, &inbox, &publish))
            .map_err(|source| StateError::Io { path: "thread of the checkpoint".into(), source })?;
        Ok(Self { requests, durable })
    }

    /// Makes all changes or none; they are on disk when this returns. It blocks, so it is for blocking threads only.
    ///
    /// # Errors
    /// Fails if no change was made.
    pub(crate) fn commit(&self, changes: Vec<Change>) -> Result<(), CheckpointError> {
        let (reply, answer) = bounded(1);
        self.requests.send(Request { changes, reply }).map_err(|_| CheckpointError::Gone)?;
        answer.recv().map_err(|_| CheckpointError::Gone)?
    }

    /// Waits until the checkpoint has no record of the claim; returns at once if it has none.
    pub(crate) async fn ended(&self, uid: &str) {
        let mut durable = self.durable.clone();
        // Without the thread nothing changes any more, and the next commit reports that.
        let _ = durable.wait_for(|checkpoint| !checkpoint.claims.contains_key(uid)).await;
    }

    /// Subscribes to the states that are on disk.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Checkpoint>> {
        self.durable.clone()
    }

    /// Returns the last state that is on disk.
    pub(crate) fn checkpoint(&self) -> Arc<Checkpoint> {
        Arc::clone(&self.durable.borrow())
    }
}

fn keep(
    state: &StateDir,
    mut checkpoint: Arc<Checkpoint>,
    inbox: &Receiver<Request>,
    publish: &watch::Sender<Arc<Checkpoint>>,
) {
    while let Ok(first) = inbox.recv() {
        // All changes that wait share one write.
        let mut next = Checkpoint::clone(&checkpoint);
        let mut written = Vec::new();
        for request in std::iter::once(first).chain(inbox.try_iter().take(WAITING)) {
            match applied(&next, request.changes) {
                Ok(changed) => {
                    next = changed;
                    written.push(request.reply);
                }
                Err(held) => answer(&request.reply, Err(held.into())),
            }
        }
        if written.is_empty() {
            continue;
        }
        let result = state.save(&next).map_err(|error| {
            tracing::error!(%error, "Failed to write the checkpoint.");
            CheckpointError::NotWritten(error.to_string())
        });
        if result.is_ok() {
            checkpoint = Arc::new(next);
            publish.send_replace(Arc::clone(&checkpoint));
        }
        for reply in written {
            answer(&reply, result.clone());
        }
    }
}

fn applied(checkpoint: &Checkpoint, changes: Vec<Change>) -> Result<Checkpoint, DeviceHeld> {
    let mut next = checkpoint.clone();
    for change in changes {
        next.apply(change)?;
    }
    Ok(next)
}

fn answer(reply: &Sender<Result<(), CheckpointError>>, result: Result<(), CheckpointError>) {
    // A caller that is gone does not need the result.
    let _ = reply.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::record;

    #[test]
    fn changes_are_on_disk_when_commit_returns_and_all_or_none_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = CheckpointStore::open(StateDir::lock(dir.path()).unwrap()).unwrap();
        let begin = |uid: &str, start| Change::Begin { uid: uid.to_owned(), record: record(start, 0) };
        checkpoints.commit(vec![begin("a", 0)]).unwrap();
        let refused = checkpoints.commit(vec![begin("b", 1), begin("c", 0)]);
        assert!(matches!(refused, Err(CheckpointError::DeviceHeld(_))));
        let text = std::fs::read_to_string(dir.path().join("checkpoint.json")).unwrap();
        let on_disk: Checkpoint = serde_json::from_str(&text).unwrap();
        assert_eq!(on_disk.claims.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(*checkpoints.checkpoint(), on_disk);
    }

    #[test]
    fn many_callers_at_once_lose_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = CheckpointStore::open(StateDir::lock(dir.path()).unwrap()).unwrap();
        std::thread::scope(|scope| {
            for start in 0..7 {
                let checkpoints = checkpoints.clone();
                scope.spawn(move || {
                    let begin = Change::Begin { uid: format!("{start}"), record: record(start, 0) };
                    checkpoints.commit(vec![begin]).unwrap();
                });
            }
        });
        assert_eq!(checkpoints.checkpoint().claims.len(), 7);
    }
}
