//! One request while the batcher holds it, and its reply.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use memchr::memmem;
use sluice_batch_policy::{Breaks, Flow, Size};
use sluice_protocol::{Api, InferRequest, ModelSignature, ResponsePart, WireFormat};
use tokio_util::sync::CancellationToken;

use super::bytes::QueuedBytes;
use super::caller::Caller;
use super::reply_to::ReplyTo;
use super::scope::Scope;
use super::sequence::InSequence;
use super::tenants::Tenant;
use crate::failure::Failure;
use crate::observe::request_trace::{Asked, RequestTrace};
use crate::upstream::connection;

/// Request that waits or runs. When it is dropped without a reply, the client's task answers with an error: there is
/// always exactly one answer.
#[derive(Debug)]
pub struct Entry {
    /// The request itself.
    pub work: Work,
    /// Wire format of the client's request.
    pub form: WireFormat,
    /// What the request adds to a batch; one row where its rows are not known.
    pub size: Size,
    /// Priority class of the request, and number and weight of its tenant.
    pub flow: Flow,
    /// Tenant of the request, held so that it stays known; `None` where the request names none.
    pub tenant: Option<Arc<Tenant>>,
    /// Whether the request is counted by class and tenant.
    pub is_ranked: bool,
    /// Head of the client's HTTP request, for forwarding it alone and unchanged.
    pub origin: Option<Parts>,
    /// Headers that all requests of its batch must have.
    pub scope: Option<Scope>,
    /// When the last byte of the request arrived (microseconds of the process's clock).
    pub arrived_us: u64,
    /// When the answer is due (microseconds of the process's clock).
    pub deadline_us: u64,
    /// Signature of the model by which the request was read; `None`: without one.
    pub signature: Option<Arc<ModelSignature>>,
    /// Sender of the request; `None` where it is not known.
    pub caller: Option<Caller>,
    /// Failures of calls that the request was in.
    pub suspicion: Suspicion,
    /// Whether the request must go alone, because a response to its batch could not be divided by rows.
    pub alone: bool,
    /// Set where the request is a step of a sequence, which is never sent twice.
    pub sequence: Option<Box<InSequence>>,
    /// Trace of the request; `None` where it is not traced.
    pub trail: Option<Arc<RequestTrace>>,
    /// Where the reply is sent to.
    pub reply: ReplyTo,
    /// Share of the memory budget that the request takes.
    pub bytes: QueuedBytes,
}

/// Failures of calls that a request was in.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// Connections that broke with the request alone in its call.
    pub breaks: Breaks,
    /// Since when the request is suspected (microseconds of the process's clock); [`u64::MAX`]: it is not.
    pub since_us: u64,
    /// Gives up the earlier call that this is a copy of and that still runs; `None` for no copy.
    pub elder: Option<CancellationToken>,
}

impl Suspicion {
    /// Returns whether the request is suspected: then it shares no call with requests that are not.
    pub fn is_raised(&self) -> bool {
        self.since_us < u64::MAX
    }

    /// Suspects the request from now on, unless it was suspected before.
    pub fn raise(&mut self, now_us: u64) {
        self.since_us = self.since_us.min(now_us);
    }
}

impl Default for Suspicion {
    fn default() -> Self {
        Self { breaks: Breaks::default(), since_us: u64::MAX, elder: None }
    }
}

/// The request itself, as far as it was understood.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // An entry is boxed as a whole.
pub enum Work {
    /// A request that was understood.
    Parsed(InferRequest),
    /// A body that was not understood: it goes alone, so that the model server's own error text reaches the client.
    Raw(Bytes),
}

impl Entry {
    /// Returns the request where it may share a batch.
    pub fn mergeable(&self) -> Option<&InferRequest> {
        match &self.work {
            Work::Parsed(request) if request.alone.is_none() && !self.alone => Some(request),
            _ => None,
        }
    }

    /// Returns whether the request may share a batch with `other`, the first of that batch.
    pub fn may_go_with(&self, other: &Self) -> bool {
        matches!((self.mergeable(), other.mergeable()), (Some(one), Some(other)) if one.key == other.key)
    }

    /// Returns whether the meaning of the request rests on the model's metadata and it was read by another signature.
    pub fn is_read_by_other_than(&self, signature: Option<&Arc<ModelSignature>>) -> bool {
        self.parsed().is_some_and(InferRequest::rests_on_metadata) && self.signature.as_ref() != signature
    }

