//! Requests that may be sent: what may share a batch, and where it may go.

use std::collections::BTreeMap;

use super::outside::{Request, ServerEpoch};
use crate::{Flow, Offenders, ShapeClass, Ticket, WaitQueue, Waiting};

/// Offenders that are remembered.
const MOST_OFFENDERS: usize = 256;

/// What requests must have in common to share a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key<M, C> {
    /// The shape class follows from the key. Requests of an offender share batches with its own alone.
    Merge(M, ShapeClass, Option<C>),
    /// A request that shares no batch.
    Alone(u64),
    /// The same, of a sequence whose state this model server has.
    Bound(u64, ServerEpoch),
}

impl<M, C> Key<M, C> {
    /// Returns the class whose curve its batches follow. A request that goes alone counts as one row, whatever it holds:
    /// it follows no curve of a shape.
    pub(super) fn shape(&self) -> Option<ShapeClass> {
        match self {
            Self::Merge(_, class, _) => Some(*class),
            Self::Alone(_) | Self::Bound(..) => None,
        }
    }

    /// Returns whether it may go to this model server.
    pub(super) fn may_go(&self, to: ServerEpoch) -> bool {
        match self {
            Self::Bound(_, home) => *home == to,
            Self::Merge(..) | Self::Alone(_) => true,
        }
    }
}

/// Counts of requests that wait for a slot of one certain model server.
#[derive(Debug, Default)]
pub(super) struct Bound(BTreeMap<ServerEpoch, usize>);

impl Bound {
    fn add(&mut self, home: ServerEpoch) {
        *self.0.entry(home).or_default() += 1;
    }

    fn remove(&mut self, home: ServerEpoch) {
        if let Some(count) = self.0.get_mut(&home) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&home);
            }
        }
    }

    /// Returns whether there are no such requests.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the model servers that requests wait for.
    pub(super) fn homes(&self) -> impl Iterator<Item = ServerEpoch> {
        self.0.keys().copied()
    }

    /// Returns whether any of `waiting` requests could go to this model server.
    pub(super) fn leaves_any_for(&self, server: ServerEpoch, waiting: usize) -> bool {
        self.0.is_empty() || self.0.contains_key(&server) || waiting > self.0.values().sum()
    }
}

/// The queue proper, by what may share a batch.
#[derive(Debug)]
pub(super) struct Pending<R: Request> {
    pub(super) queue: WaitQueue<Key<R::Key, R::Sender>, R>,
    pub(super) bound: Bound,
    /// Senders whose requests share no batch with others'.
    offenders: Offenders<R::Sender>,
    next_alone: u64,
}

impl<R: Request> Pending<R> {
    pub(super) fn new() -> Self {
        Self {
            queue: WaitQueue::new(),
            bound: Bound::default(),
            offenders: Offenders::new(MOST_OFFENDERS),
            next_alone: 0,
        }
    }

    /// Takes a request in.
    pub(super) fn place(&mut self, now_us: u64, request: R, class: u8, deadline_us: u64) {
        let key = match request.shape().zip(request.key()) {
            Some((shape, key)) => Key::Merge(key, shape, self.apart(now_us, &request)),
            None => {
                self.next_alone += 1;
                match request.home() {
                    Some(home) => {
                        self.bound.add(home);
                        Key::Bound(self.next_alone, home)
                    }
                    None => Key::Alone(self.next_alone),
                }
            }
        };
        let Flow { tenant, weight, .. } = request.flow();
        let (size, arrived_us) = (request.size(), request.arrived_us());
        self.queue.push(key, Ticket { class, tenant, weight, deadline_us, size, arrived_us }, request);
    }

    /// Notes that a request was taken out.
    pub(super) fn left(&mut self, request: &R) {
        if let Some(home) = request.home() {
            self.bound.remove(home);
        }
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<Waiting<R>> {
        self.bound = Bound::default();
        self.queue.drain().into_iter().map(|(_, waiting)| waiting).collect()
    }

    /// Sets an offender apart; takes out its requests that wait, to be placed anew.
    pub(super) fn set_apart(&mut self, now_us: u64, sender: R::Sender) -> Vec<Waiting<R>> {
        self.offenders.convict(sender, now_us);
        let is_theirs = |request: &R| request.sender() == Some(sender) && request.shape().is_some();
        self.queue.take_out(|waiting| is_theirs(&waiting.payload))
    }

    /// Returns the sender of a request that must not share a batch with those of others.
    fn apart(&self, now_us: u64, request: &R) -> Option<R::Sender> {
        if self.offenders.is_empty() {
            return None;
        }
        request.sender().filter(|sender| self.offenders.is_apart(sender, now_us))
    }
}
