//! Whether a model exists that only a client has named: nothing is made for it (no queue, no slots, no series) before a
//! model server has said that it has it.
//!
//! A request to such a model waits for the answer; all that ask for the same model wait for the same one. Few names are
//! asked for at a time, over connections of their own, and no more than a part of the time: the models that are known
//! are not delayed. A model is denied once all model servers have denied it: where one is not ready, it may have the
//! model, and is waited for. What was denied is remembered for a short while (`denials`).

mod denials;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use sluice_config::metric_names::batcher as names;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;
use crate::failure::{Failure, missing_elsewhere};
use crate::metrics::RejectReason;
use crate::retry_after::RetryAfter;
use crate::settings::Live;
pub use crate::upstream::asking::Denial;
use crate::upstream::asking::{Has, VersionReadiness};
use crate::upstream::members::Upstreams;
use crate::upstream::{Epoch, Upstream};
use denials::Denials;

/// Most requests that wait for an answer.
const MOST_WAITING: usize = 1024;
/// Models that are asked for at a time.
const TURNS: usize = 2;
/// After a question its turn rests for so many times as long as the question took: what does not exist takes no more
/// than a small part of a model server's time.
const RESTS: u32 = 9;
/// Longest time for which a turn rests after a question.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// Pause where a model server has not answered.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a denial is believed while model servers that are not ready are waited for: a model may be loaded at any time.
const BELIEVED: Duration = Duration::from_secs(30);
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

/// A model server that is asked.
type Asked = (Arc<Upstream>, Arc<Epoch>);

/// What those that are ready say.
enum Answers {
    Has,
    /// None of them says that it has it; this one says least against it.
    HasNot(Box<Denial>, Asked),
    /// Not all have answered.
    Unknown,
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

impl Shared {
    /// Until there is an answer, or nobody waits for it any more.
    async fn inquire(&self, model: Arc<str>, tell: watch::Sender<Heard>) {
        let mut answer = pin!(self.find_out(&model, &tell));
        loop {
            tokio::select! {
                verdict = &mut answer => {
                    let mut state = self.lock();
                    state.open.remove(&model);
                    drop(state);
                    tell.send_replace(Heard::All(verdict));
                    return;
                }
                () = tell.closed() => {
                    let mut state = self.lock();
                    // Somebody may have come in the meantime.
                    if tell.receiver_count() == 0 {
                        state.open.remove(&model);
                        return;
                    }
                }
            }
        }
    }

    async fn find_out(&self, model: &Arc<str>, tell: &watch::Sender<Heard>) -> ModelPresence {
        let mut changed = self.upstreams.subscribe();
        loop {
            changed.borrow_and_update();
            let open = self.upstreams.open();
            if open.is_empty() {
                tell.send_replace(Heard::Nothing);
                if changed.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
                return std::future::pending().await;
            };
            let started = Instant::now();
            // Before they are asked: whoever comes or goes meanwhile is a change.
            let servers = self.servers(&open);
            let mut answers = self.ask_all(&open, model).await;
            let others = self.upstreams.members().saturating_sub(open.len());
            // One that is not ready may have it; where one that is ready may have it too, that one will do.
            let is_final = |denial: &Denial| others == 0 || denial.says_nothing();
            if let Answers::HasNot(denial, denier) = &mut answers
                && is_final(denial)
            {
                self.add_own_words(denial, denier, model).await;
            }
            rest(turn, started.elapsed());
            match answers {
                Answers::Has => return ModelPresence::Has,
                Answers::HasNot(denial, _) if is_final(&denial) => {
                    let (denial, now_us) = (Arc::from(denial), self.clock.now_us());
                    self.lock().denials.insert(model, Arc::clone(&denial), servers, now_us);
                    return ModelPresence::HasNot(denial);
                }
                Answers::HasNot(..) => {
                    tell.send_replace(Heard::Missing(others));
                    let _ = timeout(BELIEVED, self.until_others(servers, &mut changed)).await;
                }
                Answers::Unknown => {
                    tell.send_replace(Heard::Nothing);
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        _ = changed.changed() => {}
                    }
                }
            }
        }
    }

    /// Waits until the model servers that are ready, or their number, are not these any more: what these have said
    /// stands, however often another one fails to become ready.
    async fn until_others(&self, servers: u64, changed: &mut watch::Receiver<()>) {
        while self.servers(&self.upstreams.open()) == servers {
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Adds what a model server says to a client of its own, without a client's body.
    async fn add_own_words(&self, denial: &mut Denial, (upstream, epoch): &Asked, model: &str) {
        if !denial.is_certain {
            return;
        }
        let settings = self.settings.now();
        match upstream.words_of_denial(epoch, model, settings.servers.upstream_headers.map()).await {
            Ok(Some(words)) => denial.answer = Some(words),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(model, %error, "A model server was not heard on a model that it does not have.");
            }
        }
    }

    /// One that has it is enough; that nobody has it is known once all have answered.
    async fn ask_all(&self, open: &[Asked], model: &Arc<str>) -> Answers {
        let mut questions = JoinSet::new();
        for (upstream, epoch) in open {
            let (upstream, epoch, model) = (Arc::clone(upstream), Arc::clone(epoch), Arc::clone(model));
            let settings = self.settings.now();
            questions.spawn(async move {
                let has = upstream.has_model(&epoch, &model, settings.servers.upstream_headers.map()).await;
                (has, (upstream, epoch))
            });
        }
        let (mut denied, mut is_open) = (None::<(Box<Denial>, Asked)>, false);
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok((Ok(Has::Yes), _)) => return Answers::Has,
                Ok((Ok(Has::No(denial)), asked)) => {
                    if denied.as_ref().is_none_or(|(known, _)| denial.doubt() > known.doubt()) {
                        denied = Some((denial, asked));
                    }
                }
                Ok((Err(error), _)) => {
                    tracing::debug!(%model, %error, "A model server has not said whether it has a model.");
                    is_open = true;
                }
                Err(_) => is_open = true,
            }
        }
        match denied {
            Some((denial, denier)) if !is_open => Answers::HasNot(denial, denier),
            _ => Answers::Unknown,
        }
    }

    /// Tells these loaded model servers, of so many as there are, from others.
    fn servers(&self, open: &[Asked]) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.upstreams.members().hash(&mut hasher);
        for (upstream, epoch) in open {
            (upstream.name(), epoch.number).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a turn for a while after a question that took so long.
fn rest(turn: OwnedSemaphorePermit, took: Duration) {
    tokio::spawn(async move {
        sleep((took * RESTS).min(LONGEST_REST)).await;
        drop(turn);
    });
}
