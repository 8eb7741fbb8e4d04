//! Bodies of answers: known bytes (with gRPC's trailers if need be), or a stream passed through as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::relayed::Relayed;

/// The body of an answer to a client.
#[derive(Debug)]
pub enum FrontBody {
    /// Pieces that are known whole, and trailers.
    Known {
        /// What is left of the data, last piece first.
        pieces: Vec<Bytes>,
        /// gRPC's status.
        trailers: Option<HeaderMap>,
    },
    /// The model server's own, as it comes.
    Stream(Box<Relayed>),
}

impl FrontBody {
    /// No body.
    pub fn empty() -> Self {
        Self::Known { pieces: Vec::new(), trailers: None }
    }

    /// These pieces, in order.
    pub fn pieces(mut pieces: Vec<Bytes>) -> Self {
        pieces.reverse();
        Self::Known { pieces, trailers: None }
    }

    /// These pieces, then trailers.
    pub fn with_trailers(mut pieces: Vec<Bytes>, trailers: HeaderMap) -> Self {
        pieces.reverse();
        Self::Known { pieces, trailers: Some(trailers) }
    }

    /// Bytes of data that are here already.
    pub fn known_bytes(&self) -> usize {
        match self {
            Self::Known { pieces, .. } => pieces.iter().map(Bytes::len).sum(),
            Self::Stream(_) => 0,
        }
    }
}

impl From<Bytes> for FrontBody {
    fn from(whole: Bytes) -> Self {
        Self::pieces(vec![whole])
    }
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Known { pieces, trailers } => Poll::Ready(match pieces.pop() {
                Some(piece) => Some(Ok(Frame::data(piece))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Self::Stream(relayed) => Pin::new(relayed.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Known { pieces, trailers } => pieces.is_empty() && trailers.is_none(),
            Self::Stream(relayed) => relayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Known { .. } => SizeHint::with_exact(self.known_bytes() as u64),
            Self::Stream(relayed) => relayed.size_hint(),
        }
    }
}
