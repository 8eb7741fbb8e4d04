//! Reads a request's body whole, within limits, without copying it where it came in one piece.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is longer than the limit.
    #[error("the body has more than {limit_bytes} bytes, the limit here (maxBodyBytes)")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The client stopped sending, or sent what is not HTTP.
    #[error("the body could not be read: {0}")]
    Broken(#[from] hyper::Error),
}

/// Reads it.
///
/// # Errors
/// See [`ReceiveError`]. A body whose `Content-Length` is too large is not read at all.
pub async fn receive(mut body: Incoming, limit_bytes: usize) -> Result<Bytes, ReceiveError> {
    let declared = body.size_hint();
    if declared.lower() > limit_bytes as u64 {
        return Err(ReceiveError::TooLarge { limit_bytes });
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit_bytes {
            return Err(ReceiveError::TooLarge { limit_bytes });
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            // A declared length is believed only as far as the client has shown that it sends.
            let hint = declared.upper().unwrap_or(0).min(limit_bytes as u64) as usize;
            rest.reserve(hint.clamp(first.len() + data.len(), 1 << 20));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
