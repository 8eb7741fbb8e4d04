//! The front port: HTTP/1.1, h2c and gRPC on one listener.
//!
//! | to change … | look in … |
//! |---|---|
//! | how connections are accepted and ended; the way of a request from its first byte to the room below that serves it | [`server`] |
//! | what a connection may not do: be ambiguous (HTTP/1), be too slow | `strict_connection`, `strict`, `framing`, `connection_activity` |
//! | which host a request may name; which headers no client may claim | `authority`, [`claims`] |
//! | which requests are served here, which are forbidden | `route`, `control_paths`, `forbidden` |
//! | how a body is received, decoded, looked into | `receive`, `decode`, `inflate`, `peek` |
//! | an inference: its way from its head to the queue; its admission, its reply and its counts | `infer`, `admit` |
//! | deadline, class, tenant and sequence of a request | `urgency`, `in_sequence` |
//! | which model a request names, whether there is one, which server it may go to | `known`, `by_model` |
//! | responses over REST and gRPC | `transport/` |
//! | liveness and readiness, the batcher's own | `health` |
//! | requests that model servers batch themselves (LLMs) | `stream` |
//! | everything else, passed on | `passthrough` |
//! | bodies of responses on their way to the client | `body`, `relayed`, `observed` |

mod admit;
mod authority;
pub mod body;
mod by_model;
pub mod claims;
mod connection_activity;
mod control_paths;
mod decode;
mod forbidden;
mod framing;
mod health;
mod in_sequence;
mod infer;
mod inflate;
mod known;
mod observed;
mod passthrough;
mod peek;
mod receive;
pub mod relayed;
mod route;
pub mod server;
mod stream;
mod strict;
mod strict_connection;
mod transport;
mod urgency;

use std::sync::Arc;

use sluice_protocol::Limits;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::answers::untaken::Answers;
use crate::clock::Clock;
use crate::confirm::Inquiries;
use crate::drain::Drain;
use crate::observe::Observe;
use crate::queue::bytes::ByteBudget;
use crate::queue::tenants::Tenants;
use crate::registry::Registry;
use crate::settings::Live;
use crate::streams::Streams;
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
    /// The questions whether there is a model.
    pub inquiries: Inquiries,
    /// The model servers.
    pub upstreams: Arc<Upstreams>,
    /// Whether traffic is wanted.
    pub drain: Arc<Drain>,
    /// The gates of streams.
    pub streams: Streams,
    /// Memory for requests.
    pub bytes: ByteBudget,
    /// Answers, until they are taken.
    pub answers: Arc<Answers>,
    /// Whose requests are here.
    pub tenants: Tenants,
    /// Who observes single requests.
    pub observe: Arc<Observe>,
    /// Connections of clients.
    pub connections: TaskTracker,
    /// The turns of large bodies that are decoded: one place.
    pub decoding: Semaphore,
}

impl Front {
    /// Bounds on what is parsed, by the settings of this moment.
    fn limits(&self) -> Limits {
        let settings = self.settings.now();
        Limits {
            body_bytes: settings.limits.max_body_bytes,
            tensors: settings.limits.max_tensors,
            parameters: settings.limits.max_parameters,
            ..Limits::default()
        }
    }
}
