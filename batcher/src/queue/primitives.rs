//! What [`super::mailbox`] is built from. Its tests build it again from primitives whose every interleaving can be
//! tried.

pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};

pub(super) use crossbeam::queue::{ArrayQueue, SegQueue};
pub(super) use tokio::sync::Notify;
