//! Inference requests from their first byte to the queue: their model is found, their body is received, decoded and
//! parsed, and they are admitted. All REST wire formats share one way; gRPC has another, because its model is named in
//! the message.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use sluice_protocol::grpc::{self, CountedRequest, decode_unary};
use sluice_protocol::{Address, HEADER_LENGTH, InferRequest, ParseError, Unread, WireFormat};

use super::Front;
use super::admit::{Arrival, count_failure};
use super::bodies::decode::undecoded;
use super::bodies::receive::{ReceiveError, Received};
use super::body::FrontBody;
use super::models::NoQueue;
use super::transport::{failed, grpc as grpc_transport};
use super::urgency::Urgency;
use crate::failure::Failure;
use crate::offload::{AT_ONCE_BYTES, RAW_DISCOUNT, offload};
use crate::queue::bytes::QueuedBytes;
use crate::queue::{ModelHandle, Work};
use crate::retry_after::RetryAfter;

impl Front {
    /// Serves a REST request whose path is that of an inference in `format`.
    pub(super) async fn infer_rest(
        &self,
        format: WireFormat,
        address: Address,
        request: Request<Incoming>,
    ) -> Response<FrontBody> {
        let (mut parts, body) = request.into_parts();
        let (format, header_length) = match with_header_length(format, &parts.headers) {
            Ok(found) => found,
            Err((format, failure)) => return failed(format, &failure),
        };
        let handle = match self.models.queue_of(&address.target.model, format).await {
            Ok(handle) => handle,
            Err(NoQueue::Passes(_)) => return self.pass(Request::from_parts(parts, body)).await,
            Err(NoQueue::Answered(response)) => return *response,
        };
        let urgency = match self.urgency(&parts.headers) {
            Ok(urgency) => urgency,
            Err(failure) => return self.invalid(&handle, format, &failure),
        };
        let (body, bytes) = match self.take_in(&handle, format, &mut parts, body, &urgency).await {
            Ok(received) => received,
            Err(response) => return *response,
        };
        // Not forwarded: the header determines where parts of the body begin, and a model server may trust it.
        if let Some(length) = header_length.filter(|&length| length > body.len()) {
            let message = format!("{HEADER_LENGTH} is {length}, the body has {} bytes", body.len());
            return self.invalid(&handle, format, &Failure::new(400, message));
        }
        let needs_metadata = format.protocol().rests_on_metadata(header_length);
        let signature = if needs_metadata { handle.signature() } else { None };
        let (copy, limits, read_by) = (body.clone(), self.bodies.limits(), signature.clone());
        let read = offload(bytes_to_read(header_length, body.len()), move || {
            let (address, limits, signature) = (&address, &limits, read_by.as_deref());
            format.protocol().read_request(Unread { address, header_length, body: copy, limits, signature })
        });
        let work = match read.await {
            Ok(request) => Work::Parsed(request),
            Err(error) if error.is_forwardable() => Work::Raw(body),
            Err(error) => return self.invalid(&handle, format, &unread(error)),
        };
        self.admit(Arrival { handle: &handle, format, work, signature, origin: parts, urgency, bytes }).await
    }

    /// Serves a gRPC `ModelInfer`.
    pub(super) async fn infer_grpc(&self, request: Request<Incoming>) -> Response<FrontBody> {
        let format = WireFormat::Grpc;
        let urgency = match self.urgency(request.headers()) {
            Ok(urgency) => urgency,
            Err(failure) => return failed(format, &failure),
        };
        let (parts, body) = request.into_parts();
        let received = match self.bodies.receive(body, urgency.tenant.as_ref()).await {
            Ok(received) => received,
            Err(error) => return failed(format, &error.failure(|| RetryAfter::UNPREDICTED)),
        };
        let (body, mut bytes) = match self.bodies.decode_grpc(&parts.headers, received).await {
            Ok(decoded) => decoded,
            Err(error) => return undecoded(format, &error, RetryAfter::UNPREDICTED).0,
        };
        let message = match decode_unary(body, self.settings.now().limits.max_body_bytes) {
            Ok(message) => message,
            Err(error) => return grpc_transport::status(error.code(), &error.to_string()),
        };
        let request = match self.read_grpc(message, &mut bytes).await {
            Ok(request) => request,
            Err(failure) => return failed(format, &failure),
        };
        let handle = match self.models.queue_of(&request.target.model, format).await {
            Ok(handle) => handle,
            Err(NoQueue::Answered(response)) => return *response,
            Err(NoQueue::Passes(denial)) => match self.models.unpassable(&request.target.model, denial) {
                Ok(handle) => handle,
                Err(response) => return *response,
            },
        };
        let (work, signature) = (Work::Parsed(request), None);
        self.admit(Arrival { handle: &handle, format, work, signature, origin: parts, urgency, bytes }).await
    }

