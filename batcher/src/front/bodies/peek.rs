//! Reads the beginning of a request's body, up to a bound, without changing the body.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use sluice_protocol::grpc::{MessageHead, PREFIX_BYTES};
use tokio::time::timeout;

use super::Bodies;
use super::receive::ReceiveError;
use crate::queue::bytes::QueuedBytes;
use crate::upload::Upload;
use crate::upstream::relay_body::RelayBody;

/// Maximum bytes of a gRPC message that are read ahead: the model's name and the parameters come before the tensors.
const PEEK_BYTES: usize = 64 << 10;

/// A body of which the beginning, or all, was read.
#[derive(Debug)]
pub(in crate::front) enum Peeked {
    /// The whole body.
    Whole(Bytes),
    /// A body that is longer than the bound: the pieces that were read, and the rest.
    Part(Vec<Bytes>, Incoming),
}

impl Bodies {
    /// Reads a body up to `streamPeekBytes`. Memory for requests is reserved as its bytes arrive.
    pub(in crate::front) async fn peek(
        &self,
        mut body: Incoming,
    ) -> Result<(Peeked, QueuedBytes), ReceiveError> {
        let settings = self.settings.now();
        let patience_ms = settings.timeouts.body_timeout_ms;
        let mut share = self.memory.empty(None);
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
                return Err(ReceiveError::NoMemory { limit_bytes: self.memory.limit() });
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

    /// Reads the first fields of a body's first message, and returns them with the unchanged body; `None` where the message
    /// is compressed and cannot be decoded. There is no time limit, as for all gRPC that is passed on, because a stream may
    /// send its first message late.
    pub(in crate::front) async fn peek_grpc(
        &self,
        headers: &HeaderMap,
        mut body: Incoming,
        share: &mut QueuedBytes,
    ) -> Result<(Option<MessageHead>, RelayBody<Incoming>), ReceiveError> {
        let (mut read, mut pieces) = (BytesMut::new(), VecDeque::new());
        let is_whole = loop {
            if let Some([_, a, b, c, d]) = read.first_chunk::<PREFIX_BYTES>() {
                let end = PREFIX_BYTES.saturating_add(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
                if read.len() >= end {
                    read.truncate(end);
                    break true;
                }
            }
            if read.len() >= PEEK_BYTES {
                break false;
            }
            let Some(frame) = body.frame().await else { break false };
            let Ok(data) = frame?.into_data() else { continue };
            if !share.grow(data.len()) {
                return Err(ReceiveError::NoMemory { limit_bytes: self.memory.limit() });
            }
            read.extend_from_slice(&data);
            pieces.push_back(data);
        };
        let mut message: Bytes = read.freeze();
        if is_whole && message.first() == Some(&1) {
            let decoded = self.decode_grpc(headers, (message, self.memory.empty(None))).await;
            // A message that cannot be decoded counts as empty: the model server answers it.
            message = decoded.map(|(message, _)| message).unwrap_or_default();
        }
        let head = message.get(PREFIX_BYTES..).filter(|_| message.first() == Some(&0)).map(MessageHead::read);
        Ok((head, RelayBody::new(pieces, Some(body))))
    }
}

impl Peeked {
    /// Returns the whole body; `None` where it is longer than the bound.
    pub(in crate::front) fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(whole) => Some(whole),
            Self::Part(..) => None,
        }
    }

    /// Returns the body as it was received. While the rest of it is read, the client may pause for at most `patience`.
    pub(in crate::front) fn into_body(self, patience: Duration) -> RelayBody<Upload> {
        match self {
            Self::Whole(whole) => RelayBody::new([whole], None),
            Self::Part(read, rest) => RelayBody::new(read, Some(Upload::new(rest, patience))),
        }
    }
}
