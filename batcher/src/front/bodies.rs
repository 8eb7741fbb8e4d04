//! Bodies of requests: received, decoded and looked into, within the limits of the settings and the memory for requests.
//!
//! | module | what is there |
//! |---|---|
//! | `receive` | reads a body whole |
//! | `decode`, `inflate` | decodes compressed bodies in steps |
//! | `peek` | reads the beginning of a body that is passed on |

pub(super) mod decode;
mod inflate;
pub(super) mod peek;
pub(super) mod receive;

use sluice_protocol::Limits;
use tokio::sync::Semaphore;

use crate::queue::bytes::ByteBudget;
use crate::settings::Live;

/// Reader of requests' bodies.
#[derive(Debug)]
pub struct Bodies {
    settings: Live,
    /// The memory budget of requests.
    pub memory: ByteBudget,
    /// Turns of large bodies that are decoded: one permit.
    decoding: Semaphore,
}

impl Bodies {
    /// Creates a reader with the memory that the settings allow now.
    pub fn new(settings: Live) -> Self {
        let memory = ByteBudget::new(settings.now().limits.queue_bytes);
        Self { settings, memory, decoding: Semaphore::new(1) }
    }

    /// Returns the limits on what is parsed, by the current settings.
    pub(super) fn limits(&self) -> Limits {
        let settings = self.settings.now();
        Limits {
            body_bytes: settings.limits.max_body_bytes,
            tensors: settings.limits.max_tensors,
            parameters: settings.limits.max_parameters,
            ..Limits::default()
        }
    }
}
