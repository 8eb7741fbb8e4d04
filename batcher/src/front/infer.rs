//! An inference request: read it whole, parse it, decide whether to take it in, queue it, wait for its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use sluice_batch_policy::{Admission, ShapeClass};
use sluice_protocol::grpc::{self, CountedRequest, decode_unary};
use sluice_protocol::{
    HEADER_LENGTH, InferRequest, ModelSignature, ParseError, Target, WireFormat, parse_binary, parse_json,
    parse_raw,
};
use tokio::sync::oneshot;

use super::Front;
use super::answer::{answer, failed, grpc_status};
use super::body::FrontBody;
use super::decode::undecoded;
use super::known::NoQueue;
use super::receive::{ReceiveError, Received};
use super::urgency::Urgency;
use crate::failure::Failure;
use crate::metrics::{Outcome, RejectReason};
use crate::observe::request_trace::RequestTrace;
use crate::offload::{AT_ONCE_BYTES, RAW_DISCOUNT, offload};
use crate::queue::bytes::QueuedBytes;
use crate::queue::caller::Caller;
use crate::queue::entry::Suspicion;
use crate::queue::scope::Scope;
use crate::queue::{Entry, ModelHandle, Reply, Work, size_of};
use crate::retry_after::RetryAfter;
use crate::settings::{Settings, WhileCold};

/// A request, and the metadata by which it was read where it rests on any.
pub(super) type Read = (Work, Option<Arc<ModelSignature>>);

impl Front {
    /// REST, JSON or binary.
    pub(super) async fn infer_rest(&self, target: Target, request: Request<Incoming>) -> Response<FrontBody> {
        let (mut parts, body) = request.into_parts();
        let header_length = match header_length(&parts.headers) {
            Ok(length) => length,
            Err(failure) => return failed(WireFormat::Binary, &failure),
        };
        let form = if header_length.is_some() { WireFormat::Binary } else { WireFormat::Json };
        let handle = match self.queue_of(&target.model, form).await {
            Ok(handle) => handle,
            Err(NoQueue::Passes(_)) => return self.pass(Request::from_parts(parts, body)).await,
            Err(NoQueue::Answered(response)) => return *response,
        };
        let urgency = match self.urgency(&parts.headers) {
            Ok(urgency) => urgency,
            Err(failure) => return self.invalid(&handle, form, &failure),
        };
        let (body, bytes) = match self.take_in(&handle, form, &mut parts, body, &urgency).await {
            Ok(received) => received,
            Err(response) => return *response,
        };
        // Not forwarded: it is about where parts of the body begin, and a model server may believe it.
        if let Some(length) = header_length.filter(|&length| length > body.len()) {
            let message = format!("{HEADER_LENGTH} is {length}, the body has {} bytes", body.len());
            return self.invalid(&handle, form, &Failure::new(400, message));
        }
        // Of a raw body alone.
        let signature = header_length.filter(|&length| length == 0).and_then(|_| handle.signature());
        let (copy, limits, read_by) = (body.clone(), self.limits(), signature.clone());
        let parsed = offload(bytes_to_read(header_length, body.len()), move || match header_length {
            None => parse_json(&target, copy, &limits),
            Some(0) => parse_raw(&target, copy, &limits, read_by.as_deref()),
            Some(length) => parse_binary(&target, length, copy, &limits),
        })
        .await;
        let work = match parsed {
            Ok(request) => Work::Parsed(request),
            Err(error) if error.is_forwardable() => Work::Raw(body),
            Err(error) => return self.unparsed(&handle, form, &error),
        };
        self.queue(&handle, form, (work, signature), Some(parts), urgency, bytes).await
    }

    /// gRPC `ModelInfer`.
    pub(super) async fn infer_grpc(&self, request: Request<Incoming>) -> Response<FrontBody> {
        let urgency = match self.urgency(request.headers()) {
            Ok(urgency) => urgency,
            Err(failure) => return failed(WireFormat::Grpc, &failure),
        };
        let (parts, body) = request.into_parts();
        let received = match self.receive(body, urgency.tenant.as_ref()).await {
            Ok(received) => received,
            Err(error) => return failed(WireFormat::Grpc, &error.failure(|| RetryAfter::UNPREDICTED)),
        };
        let (body, mut bytes) = match self.decode_grpc(&parts.headers, received).await {
            Ok(decoded) => decoded,
            Err(error) => return undecoded(WireFormat::Grpc, &error, RetryAfter::UNPREDICTED).0,
        };
        let message = match decode_unary(body, self.settings.now().limits.max_body_bytes) {
            Ok(message) => message,
            Err(error) => return grpc_status(error.code(), &error.to_string()),
        };
        let request = match self.read_grpc(message, &mut bytes).await {
            Ok(request) => request,
            Err(failure) => return failed(WireFormat::Grpc, &failure),
        };
        let handle = match self.queue_of(&request.target.model, WireFormat::Grpc).await {
            Ok(handle) => handle,
            Err(NoQueue::Answered(response)) => return *response,
            Err(NoQueue::Passes(denial)) => match self.unpassable(&request.target.model, denial) {
                Ok(handle) => handle,
                Err(response) => return *response,
            },
        };
        let read = (Work::Parsed(request), None);
        self.queue(&handle, WireFormat::Grpc, read, Some(parts), urgency, bytes).await
    }

