//! The body of a gRPC request that is passed on: the part that has been read already, and the rest as it comes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The body, byte for byte as its client sends it.
#[derive(Debug)]
pub struct GrpcBody {
    read: VecDeque<Bytes>,
    rest: Incoming,
}

impl GrpcBody {
    /// Creates a body of the pieces that were read, in order, followed by the rest.
    pub fn new(read: VecDeque<Bytes>, rest: Incoming) -> Self {
        Self { read, rest }
    }
}

impl From<Incoming> for GrpcBody {
    fn from(rest: Incoming) -> Self {
        Self::new(VecDeque::new(), rest)
    }
}

impl Body for GrpcBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.read.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.iter().map(|piece| piece.len() as u64).sum();
        let rest = self.rest.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            whole.set_upper(upper);
        }
        whole
    }
}
