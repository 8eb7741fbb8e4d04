//! One call over a slot's connection: a kept connection that turns out to be closed is replaced by a new one to
//! the same epoch, or there is no call.

use std::time::Duration;

use http::{HeaderValue, Method, Request, header};
use sluice_protocol::{HEADER_LENGTH, Merged};
use tokio::time::timeout;

use super::Slot;
use crate::settings::Settings;
use crate::upstream::connection::{Answer, Chunks, ExchangeError};

/// Why a call has no answer.
pub(super) enum CallError {
    /// Nothing was sent: no connection to this epoch.
    Unsent(String),
    /// The connection broke; the request may have been executed.
    Broken(String),
    /// No answer in time.
    Timeout,
    /// The answer is too large.
    TooLarge(String),
}

/// Sends a request. The slot is taken where it is no longer good.
///
/// # Errors
/// See [`CallError`].
pub(super) async fn call(
    place: &mut Option<Slot>,
    mut request: Request<Chunks>,
    settings: &Settings,
) -> Result<Answer, CallError> {
    let patience = Duration::from_millis(settings.upstream_timeout_ms);
    let Some(slot) = place else { return Err(CallError::Unsent("the slot is gone".into())) };
    for fresh in [false, true] {
        let kept = slot.connection.take().filter(|connection| !fresh && !connection.is_closed());
        let mut connection = match kept {
            Some(connection) => connection,
            None => match timeout(patience, slot.upstream.connect(&slot.epoch)).await {
                Ok(Ok(connection)) if slot.is_current() => connection,
                Ok(Ok(_)) => {
                    *place = None;
                    return Err(CallError::Unsent("the model server has changed".into()));
                }
                Ok(Err(error)) => {
                    *place = None;
                    return Err(CallError::Unsent(error.to_string()));
                }
                Err(_) => {
                    *place = None;
                    return Err(CallError::Timeout);
                }
            },
        };
        match timeout(patience, connection.exchange(request, settings.max_body_bytes)).await {
            Ok(Ok(answer)) => {
                slot.connection = Some(connection);
                return Ok(answer);
            }
            Ok(Err(ExchangeError::Unsent(unsent))) => request = *unsent,
            Ok(Err(ExchangeError::Broken(reason))) => {
                *place = None;
                return Err(CallError::Broken(reason));
            }
            Ok(Err(error @ ExchangeError::TooLarge { .. })) => {
                return Err(CallError::TooLarge(error.to_string()));
            }
            Err(_) => return Err(CallError::Timeout),
        }
    }
    *place = None;
    Err(CallError::Unsent("the model server closes its connections at once".into()))
}

/// The HTTP request of a batch.
///
/// # Errors
/// The path is not valid.
pub(super) fn batch_request(
    host: &HeaderValue,
    path: &str,
    merged: Merged,
) -> Result<Request<Chunks>, http::Error> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, HeaderValue::from_static(merged.content_type));
    if let Some(length) = merged.header_length {
        request = request.header(HEADER_LENGTH, HeaderValue::from(length));
    }
    request.body(Chunks::new(merged.chunks))
}
