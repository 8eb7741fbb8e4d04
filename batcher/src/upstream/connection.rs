//! Connections to an upstream for complete requests and complete answers, one exchange at a time.
//!
//! | module | what is there |
//! |---|---|
//! | `http1` | REST over HTTP/1.1 |
//! | `grpc` | gRPC over HTTP/2; its errors are translated to HTTP ones |
//! | `chunks` | request bodies of several pieces |

mod chunks;
mod grpc;
mod http1;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use sluice_protocol::{Transport, WireFormat};

pub use chunks::Chunks;
pub use grpc::GrpcConnection;
pub(super) use grpc::to_grpc;
pub use http1::H1Connection;

use super::endpoint::Endpoint;

/// Protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// V1 or V2 over HTTP/1.1.
    Rest,
    /// V2 over gRPC.
    Grpc,
}

impl Wire {
    /// Returns the protocol that a batch in this wire format is sent over.
    pub fn of(format: WireFormat) -> Self {
        match format.protocol().transport() {
            Transport::Rest => Self::Rest,
            Transport::Grpc => Self::Grpc,
        }
    }
}

/// A complete answer of an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers as received.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why an exchange has failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection was gone before anything was written: the upstream has not seen the request.
    #[error("the upstream closed the connection before the request was sent")]
    Unsent(Box<Request<Chunks>>),
    /// The connection broke before the answer was complete; the request may have been executed.
    #[error("the upstream's connection broke before the answer was complete: {0}")]
    Broken(String),
    /// The answer is larger than the limit.
    #[error("the upstream's answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
}

/// A connection of either protocol.
#[derive(Debug)]
pub enum Connection {
    /// REST over HTTP/1.1.
    Rest(H1Connection),
    /// gRPC over HTTP/2.
    Grpc(GrpcConnection),
}

impl Connection {
    /// Connects to an endpoint.
    ///
    /// # Errors
    /// Returns the system's error: refused, unreachable, …
    pub async fn open(wire: Wire, endpoint: &Endpoint) -> std::io::Result<Self> {
        Ok(match wire {
            Wire::Rest => Self::Rest(H1Connection::open(endpoint).await?),
            Wire::Grpc => Self::Grpc(GrpcConnection::open(endpoint).await?),
        })
    }

    /// Returns the connection's protocol.
    pub fn wire(&self) -> Wire {
        match self {
            Self::Rest(_) => Wire::Rest,
            Self::Grpc(_) => Wire::Grpc,
        }
    }

    /// Returns whether the peer has closed the connection, as far as is known without reading.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Rest(connection) => connection.is_closed(),
            Self::Grpc(connection) => connection.is_closed(),
        }
    }

    /// Returns whether the last answer was the final one of the connection: the peer has announced that, or has closed
    /// the connection.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Rest(connection) => connection.has_ended(),
            Self::Grpc(connection) => connection.is_closed(),
        }
    }

    /// Waits until the peer closes the idle connection.
    pub async fn until_closed(&mut self) {
        match self {
            Self::Rest(connection) => connection.until_closed().await,
            Self::Grpc(connection) => connection.until_closed().await,
        }
    }

    /// Sends one request and reads the whole answer, of at most `limit_bytes`.
    ///
    /// # Errors
    /// See [`ExchangeError`]; after any of them the connection is to be dropped.
    pub async fn exchange(
        &mut self,
        request: Request<Chunks>,
        limit_bytes: usize,
    ) -> Result<UpstreamResponse, ExchangeError> {
        match self {
            Self::Rest(connection) => connection.exchange(request, limit_bytes).await,
            Self::Grpc(connection) => connection.exchange(request, limit_bytes).await,
        }
    }
}

/// Returns hyper's error together with its cause, which is the system's error.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
