//! One request while it is in the batcher's hands, and what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use sluice_batch_policy::{Flow, Size};
use sluice_protocol::{Answer, Form, InferRequest};
use tokio::sync::oneshot;

use super::bytes::QueuedBytes;
use super::scope::Scope;
use super::sequence::InSequence;
use super::tenants::Tenant;
use crate::metrics::Refusal;
use crate::observe::trail::Trail;
use crate::upstream::connection;

/// A request that waits or runs. Dropping it without a reply tells the client's task, which answers with an
/// error: there is always exactly one answer.
#[derive(Debug)]
pub struct Entry {
    /// What is asked.
    pub work: Work,
    /// How the client asked.
    pub form: Form,
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
    /// How often it was in flight when a connection broke.
    pub broken: u32,
    /// It must go alone: an answer to its batch could not be shared out by rows.
    pub alone: bool,
    /// Set: it is a step of a sequence, which is never sent twice.
    pub sequence: Option<Box<InSequence>>,
    /// Where it is noted what happens to it, if anybody wants to know.
    pub trail: Option<Arc<Trail>>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
    /// Its share of the memory for waiting requests.
    pub bytes: QueuedBytes,
}

/// What is asked.
#[derive(Debug)]
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

    /// The request, where it was understood.
    pub fn parsed(&self) -> Option<&InferRequest> {
        match &self.work {
            Work::Parsed(request) => Some(request),
            Work::Raw(_) => None,
        }
    }

    /// Whether it came as V1 and was read as V2 tensors: a server that has V2 alone can serve it.
    pub fn is_joined_v1(&self) -> bool {
        self.form == Form::V1 && self.parsed().is_some_and(|request| request.v1.is_none())
    }

    /// The body as the client sent it.
    pub fn body(&self) -> Bytes {
        match &self.work {
            Work::Parsed(request) => request.body.clone(),
            Work::Raw(body) => body.clone(),
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    /// Answers. A client that has gone meanwhile gets nothing.
    pub fn answer(self, reply: Reply) {
        let _ = self.reply.send(reply);
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    /// Its rows of a batch's answer, in the client's form.
    Rows(Answer),
    /// The model server's answer to it alone, as it came.
    Forwarded(connection::Answer),
    /// No answer of the model server.
    Failed(Failure),
}

/// An answer of the batcher's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; gRPC clients get the corresponding code.
    pub status: u16,
    /// What happened, for the client.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u64>,
    /// Set where the request was refused for overload.
    pub refusal: Option<Refusal>,
}

impl Failure {
    /// An error that is not a refusal.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_ms: None, refusal: None }
    }

    /// A refusal, with the time after which to try again.
    pub fn refused(status: u16, reason: Refusal, message: impl Into<String>, retry_after_ms: u64) -> Self {
        Self { status, message: message.into(), retry_after_ms: Some(retry_after_ms), refusal: Some(reason) }
    }
}

/// Words for a request whose model the servers that are ready lack, while so many others were not ready.
pub fn missing_elsewhere(others: usize, hold_ms: u64) -> String {
    format!(
        "no model server that is ready has the model; not ready for it within {hold_ms} ms (holdMs): {others} others; /upstreams says why"
    )
}
