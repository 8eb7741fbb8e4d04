//! One inquiry: asks the model servers whether they have a model, until all of them have answered.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Heard, ModelPresence, Shared, State};
use crate::upstream::asking::{Denial, Has};
use crate::upstream::{Epoch, Upstream};

/// A turn rests after a question for this many times the question's duration, so that questions about models which may
/// not exist take only a small part of a model server's time.
const RESTS: u32 = 9;
/// Longest rest of a turn after a question.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// Pause before asking again when a model server has not answered.
const PAUSE: Duration = Duration::from_millis(200);
/// Time after which model servers that have denied a model are asked again while others are waited for: a model may be
/// loaded at any time.
const BELIEVED: Duration = Duration::from_secs(30);

/// A model server that is asked, and its epoch.
type Asked = (Arc<Upstream>, Arc<Epoch>);

/// What the model servers that are ready say.
enum Answers {
    Has,
    /// None of them has the model; holds the denial that says least against it, and the server that gave it.
    HasNot(Box<Denial>, Asked),
    /// Not all have answered, and none has the model so far.
    Unknown,
}

impl Shared {
    /// Runs until there is an answer, or no request waits for it any more.
    pub(super) async fn inquire(&self, model: Arc<str>, tell: watch::Sender<Heard>) {
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
                    // Another request may have subscribed in the meantime.
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
            // Taken before they are asked, so that a server which comes or goes meanwhile counts as a change.
            let servers = self.servers(&open);
            let mut answers = self.ask_all(&open, model).await;
            let others = self.upstreams.members().saturating_sub(open.len());
            // A server that is not ready may have the model. Not waited for if a ready one cannot say and may have it
            // too.
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

    /// Waits until other model servers are ready, or their total number changes. What the present ones have said
    /// stands, however often another one fails to become ready.
    async fn until_others(&self, servers: u64, changed: &mut watch::Receiver<()>) {
        while self.servers(&self.upstreams.open()) == servers {
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Adds the model server's own error response to the denial, got by an inference request without inputs.
    async fn add_own_words(&self, denial: &mut Denial, (upstream, epoch): &Asked, model: &str) {
        if !denial.is_certain {
            return;
        }
        let settings = self.settings.now();
        match upstream.words_of_denial(epoch, model, settings.servers.upstream_headers.map()).await {
            Ok(Some(words)) => denial.answer = Some(words),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(model, %error, "Failed to get a model server's own error for a model that it does not have.");
            }
        }
    }

    /// Asks all model servers at once. Returns as soon as one has the model; a denial needs the answers of all.
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
                    tracing::debug!(%model, %error, "Failed to ask a model server whether it has a model.");
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

    /// Returns a fingerprint of these loaded model servers and of the number of all.
    pub(super) fn servers(&self, open: &[Asked]) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.upstreams.members().hash(&mut hasher);
        for (upstream, epoch) in open {
            (upstream.name(), epoch.number).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a turn for a while after a question that took `took`.
fn rest(turn: OwnedSemaphorePermit, took: Duration) {
    tokio::spawn(async move {
        sleep((took * RESTS).min(LONGEST_REST)).await;
        drop(turn);
    });
}
