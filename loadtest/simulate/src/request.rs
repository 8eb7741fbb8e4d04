//! A simulated request.

use sluice_batch_policy::{Asked, Breaks, Flow, Request, ServerEpoch, ShapeClass, Size};

use crate::source::SourceId;

/// A request of one source; all requests for one model may share a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulatedRequest {
    pub(crate) source: SourceId,
    pub(crate) flow: Flow,
    pub(crate) rows: u32,
    pub(crate) arrived_us: u64,
    pub(crate) deadline_us: u64,
    pub(crate) predicted_finish_us: Option<u64>,
}

impl SimulatedRequest {
    /// Returns the shape class of all simulated requests.
    pub(crate) fn class() -> ShapeClass {
        ShapeClass::of_elements(1)
    }
}

impl Request for SimulatedRequest {
    type Key = ();
    type Sender = u32;
    type Sequence = u64;

    fn size(&self) -> Size {
        Size::of_rows(self.rows)
    }

    fn flow(&self) -> Flow {
        self.flow
    }

    fn arrived_us(&self) -> u64 {
        self.arrived_us
    }

    fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    fn shape(&self) -> Option<ShapeClass> {
        Some(Self::class())
    }

    fn key(&self) -> Option<()> {
        Some(())
    }

    fn sender(&self) -> Option<u32> {
        Some(self.flow.tenant)
    }

    fn breaks(&self) -> Breaks {
        Breaks::default()
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn step(&self) -> Option<(u64, Asked)> {
        None
    }

    fn begin_turn(&mut self, _: Option<ServerEpoch>) {}

    fn home(&self) -> Option<ServerEpoch> {
        None
    }

    fn set_home(&mut self, _: Option<ServerEpoch>) {}
}
