//! Which model servers there are: from the settings, or from a file that may change at any time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::epoch::Phase;
use super::monitor::{Monitor, State};
use super::{Epoch, InFlight, Upstream};
use crate::registry::Registry;
use crate::settings::{Live, Member, check_members};

/// How often the members file is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The model servers as request tasks see them.
#[derive(Debug, Default)]
pub struct Upstreams {
    list: ArcSwap<Vec<Arc<Upstream>>>,
    changed: watch::Sender<()>,
    next: AtomicUsize,
}

impl Upstreams {
    /// All of them, draining ones too.
    pub fn all(&self) -> Arc<Vec<Arc<Upstream>>> {
        self.list.load_full()
    }

    /// Whether any barrier is open.
    pub fn any_ready(&self) -> bool {
        self.list.load().iter().any(|upstream| upstream.phase() == Phase::Ready)
    }

    /// Marked whenever a barrier or the membership changes.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Of those with an open barrier the one with the fewest requests in flight; equal ones in turn.
    pub fn pick(&self) -> Option<(Arc<Upstream>, Arc<Epoch>, InFlight)> {
        let list = self.list.load();
        let start = self.next.fetch_add(1, Ordering::Relaxed) % list.len().max(1);
        let in_turn = list[start..].iter().chain(&list[..start]);
        let open = in_turn.filter_map(|upstream| Some((upstream, upstream.open_epoch()?)));
        // A barrier may close between the look and the start: then another one is tried.
        let mut open: Vec<_> = open.map(|(upstream, epoch)| (upstream.inflight(), upstream, epoch)).collect();
        open.sort_by_key(|(inflight, ..)| *inflight);
        open.into_iter().find_map(|(_, upstream, epoch)| {
            let guard = upstream.begin(epoch.number)?;
            Some((Arc::clone(upstream), epoch, guard))
        })
    }

    /// One with an open barrier, as [`Upstreams::pick`] chooses; waits for one at most so long.
    pub async fn pick_or_wait(&self, hold: Duration) -> Option<(Arc<Upstream>, Arc<Epoch>, InFlight)> {
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

/// Owns the membership: starts a monitor per member, and forgets members that have drained.
pub async fn run(
    upstreams: Arc<Upstreams>,
    registry: Arc<Registry>,
    settings: Live,
    stop: CancellationToken,
) {
    let mut membership =
        Membership { upstreams, registry, settings, known: BTreeMap::new(), monitors: JoinSet::new() };
    membership.set(&membership.settings.now().members_of_role());
    let mut file = membership.settings.now().members.clone().map(MembersFile::new);
    let mut poll = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = poll.tick() => {
                if let Some(members) = file.as_mut().and_then(MembersFile::changed) {
                    membership.set(&members);
                }
                membership.registry.forget_absent();
            }
            Some(ended) = membership.monitors.join_next() => match ended {
                Ok(upstream) => membership.upstreams.update(|list| {
                    list.retain(|other| !Arc::ptr_eq(other, &upstream));
                }),
                Err(error) => tracing::error!(%error, "The task of a model server ended."),
            },
        }
    }
}

struct Membership {
    upstreams: Arc<Upstreams>,
    registry: Arc<Registry>,
    settings: Live,
    known: BTreeMap<String, (Member, CancellationToken)>,
    monitors: JoinSet<Arc<Upstream>>,
}

impl Membership {
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
    }

    fn add(&mut self, member: Member) {
        let removed = CancellationToken::new();
        let (report, reports) = mpsc::unbounded_channel();
        let upstream = Arc::new(Upstream::new(member.clone(), report));
        tracing::info!(upstream = member.name, address = member.address, "A model server was added.");
        self.upstreams.update(|list| list.push(Arc::clone(&upstream)));
        let monitor = Monitor {
            upstream,
            reports,
            models: self.registry.subscribe(),
            removed: removed.clone(),
            changed: self.upstreams.changed.clone(),
            settings: self.settings.clone(),
            state: State::default(),
        };
        self.monitors.spawn(monitor.run());
        self.known.insert(member.name.clone(), (member, removed));
    }
}

/// The members file and what it said last.
struct MembersFile {
    path: PathBuf,
    text: String,
    trouble: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MembersDocument {
    upstreams: Vec<Member>,
}

impl MembersFile {
    fn new(path: PathBuf) -> Self {
        Self { path, text: String::new(), trouble: String::new() }
    }

    /// The members, when they are others than last time. A file that is missing or not valid changes nothing.
    fn changed(&mut self) -> Option<Vec<Member>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => {
                self.complain(&error.to_string());
                return None;
            }
        };
        if text == self.text {
            return None;
        }
        self.text.clone_from(&text);
        match read(&self.path) {
            Ok(members) => {
                self.trouble.clear();
                Some(members)
            }
            Err(trouble) => {
                self.complain(&trouble);
                None
            }
        }
    }

    fn complain(&mut self, trouble: &str) {
        if self.trouble != trouble {
            tracing::warn!(file = %self.path.display(), trouble, "The members file cannot be used; the membership stays as it is.");
            trouble.clone_into(&mut self.trouble);
        }
    }
}

/// Reads a members file, YAML or JSON.
fn read(path: &Path) -> Result<Vec<Member>, String> {
    let document: MembersDocument =
        sluice_config::settings::load(Some(path), &()).map_err(|error| error.to_string())?;
    check_members(&document.upstreams)?;
    Ok(document.upstreams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_file_is_reported_when_it_changes_and_kept_when_it_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members.json");
        let mut file = MembersFile::new(path.clone());
        assert_eq!(file.changed(), None, "a missing file changes nothing");
        std::fs::write(&path, r#"{"upstreams":[{"name":"a","address":"127.0.0.1:9001"}]}"#).unwrap();
        let members = file.changed().unwrap();
        assert_eq!(members[0].name, "a");
        assert_eq!(file.changed(), None);
        std::fs::write(&path, r#"{"upstreams":[{"name":"a","adress":"127.0.0.1:9001"}]}"#).unwrap();
        assert_eq!(file.changed(), None);
        assert!(file.trouble.contains("adress"), "{}", file.trouble);
        std::fs::write(&path, "upstreams: []\n").unwrap();
        assert_eq!(file.changed(), Some(Vec::new()), "YAML is read too");
    }
}
