//! Admission of a request that was read: it is queued unless there is a reason not to, and its response is awaited and
//! counted.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use sluice_batch_policy::{Admission, ShapeClass};
use sluice_protocol::{ModelSignature, WireFormat};
use tokio::sync::oneshot;

use super::Front;
use super::body::FrontBody;
use super::transport::{failed, respond};
use super::urgency::Urgency;
use crate::failure::Failure;
use crate::metrics::{Outcome, RejectReason};
use crate::observe::request_trace::RequestTrace;
use crate::queue::bytes::QueuedBytes;
use crate::queue::caller::Caller;
use crate::queue::entry::Suspicion;
use crate::queue::scope::Scope;
use crate::queue::{Entry, ModelHandle, Reply, Work, size_of};
use crate::retry_after::RetryAfter;
use crate::settings::{Settings, WhileCold};

/// A request that was received and read.
pub(super) struct Arrival<'a> {
    /// Queue of its model.
    pub(super) handle: &'a ModelHandle,
    /// Wire format of the request and of its response.
    pub(super) format: WireFormat,
    pub(super) work: Work,
    /// Metadata by which it was read, where it rests on any.
    pub(super) signature: Option<Arc<ModelSignature>>,
    /// Its HTTP head.
    pub(super) origin: Parts,
    /// Deadline, priority class and tenant, as its headers give them.
    pub(super) urgency: Urgency,
    /// Its share of the memory for requests.
    pub(super) bytes: QueuedBytes,
}

impl Front {
    /// Queues a request, waits for its reply and counts how it ended.
    pub(super) async fn admit(&self, arrival: Arrival<'_>) -> Response<FrontBody> {
        let Arrival { handle, format, work, signature, origin, urgency, bytes } = arrival;
        let arrived_us = self.clock.now_us();
        let settings = self.settings.now();
        let own = settings.batching.of_model(&handle.model);
        let size = size_of(&work, &own);
        handle.metrics.demand_rows.increment(u64::from(size.rows));
        let unanswered = Unanswered { handle, format, arrived_us };
        let (reply, waiting) = oneshot::channel();
        let urgency = match &work {
            Work::Parsed(request) => urgency.with_parameters(request),
            Work::Raw(_) => urgency,
        };
        let caller = Caller::of(urgency.tenant.as_deref(), Some(&origin.extensions));
        let flow = urgency.flow(&settings);
        let sequence = match self.in_sequence(handle, format, &work, &origin, flow.tenant).await {
            Ok(sequence) => sequence,
            Err(failure) => return self.invalid(handle, format, &failure),
        };
        let entry = Entry {
            flow,
            sequence,
            deadline_us: arrived_us.saturating_add(urgency.budget_us(own.objective_ms, &settings)),
            tenant: urgency.tenant,
            is_ranked: false,
            work,
            form: format,
            size,
            scope: Scope::of(&origin.headers, &settings.access.shared_headers),
            origin: Some(origin),
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
        let reply = match self.enqueue(handle, entry, &settings) {
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
        let (response, status) = respond(format, reply);
        // The response is there: it is counted below instead.
        std::mem::forget(unanswered);
        let elapsed_us = self.clock.now_us().saturating_sub(arrived_us);
        let outcome = Outcome::of_status(status);
        handle.metrics.request_seconds.record(elapsed_us as f64 / 1e6);
        handle.metrics.count_request(format, outcome);
        // A client's own mistake says nothing about whether the objective is met.
        if outcome != Outcome::ClientError {
            handle
                .metrics
                .attainment
                .count(outcome == Outcome::Ok && elapsed_us <= handle.objective_ms() * 1000);
        }
        response
    }

    /// Puts a request into the queue.
    ///
    /// # Errors
    /// Returns the reason for which it was not queued.
    fn enqueue(&self, handle: &ModelHandle, entry: Entry, settings: &Settings) -> Result<(), Failure> {
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

    /// Counts a request that fails before it is queued, and returns the response to it.
    pub(super) fn invalid(
        &self,
        handle: &ModelHandle,
        format: WireFormat,
        failure: &Failure,
    ) -> Response<FrontBody> {
        count_failure(handle, format, failure);
        if let Some(trail) = RequestTrace::current() {
            trail.failed(failure);
        }
        failed(format, failure)
    }
}

/// Counts a request that failed before it was queued.
pub(super) fn count_failure(handle: &ModelHandle, format: WireFormat, failure: &Failure) {
    let refusal = failure.refusal.or((failure.status == 413).then_some(RejectReason::BodyTooLarge));
    if let Some(reason) = refusal {
        handle.metrics.count_refused(reason);
    }
    handle.metrics.count_request(format, Outcome::of_status(failure.status));
}

/// A request whose client still waits. Hyper drops the request's future when the client goes away; dropping this counts
/// the request as cancelled, and as one that missed its objective if the client waited longer than the objective.
struct Unanswered<'a> {
    handle: &'a ModelHandle,
    format: WireFormat,
    arrived_us: u64,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.handle.metrics.count_request(self.format, Outcome::Cancelled);
        let waited_us = self.handle.clock.now_us().saturating_sub(self.arrived_us);
        if waited_us > self.handle.objective_ms() * 1000 {
            self.handle.metrics.attainment.count(false);
        }
    }
}
