//! A client's body that is passed on to a model server as it arrives, with a limit on pauses.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::failure::Failure;
use crate::hop_by_hop;

/// A client's body.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    patience: Duration,
    /// Set while the next piece is awaited.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Fault of the client's for which a body did not arrive completely.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The client has paused for longer than this.
    #[error("no byte of the body came for {} ms (bodyTimeoutMs)", .0.as_millis())]
    Stalled(Duration),
    /// The client sent bytes that are not HTTP, or closed the connection.
    #[error("the body could not be read: {0}")]
    Broken(#[from] hyper::Error),
}

impl Upload {
    /// Creates a body in which the client may pause for at most `patience`.
    pub fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, timer: None }
    }
}

impl UploadError {
    /// Returns the failure for the client, where its body is the reason for which a request was not passed on; otherwise
    /// `None`.
    pub fn failure(error: &hyper::Error) -> Option<Failure> {
        let cause = std::error::Error::source(error)?.downcast_ref::<Self>()?;
        let status = match cause {
            Self::Stalled(_) => 408,
            Self::Broken(_) => 400,
        };
        Some(Failure::new(status, cause.to_string()))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            let mut frame = frame.map(|frame| frame.map_err(UploadError::from));
            if let Some(Ok(frame)) = &mut frame
                && let Some(trailers) = frame.trailers_mut()
            {
                hop_by_hop::strip_trailers(trailers);
            }
            return Poll::Ready(frame);
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        timer.as_mut().poll(cx).map(|()| Some(Err(UploadError::Stalled(patience))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
