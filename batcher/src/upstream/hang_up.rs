//! Closes a connection whose answer is not wanted to its end: only so does a model server hear at once that nobody
//! waits for the rest of a stream.

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Closes a connection, unless its answer was read to the end.
pub struct HangUp(Option<Connection>);

enum Connection {
    /// Driven by one task, which keeps it by itself when it is free again.
    Task(AbortHandle),
    /// Driven by several, and what keeps it.
    Tasks(CancellationToken, Box<dyn FnOnce() + Send + Sync>),
}

impl std::fmt::Debug for HangUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HangUp").field("is_needed", &self.0.is_some()).finish()
    }
}

impl HangUp {
    /// For the task of a connection.
    pub(super) fn new(connection: AbortHandle) -> Self {
        Self(Some(Connection::Task(connection)))
    }

    /// For the tasks of a connection that `keep` keeps for the next answer.
    pub(super) fn keeping(end: CancellationToken, keep: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Connection::Tasks(end, Box::new(keep))))
    }

    /// The answer was read to its end: the connection may live.
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
