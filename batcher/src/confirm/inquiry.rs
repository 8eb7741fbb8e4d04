//! One question: whether the model servers have a model, asked until all of them have answered.

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

/// After a question its turn rests for so many times as long as the question took: what does not exist takes no more
/// than a small part of a model server's time.
const RESTS: u32 = 9;
/// Longest time for which a turn rests after a question.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// Pause where a model server has not answered.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a denial is believed while model servers that are not ready are waited for: a model may be loaded at any time.
const BELIEVED: Duration = Duration::from_secs(30);

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

impl Shared {
    /// Until there is an answer, or nobody waits for it any more.
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

/// Keeps a turn for a while after a question that took so long.
fn rest(turn: OwnedSemaphorePermit, took: Duration) {
    tokio::spawn(async move {
        sleep((took * RESTS).min(LONGEST_REST)).await;
        drop(turn);
    });
}
