//! Requests to model servers that batch themselves: the request is looked into, waits for a stream slot of its model, is
//! passed on, and its response is measured as it streams.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use sluice_protocol::{SequenceStep, WireFormat};
use tokio::time::Instant;

use super::Front;
use super::bodies::peek::Peeked;
use super::body::FrontBody;
use super::infer::declares_more_than;
use super::passthrough::not_passed;
use super::relayed::Relayed;
use super::transport::failed;
use crate::confirm::{ModelPresence, Patience};
use crate::failure::Failure;
use crate::forward::{to_client, to_http1};
use crate::labels::MAX_NAME_BYTES;
use crate::metrics::RejectReason;
use crate::offload::offload;
use crate::queue::entry::names_a_sequence;
use crate::retry_after::RetryAfter;
use crate::settings::{Streaming, WhileCold};
use crate::streams::asked::Asked;
use crate::streams::{AdmissionDecision, Record, StreamHandle};
use crate::upstream::ConnectError;
use crate::upstream::choice::Named;
use crate::upstream::relay::RelayError;
use crate::upstream::relay_body::RelayBody;

/// How long a stream waits to learn whether its model exists.
const QUESTION_PATIENCE: Patience = Patience { most: Duration::from_secs(2), awaits_all: false };

impl Front {
    /// Serves a request for a stream. `model`: the model, where the path names it; otherwise the body does.
    pub(super) async fn stream(
        &self,
        model: Option<String>,
        request: Request<Incoming>,
    ) -> Response<FrontBody> {
        let settings = self.settings.now();
        if settings.streams.streaming == Streaming::Off
            || declares_more_than(&request, settings.limits.max_body_bytes)
        {
            return self.pass(request).await;
        }
        let (mut parts, body) = request.into_parts();
        let arrived_us = self.clock.now_us();
        let urgency = match self.urgency(&parts.headers) {
            Ok(urgency) => urgency,
            Err(failure) => return failed(WireFormat::Json, &failure),
        };
        // The memory that was reserved for the request is released when the response begins.
        let (body, _share) = match self.bodies.peek(body).await {
            Ok(peeked) => peeked,
            Err(error) => return failed(WireFormat::Json, &error.failure(|| RetryAfter::UNPREDICTED)),
        };
        let (asked, step) = match body.whole().cloned() {
            Some(body) => {
                offload(body.len(), move || (Asked::read(&body), SequenceStep::of_unread(&body))).await
            }
            None => (Asked::default(), None),
        };
        if let Some(SequenceStep { id, .. }) = &step
            && self.upstreams.members() > 1
        {
            let message = format!(
                "sequence {id}: steps of sequences are not generated where there are several model servers; send them to the path that ends in /infer"
            );
            return failed(WireFormat::Json, &Failure::new(501, message));
        }
        let handle = self.handle_of(model.as_deref().or(asked.model.as_deref())).await;
        let mut record = Record::new(Arc::clone(&handle), arrived_us);
        if settings.holding.while_cold == WhileCold::Reject && !self.upstreams.any_ready() {
            let failure = Failure::refused(
                503,
                RejectReason::Cold,
                "no model server is warm here",
                RetryAfter::WHILE_COLD,
            );
            return refused(record, &failure);
        }
        // The deadline counts from here on: finding out whether the model exists is not part of the wait for a slot.
        let deadline_us =
            self.clock.now_us().saturating_add(urgency.budget_us(settings.streams.stream_wait_ms, &settings));
        match handle.knock(urgency.flow(&settings).class, deadline_us, asked.tokens).await {
            AdmissionDecision::Start(permit) => record.starts(permit),
            AdmissionDecision::Refused(failure) => return refused(record, &failure),
        }
        to_http1(&mut parts);
        let named = model.map(Named::Model).or(asked.model.map(Named::Alias));
        self.send(&parts, named, body, step.is_none(), record).await
    }

    /// Returns the handle of a model's streams. All models that no model server has confirmed share one: the model server
    /// that gets the request judges the name itself.
    async fn handle_of(&self, model: Option<&str>) -> Arc<StreamHandle> {
        let Some(model) = model.filter(|model| model.len() <= MAX_NAME_BYTES) else {
            return self.streams.other();
        };
        if let Some(handle) = self.streams.known(model) {
            return handle;
        }
        // Without a ready model server nothing can be asked: the request waits with those to unconfirmed models.
        if !self.upstreams.any_ready() {
            return self.streams.other();
        }
        match self.models.inquiries.ask(model, QUESTION_PATIENCE).await {
            Ok(ModelPresence::Has) => self.streams.confirmed(model),
            Ok(ModelPresence::HasNot(_)) | Err(_) => self.streams.other(),
        }
    }

    /// Sends the request to a warm model server. Where no connection could be made, nothing was sent, and the request waits
    /// for the next model server. After a connection that broke before the response, it is sent again as often as `retries`
    /// allows, if its whole body is in memory and it may be executed twice (`may_repeat`).
    async fn send(
        &self,
        parts: &http::request::Parts,
        named: Option<Named>,
        body: Peeked,
        may_repeat: bool,
        mut record: Record,
    ) -> Response<FrontBody> {
        let again = body.whole().filter(|_| may_repeat).cloned();
        let patience = Duration::from_millis(self.settings.now().timeouts.body_timeout_ms);
        let mut body = Some(body.into_body(patience));
        let mut broken = 0;
        let since = Instant::now();
        loop {
            let (upstream, epoch, guard) = match self.models.pick_for(named.as_ref()).await {
                Ok(picked) => picked,
                Err(failure) => return refused(record, &failure),
            };
            let this = body.take().or_else(|| Some(RelayBody::new([again.clone()?], None)));
            let Some(this) = this else {
                return fail(record, &Failure::new(502, "the model server's connection broke"));
            };
            let error = match upstream.relay(&epoch, Request::from_parts(parts.clone(), this)).await {
                Ok((response, hang_up)) => {
                    let (mut parts, body) = response.into_parts();
                    to_client(&mut parts);
                    record.head(parts.status, &parts.headers);
                    let body = Relayed::recorded(body, guard, hang_up, record);
                    return Response::from_parts(parts, FrontBody::Stream(Box::new(body)));
                }
                Err(error) => error,
            };
            tracing::info!(upstream = upstream.name(), %error, "Failed to get a response to a stream from a model server.");
            let may_retry = again.is_some()
                && match error {
                    RelayError::Connect(ConnectError::NoHttp)
                    | RelayError::Interim(_)
                    | RelayError::Head(_) => false,
                    RelayError::Connect(_) => since.elapsed() < self.models.hold(),
                    // The request may have been executed, and a step of a sequence must not be executed twice.
                    RelayError::Broken(_) if again.as_deref().is_some_and(names_a_sequence) => false,
                    RelayError::Broken(_) => {
                        broken += 1;
                        broken <= self.settings.now().servers.retries
                    }
                };
            if !may_retry {
                return fail(record, &not_passed(&error));
            }
            drop(guard);
            // A model server that closed the connection because it stops is noticed as gone meanwhile.
            tokio::time::sleep(Duration::from_millis(self.settings.now().servers.probe_ms.min(100))).await;
        }
    }
}

fn refused(mut record: Record, failure: &Failure) -> Response<FrontBody> {
    if let Some(reason) = failure.refusal {
        record.refused(reason);
    }
    fail(record, failure)
}

fn fail(record: Record, failure: &Failure) -> Response<FrontBody> {
    record.fails(failure.status);
    failed(WireFormat::Json, failure)
}
