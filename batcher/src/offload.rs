//! Work that grows with a client's bytes and cannot pause: where there are many, it is done beside the threads that
//! serve requests.

use std::panic::resume_unwind;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Work on up to so many bytes is done at once, which takes a millisecond or two in the worst of forms; on more, the
/// change of threads is nothing beside the work.
pub const AT_ONCE_BYTES: usize = 128 << 10;

/// Tensors that stay as they are cost so much less than text of as many bytes.
pub const RAW_DISCOUNT: usize = 16;

/// How much work is done at a time: others shall have the cores as well.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Does work that looks at so many bytes. One whose client leaves meanwhile is done all the same.
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
            // The runtime ends: so does everything that waits.
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
