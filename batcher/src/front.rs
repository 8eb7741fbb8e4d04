//! The front port: HTTP/1.1, h2c and gRPC on one listener.
//!
//! | module | what is there |
//! |---|---|
//! | [`server`] | connections, and their graceful end |
//! | [`route`] | which requests are ours |
//! | [`receive`] | reading a request's body whole, within limits |
//! | [`infer`] | an inference request: parse, admit, queue, wait |
//! | [`predict`] | the same for V1 |
//! | [`answer`] | replies in the client's form |
//! | `urgency` | deadline, class and tenant of a request |
//! | [`health`] | liveness and readiness, the batcher's own |
//! | [`passthrough`] | everything else, streamed |
//! | [`forward`] | which headers go on |

pub mod answer;
pub mod body;
pub mod forward;
pub mod health;
pub mod infer;
pub mod passthrough;
pub mod predict;
pub mod receive;
pub mod route;
pub mod server;
mod urgency;

use std::sync::Arc;

use sluice_protocol::Limits;

use crate::clock::Clock;
use crate::drain::Drain;
use crate::queue::entry::ByteBudget;
use crate::queue::tenants::Tenants;
use crate::registry::Registry;
use crate::settings::Live;
use crate::upstream::members::Upstreams;

/// What request tasks need.
#[derive(Debug)]
pub struct Front {
    /// The settings.
    pub settings: Live,
    /// The process's clock.
    pub clock: Clock,
    /// The queues.
    pub registry: Arc<Registry>,
    /// The model servers.
    pub upstreams: Arc<Upstreams>,
    /// Whether traffic is wanted.
    pub drain: Arc<Drain>,
    /// Memory for requests.
    pub bytes: ByteBudget,
    /// Whose requests are here.
    pub tenants: Tenants,
    /// Bounds on what is parsed.
    pub limits: Limits,
}