    /// Reads a `ModelInferRequest`, with the memory that its elements take counted among the request's bytes.
    async fn read_grpc(&self, message: Bytes, bytes: &mut QueuedBytes) -> Result<InferRequest, Failure> {
        let looked_at = bytes_to_read_of_grpc(&message);
        let limits = self.bodies.limits();
        let counted =
            offload(looked_at, move || CountedRequest::new(message, &limits)).await.map_err(unread)?;
        // While the elements are read, the lists of them grow by doubling, which may take this much more for a while.
        let meanwhile = self.bodies.memory.take(2 * counted.elements_bytes());
        if meanwhile.is_none() || !bytes.grow(counted.elements_bytes()) {
            let full = ReceiveError::NoMemory { limit_bytes: self.bodies.memory.limit() };
            return Err(full.failure(|| RetryAfter::UNPREDICTED));
        }
        offload(looked_at, move || counted.parse()).await.map_err(unread)
    }

    /// Receives and decodes a REST body.
    ///
    /// # Errors
    /// Returns the response to the client; its request has been counted.
    async fn take_in(
        &self,
        handle: &ModelHandle,
        format: WireFormat,
        parts: &mut Parts,
        body: Incoming,
        urgency: &Urgency,
    ) -> Result<Received, Box<Response<FrontBody>>> {
        let retry_after = || handle.retry_after(self.clock.now_us());
        let received = self.bodies.receive(body, urgency.tenant.as_ref()).await.map_err(|error| {
            let failure = error.failure(retry_after);
            Box::new(self.invalid(handle, format, &failure))
        })?;
        self.bodies.decode(&mut parts.headers, received).await.map_err(|error| {
            let (response, failure) = undecoded(format, &error, retry_after());
            count_failure(handle, format, &failure);
            Box::new(response)
        })
    }
}

/// Returns the failure for a request that exceeds a limit.
fn unread(error: ParseError) -> Failure {
    Failure::new(error.http_status(), error.to_string())
}

/// Returns the wire format of a request to a path of `format`, which the header [`HEADER_LENGTH`] decides where it means
/// something, and that header's value.
///
/// # Errors
/// Fails where the header's value is not valid; returns the wire format of the response with it.
fn with_header_length(
    format: WireFormat,
    headers: &HeaderMap,
) -> Result<(WireFormat, Option<usize>), (WireFormat, Failure)> {
    let Some(other) = format.protocol().with_header_length() else { return Ok((format, None)) };
    match header_length(headers) {
        Ok(None) => Ok((format, None)),
        Ok(length) => Ok((other, length)),
        Err(failure) => Err((other, failure)),
    }
}

/// Returns the position of the binary part of a body; `None` where it has none.
///
/// # Errors
/// Fails where the header occurs twice or is not a number: the model server might read another position from it.
fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    let mut values = headers.get_all(HEADER_LENGTH).iter().map(HeaderValue::as_bytes);
    let Some(value) = values.next() else { return Ok(None) };
    let digits =
        std::str::from_utf8(value).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(Failure::new(400, format!("{HEADER_LENGTH} must be one number of bytes"))),
    }
}

/// Estimates how many bytes of a REST body parsing looks at. Raw tensors count less, because of them only the lengths
/// of BYTES elements are looked at.
fn bytes_to_read(header_length: Option<usize>, body: usize) -> usize {
    header_length.map_or(body, |header| header + body.saturating_sub(header) / RAW_DISCOUNT)
}

/// Estimates how many bytes of a gRPC message parsing looks at.
fn bytes_to_read_of_grpc(message: &Bytes) -> usize {
    match message.len() {
        little if little <= AT_ONCE_BYTES => little,
        all => {
            let looked_at = grpc::bytes_to_read(message);
            looked_at + (all - looked_at) / RAW_DISCOUNT
        }
    }
}

/// Returns whether a request's `Content-Length` exceeds the limit.
pub(super) fn declares_more_than<B>(request: &Request<B>, limit_bytes: usize) -> bool {
    request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|length| length > limit_bytes as u64)
}
