//! A client's body on its way to a model server: as it comes, but not for ever.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::failure::Failure;
use crate::hop_by_hop;

/// The body.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    patience: Duration,
    /// Set while the next piece is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why it came to no good end: it is the client's doing.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Nothing more comes.
    #[error("no byte of the body came for {} ms (bodyTimeoutMs)", .0.as_millis())]
    Stalled(Duration),
    /// What comes is not HTTP, or the client has gone.
    #[error("the body could not be read: {0}")]
    Broken(#[from] hyper::Error),
}

impl Upload {
    /// A body that may pause for so long.
    pub fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, timer: None }
    }
}

impl UploadError {
    /// The answer, where the client's body is why a request was not passed on.
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
