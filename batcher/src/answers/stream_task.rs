//! The task of an HTTP/2 stream. hyper waits in it for the client's window and looks at nothing else meanwhile, so the
//! only way to end a stream whose answer is given up is to abort the task.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use hyper::rt::Executor;
use tokio::task::AbortHandle;

tokio::task_local! {
    static CURRENT: StreamTask;
}

/// Handle of the task of an HTTP/2 stream; ending the task resets the stream.
#[derive(Debug, Clone, Default)]
pub struct StreamTask(Arc<OnceLock<AbortHandle>>);

impl StreamTask {
    /// Returns the stream's task that runs now; `None` outside of HTTP/2, where a connection has one answer at a time
    /// and no task for it.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Aborts the task; returns false if it is only just being spawned and cannot be aborted yet.
    pub fn end(&self) -> bool {
        let task = self.0.get();
        task.inspect(|task| task.abort()).is_some()
    }
}

/// Spawns the tasks of HTTP/2 streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let task = StreamTask::default();
        let handle = Arc::clone(&task.0);
        let spawned = tokio::spawn(CURRENT.scope(task, stream));
        // Set once, here.
        let _ = handle.set(spawned.abort_handle());
    }
}
