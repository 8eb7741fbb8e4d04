//! Chooses the model server for a request that is passed through: one that has the request's model, if it names one.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::asking::Has;
use super::epoch::Phase;
use super::members::Upstreams;
use super::{CONNECT_PATIENCE, Epoch, InFlight, Upstream};
use crate::clock::Clock;
use crate::settings::Settings;

/// A model server to send to, and the guard that counts the request there.
pub type Picked = (Arc<Upstream>, Arc<Epoch>, InFlight);

/// A model that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A model in the Open Inference Protocol: a server that says that it lacks the model will reject the request.
    Model(String),
    /// A model in OpenAI's API: some servers accept any name, whatever they list.
    Alias(String),
}

impl Named {
    /// Returns the name.
    pub fn name(&self) -> &str {
        let (Self::Model(name) | Self::Alias(name)) = self;
        name
    }
}

/// Why no model server was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPicked {
    /// No model server was ready in time.
    Nobody,
    /// The ready model servers lack the model; holds the number of those that were not ready.
    Elsewhere(usize),
}

/// The model servers, sorted by what they say about a model.
#[derive(Default)]
struct Sorted {
    have_it: Vec<(Arc<Upstream>, Arc<Epoch>)>,
    lack_it: Vec<(Arc<Upstream>, Arc<Epoch>)>,
    unasked: Vec<(Arc<Upstream>, Arc<Epoch>)>,
    /// Number of model servers that are not ready and may have the model.
    awaited: usize,
}

impl Upstreams {
    /// Returns the number of model servers, ready or not, without those that were removed.
    pub fn members(&self) -> usize {
        self.all().iter().filter(|upstream| upstream.phase() != Phase::Draining).count()
    }

    /// Returns how many model servers may have a model: all but those that say that they lack it.
    pub fn may_have(&self, model: &str) -> usize {
        let list = self.all();
        let members = list.iter().filter(|upstream| upstream.phase() != Phase::Draining);
        members
            .filter(|upstream| upstream.open_epoch().is_none() || upstream.warm(model) != Some(false))
            .count()
    }

    /// Picks a model server that has the model, with the fewest requests in flight; waits for one for at most `hold`.
    /// If there is only one model server, or no model is named, any server is picked.
    ///
    /// Servers that have not said whether they have the model are asked, once; one that does not answer is assumed to
    /// have it. If all ready servers lack the model, the others are waited for (for an alias, only those that are not
    /// down). If there are none to wait for, a server that lacks the model is picked; for an alias also after the wait.
    ///
    /// # Errors
    /// See [`NotPicked`].
    pub async fn pick_for(
        &self,
        named: Option<&Named>,
        hold: Duration,
        settings: &Arc<Settings>,
        clock: Clock,
    ) -> Result<Picked, NotPicked> {
        let Some(named) = named.filter(|_| self.members() > 1) else {
            return self.pick_or_wait(hold).await.ok_or(NotPicked::Nobody);
        };
        let deadline = Instant::now() + hold;
        let mut changed = self.subscribe();
        loop {
            let mut sorted = self.sort(named, clock);
            if sorted.have_it.is_empty() && !sorted.unasked.is_empty() {
                let mut questions = JoinSet::new();
                for (upstream, epoch) in sorted.unasked {
                    let (model, settings) = (named.name().to_owned(), Arc::clone(settings));
                    questions.spawn(async move {
                        let question = upstream.ask_for(&epoch, &model, &settings, clock);
                        // A server that does not answer in time is assumed to have the model.
                        let _ = timeout(CONNECT_PATIENCE, question).await;
                    });
                }
                questions.join_all().await;
                sorted = self.sort(named, clock);
            }
            let Sorted { have_it, lack_it, unasked, awaited } = sorted;
            let any = if awaited == 0 { lack_it } else { Vec::new() };
            if let Some(picked) = [have_it, unasked, any].into_iter().find_map(|list| self.least(list)) {
                return Ok(picked);
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                if let (Named::Alias(_), Some(any)) = (named, self.pick()) {
                    return Ok(any);
                }
                return Err(match self.ready() {
                    0 => NotPicked::Nobody,
                    ready => NotPicked::Elsewhere(self.members().saturating_sub(ready)),
                });
            }
        }
    }

    fn sort(&self, named: &Named, clock: Clock) -> Sorted {
        let mut sorted = Sorted::default();
        for upstream in self.all().iter().filter(|upstream| upstream.phase() != Phase::Draining) {
            let Some(epoch) = upstream.open_epoch() else {
                let may_be_soon = upstream.phase() != Phase::Down;
                sorted.awaited += usize::from(may_be_soon || matches!(named, Named::Model(_)));
                continue;
            };
            let list = match upstream.says_of(&epoch, named.name(), clock) {
                Some(true) => &mut sorted.have_it,
                Some(false) => &mut sorted.lack_it,
                None => &mut sorted.unasked,
            };
            list.push((Arc::clone(upstream), epoch));
        }
        sorted
    }
}

impl Upstream {
    /// Returns whether the server has a model that it was warmed for; `None` for any other model.
    fn warm(&self, model: &str) -> Option<bool> {
        let discovered = self.discovered();
        let known = discovered.models.iter().find(|(name, _)| **name == *model);
        known.map(|(_, profile)| !profile.absent)
    }

    fn says_of(&self, epoch: &Epoch, model: &str, clock: Clock) -> Option<bool> {
        self.warm(model).or_else(|| self.whereabouts.of(epoch.number, model, clock.now_us()))
    }

    /// Asks whether the server has the model and remembers the answer. Asks nothing if the answer is known by now, or
    /// too many questions were asked.
    async fn ask_for(&self, epoch: &Epoch, model: &str, settings: &Settings, clock: Clock) {
        let _one_at_a_time = self.whereabouts.asking.lock().await;
        if self.says_of(epoch, model, clock).is_some() || !self.whereabouts.may_ask(clock.now_us()) {
            return;
        }
        let has_it = match self.has_model(epoch, model, settings.servers.upstream_headers.map()).await {
            Ok(Has::Yes) => Ok(Some(true)),
            Ok(Has::No(denial)) => Ok((!denial.says_nothing()).then_some(false)),
            Err(error) => Err(error),
        };
        match has_it {
            Ok(Some(has_it)) if self.is_open(epoch.number) => {
                self.whereabouts.answered(epoch.number, model, has_it, clock.now_us());
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(upstream = self.name(), model, %error, "Failed to ask a model server whether it has a model.");
            }
        }
    }
}
