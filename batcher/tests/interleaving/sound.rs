//! As it is.

mod primitives {
    pub use crate::controlled::{ArrayQueue, AtomicBool, Notify, Ordering, SegQueue, fence};
}
#[path = "../../src/queue/mailbox.rs"]
mod mailbox;
#[path = "scenarios.rs"]
pub mod scenarios;
