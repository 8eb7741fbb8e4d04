//! The task of an HTTP/2 stream. hyper waits in it for the client's window, and looks at nothing else meanwhile: that
//! its answer is not wanted any more can only be told to the task.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use hyper::rt::Executor;
use tokio::task::AbortHandle;

tokio::task_local! {
    static CURRENT: StreamTask;
}

/// A task; ending it resets the stream.
#[derive(Debug, Clone, Default)]
pub struct StreamTask(Arc<OnceLock<AbortHandle>>);

impl StreamTask {
    /// The one that runs; `None` outside of HTTP/2, where a connection has one answer at a time and no task of its own.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Ends it; false where it has only just been spawned.
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
