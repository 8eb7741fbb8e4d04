//! With fences that do nothing.

mod primitives {
    pub use crate::controlled::{ArrayQueue, AtomicBool, Notify, Ordering, SegQueue};

    pub fn fence(_: Ordering) {}
}
#[path = "../../src/queue/mailbox.rs"]
mod mailbox;
#[path = "scenarios.rs"]
pub mod scenarios;
