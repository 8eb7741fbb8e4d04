//! The front port: HTTP/1.1, h2c and gRPC on one listener.
//!
//! | module | what is there |
//! |---|---|
//! | [`server`] | connections, and their graceful end |
//! | [`strict_connection`], [`strict`], [`framing`], [`connection_activity`] | what a connection may not do: be ambiguous, be too slow |
//! | [`observed`] | an answer's body until the client has taken it |
//! | [`authority`] | whom a request is for |
//! | [`route`] | which requests are ours |
//! | [`receive`] | reading a request's body whole, within limits |
//! | [`decode`], [`inflate`] | compressed bodies, decoded in steps |
//! | [`infer`] | an inference request: parse, admit, queue, wait |
//! | `in_sequence` | which sequence a request is a step of |
//! | [`predict`] | the same for V1 |
//! | [`answer`] | replies in the client's form |
//! | `urgency` | deadline, class and tenant of a request |
//! | [`retry_info`] | when a gRPC client may try again |
//! | [`health`] | liveness and readiness, the batcher's own |
//! | [`passthrough`] | everything else, streamed |
//! | `by_model` | which model a request that passes through names, and where it may go |
//! | [`stream`], `peek` | requests that the model server batches itself: look into the body, wait at the gate |
//! | [`relayed`] | a model server's answer on its way to the client |
//! | [`claims`] | headers of the batcher's own, which no client may claim |
//! | [`control_paths`], `forbidden` | which paths control a model server, and where they are refused |

mod admit;
pub mod authority;
pub mod body;
mod by_model;
pub mod claims;
pub mod connection_activity;
pub mod control_paths;
pub mod decode;
mod forbidden;
pub mod framing;
pub mod health;
mod in_sequence;
pub mod infer;
pub mod inflate;
mod known;
pub mod observed;
pub mod passthrough;
mod peek;
pub mod receive;
pub mod relayed;
pub mod route;
pub mod server;
pub mod stream;
pub mod strict;
pub mod strict_connection;
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
