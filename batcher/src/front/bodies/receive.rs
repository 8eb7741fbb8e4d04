//! Reads a request's whole body within limits, without copying it where it arrives in one piece. Memory for requests is
//! reserved as the bytes arrive: a declared length reserves nothing, and many bodies at a time are bounded.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::Bodies;
use crate::failure::Failure;
use crate::metrics::RejectReason;
use crate::queue::bytes::QueuedBytes;
use crate::queue::tenants::Tenant;
use crate::retry_after::RetryAfter;

/// Reason for which a body was not received.
#[derive(Debug, thiserror::Error)]
pub(in crate::front) enum ReceiveError {
    /// The body is longer than the limit.
    #[error("the body has more than {limit_bytes} bytes, the limit here (maxBodyBytes)")]
    TooLarge {
        /// Maximum bytes of a body.
        limit_bytes: usize,
    },
    /// All requests together, or those of one tenant, hold the maximum of memory.
    #[error(
        "the requests that wait or arrive hold all of the {limit_bytes} bytes that they may, or their tenant's part of them (queueBytes)"
    )]
    NoMemory {
        /// Maximum bytes of all requests.
        limit_bytes: usize,
    },
    /// The client has paused for too long.
    #[error("no byte of the body came for {patience_ms} ms (bodyTimeoutMs)")]
    Stalled {
        /// Maximum pause in milliseconds.
        patience_ms: u64,
    },
    /// The client closed the connection, or sent bytes that are not HTTP.
    #[error("the body could not be read: {0}")]
    Broken(#[from] hyper::Error),
}

impl ReceiveError {
    /// Returns the failure for the client. `retry_after` is called only where the request is rejected for lack of memory.
    pub(in crate::front) fn failure(&self, retry_after: impl FnOnce() -> RetryAfter) -> Failure {
        match self {
            Self::TooLarge { .. } => Failure::new(413, self.to_string()),
            Self::Stalled { .. } => Failure::new(408, self.to_string()),
            Self::Broken(_) => Failure::new(400, self.to_string()),
            Self::NoMemory { .. } => {
                Failure::refused(429, RejectReason::BytesFull, self.to_string(), retry_after())
            }
        }
    }
}

/// A body, and the memory that is reserved for it.
pub(in crate::front) type Received = (Bytes, QueuedBytes);

impl Bodies {
    /// Reads a body within the settings' limits.
    pub(in crate::front) async fn receive(
        &self,
        body: Incoming,
        tenant: Option<&Arc<Tenant>>,
    ) -> Result<Received, ReceiveError> {
        let settings = self.settings.now();
        let patience = Duration::from_millis(settings.timeouts.body_timeout_ms);
        receive(body, settings.limits.max_body_bytes, patience, self.memory.empty(tenant.cloned())).await
    }
}

/// Reads a body; `share`, which is empty at first, grows with it.
///
/// # Errors
/// See [`ReceiveError`]. A body whose `Content-Length` is too large is not read at all.
pub(in crate::front) async fn receive(
    mut body: Incoming,
    limit_bytes: usize,
    patience: Duration,
    mut share: QueuedBytes,
) -> Result<Received, ReceiveError> {
    let declared = body.size_hint();
    if declared.lower() > limit_bytes as u64 {
        return Err(ReceiveError::TooLarge { limit_bytes });
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let stalled = |_| ReceiveError::Stalled { patience_ms: patience.as_millis() as u64 };
    // A body of known length ends with its last byte: there is no further frame to wait for.
    while !body.is_end_stream()
        && let Some(frame) = timeout(patience, body.frame()).await.map_err(stalled)?
    {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit_bytes {
            return Err(ReceiveError::TooLarge { limit_bytes });
        }
        if !share.grow(data.len()) {
            return Err(ReceiveError::NoMemory { limit_bytes: share.limit() });
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            // A declared length is trusted only up to 1 MiB, because it may be false.
            let hint = declared.upper().unwrap_or(0).min(limit_bytes as u64) as usize;
            rest.reserve(hint.min(1 << 20).max(first.len() + data.len()));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, share))
}
