//! A slot: the right to run one batch at one epoch of one upstream.

use std::sync::Arc;

use crate::upstream::connection::H1Connection;
use crate::upstream::discovery::Profile;
use crate::upstream::{Epoch, InFlight, Upstream};

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
    /// A connection to that epoch, kept between batches.
    pub connection: Option<H1Connection>,
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
            connection: None,
        }
    }

    /// Starts a batch, if the slot is still good.
    pub fn begin(&self) -> Option<InFlight> {
        self.upstream.begin(self.epoch.number)
    }
}
