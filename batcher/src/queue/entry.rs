//! One request while it is in the batcher's hands, and what becomes of it.

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

/// A request that waits or runs. Dropping it without a reply tells the client's task, which answers with an
/// error: there is always exactly one answer.
#[derive(Debug)]
pub struct Entry {
    /// What is asked.
    pub work: Work,
    /// How the client asked.
    pub form: WireFormat,
    /// What it adds to a batch; one row where the rows are not known.
    pub size: Size,
    /// Its class and its tenant's number.
    pub flow: Flow,
    /// Its tenant, known for as long as this is here.
    pub tenant: Option<Arc<Tenant>>,
    /// It is counted by class and tenant.
    pub is_ranked: bool,
    /// The client's HTTP head, for forwarding it alone and untouched.
    pub origin: Option<Parts>,
    /// Headers that all of its batch must have.
    pub scope: Option<Scope>,
    /// When its last byte came (microseconds of the process's clock).
    pub arrived_us: u64,
    /// When its answer is due.
    pub deadline_us: u64,
    /// The metadata by which it was read.
    pub signature: Option<Arc<ModelSignature>>,
    /// Whose it is, where that can be told.
    pub caller: Option<Caller>,
    /// What is held against it.
    pub suspicion: Suspicion,
    /// It must go alone: an answer to its batch could not be shared out by rows.
    pub alone: bool,
    /// Set: it is a step of a sequence, which is never sent twice.
    pub sequence: Option<Box<InSequence>>,
    /// Where it is noted what happens to it, if anybody wants to know.
    pub trail: Option<Arc<RequestTrace>>,
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// Its share of the memory for waiting requests.
    pub bytes: QueuedBytes,
}

/// What is held against a request.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// Connections that broke with it alone in its call.
    pub breaks: Breaks,
    /// Since when it is suspected; [`u64::MAX`]: it is not.
    pub since_us: u64,
    /// Gives up the earlier call of which this is a copy and which still runs.
    pub elder: Option<CancellationToken>,
}

impl Suspicion {
    /// Whether it is suspected: then it shares no call with requests that are not.
    pub fn is_raised(&self) -> bool {
        self.since_us < u64::MAX
    }

    /// It is suspected from now on, or was before.
    pub fn raise(&mut self, now_us: u64) {
        self.since_us = self.since_us.min(now_us);
    }
}

impl Default for Suspicion {
    fn default() -> Self {
        Self { breaks: Breaks::default(), since_us: u64::MAX, elder: None }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // An entry is boxed as a whole.
pub enum Work {
    /// A request that was understood.
    Parsed(InferRequest),
    /// A body that was not: it goes alone, so that the model server's own error text reaches the client.
    Raw(Bytes),
}

impl Entry {
    /// The request, where it may share a batch.
    pub fn mergeable(&self) -> Option<&InferRequest> {
        match &self.work {
            Work::Parsed(request) if request.alone.is_none() && !self.alone => Some(request),
            _ => None,
        }
    }

    /// Whether it may share a batch with another one that is the first of it.
    pub fn may_go_with(&self, other: &Self) -> bool {
        matches!((self.mergeable(), other.mergeable()), (Some(one), Some(other)) if one.key == other.key)
    }

    /// Whether it rests on the model's metadata and was read by others than these.
    pub fn is_read_by_other_than(&self, signature: Option<&Arc<ModelSignature>>) -> bool {
        self.parsed().is_some_and(InferRequest::rests_on_metadata) && self.signature.as_ref() != signature
    }

    /// Reads it by these metadata.
    pub fn read_by(&mut self, signature: Option<Arc<ModelSignature>>) {
        if let Work::Parsed(request) = &mut self.work {
            *request = request.clone().read_again(signature.as_deref());
        }
        self.signature = signature;
    }

    /// Whether it is, or may be, a step of a sequence, which must not run twice. A body that was not understood may be
    /// one where it has the word.
    pub fn is_stateful(&self) -> bool {
        self.sequence.is_some()
            || match &self.work {
                Work::Parsed(request) => request.is_stateful(),
                Work::Raw(body) => names_a_sequence(body),
            }
    }

    /// Until when it is kept where it could not be answered in time and that is not its own fault.
    pub fn held_until_us(&self, hold_us: u64) -> u64 {
        self.deadline_us.max(self.arrived_us.saturating_add(hold_us))
    }

    /// A second copy of it, with the same way back to the client; only one, where there is no memory for two.
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

    /// Whether another copy of it may answer too.
    pub fn has_copies(&self) -> bool {
        self.reply.is_shared()
    }

    /// The request, where it was understood.
    pub fn parsed(&self) -> Option<&InferRequest> {
        match &self.work {
            Work::Parsed(request) => Some(request),
            Work::Raw(_) => None,
        }
    }

    /// Whether it came as V1 and was read as V2 tensors: a server that has V2 alone can serve it.
    pub fn is_joined_v1(&self) -> bool {
        self.form.protocol().api() == Api::V1 && self.parsed().is_some_and(|request| request.v1.is_none())
    }

    /// The body as the client sent it.
    pub fn body(&self) -> Bytes {
        match &self.work {
            Work::Parsed(request) => request.body.clone(),
            Work::Raw(body) => body.clone(),
        }
    }

    /// What is asked, for its trail.
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

    /// Whether nobody waits for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    /// Answers. A client that has gone meanwhile gets nothing.
    pub fn answer(self, reply: Reply) {
        self.reply.send(reply);
    }

    /// Answers with what is no success, unless another copy of it can still be answered.
    pub fn give_up(self, reply: impl Into<Reply>) {
        self.reply.send_if_last(reply.into());
    }
}

/// Whether a body that is not read any further may be a step of a sequence: it has the word.
pub fn names_a_sequence(body: &[u8]) -> bool {
    memmem::find(body, b"sequence_id").is_some()
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    /// Its rows of a batch's answer, in the client's form.
    Rows(ResponsePart),
    /// The model server's answer to it alone, as it came.
    Forwarded(connection::UpstreamResponse),
    /// No answer of the model server.
    Failed(Failure),
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
