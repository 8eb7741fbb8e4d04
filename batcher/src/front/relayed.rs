//! The body of a model server's response, passed on to the client as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::hop_by_hop;
use crate::streams::Record;
use crate::upstream::InFlight;
use crate::upstream::hang_up::HangUp;

/// A model server's body with everything that ends when it ends.
#[derive(Debug)]
pub struct Relayed {
    body: Incoming,
    /// Counts the request as in flight until the end.
    in_flight: Option<InFlight>,
    /// Closes the connection to the model server if the client leaves before the end.
    hang_up: Option<HangUp>,
    /// Measurements of a stream.
    record: Option<Record>,
}

impl Relayed {
    /// Creates a body without measurements.
    pub fn new(body: Incoming, in_flight: InFlight, hang_up: Option<HangUp>) -> Self {
        let mut relayed = Self { body, in_flight: Some(in_flight), hang_up, record: None };
        relayed.note_end();
        relayed
    }

    /// Creates a body whose measurements go into `record`.
    pub fn recorded(body: Incoming, in_flight: InFlight, hang_up: HangUp, record: Record) -> Self {
        let mut relayed =
            Self { body, in_flight: Some(in_flight), hang_up: Some(hang_up), record: Some(record) };
        relayed.note_end();
        relayed
    }

    /// Notes the end right after the last byte of a body of known length, because the HTTP library does not poll it again.
    fn note_end(&mut self) {
        if self.body.is_end_stream() {
            self.ended(true);
        }
    }

    fn ended(&mut self, whole: bool) {
        self.in_flight = None;
        if let Some(hang_up) = &mut self.hang_up {
            hang_up.not_needed();
        }
        if let Some(record) = self.record.take() {
            record.ended(whole);
        }
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    hop_by_hop::strip_trailers(trailers);
                }
                if let (Some(data), Some(record)) = (frame.data_ref(), &mut self.record) {
                    record.data(data);
                }
                self.note_end();
            }
            Poll::Ready(None) => self.ended(true),
            Poll::Ready(Some(Err(_))) => self.ended(false),
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
