//! Reads a request's body whole, within limits, without copying it where it came in one piece. Its share of the
//! memory for requests is taken as its bytes arrive: a declared length costs nothing, a flood of bodies is bounded.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::Front;
use crate::failure::Failure;
use crate::metrics::RejectReason;
use crate::queue::bytes::QueuedBytes;
use crate::queue::tenants::Tenant;
use crate::retry_after::RetryAfter;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// It is longer than the limit.
    #[error("the body has more than {limit_bytes} bytes, the limit here (maxBodyBytes)")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// All requests together, or those of a tenant, hold as much as they may.
    #[error(
        "the requests that wait or arrive hold all of the {limit_bytes} bytes that they may, or their tenant's part of them (queueBytes)"
    )]
    NoMemory {
        /// The limit.
        limit_bytes: usize,
    },
    /// The client sends nothing more.
    #[error("no byte of the body came for {patience_ms} ms (bodyTimeoutMs)")]
    Stalled {
        /// The limit.
        patience_ms: u64,
    },
    /// The client stopped sending, or sent what is not HTTP.
    #[error("the body could not be read: {0}")]
    Broken(#[from] hyper::Error),
}

impl ReceiveError {
    /// The answer to the client; `retry_after` is for a refusal.
    pub(super) fn failure(&self, retry_after: impl FnOnce() -> RetryAfter) -> Failure {
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

/// A body, and its share of the memory for requests.
pub(super) type Received = (Bytes, QueuedBytes);

impl Front {
    /// Reads a body within the settings' limits.
    pub(super) async fn receive(
        &self,
        body: Incoming,
        tenant: Option<&Arc<Tenant>>,
    ) -> Result<Received, ReceiveError> {
        let settings = self.settings.now();
        let patience = Duration::from_millis(settings.timeouts.body_timeout_ms);
        receive(body, settings.limits.max_body_bytes, patience, self.bytes.empty(tenant.cloned())).await
    }
}

/// Reads it; `share`, which has nothing yet, grows with it.
///
/// # Errors
/// See [`ReceiveError`]. A body whose `Content-Length` is too large is not read at all.
pub(super) async fn receive(
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
    // Of a body of known length the end is known with its last byte.
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
            // A declared length is believed only as far as the client has shown that it sends.
            let hint = declared.upper().unwrap_or(0).min(limit_bytes as u64) as usize;
            rest.reserve(hint.min(1 << 20).max(first.len() + data.len()));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, share))
}
