//! The mailbox's primitives, made of loom's. The queues are as weak as they may be: what is asked outside their lock
//! (whether there is anything) is ordered by nothing but the mailbox's own fences.

use std::collections::VecDeque;

use loom::sync::Mutex;
use loom::sync::atomic::AtomicUsize;
pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread::{self, Thread};

#[derive(Debug)]
pub struct ArrayQueue<T> {
    items: Mutex<VecDeque<T>>,
    len: AtomicUsize,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub fn new(capacity: usize) -> Self {
        Self { items: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0), capacity }
    }

    pub fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock().unwrap();
        if items.len() == self.capacity {
            return Err(item);
        }
        items.push_back(item);
        self.len.store(items.len(), Ordering::Relaxed);
        Ok(())
    }

    pub fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.items.lock().unwrap();
        let item = items.pop_front();
        self.len.store(items.len(), Ordering::Relaxed);
        item
    }

    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }
}

#[derive(Debug)]
pub struct SegQueue<T>(ArrayQueue<T>);

impl<T> SegQueue<T> {
    pub fn new() -> Self {
        Self(ArrayQueue::new(usize::MAX))
    }

    pub fn push(&self, item: T) {
        assert!(self.0.push(item).is_ok(), "it has no bound");
    }

    pub fn pop(&self) -> Option<T> {
        self.0.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Keeps one permit, like tokio's, for the thread that made it. Waiting blocks that thread; loom reports
/// a thread that would never be woken.
#[derive(Debug)]
pub struct Notify {
    state: Mutex<Permit>,
    owner: Thread,
}

#[derive(Debug, PartialEq)]
enum Permit {
    None,
    Given,
    Awaited,
}

impl Notify {
    pub fn new() -> Self {
        Self { state: Mutex::new(Permit::None), owner: thread::current() }
    }

    pub fn notify_one(&self) {
        let before = std::mem::replace(&mut *self.state.lock().unwrap(), Permit::Given);
        if before == Permit::Awaited {
            self.owner.unpark();
        }
    }

    pub async fn notified(&self) {
        let given = {
            let mut state = self.state.lock().unwrap();
            let given = *state == Permit::Given;
            *state = if given { Permit::None } else { Permit::Awaited };
            given
        };
        if !given {
            // No lock is held meanwhile: a deadlock must be able to unwind.
            thread::park();
            *self.state.lock().unwrap() = Permit::None;
        }
    }
}

/// Runs a scenario in every order that a few preemptions can bring about.
pub fn explore(scenario: fn()) {
    let mut model = loom::model::Builder::new();
    // Known mistakes show at two; three costs a minute and shows the same.
    model.preemption_bound = Some(2);
    model.check(scenario);
}
