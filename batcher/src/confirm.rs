//! Whether a model exists that only a client has named: nothing is made for it (no queue, no slots, no series) before a
//! model server has said that it has it.
//!
//! A request to such a model waits for the answer; all that ask for the same model wait for the same one. Few names are
//! asked for at a time, over connections of their own, and no more than a part of the time: the models that are known
//! are not delayed. What was denied is remembered for a short while (`denials`).

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
use crate::metrics::Refusal;
use crate::queue::Failure;
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
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// Pause where a model server has not answered.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a question for a version may wait for its turn, and for its answer.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);
/// When it makes sense to try again after a refusal.
const RETRY_AFTER_MS: u64 = 1000;

/// What the model servers say of a model.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// One of them has it.
    Has,
    /// None of them says that it has it.
    HasNot(Arc<Denial>),
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
    open: HashMap<Arc<str>, watch::Sender<Option<Verdict>>>,
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

    /// Asks the model servers whether they have a model; waits for one at most so long.
    ///
    /// # Errors
    /// A refusal: nobody has said, or too many wait already.
    pub async fn ask(&self, model: &str, patience: Duration) -> Result<Verdict, Failure> {
        let verdict = self.asked(model, patience).await;
        let outcome = match &verdict {
            Ok(Verdict::Has) => "confirmed",
            Ok(Verdict::HasNot(_)) => "denied",
            Err(_) => "refused",
        };
        counter!(names::UNCONFIRMED_REQUESTS_TOTAL, "outcome" => outcome).increment(1);
        verdict
    }

    async fn asked(&self, model: &str, patience: Duration) -> Result<Verdict, Failure> {
        if ["", ".", ".."].contains(&model) {
            return Err(Failure::new(400, format!("{model:?} is no name of a model")));
        }
        let servers = servers(&self.0.upstreams.open());
        let (mut told, _waits) = {
            let mut state = self.0.lock();
            if let Some(denial) = state.denials.get(model, servers, self.0.clock.now_us()) {
                return Ok(Verdict::HasNot(denial));
            }
            if self.0.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
                let message = "too many requests wait to hear whether there is a model of their name";
                return Err(Failure::refused(429, Refusal::QueueFull, message, RETRY_AFTER_MS));
            }
            self.0.waiting.fetch_add(1, Ordering::Relaxed);
            (self.open(&mut state, model), Waits(&self.0))
        };
        match timeout(patience, told.wait_for(Option::is_some)).await {
            Ok(Ok(verdict)) => verdict.clone().ok_or_else(|| self.unanswered(model, patience)),
            _ => Err(self.unanswered(model, patience)),
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
            Failure::refused(503, Refusal::HoldExpired, message, RETRY_AFTER_MS)
        };
        let Ok(Ok(_turn)) = timeout(VERSION_PATIENCE, self.0.version_turns.acquire()).await else {
            return Err(busy());
        };
        let settings = self.0.settings.now();
        let mut last = None;
        for (upstream, epoch) in self.0.upstreams.open() {
            let asked = upstream.version_readiness(&epoch, model, version, settings.upstream_headers.map());
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
    fn open(&self, state: &mut State, model: &str) -> watch::Receiver<Option<Verdict>> {
        if let Some(open) = state.open.get(model) {
            return open.subscribe();
        }
        let (tell, told) = watch::channel(None);
        let model: Arc<str> = Arc::from(model);
        state.open.insert(Arc::clone(&model), tell.clone());
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move { shared.inquire(model, tell).await });
        told
    }

    fn unanswered(&self, model: &str, patience: Duration) -> Failure {
        let patience_ms = patience.as_millis();
        let message = if self.0.upstreams.any_ready() {
            format!("no model server has said within {patience_ms} ms whether it has a model {model:?}")
        } else {
            format!("no model server became ready within {patience_ms} ms")
        };
        Failure::refused(503, Refusal::HoldExpired, message, RETRY_AFTER_MS)
    }
}

impl Shared {
    /// Until there is an answer, or nobody waits for it any more.
    async fn inquire(&self, model: Arc<str>, tell: watch::Sender<Option<Verdict>>) {
        let mut answer = pin!(self.find_out(&model));
        loop {
            tokio::select! {
                verdict = &mut answer => {
                    let mut state = self.lock();
                    state.open.remove(&model);
                    drop(state);
                    tell.send_replace(Some(verdict));
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

    async fn find_out(&self, model: &Arc<str>) -> Verdict {
        let mut changed = self.upstreams.subscribe();
        loop {
            changed.borrow_and_update();
            let open = self.upstreams.open();
            if open.is_empty() {
                if changed.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
                return std::future::pending().await;
            };
            let started = Instant::now();
            let answers = self.ask_all(&open, model).await;
            rest(turn, started.elapsed());
            match answers {
                // One that is not ready yet may have it.
                Some(Verdict::HasNot(_)) if open.len() < self.upstreams.members() => {
                    if changed.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Some(Verdict::HasNot(denial)) => {
                    let (servers, now_us) = (servers(&open), self.clock.now_us());
                    self.lock().denials.insert(model, Arc::clone(&denial), servers, now_us);
                    return Verdict::HasNot(denial);
                }
                Some(verdict) => return verdict,
                None => {
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        _ = changed.changed() => {}
                    }
                }
            }
        }
    }

    /// One that has it is enough; that nobody has it is known once all have answered.
    async fn ask_all(&self, open: &[(Arc<Upstream>, Arc<Epoch>)], model: &Arc<str>) -> Option<Verdict> {
        let mut questions = JoinSet::new();
        for (upstream, epoch) in open {
            let (upstream, epoch, model) = (Arc::clone(upstream), Arc::clone(epoch), Arc::clone(model));
            let settings = self.settings.now();
            questions.spawn(async move {
                upstream.has_model(&epoch, &model, settings.upstream_headers.map()).await
            });
        }
        let (mut denied, mut is_open) = (None::<Denial>, false);
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok(Ok(Has::Yes)) => return Some(Verdict::Has),
                Ok(Ok(Has::No(denial))) if denied.as_ref().is_none_or(|denied| denied.is_certain) => {
                    denied = Some(*denial);
                }
                Ok(Ok(Has::No(_))) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%model, %error, "A model server has not said whether it has a model.");
                    is_open = true;
                }
                Err(_) => is_open = true,
            }
        }
        denied.filter(|_| !is_open).map(|denial| Verdict::HasNot(Arc::new(denial)))
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

/// Tells these loaded model servers from others.
fn servers(open: &[(Arc<Upstream>, Arc<Epoch>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (upstream, epoch) in open {
        (upstream.name(), epoch.number).hash(&mut hasher);
    }
    hasher.finish()
}
