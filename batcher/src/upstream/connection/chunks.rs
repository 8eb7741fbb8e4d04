//! Request bodies of several pieces.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

/// Bodies up to this size are copied into one piece: writing one copy is cheaper than writing many pieces.
const COALESCE_BYTES: usize = 16 * 1024;

/// A request body of several pieces that are written without copying (`writev`).
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Chunks {
    /// Creates a body of these pieces, in order.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        if pieces.len() > 1 && total <= COALESCE_BYTES {
            let mut whole = BytesMut::with_capacity(total);
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            return Self::from(whole.freeze());
        }
        let pieces: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { left: total as u64, pieces }
    }
}

impl From<Bytes> for Chunks {
    fn from(whole: Bytes) -> Self {
        let left = whole.len() as u64;
        Self { pieces: if whole.is_empty() { VecDeque::new() } else { VecDeque::from([whole]) }, left }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| {
            self.left -= piece.len() as u64;
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
