//! Reads the beginning of a request's body, up to a bound, without changing the body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::Front;
use super::receive::ReceiveError;
use crate::queue::bytes::QueuedBytes;
use crate::upload::Upload;
use crate::upstream::relay_body::RelayBody;

/// A body of which the beginning, or all, was read.
#[derive(Debug)]
pub(super) enum Peeked {
    /// The whole body.
    Whole(Bytes),
    /// A body that is longer than the bound: the pieces that were read, and the rest.
    Part(Vec<Bytes>, Incoming),
}

impl Front {
    /// Reads a body up to `streamPeekBytes`. Memory for requests is reserved as its bytes arrive.
    pub(super) async fn peek(&self, mut body: Incoming) -> Result<(Peeked, QueuedBytes), ReceiveError> {
        let settings = self.settings.now();
        let patience_ms = settings.timeouts.body_timeout_ms;
        let mut share = self.bytes.empty(None);
        if body.size_hint().lower() > settings.streams.stream_peek_bytes as u64 {
            return Ok((Peeked::Part(Vec::new(), body), share));
        }
        let mut read = Vec::new();
        let mut read_bytes = 0;
        loop {
            let frame = timeout(Duration::from_millis(patience_ms), body.frame()).await;
            let Some(frame) = frame.map_err(|_| ReceiveError::Stalled { patience_ms })? else { break };
            let Ok(data) = frame?.into_data() else { continue };
            if !share.grow(data.len()) {
                return Err(ReceiveError::NoMemory { limit_bytes: self.bytes.limit() });
            }
            read_bytes += data.len();
            read.push(data);
            if read_bytes > settings.streams.stream_peek_bytes {
                return Ok((Peeked::Part(read, body), share));
            }
        }
        let whole = match <[Bytes; 1]>::try_from(read) {
            Ok([one]) => one,
            Err(pieces) => {
                let mut whole = BytesMut::with_capacity(read_bytes);
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        };
        Ok((Peeked::Whole(whole), share))
    }
}

impl Peeked {
    /// Returns the whole body; `None` where it is longer than the bound.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(whole) => Some(whole),
            Self::Part(..) => None,
        }
    }

    /// Returns the body as it was received. While the rest of it is read, the client may pause for at most `patience`.
    pub(super) fn into_body(self, patience: Duration) -> RelayBody {
        match self {
            Self::Whole(whole) => RelayBody::new([whole], None),
            Self::Part(read, rest) => RelayBody::new(read, Some(Upload::new(rest, patience))),
        }
    }
}
