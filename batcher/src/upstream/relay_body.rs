//! The body of a request that is passed on: what was read of it already, and the rest as it arrives.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A client's body, byte for byte; `B` is the body that the rest is read from.
#[derive(Debug)]
pub struct RelayBody<B> {
    read: VecDeque<Bytes>,
    /// `None` where the body was read to its end.
    rest: Option<B>,
}

impl<B> RelayBody<B> {
    /// Creates a body of the pieces that were read, in order, and the rest.
    pub fn new(read: impl IntoIterator<Item = Bytes>, rest: Option<B>) -> Self {
        Self { read: read.into_iter().filter(|piece| !piece.is_empty()).collect(), rest }
    }

    fn read_bytes(&self) -> u64 {
        self.read.iter().map(|piece| piece.len() as u64).sum()
    }
}

impl<B> From<B> for RelayBody<B> {
    fn from(body: B) -> Self {
        Self::new([], Some(body))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RelayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(piece) = self.read.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read_bytes();
        let Some(rest) = &self.rest else { return SizeHint::with_exact(read) };
        let rest = rest.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(read.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            whole.set_upper(upper);
        }
        whole
    }
}
