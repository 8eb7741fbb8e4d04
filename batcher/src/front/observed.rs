//! The body of a response on its way to the client, handed over in pieces that are counted until the client has taken
//! them. It notes its progress in the connection's activity and its end in the request's observation.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::body::FrontBody;
use super::connection_activity::UnderWay;
use crate::answers::piece::{Behind, next_piece};
use crate::answers::untaken::Untaken;
use crate::observe::{End, Observation};
use crate::upstream::relay::BUFFER_BYTES;

/// A response's body with everything that ends when it ends.
#[derive(Debug)]
pub(super) struct Observed {
    body: FrontBody,
    /// Bytes of the current frame that were not handed over yet.
    frame: Bytes,
    /// Bytes in memory that were not handed over yet.
    waiting: usize,
    /// Set while the client does not ask for more of a response that is passed on.
    behind: Option<Behind>,
    under_way: UnderWay,
    sighting: Option<Observation>,
    untaken: Arc<Untaken>,
}

impl Observed {
    /// Wraps a body.
    pub(super) fn new(
        body: FrontBody,
        mut under_way: UnderWay,
        sighting: Option<Observation>,
        untaken: Arc<Untaken>,
    ) -> Self {
        if matches!(&body, FrontBody::Known { .. }) && !body.is_end_stream() {
            under_way.answer_is_ready();
        }
        let waiting = body.known_bytes();
        untaken.add(waiting);
        let mut observed =
            Self { body, frame: Bytes::new(), waiting, behind: None, under_way, sighting, untaken };
        observed.falls_behind();
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

    /// Notes that, until the client asks for more, the model server may send bytes that are not taken.
    fn falls_behind(&mut self) {
        let more_comes = matches!(self.body, FrontBody::Stream(_)) && !self.body.is_end_stream();
        self.behind = more_comes.then(|| Behind::new(&self.untaken, BUFFER_BYTES as usize));
    }

    fn next_piece(&mut self) -> Bytes {
        let piece = next_piece(&mut self.frame, &self.untaken);
        self.waiting -= piece.len();
        self.under_way.taken();
        if self.is_end_stream() {
            self.ended(End::Whole);
        }
        piece
    }
}

impl Body for Observed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.frame.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.next_piece()))));
        }
        self.behind = None;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.falls_behind();
                match frame.into_data() {
                    Ok(data) if !data.is_empty() => {
                        if matches!(self.body, FrontBody::Stream(_)) {
                            self.untaken.add(data.len());
                            self.waiting += data.len();
                        }
                        self.frame = data;
                        return Poll::Ready(Some(Ok(Frame::data(self.next_piece()))));
                    }
                    other => {
                        self.under_way.taken();
                        if self.is_end_stream() {
                            self.ended(End::Whole);
                        }
                        return Poll::Ready(Some(Ok(other.map_or_else(|frame| frame, Frame::data))));
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => self.ended(End::Broken),
            Poll::Ready(None) => self.ended(End::Whole),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (left, hint) = (self.frame.len() as u64, self.body.size_hint());
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(left));
        if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(left)) {
            whole.set_upper(upper);
        }
        whole
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.untaken.sub(self.waiting);
        self.untaken.body_ended();
    }
}
