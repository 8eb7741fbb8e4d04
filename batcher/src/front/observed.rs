//! An answer's body on its way to the client: tells the connection's pace how far it has come, and who observes
//! the request how it ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::body::FrontBody;
use super::pace::UnderWay;
use crate::observe::{End, Sighting};

/// The body, and what ends with it.
#[derive(Debug)]
pub struct Observed {
    body: FrontBody,
    under_way: UnderWay,
    sighting: Option<Sighting>,
}

impl Observed {
    /// Observes a body.
    pub fn new(body: FrontBody, mut under_way: UnderWay, sighting: Option<Sighting>) -> Self {
        if matches!(&body, FrontBody::Known { .. }) && !body.is_end_stream() {
            under_way.answer_is_ready();
        }
        let mut observed = Self { body, under_way, sighting };
        if observed.body.is_end_stream() {
            observed.ended(End::Whole);
        }
        observed
    }

    fn ended(&mut self, end: End) {
        if let Some(sighting) = &mut self.sighting {
            sighting.ended(end);
        }
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
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                self.under_way.taken();
                if self.body.is_end_stream() {
                    self.ended(End::Whole);
                }
            }
            Poll::Ready(Some(Err(_))) => self.ended(End::Broken),
            Poll::Ready(None) => self.ended(End::Whole),
            Poll::Pending => {}
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