    /// Reads a `ModelInferRequest`, with the memory that its elements take counted among the request's bytes.
    async fn read_grpc(&self, message: Bytes, bytes: &mut QueuedBytes) -> Result<InferRequest, Failure> {
        let looked_at = bytes_to_read_of_grpc(&message);
        let unread = |error: ParseError| Failure::new(error.http_status(), error.to_string());
        let limits = self.limits();
        let counted =
            offload(looked_at, move || CountedRequest::new(message, &limits)).await.map_err(unread)?;
        // While they are read, lists of them grow by doubling.
        let meanwhile = self.bytes.take(2 * counted.elements_bytes());
        if meanwhile.is_none() || !bytes.grow(counted.elements_bytes()) {
            let full = ReceiveError::NoMemory { limit_bytes: self.bytes.limit() };
            return Err(full.failure(|| RetryAfter::UNPREDICTED));
        }
        offload(looked_at, move || counted.parse()).await.map_err(unread)
    }

    pub(super) async fn queue(
        &self,
        handle: &ModelHandle,
        form: WireFormat,
        (work, signature): Read,
        origin: Option<Parts>,
        urgency: Urgency,
        bytes: QueuedBytes,
    ) -> Response<FrontBody> {
        let arrived_us = self.clock.now_us();
        let settings = self.settings.now();
        let own = settings.batching.of_model(&handle.model);
        let size = size_of(&work, &own);
        handle.metrics.demand_rows.increment(u64::from(size.rows));
        let unanswered = Unanswered { handle, form, arrived_us };
        let (reply, waiting) = oneshot::channel();
        let urgency = match &work {
            Work::Parsed(request) => urgency.with_parameters(request),
            Work::Raw(_) => urgency,
        };
        let caller = Caller::of(urgency.tenant.as_deref(), origin.as_ref().map(|head| &head.extensions));
        let flow = urgency.flow(&settings);
        let sequence = match self.in_sequence(handle, form, &work, origin.as_ref(), flow.tenant).await {
            Ok(sequence) => sequence,
            Err(failure) => return self.invalid(handle, form, &failure),
        };
        let entry = Entry {
            flow,
            sequence,
            deadline_us: arrived_us.saturating_add(urgency.budget_us(own.objective_ms, &settings)),
            tenant: urgency.tenant,
            is_ranked: false,
            work,
            form,
            size,
            scope: origin.as_ref().and_then(|head| Scope::of(&head.headers, &settings.access.shared_headers)),
            origin,
            arrived_us,
            signature,
            caller,
            suspicion: Suspicion::default(),
            alone: false,
            trail: RequestTrace::current(),
            reply: reply.into(),
            bytes,
        };
        let trail = entry.trail.clone();
        if let Some(trail) = &trail {
            trail.asked(entry.asked(&handle.model));
        }
        let reply = match self.admit(handle, entry, &settings) {
            Ok(()) => waiting.await.unwrap_or_else(|_| {
                Reply::Failed(Failure::new(503, "the batcher stopped before the request was served"))
            }),
            Err(failure) => Reply::Failed(failure),
        };
        if let Reply::Failed(Failure { refusal: Some(reason), .. }) = &reply {
            handle.metrics.count_refused(*reason);
        }
        if let (Some(trail), Reply::Failed(failure)) = (&trail, &reply) {
            trail.failed(failure);
        }
        let (response, status) = answer(form, reply);
        // Answered: counted as such below.
        std::mem::forget(unanswered);
        let elapsed_us = self.clock.now_us().saturating_sub(arrived_us);
        let outcome = Outcome::of_status(status);
        handle.metrics.request_seconds.record(elapsed_us as f64 / 1e6);
        handle.metrics.count_request(form, outcome);
        // A client's own mistake says nothing about whether the objective is met.
        if outcome != Outcome::ClientError {
            handle.count_attainment(outcome == Outcome::Ok && elapsed_us <= handle.objective_ms() * 1000);
        }
        response
    }

