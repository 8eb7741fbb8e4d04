//! Moves long work off the threads that serve requests: work that grows with the size of a request and cannot yield.

use std::panic::resume_unwind;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Work on up to this many bytes is done on the calling thread: it takes a millisecond or two in the slowest wire
/// format. For more bytes, the cost of changing threads is small compared to the work.
pub const AT_ONCE_BYTES: usize = 128 << 10;

/// Factor by which raw tensors cost less than text of as many bytes.
pub const RAW_DISCOUNT: usize = 16;

/// Maximum number of blocking tasks that work at a time, so that other tasks get processor time too.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Does work on `bytes` bytes, on a blocking thread if they are more than `AT_ONCE_BYTES`. Work that has begun is
/// finished even if the future is dropped.
pub async fn offload<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= AT_ONCE_BYTES {
        return work();
    }
    // Never closed.
    let place = PLACES.acquire().await.ok();
    let done = spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    match done.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime shuts down, and with it this task.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn much_work_is_done_by_another_thread_and_little_by_this_one() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(offload(AT_ONCE_BYTES, thread).await, here);
        assert_ne!(offload(AT_ONCE_BYTES + 1, thread).await, here);
    }

    #[tokio::test]
    async fn others_are_served_meanwhile() {
        let (go, waits) = std::sync::mpsc::channel::<()>();
        // It would wait for ever if it kept this thread.
        let work = offload(usize::MAX, move || waits.recv().is_ok());
        let other = async { go.send(()).is_ok() };
        assert_eq!(tokio::join!(work, other), (true, true));
    }

    #[tokio::test]
    #[should_panic(expected = "as it was")]
    async fn a_panic_goes_on_here() {
        offload(usize::MAX, || panic!("as it was")).await;
    }
}
