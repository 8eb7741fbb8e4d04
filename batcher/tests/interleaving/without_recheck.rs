//! With an owner that does not look again after it has announced that it listens: the ring always says that it is
//! empty.

mod primitives {
    pub use crate::controlled::{AtomicBool, Notify, Ordering, SegQueue, fence};

    #[derive(Debug)]
    pub struct ArrayQueue<T>(crate::controlled::ArrayQueue<T>);

    impl<T> ArrayQueue<T> {
        pub fn new(capacity: usize) -> Self {
            Self(crate::controlled::ArrayQueue::new(capacity))
        }

        pub fn push(&self, item: T) -> Result<(), T> {
            self.0.push(item)
        }

        pub fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        pub fn is_empty(&self) -> bool {
            true
        }
    }
}
#[path = "../../src/queue/mailbox.rs"]
mod mailbox;
#[path = "scenarios.rs"]
pub mod scenarios;