    /// Puts a request into the queue, unless there is a reason not to.
    fn admit(&self, handle: &ModelHandle, entry: Entry, settings: &Settings) -> Result<(), Failure> {
        if settings.holding.while_cold == WhileCold::Reject && handle.is_cold() {
            return Err(Failure::refused(
                503,
                RejectReason::Cold,
                "no model server is warm here",
                RetryAfter::WHILE_COLD,
            ));
        }
        if settings.order.priority_levels > 1 || entry.tenant.is_some() {
            handle.rank();
        }
        let class = entry.mergeable().map(|request| ShapeClass::of_elements(request.elements_per_row()));
        let arrived_us = entry.arrived_us;
        let admission = handle.admit(arrived_us, entry.deadline_us, entry.size.rows, entry.flow, class);
        if let Some(trail) = &entry.trail {
            trail.expected(admission.predicted_finish_us());
        }
        if let Admission::Reject { retry_after_us, .. } = admission {
            return Err(Failure::refused(
                429,
                RejectReason::TooLate,
                "the answer would come after the deadline: the model server is saturated",
                RetryAfter::wait_us(retry_after_us),
            ));
        }
        let submitted = handle.submit(Box::new(entry));
        handle.ask();
        if handle.is_cold() {
            self.registry.look();
        }
        submitted.map_err(|entry| {
            let whose = if entry.tenant.is_some() { "the tenant's part of " } else { "" };
            let message = format!(
                "{whose}the model's queue is full (queueRequests: {})",
                settings.limits.queue_requests
            );
            Failure::refused(429, RejectReason::QueueFull, message, handle.retry_after(arrived_us))
        })
    }

    /// Reads and decodes a REST body; else the answer.
    pub(super) async fn take_in(
        &self,
        handle: &ModelHandle,
        form: WireFormat,
        parts: &mut Parts,
        body: Incoming,
        urgency: &Urgency,
    ) -> Result<Received, Box<Response<FrontBody>>> {
        let retry_after = || handle.retry_after(self.clock.now_us());
        let received = self.receive(body, urgency.tenant.as_ref()).await.map_err(|error| {
            let failure = error.failure(retry_after);
            Box::new(self.invalid(handle, form, &failure))
        })?;
        self.decode(&mut parts.headers, received).await.map_err(|error| {
            let (response, failure) = undecoded(form, &error, retry_after());
            count_failure(handle, form, &failure);
            Box::new(response)
        })
    }

    pub(super) fn unparsed(
        &self,
        handle: &ModelHandle,
        form: WireFormat,
        error: &ParseError,
    ) -> Response<FrontBody> {
        self.invalid(handle, form, &Failure::new(error.http_status(), error.to_string()))
    }

    pub(super) fn invalid(
        &self,
        handle: &ModelHandle,
        form: WireFormat,
        failure: &Failure,
    ) -> Response<FrontBody> {
        count_failure(handle, form, failure);
        if let Some(trail) = RequestTrace::current() {
            trail.failed(failure);
        }
        failed(form, failure)
    }
}

/// Where the binary part of a body begins; `None` where it has none.
///
/// # Errors
/// The header is there twice, or no number: the model server may read another one in it.
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

/// Counts a request that did not come as far as the queue.
fn count_failure(handle: &ModelHandle, form: WireFormat, failure: &Failure) {
    let refusal = failure.refusal.or((failure.status == 413).then_some(RejectReason::BodyTooLarge));
    if let Some(reason) = refusal {
        handle.metrics.count_refused(reason);
    }
    handle.metrics.count_request(form, Outcome::of_status(failure.status));
}

/// A request whose client waits. The server drops it with the rest when the client goes away: it is counted then,
/// and has missed its objective where the client waited as long as that.
struct Unanswered<'a> {
    handle: &'a ModelHandle,
    form: WireFormat,
    arrived_us: u64,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.handle.metrics.count_request(self.form, Outcome::Cancelled);
        let waited_us = self.handle.clock.now_us().saturating_sub(self.arrived_us);
        if waited_us > self.handle.objective_ms() * 1000 {
            self.handle.count_attainment(false);
        }
    }
}

/// Bytes of a REST body that reading it looks at. Of raw tensors only the lengths of BYTES are: so much less of them.
fn bytes_to_read(header_length: Option<usize>, body: usize) -> usize {
    header_length.map_or(body, |header| header + body.saturating_sub(header) / RAW_DISCOUNT)
}

/// The same of a gRPC message.
fn bytes_to_read_of_grpc(message: &Bytes) -> usize {
    match message.len() {
        little if little <= AT_ONCE_BYTES => little,
        all => {
            let looked_at = grpc::bytes_to_read(message);
            looked_at + (all - looked_at) / RAW_DISCOUNT
        }
    }
}

/// Whether a request says that it has a body longer than the limit, before any of it is read.
pub(super) fn declares_more_than<B>(request: &Request<B>, limit_bytes: usize) -> bool {
    request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|length| length > limit_bytes as u64)
}
