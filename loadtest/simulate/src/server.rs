//! Simulated model servers.

use std::cell::Cell;
use std::rc::Rc;

use sluice_batch_policy::{ServerEpoch, Slot};

use crate::pool::{ModelPool, SharedPool};

/// Number of a model server, in the order in which servers were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub usize);

/// A model server, which has all models. It runs as many batches at a time as it has slots
/// ([`EngineSettings::slots_per_server`](sluice_batch_policy::EngineSettings)), each at full speed.
#[derive(Debug, Clone, Copy)]
pub struct ServerSpec {
    /// Speed relative to the models' curves.
    pub speed: f64,
    /// Standard deviation of the time of a batch, as a part of it.
    pub noise: f64,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self { speed: 1.0, noise: 0.05 }
    }
}

/// A model server that there is, or was.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) spec: ServerSpec,
    pub(crate) pool: Rc<SharedPool>,
    pub(crate) state: Rc<ServerState>,
    /// Whether it has started.
    pub(crate) is_ready: bool,
}

/// What slots know of their server.
#[derive(Debug)]
pub(crate) struct ServerState {
    /// Whether it gets further batches.
    pub(crate) is_current: Cell<bool>,
    pub(crate) inflight: Cell<usize>,
}

impl Server {
    /// Returns whether it holds its device: it has not been removed, or still runs batches.
    pub(crate) fn is_there(&self) -> bool {
        self.state.is_current.get() || self.state.inflight.get() > 0
    }
}

/// A slot of one model at a server.
#[derive(Debug)]
pub(crate) struct SimulatedSlot {
    pub(crate) server: ServerId,
    pub(crate) state: Rc<ServerState>,
    pub(crate) max_rows: u32,
}

/// Counts a batch as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<ServerState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.inflight.update(|inflight| inflight - 1);
    }
}

impl Slot for SimulatedSlot {
    type InFlight = InFlight;
    type Pool = ModelPool;

    fn server(&self) -> ServerEpoch {
        ServerEpoch { server: self.server.0 as u64, epoch: 1 }
    }

    fn max_rows(&self) -> u32 {
        self.max_rows
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn slots_hint(&self) -> Option<u32> {
        None
    }

    fn is_current(&self) -> bool {
        self.state.is_current.get()
    }

    fn begin(&self) -> Option<InFlight> {
        self.state.is_current.get().then(|| {
            self.state.inflight.update(|inflight| inflight + 1);
            InFlight(Rc::clone(&self.state))
        })
    }

    fn inflight(&self) -> usize {
        self.state.inflight.get()
    }

    fn another(&self) -> Self {
        Self { server: self.server, state: Rc::clone(&self.state), max_rows: self.max_rows }
    }
}
