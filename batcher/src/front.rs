//! The front port: HTTP/1.1, h2c and gRPC on one listener.
//!
//! | to change … | look in … |
//! |---|---|
//! | how connections are accepted and ended; the way of a request from its first byte to the room below that serves it | [`server`] |
//! | what ends a connection: ambiguous bytes (HTTP/1), a client that is too slow | `strict_connection`, `strict`, `framing`, `connection_activity` |
//! | which host a request may name; which headers clients must not set | `authority`, [`claims`] |
//! | which requests are served here, which are forbidden | `route`, `control_paths`, `forbidden` |
//! | how a body is received, decoded, looked into | `bodies/` |
//! | how an inference gets from its head to the queue; how it is admitted, answered and counted | `infer`, `admit` |
//! | deadline, class, tenant and sequence of a request | `urgency`, `in_sequence` |
//! | which model a request names, whether it exists, which model server may get the request | `models`, `by_model` |
//! | responses over REST and gRPC | `transport/` |
//! | the batcher's liveness and readiness | `health` |
//! | requests that model servers batch themselves (LLMs) | `stream` |
//! | all other requests, which are passed on | `passthrough` |
//! | bodies of responses on their way to the client | `body`, `relayed`, `observed` |

mod admit;
mod authority;
mod bodies;
pub mod body;
mod by_model;
pub mod claims;
mod connection_activity;
mod control_paths;
mod forbidden;
mod framing;
mod health;
mod in_sequence;
mod infer;
mod models;
mod observed;
mod passthrough;
pub mod relayed;
mod route;
pub mod server;
mod stream;
mod strict;
mod strict_connection;
mod transport;
mod urgency;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

pub use self::bodies::Bodies;
pub use self::models::Models;
use crate::answers::untaken::Answers;
use crate::clock::Clock;
use crate::drain::Drain;
use crate::observe::Observe;
use crate::queue::tenants::Tenants;
use crate::registry::Registry;
use crate::settings::Live;
use crate::streams::Streams;
use crate::upstream::members::Upstreams;

/// Everything that the tasks of requests need.
#[derive(Debug)]
pub struct Front {
    /// The settings.
    pub settings: Live,
    /// The process's clock.
    pub clock: Clock,
    /// The queues.
    pub registry: Arc<Registry>,
    /// The finder of models that requests name.
    pub models: Models,
    /// The model servers.
    pub upstreams: Arc<Upstreams>,
    /// Whether the batcher is draining.
    pub drain: Arc<Drain>,
    /// The slots of streams.
    pub streams: Streams,
    /// The reader of requests' bodies.
    pub bodies: Bodies,
    /// Responses that clients have not taken yet.
    pub answers: Arc<Answers>,
    /// The tenants of the requests that are here.
    pub tenants: Tenants,
    /// Observation of single requests: access log, traces, `/explain`.
    pub observe: Arc<Observe>,
    /// Tasks of clients' connections.
    pub connections: TaskTracker,
}
