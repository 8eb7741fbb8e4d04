//! The body of a request that is passed on: the part that has been read already, and the rest as it comes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::upload::{Upload, UploadError};

/// The body, byte for byte as its client sends it.
#[derive(Debug)]
pub struct RelayBody {
    read: VecDeque<Bytes>,
    /// `None` if the body was read to its end.
    rest: Option<Upload>,
}

impl RelayBody {
    /// Creates a body of the pieces that were read, in order, followed by the rest.
    pub fn new(read: impl IntoIterator<Item = Bytes>, rest: Option<Upload>) -> Self {
        Self { read: read.into_iter().filter(|piece| !piece.is_empty()).collect(), rest }
    }

    fn read_bytes(&self) -> u64 {
        self.read.iter().map(|piece| piece.len() as u64).sum()
    }
}

impl From<Upload> for RelayBody {
    fn from(body: Upload) -> Self {
        Self::new([], Some(body))
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
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
