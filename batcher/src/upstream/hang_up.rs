//! Closes the connection of an answer that is given up before its end: only this shows a model server at once that the
//! rest of a stream is not wanted.

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Closes a connection when dropped, unless its answer was read to the end.
pub struct HangUp(Option<Connection>);

enum Connection {
    /// A connection that one task drives; another task keeps it when it is free again.
    Task(AbortHandle),
    /// A connection that several tasks drive, and the function that keeps it.
    Tasks(CancellationToken, Box<dyn FnOnce() + Send + Sync>),
}

impl std::fmt::Debug for HangUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HangUp").field("is_needed", &self.0.is_some()).finish()
    }
}

impl HangUp {
    /// Creates a guard for a connection that this task drives.
    pub(super) fn new(connection: AbortHandle) -> Self {
        Self(Some(Connection::Task(connection)))
    }

    /// Creates a guard for a connection whose tasks `end` stops; `keep` keeps it for the next request.
    pub(super) fn keeping(end: CancellationToken, keep: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Connection::Tasks(end, Box::new(keep))))
    }

    /// Notes that the answer was read to its end, so that the connection stays open.
    pub fn not_needed(&mut self) {
        if let Some(Connection::Tasks(_, keep)) = self.0.take() {
            keep();
        }
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Connection::Task(task)) => task.abort(),
            Some(Connection::Tasks(end, _)) => end.cancel(),
            None => {}
        }
    }
}
