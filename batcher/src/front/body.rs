//! Bodies of responses: bytes that are known (and gRPC's trailers, if any), or a model server's stream that is passed on
//! as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::relayed::Relayed;

/// The body of a response to a client.
#[derive(Debug)]
pub enum FrontBody {
    /// A body of which all pieces are known, and its trailers.
    Known {
        /// Pieces that are not sent yet, the last one first.
        pieces: Vec<Bytes>,
        /// Trailers with gRPC's status.
        trailers: Option<HeaderMap>,
    },
    /// The model server's body, passed on as it arrives.
    Stream(Box<Relayed>),
}

impl FrontBody {
    /// Creates an empty body.
    pub fn empty() -> Self {
        Self::Known { pieces: Vec::new(), trailers: None }
    }

    /// Creates a body of `pieces`, in their order.
    pub fn pieces(mut pieces: Vec<Bytes>) -> Self {
        pieces.reverse();
        Self::Known { pieces, trailers: None }
    }

    /// Creates a body of `pieces` that ends with `trailers`.
    pub fn with_trailers(mut pieces: Vec<Bytes>, trailers: HeaderMap) -> Self {
        pieces.reverse();
        Self::Known { pieces, trailers: Some(trailers) }
    }

    /// Returns the bytes of data that are in memory already.
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
