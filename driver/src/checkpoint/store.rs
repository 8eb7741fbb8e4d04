//! The one thread that owns the checkpoint. Others send it changes and wait until these are on disk;
//! everybody may read the last state that is.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::watch;

use super::file::{StateDir, StateError};
use super::{Change, Checkpoint, DeviceHeld};

/// Callers block until they are answered, so this many may wait at once.
const WAITING: usize = 64;

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// Another claim has the device.
    #[error(transparent)]
    DeviceHeld(#[from] DeviceHeld),
    /// It could not be written.
    #[error("{0}")]
    NotWritten(String),
    /// The thread is gone.
    #[error("the checkpoint's thread has ended; restart sluice-driver")]
    Gone,
}

struct Request {
    changes: Vec<Change>,
    reply: Sender<Result<(), CheckpointError>>,
}

/// Handle of the thread. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub(crate) struct CheckpointStore {
    requests: Sender<Request>,
    durable: watch::Receiver<Arc<Checkpoint>>,
}

impl CheckpointStore {
    /// Loads the checkpoint and starts the thread.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or the thread cannot be started.
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

    /// Makes changes, all or none; they are on disk when this returns. Blocks: for blocking threads only.
    ///
    /// # Errors
    /// Nothing was changed then.
    pub(crate) fn commit(&self, changes: Vec<Change>) -> Result<(), CheckpointError> {
        let (reply, answer) = bounded(1);
        self.requests.send(Request { changes, reply }).map_err(|_| CheckpointError::Gone)?;
        answer.recv().map_err(|_| CheckpointError::Gone)?
    }

    /// Returns when a claim is not remembered any more; at once for one that never was.
    pub(crate) async fn ended(&self, uid: &str) {
        let mut durable = self.durable.clone();
        // Without a thread nothing changes any more: the next commit says so.
        let _ = durable.wait_for(|checkpoint| !checkpoint.claims.contains_key(uid)).await;
    }

    /// Sees each state that is on disk.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Checkpoint>> {
        self.durable.clone()
    }

    /// The last state that is on disk.
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
        // Whatever waits already shares one write.
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
            tracing::error!(%error, "The checkpoint could not be written.");
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
    // A caller that is gone has no use for the answer.
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
