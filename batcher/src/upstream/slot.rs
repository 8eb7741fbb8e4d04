//! Slots: a slot is the right to send one batch at a time to one epoch of one upstream.

use std::sync::Arc;

use super::connection::{Connection, Wire};
use super::discovery::Profile;
use super::{Epoch, InFlight, Upstream};

/// The right to send one batch at a time. An upstream's monitor gives it out once the epoch is warm; it travels from
/// the queue's owner to a dispatch and back. It is void as soon as the epoch is over.
#[derive(Debug)]
pub struct Slot {
    /// Model server that this slot belongs to.
    pub upstream: Arc<Upstream>,
    /// Epoch that it is valid for.
    pub epoch: Arc<Epoch>,
    /// How requests for the model are sent to the server.
    pub profile: Arc<Profile>,
    /// Connections to the epoch, kept between batches.
    pub connections: Connections,
}

/// Connections of a slot, at most one of each protocol.
#[derive(Debug, Default)]
pub struct Connections {
    rest: Option<Connection>,
    grpc: Option<Connection>,
}

impl From<Option<Connection>> for Connections {
    fn from(connection: Option<Connection>) -> Self {
        let mut connections = Self::default();
        if let Some(connection) = connection {
            connections.keep(connection);
        }
        connections
    }
}

impl Connections {
    /// Takes the connection of this protocol; `None` if the slot has none, or if the peer has closed it.
    pub fn take(&mut self, wire: Wire) -> Option<Connection> {
        self.of(wire).take().filter(|connection| !connection.is_closed())
    }

    /// Keeps a connection that may be used again.
    pub fn keep(&mut self, connection: Connection) {
        let wire = connection.wire();
        *self.of(wire) = Some(connection);
    }

    fn of(&mut self, wire: Wire) -> &mut Option<Connection> {
        match wire {
            Wire::Rest => &mut self.rest,
            Wire::Grpc => &mut self.grpc,
        }
    }
}

impl Slot {
    /// Returns whether the barrier of the epoch is still open.
    pub fn is_current(&self) -> bool {
        self.upstream.is_open(self.epoch.number)
    }

    /// Returns a copy without connections; one is opened when the copy is used.
    pub fn without_connection(&self) -> Self {
        Self {
            upstream: Arc::clone(&self.upstream),
            epoch: Arc::clone(&self.epoch),
            profile: Arc::clone(&self.profile),
            connections: Connections::default(),
        }
    }

    /// Starts a batch; `None` if the slot is void.
    pub fn begin(&self) -> Option<InFlight> {
        self.upstream.begin(self.epoch.number)
    }
}