    /// Reads the request again, by this signature.
    pub fn read_by(&mut self, signature: Option<Arc<ModelSignature>>) {
        if let Work::Parsed(request) = &mut self.work {
            *request = request.clone().read_again(signature.as_deref());
        }
        self.signature = signature;
    }

    /// Returns whether the request is, or may be, a step of a sequence, which must not run twice. A body that was not
    /// understood may be one where it contains `sequence_id`.
    pub fn is_stateful(&self) -> bool {
        self.sequence.is_some()
            || match &self.work {
                Work::Parsed(request) => request.is_stateful(),
                Work::Raw(body) => names_a_sequence(body),
            }
    }

    /// Returns until when the request is kept where it is not its own fault that it is late (microseconds of the process's
    /// clock).
    pub fn held_until_us(&self, hold_us: u64) -> u64 {
        self.deadline_us.max(self.arrived_us.saturating_add(hold_us))
    }

    /// Returns the request and a copy that replies to the same client; no copy where there is no memory for it.
    pub fn copied(self: Box<Self>) -> (Box<Self>, Option<Box<Self>>) {
        let Some(bytes) = self.bytes.once_more() else { return (self, None) };
        let mut entry = *self;
        let (reply, other) = entry.reply.share();
        entry.reply = reply;
        let copy = Self {
            work: entry.work.clone(),
            form: entry.form,
            size: entry.size,
            flow: entry.flow,
            tenant: entry.tenant.clone(),
            is_ranked: false,
            origin: entry.origin.clone(),
            scope: entry.scope.clone(),
            arrived_us: entry.arrived_us,
            deadline_us: entry.deadline_us,
            signature: entry.signature.clone(),
            caller: entry.caller,
            suspicion: entry.suspicion.clone(),
            alone: entry.alone,
            sequence: None,
            trail: entry.trail.clone(),
            reply: other,
            bytes,
        };
        (Box::new(entry), Some(Box::new(copy)))
    }

    /// Returns whether another copy of the request may be answered too.
    pub fn has_copies(&self) -> bool {
        self.reply.is_shared()
    }

    /// Returns the request where it was understood.
    pub fn parsed(&self) -> Option<&InferRequest> {
        match &self.work {
            Work::Parsed(request) => Some(request),
            Work::Raw(_) => None,
        }
    }

    /// Returns whether the request came as V1 and was read as V2 tensors: a server that has only V2 can serve it.
    pub fn is_joined_v1(&self) -> bool {
        self.form.protocol().api() == Api::V1 && self.parsed().is_some_and(|request| request.v1.is_none())
    }

    /// Returns the body as the client sent it.
    pub fn body(&self) -> Bytes {
        match &self.work {
            Work::Parsed(request) => request.body.clone(),
            Work::Raw(body) => body.clone(),
        }
    }

    /// Describes the request for its trace.
    pub fn asked(&self, model: &Arc<str>) -> Asked {
        let parsed = self.parsed();
        Asked {
            model: Arc::clone(model),
            form: self.form.as_str(),
            id: parsed.and_then(|request| request.id.clone()),
            rows: self.size.rows,
            bytes: self.body().len(),
            alone: match parsed {
                Some(request) => request.alone.as_ref().map(|reason| format!("{reason:?}")),
                None => Some("the body is no valid request".to_owned()),
            },
            class: self.flow.class,
            arrived_us: self.arrived_us,
            deadline_us: self.deadline_us,
        }
    }

    /// Returns whether the client no longer waits for the answer.
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    /// Sends the reply; it is dropped where the client has gone.
    pub fn answer(self, reply: Reply) {
        self.reply.send(reply);
    }

    /// Sends a reply that is no success, unless another copy of the request can still be answered.
    pub fn give_up(self, reply: impl Into<Reply>) {
        self.reply.send_if_last(reply.into());
    }
}

/// Returns whether a body that is not read any further may be a step of a sequence: it contains `sequence_id`.
pub fn names_a_sequence(body: &[u8]) -> bool {
    memmem::find(body, b"sequence_id").is_some()
}

/// Reply to a request.
#[derive(Debug)]
pub enum Reply {
    /// The request's rows of a batch's response, in the client's wire format.
    Rows(ResponsePart),
    /// The model server's response, as it came: to the request alone, or an error for its batch.
    Forwarded(connection::UpstreamResponse),
    /// An error of the batcher's own, in place of a response.
    Failed(Failure),
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
