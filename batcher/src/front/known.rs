//! The queue of the model that a request names; one that nobody has confirmed yet is asked for first.

use std::sync::Arc;

use http::Response;
use sluice_protocol::WireFormat;

use super::Front;
use super::body::FrontBody;
use super::transport::{failed, respond};
use crate::confirm::{Denial, ModelPresence, Patience};
use crate::failure::Failure;
use crate::labels::MAX_NAME_BYTES;
use crate::metrics::RejectReason;
use crate::observe::request_trace::RequestTrace;
use crate::queue::{ModelHandle, Reply};
use crate::registry::TooMany;
use crate::retry_after::RetryAfter;
use crate::settings::WhileCold;

/// Why a request goes into no queue.
#[derive(Debug)]
pub(super) enum NoQueue {
    /// The answer.
    Answered(Box<Response<FrontBody>>),
    /// It passes through: there are too many models, or nobody can tell which there are. With what the model server
    /// said of the model, if it was asked.
    Passes(Option<Arc<Denial>>),
}

/// What is known of a model.
#[derive(Debug)]
pub(super) enum Known {
    /// It has a queue.
    Queue(Arc<ModelHandle>),
    /// A model server has it, but there are too many models.
    TooMany,
    /// No model server says that it has it.
    Denied(Arc<Denial>),
}

impl Front {
    /// The queue of a model; waits until a model server has said whether there is such a model.
    pub(super) async fn queue_of(&self, model: &str, form: WireFormat) -> Result<Arc<ModelHandle>, NoQueue> {
        match self.known(model, self.patience()).await {
            Ok(Known::Queue(handle)) => Ok(handle),
            Ok(Known::TooMany) => Err(NoQueue::Passes(None)),
            Ok(Known::Denied(denial)) if !denial.is_certain => Err(NoQueue::Passes(Some(denial))),
            Ok(Known::Denied(denial)) => Err(NoQueue::Answered(Box::new(denied(&denial, form)))),
            Err(failure) => {
                if let Some(trail) = RequestTrace::current() {
                    trail.failed(&failure);
                }
                Err(NoQueue::Answered(Box::new(failed(form, &failure))))
            }
        }
    }

    /// What is known of a model, once a model server has said whether there is one.
    ///
    /// # Errors
    /// The name is too long, nobody has said, or some that may have it are not ready.
    pub(super) async fn known(&self, model: &str, patience: Patience) -> Result<Known, Failure> {
        if let Some(handle) = self.registry.get(model) {
            return Ok(Known::Queue(handle));
        }
        if model.len() > MAX_NAME_BYTES {
            let length = model.len();
            let message = format!("the model's name has {length} bytes; at most {MAX_NAME_BYTES} are taken");
            return Err(Failure::new(400, message));
        }
        if self.settings.now().holding.while_cold == WhileCold::Reject && !self.upstreams.any_ready() {
            let message = "no model server is warm here";
            return Err(Failure::refused(503, RejectReason::Cold, message, RetryAfter::WHILE_COLD));
        }
        match self.inquiries.ask(model, patience).await? {
            ModelPresence::Has => Ok(match self.registry.confirmed(model) {
                Ok(handle) => Known::Queue(handle),
                Err(TooMany) => Known::TooMany,
            }),
            ModelPresence::HasNot(denial) => Ok(Known::Denied(denial)),
        }
    }
}

impl Front {
    /// The queue of a model for a message that was read already and cannot pass through. Where the model server does
    /// not say which models it has, its clients are believed.
    pub(super) fn unpassable(
        &self,
        model: &str,
        denial: Option<Arc<Denial>>,
    ) -> Result<Arc<ModelHandle>, Box<Response<FrontBody>>> {
        let believed = match &denial {
            Some(denial) if denial.says_nothing() => self.registry.confirmed(model).ok(),
            _ => None,
        };
        believed.ok_or_else(|| {
            let message = format!("model {model:?} has no queue, and maxModels is reached");
            let too_many = || failed(WireFormat::Grpc, &Failure::new(404, message));
            Box::new(denial.map_or_else(too_many, |denial| denied(&denial, WireFormat::Grpc)))
        })
    }
}

/// The model server's own answer.
pub(super) fn denied(denial: &Denial, form: WireFormat) -> Response<FrontBody> {
    match denial.answer(form) {
        Some(own) => respond(form, Reply::Forwarded(own)).0,
        None => failed(form, &Failure::new(404, "no model server has this model")),
    }
}
