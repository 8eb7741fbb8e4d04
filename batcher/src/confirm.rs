//! Finds out whether a model exists that only a client has named. Such a model gets no queue, no slots and no series
//! before a model server has confirmed that it has the model.
//!
//! A request for such a model waits for the answer; all requests for the same model share one inquiry. Only a few
//! models are asked for at a time, over separate connections and with rests between, so that known models are not
//! delayed. A model is denied once all model servers have denied it; one that is not ready may have the model, so it is
//! waited for. Denials are remembered for a short while (`denials`).

mod denials;
mod inquiry;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::counter;
use sluice_config::metric_names::batcher as names;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::failure::{Failure, missing_elsewhere};
use crate::metrics::RejectReason;
use crate::retry_after::RetryAfter;
use crate::settings::Live;
pub use crate::upstream::asking::Denial;
use crate::upstream::asking::VersionReadiness;
use crate::upstream::members::Upstreams;
use denials::Denials;

/// Maximum number of requests that wait for an answer.
const MOST_WAITING: usize = 1024;
/// Number of models that are asked for at a time.
const TURNS: usize = 2;
/// Longest time that a question about a version may wait for its turn, and then for each answer.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);

/// What the model servers say of a model.
#[derive(Debug, Clone)]
pub enum ModelPresence {
    /// One of them has it.
    Has,
    /// None of them has it, as far as they say.
    HasNot(Arc<Denial>),
}

/// Limits on how long a request waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Longest wait.
    pub most: Duration,
    /// Whether it waits for model servers that are not ready, where those that are ready deny the model.
    pub awaits_all: bool,
}

/// State of the inquiry about one model.
#[derive(Debug, Clone, Default)]
enum Heard {
    #[default]
    Nothing,
    /// All model servers that are ready deny the model; holds the number of those that are not ready.
    Missing(usize),
    All(ModelPresence),
}

/// The open inquiries about models.
#[derive(Debug)]
pub struct Inquiries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    turns: Arc<Semaphore>,
    version_turns: Semaphore,
    waiting: AtomicUsize,
    upstreams: Arc<Upstreams>,
    settings: Live,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<Arc<str>, watch::Sender<Heard>>,
    denials: Denials,
}

/// A request that waits for an answer.
struct Waits<'a>(&'a Shared);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inquiries {
    /// Creates the set of open inquiries, empty.
    pub fn new(upstreams: Arc<Upstreams>, settings: Live, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            version_turns: Semaphore::new(TURNS),
            waiting: AtomicUsize::new(0),
            upstreams,
            settings,
            clock,
        }))
    }

    /// Returns the number of requests that wait for an answer now.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Asks the model servers whether they have a model.
    ///
    /// # Errors
    /// Returns a rejection if no model server has answered in time, if some that may have the model are not ready, or
    /// if too many requests wait already.
    pub async fn ask(&self, model: &str, patience: Patience) -> Result<ModelPresence, Failure> {
        let verdict = self.asked(model, patience).await;
        let outcome = match &verdict {
            Ok(ModelPresence::Has) => "confirmed",
            Ok(ModelPresence::HasNot(_)) => "denied",
            Err(_) => "refused",
        };
        counter!(names::UNCONFIRMED_REQUESTS_TOTAL, "outcome" => outcome).increment(1);
        verdict
    }

    async fn asked(&self, model: &str, patience: Patience) -> Result<ModelPresence, Failure> {
        if ["", ".", ".."].contains(&model) {
            return Err(Failure::new(400, format!("{model:?} is not a valid model name")));
        }
        let servers = self.0.servers(&self.0.upstreams.open());
        let (mut told, _waits) = {
            let mut state = self.0.lock();
            if let Some(denial) = state.denials.get(model, servers, self.0.clock.now_us()) {
                return Ok(ModelPresence::HasNot(denial));
            }
            if self.0.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
                let message = "too many requests wait for a model server to confirm their model";
                return Err(Failure::refused(429, RejectReason::QueueFull, message, RetryAfter::UNPREDICTED));
            }
            self.0.waiting.fetch_add(1, Ordering::Relaxed);
            (self.open(&mut state, model), Waits(&self.0))
        };
        let is_enough = |heard: &Heard| match heard {
            Heard::Nothing => false,
            Heard::Missing(_) => !patience.awaits_all,
            Heard::All(_) => true,
        };
        // Its end says nothing: what counts is what has been heard by then.
        let _ = timeout(patience.most, told.wait_for(is_enough)).await;
        let heard = told.borrow().clone();
        match heard {
            Heard::All(verdict) => Ok(verdict),
            Heard::Missing(others) => Err(self.missing(others)),
            Heard::Nothing => Err(self.unanswered(model, patience.most)),
        }
    }

    /// Asks whether a version of a model is ready. Such questions have separate turns, so that inquiries about invented
    /// names do not delay them.
    ///
    /// # Errors
    /// Returns a rejection if no model server has answered in time, or no turn was free in time.
    pub async fn ask_for_version(&self, model: &str, version: &str) -> Result<VersionReadiness, Failure> {
        let busy = || {
            let message = format!("no model server says whether version {version:?} of {model:?} is ready");
            Failure::refused(503, RejectReason::HoldExpired, message, RetryAfter::UNPREDICTED)
        };
        let Ok(Ok(_turn)) = timeout(VERSION_PATIENCE, self.0.version_turns.acquire()).await else {
            return Err(busy());
        };
        let settings = self.0.settings.now();
        let mut last = None;
        for (upstream, epoch) in self.0.upstreams.open() {
            let asked =
                upstream.version_readiness(&epoch, model, version, settings.servers.upstream_headers.map());
            match timeout(VERSION_PATIENCE, asked).await {
                Ok(Ok(said)) if said.is_ready => return Ok(said),
                Ok(Ok(said)) => last = Some(said),
                Ok(Err(error)) => {
                    tracing::debug!(model, version, %error, "Failed to ask a model server whether a version of a model is ready.");
                }
                Err(_) => {}
            }
        }
        last.ok_or_else(busy)
    }

    /// Subscribes to the inquiry about a model; starts one if none runs yet.
    fn open(&self, state: &mut State, model: &str) -> watch::Receiver<Heard> {
        if let Some(open) = state.open.get(model) {
            return open.subscribe();
        }
        let (tell, told) = watch::channel(Heard::Nothing);
        let model: Arc<str> = Arc::from(model);
        state.open.insert(Arc::clone(&model), tell.clone());
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move { shared.inquire(model, tell).await });
        told
    }

    /// Creates the rejection for a model that servers which are not ready may have.
    fn missing(&self, others: usize) -> Failure {
        let message = missing_elsewhere(others, self.0.settings.now().holding.hold_ms);
        Failure::refused(503, RejectReason::HoldExpired, message, RetryAfter::UNPREDICTED)
    }

    fn unanswered(&self, model: &str, patience: Duration) -> Failure {
        let patience_ms = patience.as_millis();
        let message = if self.0.upstreams.any_ready() {
            format!("no model server has answered within {patience_ms} ms whether it has the model {model:?}")
        } else {
            format!("no model server became ready within {patience_ms} ms")
        };
        Failure::refused(503, RejectReason::HoldExpired, message, RetryAfter::UNPREDICTED)
    }
}
