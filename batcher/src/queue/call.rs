//! One call over a slot's connection: a kept connection that turns out to be closed is replaced by a new one to
//! the same epoch, or there is no call.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use sluice_protocol::grpc::frame_prefix;
use sluice_protocol::{HEADER_LENGTH, Merged, Transport};
use tokio::time::timeout;

use super::Entry;
use super::scope::Scope;
use crate::forward;
use crate::settings::Settings;
use crate::upstream::connection::{Chunks, ExchangeError, UpstreamResponse, Wire};
use crate::upstream::discovery::Profile;
use crate::upstream::slot::Slot;
use crate::upstream::{CONNECT_PATIENCE, Upstream};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Why a call has no answer.
pub(super) enum CallError {
    /// Nothing was sent: no connection to this epoch.
    Unsent(String),
    /// The connection broke; the request may have been executed.
    Broken(String),
    /// No answer in time; the request may have been executed.
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
    wire: Wire,
    mut request: Request<Chunks>,
    settings: &Settings,
) -> Result<UpstreamResponse, CallError> {
    let patience = Duration::from_millis(settings.servers.upstream_timeout_ms);
    let connect_patience = patience.min(CONNECT_PATIENCE);
    let Some(slot) = place else { return Err(CallError::Unsent("the slot is gone".into())) };
    slot.upstream.answers.room().await;
    for fresh in [false, true] {
        let kept = slot.connections.take(wire).filter(|_| !fresh);
        let mut connection = match kept {
            Some(connection) => connection,
            None => match timeout(connect_patience, slot.upstream.connect(&slot.epoch, wire)).await {
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
                    let message = format!("no connection within {} ms", connect_patience.as_millis());
                    return Err(CallError::Unsent(message));
                }
            },
        };
        match timeout(patience, connection.exchange(request, settings.limits.max_body_bytes)).await {
            Ok(Ok(mut answer)) => {
                if slot.upstream.keeps_connections() {
                    slot.connections.keep(connection);
                }
                answer.body = slot.upstream.answers.charge(answer.body);
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

/// The request of a batch.
///
/// # Errors
/// The path is not valid.
pub(super) fn batch_request(
    upstream: &Upstream,
    path: &str,
    merged: Merged,
    scope: Option<&Scope>,
    settings: &Settings,
) -> Result<Request<Chunks>, http::Error> {
    let wire = Wire::of(merged.format);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, upstream.host(wire))
        .header(header::CONTENT_TYPE, HeaderValue::from_static(merged.content_type));
    if let Some(length) = merged.header_length {
        request = request.header(HEADER_LENGTH, HeaderValue::from(length));
    }
    let mut request = request.body(Chunks::new(merged.chunks))?;
    if let Some(scope) = scope {
        scope.add_to(request.headers_mut());
    }
    for (name, value) in settings.servers.upstream_headers.map() {
        request.headers_mut().insert(name, value.clone());
    }
    Ok(request)
}

/// A request alone and as it came, where the model server speaks the client's protocol.
pub(super) fn as_it_came(
    entry: &Entry,
    profile: &Profile,
    upstream: &Upstream,
) -> Option<(Wire, Request<Chunks>)> {
    let origin = entry.origin.as_ref()?;
    match entry.form.protocol().transport() {
        Transport::Grpc if profile.has_grpc => {
            let body = entry.body();
            let prefix = frame_prefix(body.len()).ok()?;
            let body = Chunks::new(vec![Bytes::copy_from_slice(&prefix), body]);
            let mut request = forward::upstream_request(origin, body);
            request.headers_mut().insert(header::HOST, upstream.host(Wire::Grpc).clone());
            // The message was unpacked, and the answer is read here.
            for name in [GRPC_ENCODING, GRPC_ACCEPT_ENCODING] {
                request.headers_mut().remove(name);
            }
            Some((Wire::Grpc, with_scope(request, entry)))
        }
        // V1 that was read as V2 tensors: the server may have V2 alone.
        Transport::Rest if entry.is_joined_v1() && profile.form != entry.form => None,
        Transport::Rest if profile.has_v1 || profile.has_v2 => {
            let mut request = forward::upstream_request(origin, Chunks::from(entry.body()));
            // One over HTTP/1.0 may have none.
            request.headers_mut().entry(header::HOST).or_insert_with(|| upstream.host(Wire::Rest).clone());
            Some((Wire::Rest, with_scope(request, entry)))
        }
        _ => None,
    }
}

/// With the headers that tell whose a request is, where its client has named them in `Connection`: others that share
/// a batch are compared by them.
fn with_scope(mut request: Request<Chunks>, entry: &Entry) -> Request<Chunks> {
    if let Some(scope) = &entry.scope {
        scope.add_missing_to(request.headers_mut());
    }
    request
}
