//! Whether a model exists that only a client has named: nothing is made for it (no queue, no slots, no series) before a
//! model server has said that it has it.
//!
//! A request to such a model waits for the answer; all that ask for the same model wait for the same one. Few names are
//! asked for at a time, over connections of their own, and no more than a part of the time: the models that are known
//! are not delayed. A model is denied once all model servers have denied it: where one is not ready, it may have the
//! model, and is waited for. What was denied is remembered for a short while (`denials`).

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

/// Most requests that wait for an answer.
const MOST_WAITING: usize = 1024;
/// Models that are asked for at a time.
const TURNS: usize = 2;
/// How long a question for a version may wait for its turn, and for its answer.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);

/// What the model servers say of a model.
#[derive(Debug, Clone)]
pub enum ModelPresence {
    /// One of them has it.
    Has,
    /// None of them says that it has it.
    HasNot(Arc<Denial>),
}

/// How long a request waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// At most so long.
    pub most: Duration,
    /// Whether it waits for model servers that are not ready, where those that are ready deny the model.
    pub awaits_all: bool,
}

/// What has been heard of a model so far.
#[derive(Debug, Clone, Default)]
enum Heard {
    #[default]
    Nothing,
    /// All that are ready deny it, and so many others are not ready.
    Missing(usize),
    All(ModelPresence),
}

/// The questions that are open.
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
    /// None is open.
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

    /// Requests that wait for an answer now.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Asks the model servers whether they have a model.
    ///
    /// # Errors
    /// A refusal: nobody has said, some that may have it are not ready, or too many wait already.
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
            return Err(Failure::new(400, format!("{model:?} is no name of a model")));
        }
        let servers = self.0.servers(&self.0.upstreams.open());
        let (mut told, _waits) = {
            let mut state = self.0.lock();
            if let Some(denial) = state.denials.get(model, servers, self.0.clock.now_us()) {
                return Ok(ModelPresence::HasNot(denial));
            }
            if self.0.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
                let message = "too many requests wait to hear whether there is a model of their name";
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

    /// Asks whether a version of a model is ready. The question has a turn of its own: names that are invented do not
    /// delay it.
    ///
    /// # Errors
    /// A refusal: nobody has said, or too many wait already.
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
                    tracing::debug!(model, version, %error, "A model server has not said whether a version is ready.");
                }
                Err(_) => {}
            }
        }
        last.ok_or_else(busy)
    }

    /// The open question about a model; begun by the first who asks.
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

    /// Some that may have it are not ready.
    fn missing(&self, others: usize) -> Failure {
        let message = missing_elsewhere(others, self.0.settings.now().holding.hold_ms);
        Failure::refused(503, RejectReason::HoldExpired, message, RetryAfter::UNPREDICTED)
    }

    fn unanswered(&self, model: &str, patience: Duration) -> Failure {
        let patience_ms = patience.as_millis();
        let message = if self.0.upstreams.any_ready() {
            format!("no model server has said within {patience_ms} ms whether it has a model {model:?}")
        } else {
            format!("no model server became ready within {patience_ms} ms")
        };
        Failure::refused(503, RejectReason::HoldExpired, message, RetryAfter::UNPREDICTED)
    }
}
