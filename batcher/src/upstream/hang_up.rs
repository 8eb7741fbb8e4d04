//! Closes a connection whose answer is not wanted to its end: only so does a model server hear at once that nobody
//! waits for the rest of a stream.

use tokio::task::AbortHandle;

/// Ends the task that drives a connection, and with it the connection, unless its answer was read to the end.
#[derive(Debug)]
pub struct HangUp(Option<AbortHandle>);

impl HangUp {
    /// For the task of a connection.
    pub(super) fn new(connection: AbortHandle) -> Self {
        Self(Some(connection))
    }

    /// The answer was read to its end: the connection may live.
    pub fn not_needed(&mut self) {
        self.0 = None;
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.abort();
        }
    }
}
