//! The hand-over between many senders and one owner who sleeps while there is nothing to do: a bounded ring of
//! items, unbounded messages, and no lock.
//!
//! Two races decide whether anything gets lost, and both have the same cure. A sender stores (the item) and then
//! loads (does the owner listen? has it retired?); the owner stores (it listens; it has retired) and then loads (is
//! there an item?). With a full fence between store and load on both sides, at least one of them sees the other.
//!
//! `tests/interleaving` tries all interleavings of this file, those of a weak memory order too.

use super::primitives::{ArrayQueue, AtomicBool, Notify, Ordering, SegQueue, fence};

/// Items and messages on their way to one owner.
#[derive(Debug)]
pub(super) struct Mailbox<T, M> {
    items: ArrayQueue<T>,
    messages: SegQueue<M>,
    wake: Notify,
    /// Whether the owner sleeps and an item should wake it. While it could do nothing with one it need not.
    listening: AtomicBool,
    /// The owner has ended: nobody takes anything out any more.
    retired: AtomicBool,
}

impl<T, M> Mailbox<T, M> {
    /// For so many items at a time.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            items: ArrayQueue::new(capacity),
            messages: SegQueue::new(),
            wake: Notify::new(),
            listening: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        }
    }

    /// Puts an item in. Items that no owner will ever see, this one or others, go to `unserved`.
    ///
    /// # Errors
    /// The ring is full; the item comes back.
    pub(super) fn submit(&self, item: T, unserved: impl FnMut(T)) -> Result<(), T> {
        self.items.push(item)?;
        fence(Ordering::SeqCst);
        if self.listening.load(Ordering::Relaxed) {
            self.wake.notify_one();
        }
        if self.retired.load(Ordering::Relaxed) {
            self.empty(unserved);
        }
        Ok(())
    }

    /// Puts a message in; it wakes the owner. After the owner's end it is dropped.
    pub(super) fn tell(&self, message: M, unserved: impl FnMut(T)) {
        self.messages.push(message);
        fence(Ordering::SeqCst);
        if self.retired.load(Ordering::Relaxed) {
            self.empty(unserved);
        } else {
            self.wake.notify_one();
        }
    }

    /// Wakes the owner, whether it listens or not.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn empty(&self, unserved: impl FnMut(T)) {
        std::iter::from_fn(|| self.items.pop()).for_each(unserved);
        while self.messages.pop().is_some() {}
    }
}

/// The owner's side.
impl<T, M> Mailbox<T, M> {
    pub(super) fn next_item(&self) -> Option<T> {
        self.items.pop()
    }

    pub(super) fn next_message(&self) -> Option<M> {
        self.messages.pop()
    }

    /// Announces whether items should wake the owner. Returns true where something is there already, so that it
    /// must not sleep.
    pub(super) fn listen(&self, for_items: bool) -> bool {
        self.listening.store(for_items, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !self.messages.is_empty() || (for_items && !self.items.is_empty())
    }

    /// Sleeps until there is something.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The owner ends: what is in here, and whatever comes after, is given up.
    pub(super) fn retire(&self, unserved: impl FnMut(T)) {
        self.retired.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.empty(unserved);
    }
}
