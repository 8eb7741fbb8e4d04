//! A slot: the right to run one batch at one epoch of one upstream.

use std::sync::Arc;

use super::connection::{Connection, Wire};
use super::discovery::Profile;
use super::{Epoch, InFlight, Upstream};

/// Given out by an upstream's monitor once the epoch is warm; travels from the queue's owner to a dispatch and
/// back. It is void as soon as the epoch is over.
#[derive(Debug)]
pub struct Slot {
    /// Whose slot it is.
    pub upstream: Arc<Upstream>,
    /// The epoch that it is good for.
    pub epoch: Arc<Epoch>,
    /// How this model's requests are sent there.
    pub profile: Arc<Profile>,
    /// Connections to that epoch, kept between batches.
    pub connections: Connections,
}

/// At most one connection of each kind.
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
    /// The connection of this kind, unless the peer has closed it.
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
    /// Whether the epoch's barrier is still open.
    pub fn is_current(&self) -> bool {
        self.upstream.is_open(self.epoch.number)
    }

    /// Another one like it, to be connected when it is used.
    pub fn without_connection(&self) -> Self {
        Self {
            upstream: Arc::clone(&self.upstream),
            epoch: Arc::clone(&self.epoch),
            profile: Arc::clone(&self.profile),
            connections: Connections::default(),
        }
    }

    /// Starts a batch, if the slot is still good.
    pub fn begin(&self) -> Option<InFlight> {
        self.upstream.begin(self.epoch.number)
    }
}
