//! An answer's body on its way to the client: tells the connection's pace how far it has come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::body::FrontBody;
use super::pace::UnderWay;

/// The body, and what ends with it.
#[derive(Debug)]
pub struct Observed {
    body: FrontBody,
    under_way: UnderWay,
}

impl Observed {
    /// Observes a body.
    pub fn new(body: FrontBody, mut under_way: UnderWay) -> Self {
        if matches!(&body, FrontBody::Known { .. }) && !body.is_end_stream() {
            under_way.answer_is_ready();
        }
        Self { body, under_way }
    }
}

impl Body for Observed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = polled {
            self.under_way.taken();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
