//! Models that requests name: finds their queues, and model servers that have them. A model that no model server has
//! confirmed yet is asked about first.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use sluice_protocol::WireFormat;

use super::body::FrontBody;
use super::transport::{failed, respond};
use crate::clock::Clock;
use crate::confirm::{Denial, Inquiries, ModelPresence, Patience};
use crate::failure::{Failure, missing_elsewhere};
use crate::labels::MAX_NAME_BYTES;
use crate::metrics::RejectReason;
use crate::observe::request_trace::RequestTrace;
use crate::queue::{ModelHandle, Reply};
use crate::registry::{Registry, TooMany};
use crate::retry_after::RetryAfter;
use crate::settings::{Live, WhileCold};
use crate::upstream::choice::{Named, NotPicked, Picked};
use crate::upstream::members::Upstreams;

/// Maximum time for a model server to say whether it has a model, where requests are not held.
const QUESTION_PATIENCE: Duration = Duration::from_secs(5);

/// Finder of the models that requests name.
#[derive(Debug)]
pub struct Models {
    settings: Live,
    clock: Clock,
    registry: Arc<Registry>,
    upstreams: Arc<Upstreams>,
    /// The open questions to model servers whether they have a model.
    pub inquiries: Inquiries,
}

/// Outcome for a request that is not queued.
#[derive(Debug)]
pub(super) enum NoQueue {
    /// It is answered with this response.
    Answered(Box<Response<FrontBody>>),
    /// It is passed on, because there are too many models or it is uncertain which exist. With what the model server said
    /// of the model, if it was asked.
    Passes(Option<Arc<Denial>>),
}

/// What the batcher knows of a model.
#[derive(Debug)]
pub(super) enum Known {
    /// It has a queue.
    Queue(Arc<ModelHandle>),
    /// A model server has it, but the batcher already serves `maxModels` models.
    TooMany,
    /// No model server has confirmed it.
    Denied(Arc<Denial>),
}

impl Models {
    /// Creates a finder for the models of these model servers.
    pub fn new(registry: Arc<Registry>, upstreams: Arc<Upstreams>, settings: Live, clock: Clock) -> Self {
        let inquiries = Inquiries::new(Arc::clone(&upstreams), settings.clone(), clock);
        Self { settings, clock, registry, upstreams, inquiries }
    }

    /// Returns the queue of a model, once a model server has said whether the model exists.
    pub(super) async fn queue_of(
        &self,
        model: &str,
        format: WireFormat,
    ) -> Result<Arc<ModelHandle>, NoQueue> {
        match self.known(model, self.patience()).await {
            Ok(Known::Queue(handle)) => Ok(handle),
            Ok(Known::TooMany) => Err(NoQueue::Passes(None)),
            Ok(Known::Denied(denial)) if !denial.is_certain => Err(NoQueue::Passes(Some(denial))),
            Ok(Known::Denied(denial)) => Err(NoQueue::Answered(Box::new(denied(&denial, format)))),
            Err(failure) => {
                if let Some(trail) = RequestTrace::current() {
                    trail.failed(&failure);
                }
                Err(NoQueue::Answered(Box::new(failed(format, &failure))))
            }
        }
    }

    /// Returns what is known of a model, once a model server has said whether it exists.
    ///
    /// # Errors
    /// Fails where the name is too long, no model server has answered, or some that may have the model are not ready.
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

    /// Returns the queue of a model for a message that was read already and therefore cannot be passed on. Where the model
    /// server does not say which models it has, the client's word counts.
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

    /// Picks a model server that has the model; any model server where `named` is `None`.
    pub(super) async fn pick_for(&self, named: Option<&Named>) -> Result<Picked, Failure> {
        let (hold, settings) = (self.hold(), self.settings.now());
        self.upstreams.pick_for(named, hold, &settings, self.clock).await.map_err(|why| match why {
            NotPicked::Nobody => self.no_server(),
            NotPicked::Elsewhere(others) => {
                let message = missing_elsewhere(others, hold.as_millis() as u64);
                Failure { retry_after: Some(RetryAfter::UNPREDICTED), ..Failure::new(503, message) }
            }
        })
    }

    /// Returns how long a request may wait for a model server; 0 where requests are not held.
    pub(super) fn hold(&self) -> Duration {
        let settings = self.settings.now();
        match settings.holding.while_cold {
            WhileCold::Hold => Duration::from_millis(settings.holding.hold_ms),
            WhileCold::Reject => Duration::ZERO,
        }
    }

    /// Returns how long a request may wait to learn whether its model exists. Where requests are not held, this is the time
    /// that a ready model server gets to answer.
    pub(super) fn patience(&self) -> Patience {
        let settings = self.settings.now();
        let hold = Duration::from_millis(settings.holding.hold_ms);
        match settings.holding.while_cold {
            WhileCold::Hold => Patience { most: hold, awaits_all: true },
            WhileCold::Reject => Patience { most: hold.min(QUESTION_PATIENCE), awaits_all: false },
        }
    }

    /// Returns the failure of a request for which no model server became ready in time.
    fn no_server(&self) -> Failure {
        let message = format!("no model server became ready within {} ms", self.hold().as_millis());
        Failure { retry_after: Some(RetryAfter::UNPREDICTED), ..Failure::new(503, message) }
    }
}

/// Returns the response for a model that no model server has: the model server's own, where it can be passed on.
pub(super) fn denied(denial: &Denial, format: WireFormat) -> Response<FrontBody> {
    match denial.answer(format) {
        Some(own) => respond(format, Reply::Forwarded(own)).0,
        None => failed(format, &Failure::new(404, "no model server has this model")),
    }
}
