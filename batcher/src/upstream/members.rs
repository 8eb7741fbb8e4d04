//! Membership of model servers: from the settings, from a file that may change at any time, or from DNS.

mod dns;
mod file;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::choice::Picked;
use super::epoch::Phase;
use super::models::ServedModels;
use super::monitor::{Monitor, State};
use super::{Epoch, Upstream};
use crate::answers::budget::AnswerBudget;
use crate::settings::{Live, Member};
use dns::SystemResolver;
use file::MembersFile;

/// Interval at which the members file is checked.
const POLL: Duration = Duration::from_millis(100);

/// The model servers as request tasks see them.
#[derive(Debug, Default)]
pub struct Upstreams {
    list: ArcSwap<Vec<Arc<Upstream>>>,
    changed: watch::Sender<()>,
    next: AtomicUsize,
    /// Budget that counts the servers' answers.
    answers: AnswerBudget,
}

impl Upstreams {
    /// Creates the list of model servers, empty; `answers` counts the bytes of their answers.
    pub fn new(answers: AnswerBudget) -> Self {
        Self { answers, ..Self::default() }
    }

    /// Returns all model servers, including draining ones.
    pub fn all(&self) -> Arc<Vec<Arc<Upstream>>> {
        self.list.load_full()
    }

    /// Returns whether any barrier is open.
    pub fn any_ready(&self) -> bool {
        self.list.load().iter().any(|upstream| upstream.phase() == Phase::Ready)
    }

    /// Returns the model servers with an open barrier.
    pub fn open(&self) -> Vec<(Arc<Upstream>, Arc<Epoch>)> {
        let list = self.list.load();
        list.iter().filter_map(|upstream| Some((Arc::clone(upstream), upstream.open_epoch()?))).collect()
    }

    /// Returns the number of open barriers.
    pub fn ready(&self) -> usize {
        self.list.load().iter().filter(|upstream| upstream.phase() == Phase::Ready).count()
    }

    /// Subscribes to changes of barriers and of the membership.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Picks the model server with an open barrier that has the fewest requests in flight; takes turns among equals.
    pub fn pick(&self) -> Option<Picked> {
        let list = self.list.load();
        let open = list.iter().filter_map(|upstream| Some((Arc::clone(upstream), upstream.open_epoch()?)));
        self.least(open.collect())
    }

    /// Picks the model server of `open` that has the fewest requests in flight; takes turns among equals.
    pub(super) fn least(&self, mut open: Vec<(Arc<Upstream>, Arc<Epoch>)>) -> Option<Picked> {
        let start = self.next.fetch_add(1, Ordering::Relaxed) % open.len().max(1);
        open.rotate_left(start);
        open.sort_by_cached_key(|(upstream, _)| upstream.inflight());
        // A barrier may close between the check and the start; then the next server is tried.
        open.into_iter().find_map(|(upstream, epoch)| {
            let guard = upstream.begin(epoch.number)?;
            Some((upstream, epoch, guard))
        })
    }

    /// Picks a model server as [`Upstreams::pick`] does; waits for one for at most `hold`.
    pub async fn pick_or_wait(&self, hold: Duration) -> Option<Picked> {
        if let Some(picked) = self.pick() {
            return Some(picked);
        }
        let mut changed = self.subscribe();
        let wait = async {
            loop {
                if let Some(picked) = self.pick() {
                    return Some(picked);
                }
                changed.changed().await.ok()?;
            }
        };
        tokio::time::timeout(hold, wait).await.ok().flatten()
    }

    fn update(&self, change: impl FnOnce(&mut Vec<Arc<Upstream>>)) {
        let mut list = Vec::clone(&self.list.load());
        change(&mut list);
        self.list.store(Arc::new(list));
        self.changed.send_replace(());
    }
}

/// Owns the membership: starts a monitor for each member, and forgets members that have drained.
pub async fn run<R: ServedModels>(
    upstreams: Arc<Upstreams>,
    models: Arc<R>,
    settings: Live,
    stop: CancellationToken,
) {
    let mut membership =
        Membership { upstreams, models, settings, known: BTreeMap::new(), monitors: JoinSet::new() };
    membership.set(&membership.settings.now().servers.members_of_role());
    let mut file = membership.settings.now().servers.members.clone().map(MembersFile::new);
    let name = membership.settings.now().servers.members_dns.clone();
    // In a task that ends with the receiver: a lookup may take long, and must not delay this loop.
    let mut found = name.map(|name| dns::watch(SystemResolver, name, membership.settings.clone()));
    let mut poll = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = poll.tick() => {
                if let Some(members) = file.as_mut().and_then(MembersFile::changed) {
                    membership.set(&members);
                }
                membership.models.forget_absent(membership.upstreams.members());
            }
            Some(members) = next(&mut found) => membership.set(&members),
            Some(ended) = membership.monitors.join_next() => match ended {
                Ok(upstream) => membership.upstreams.update(|list| {
                    list.retain(|other| !Arc::ptr_eq(other, &upstream));
                }),
                Err(error) => tracing::error!(%error, "The monitor task of a model server has failed."),
            },
        }
    }
}

async fn next(found: &mut Option<mpsc::Receiver<Vec<Member>>>) -> Option<Vec<Member>> {
    match found {
        Some(found) => found.recv().await,
        None => std::future::pending().await,
    }
}

struct Membership<R> {
    upstreams: Arc<Upstreams>,
    models: Arc<R>,
    settings: Live,
    known: BTreeMap<String, (Member, CancellationToken)>,
    monitors: JoinSet<Arc<Upstream>>,
}

impl<R: ServedModels> Membership<R> {
    fn set(&mut self, members: &[Member]) {
        self.known.retain(|_, (member, removed)| {
            let stays = members.contains(member);
            if !stays {
                removed.cancel();
            }
            stays
        });
        for member in members {
            if !self.known.contains_key(&member.name) {
                self.add(member.clone());
            }
        }
        self.models.set_members(self.known.len());
    }

    fn add(&mut self, member: Member) {
        let removed = CancellationToken::new();
        let (report, reports) = mpsc::unbounded_channel();
        let upstream = Arc::new(Upstream::new(member.clone(), report, self.upstreams.answers.clone()));
        tracing::info!(upstream = member.name, address = member.address, "Added a model server.");
        self.upstreams.update(|list| list.push(Arc::clone(&upstream)));
        let monitor = Monitor {
            upstream,
            models: self.models.subscribe(),
            removed: removed.clone(),
            changed: self.upstreams.changed.clone(),
            settings: self.settings.clone(),
            state: State::default(),
        };
        self.monitors.spawn(monitor.run(reports));
        self.known.insert(member.name.clone(), (member, removed));
    }
}
