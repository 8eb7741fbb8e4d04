//! Looks at the GPUs again and again, and keeps everybody else informed: what is published, what can be
//! prepared, whether the driver is ready, and what claims and their pods are told.
//!
//! It looks every few seconds and whenever somebody met an error; when the checkpoint changes, it judges anew
//! what it has seen.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_config::atomic_file::write_atomic;
use sluice_config::names::devices as names;
use sluice_inventory::{DeviceIndex, Gpu, device_classes};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::allocation::NodeDevices;
use crate::checkpoint::Phase;
use crate::device_state::{ClaimDevice, DeviceState, ObservedGpus};
use crate::gpus::GpuError;
use crate::health::{Fault, Inventory, Mark, Offer};
use crate::metrics;
use crate::monitoring;
use crate::publishing::Publication;
use crate::store::{ClaimEvent, ClaimRef, Store};

/// Pause before the next look when a GPU does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Pause after which an error leads to a look: several that come at once lead to one.
const SETTLE: Duration = Duration::from_millis(100);
/// How often NVML is opened anew while a GPU is missing: only a new session sees one that came back.
const REOPEN: Duration = Duration::from_secs(30);
/// How long a start waits for the first look; NVML may hang in a driver that is being loaded.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// What others read of it.
#[derive(Clone)]
pub(crate) struct Views {
    /// What to publish; `None` while it is not known.
    pub publication: watch::Receiver<Option<Publication>>,
    /// Devices that can be prepared; `None` while they are not known.
    pub node: watch::Receiver<Option<Arc<NodeDevices>>>,
    /// Whether the GPUs can be asked; the reason where they cannot.
    pub session: watch::Receiver<Result<(), String>>,
    /// Devices of prepared claims that do not exist any more.
    pub gone: watch::Receiver<Arc<BTreeSet<ClaimDevice>>>,
}

/// The task's own state.
pub(crate) struct Monitor {
    device_state: Arc<DeviceState>,
    store: Arc<dyn Store>,
    /// What to publish, but for what follows from the GPUs.
    template: Publication,
    /// File of the GPUs that are known, for the next start.
    memory: PathBuf,
    nudge: Arc<Notify>,
    inventory: Inventory,
    kept: Vec<Gpu>,
    /// Devices that claims of the store have, of the last look for them.
    listed: BTreeSet<String>,
    told: BTreeSet<(String, String, Fault)>,
    reopened: Instant,
    looking: Option<JoinHandle<Result<ObservedGpus, GpuError>>>,
    publication: watch::Sender<Option<Publication>>,
    node: watch::Sender<Option<Arc<NodeDevices>>>,
    session: watch::Sender<Result<(), String>>,
    gone: watch::Sender<Arc<BTreeSet<ClaimDevice>>>,
}

impl Monitor {
    /// Watches the GPUs of `slices`; `nudge` wakes it. GPUs that an earlier run knew are read from `memory`.
    pub(crate) fn new(
        device_state: Arc<DeviceState>,
        store: Arc<dyn Store>,
        template: Publication,
        memory: PathBuf,
        nudge: Arc<Notify>,
    ) -> (Self, Views) {
        let kept = remembered(&memory);
        let (publication, publications) = watch::channel(None);
        let (node, nodes) = watch::channel(None);
        let (session, sessions) = watch::channel(Err("the GPUs were not asked yet".to_owned()));
        let (gone, gones) = watch::channel(Arc::default());
        let monitor = Self {
            device_state,
            store,
            template,
            memory,
            nudge,
            inventory: Inventory::remembered(kept.clone()),
            kept,
            listed: BTreeSet::new(),
            told: BTreeSet::new(),
            reopened: Instant::now(),
            looking: None,
            publication,
            node,
            session,
            gone,
        };
        (monitor, Views { publication: publications, node: nodes, session: sessions, gone: gones })
    }

    /// The look before anything is served. What hangs is waited for in [`Self::run`].
    pub(crate) async fn first_look(&mut self) {
        if tokio::time::timeout(FIRST_LOOK, self.look()).await.is_err() {
            tracing::warn!("NVML does not answer; the driver serves what needs no GPU meanwhile.");
        }
    }

    /// Looks every `interval`, until `stop`.
    pub(crate) async fn run(mut self, interval: Duration, stop: CancellationToken) {
        let mut checkpoints = self.device_state.checkpoints().watch();
        loop {
            let is_well = self.session.borrow().is_ok() && !self.inventory.has_silent_gpus();
            let mut next =
                std::pin::pin!(tokio::time::sleep(if is_well { interval } else { RETRY.min(interval) }));
            loop {
                let changed = tokio::select! {
                    () = next.as_mut() => break,
                    () = self.nudge.notified() => { tokio::time::sleep(SETTLE).await; break }
                    changed = checkpoints.changed() => changed,
                    () = stop.cancelled() => return,
                };
                // When the checkpoint's thread is gone, nothing changes any more.
                if changed.is_err() {
                    next.as_mut().await;
                    break;
                }
                tokio::select! {
                    () = self.judge() => {}
                    () = stop.cancelled() => return,
                }
                // A slice that was gone may have been made again by a prepare.
                if !self.inventory.missing().is_empty() {
                    next.as_mut().reset(Instant::now() + SETTLE);
                }
            }
            tokio::select! {
                () = self.look() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One look at the GPUs. May be dropped and called again: it goes on with the look that was begun.
    async fn look(&mut self) {
        let anew = self.inventory.misses_gpus() && self.reopened.elapsed() >= REOPEN;
        if anew {
            self.reopened = Instant::now();
        }
        let device_state = Arc::clone(&self.device_state);
        let looking = self
            .looking
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || device_state.observe(anew)));
        let looked = looking.await;
        self.looking = None;
        let held = self.held();
        match looked {
            Ok(Ok(observed)) => {
                self.inventory.see(observed, &held);
                if self.session.send_replace(Ok(())).is_err() && self.node.borrow().is_none() {
                    tracing::info!("The GPUs answer.");
                }
                self.judge().await;
            }
            Ok(Err(error)) => {
                self.inventory.see_nothing();
                self.cannot_look(error.to_string());
                if self.node.borrow().is_some() {
                    self.judge().await;
                }
            }
            Err(error) => self.cannot_look(error.to_string()),
        }
    }

    fn cannot_look(&self, reason: String) {
        let said = self.session.send_replace(Err(reason.clone()));
        // Looks follow each other; what has been said is not said again.
        if said != Err(reason.clone()) {
            tracing::error!("The GPUs cannot be asked: {reason}");
        }
    }

    /// Names of devices that claims have.
    fn held(&self) -> BTreeSet<String> {
        let checkpoint = self.device_state.checkpoints().checkpoint();
        let devices = checkpoint.claims.values().flat_map(|record| &record.devices);
        devices.map(|device| device.device.clone()).chain(self.listed.iter().cloned()).collect()
    }

    /// What follows from all that was seen.
    async fn judge(&mut self) {
        self.list_claims().await;
        let offer = self.inventory.offer(&self.held());
        self.remember(&offer);
        self.inform(&offer).await;
        self.tell_claims().await;
    }

    /// Looks for claims that were allocated something and never prepared. Only where it matters: a GPU that
    /// is lost is withdrawn when no claim has anything of it.
    async fn list_claims(&mut self) {
        if !self.inventory.misses_gpus() {
            self.listed.clear();
            return;
        }
        match self.store.claims().await {
            Ok(claims) => {
                let allocations =
                    claims.iter().filter_map(|claim| claim.status.as_ref()?.allocation.as_ref());
                let results = allocations.filter_map(|a| a.devices.as_ref()?.results.as_ref()).flatten();
                let pool = names::pool(&self.template.node);
                let ours =
                    results.filter(|result| result.driver == self.template.driver && result.pool == pool);
                self.listed = ours.map(|result| result.device.clone()).collect();
            }
            // Rather taint too much than withdraw what a claim has.
            Err(error) => {
                tracing::warn!(%error, "Claims cannot be listed; a GPU that is lost stays published, tainted.");
                let index = DeviceIndex::new(&self.inventory.gpus());
                self.listed = index.iter().map(|device| device.name.clone()).collect();
            }
        }
    }

    /// Keeps the GPUs for the next start, which may find one of them missing.
    fn remember(&mut self, offer: &Offer) {
        let keep = self.inventory.worth_keeping(offer);
        if keep == self.kept {
            return;
        }
        let text = serde_json::to_vec_pretty(&keep).map_err(std::io::Error::other);
        match text.and_then(|text| write_atomic(&self.memory, &text)) {
            Ok(()) => self.kept = keep,
            Err(error) => {
                tracing::warn!(file = %self.memory.display(), %error, "The GPUs could not be remembered.");
            }
        }
    }

    async fn inform(&self, offer: &Offer) {
        let gpus = self.inventory.gpus();
        let index = DeviceIndex::new(&gpus);
        let known = self.node.borrow().clone();
        if known.as_ref().is_none_or(|node| node.gpus != gpus) {
            if known.is_none() {
                tracing::info!(
                    node = self.template.node,
                    gpus = gpus.len(),
                    devices = index.len(),
                    "Found GPUs."
                );
            }
            metrics::announce(index.iter().map(|device| device.profile()));
            let mut classes = device_classes(&self.template.driver, &gpus);
            classes.push(monitoring::device_class(&self.template.driver));
            if let Err(error) = self.store.offer_classes(&classes).await {
                tracing::warn!(%error, "DeviceClasses could not be written.");
            }
            let driver = self.template.driver.clone();
            let node = NodeDevices { driver, pool: names::pool(&self.template.node), gpus, index };
            self.node.send_replace(Some(Arc::new(node)));
        }
        metrics::export_faults(offer.marks.values());
        let publication =
            Publication { gpus: offer.gpus.clone(), marks: offer.marks.clone(), ..self.template.clone() };
        self.publication.send_if_modified(|last| {
            let is_new = last.as_ref() != Some(&publication);
            if is_new {
                say_marks(last.as_ref(), &publication);
                *last = Some(publication);
            }
            is_new
        });
    }

    /// Tells claims whose devices are gone, once each.
    async fn tell_claims(&mut self) {
        let checkpoint = self.device_state.checkpoints().checkpoint();
        let missing = self.inventory.missing();
        let mut gone = BTreeSet::new();
        let mut due = BTreeSet::new();
        for (uid, record) in checkpoint.claims.iter().filter(|(_, record)| record.phase == Phase::Prepared) {
            for device in &record.devices {
                let held = (uid.clone(), device.device.clone());
                let (fault, why) = match self.inventory.lost(&device.gpu_uuid) {
                    Some(reason) => (Fault::GpuLost, format!("GPU {}: {reason}", device.gpu_uuid)),
                    None if missing.contains(&held) => (
                        Fault::InstanceGone,
                        "its MIG instance was destroyed by somebody else or by a reset of the GPU".to_owned(),
                    ),
                    None => continue,
                };
                let key = (held.0.clone(), held.1.clone(), fault);
                gone.insert(held);
                due.insert(key.clone());
                if !self.told.contains(&key) {
                    let (namespace, name) = (record.namespace.clone(), record.name.clone());
                    let claim = ClaimRef { namespace, name, uid: uid.clone() };
                    let message = format!(
                        "device {} cannot be used any more: {why}. A pod that is made anew gets another device.",
                        device.device
                    );
                    self.store.publish_event(&claim, &ClaimEvent { reason: fault.reason(), message }).await;
                }
            }
        }
        self.told = due;
        self.gone.send_replace(Arc::new(gone));
    }
}

/// Says which devices are kept from claims, and which are not any more.
fn say_marks(last: Option<&Publication>, now: &Publication) {
    let none = Default::default();
    let before = last.map_or(&none, |last| &last.marks);
    let names = |of: &std::collections::BTreeMap<String, Mark>, mark: Mark| -> Vec<String> {
        of.iter().filter(|(_, other)| **other == mark).map(|(name, _)| name.clone()).collect()
    };
    let all = Fault::ALL.map(Mark::Tainted);
    for mark in all.into_iter().chain([Mark::Withheld]) {
        let (was, is) = (names(before, mark), names(&now.marks, mark));
        if was == is {
            continue;
        }
        match mark {
            Mark::Tainted(fault) if !is.is_empty() => {
                tracing::warn!(fault = fault.name(), devices = ?is, "Devices are tainted.");
            }
            Mark::Withheld if !is.is_empty() => {
                tracing::warn!(devices = ?is, "Devices are not offered: foreign MIG instances are in their places.");
            }
            _ => tracing::info!(devices = ?was, "Devices are offered again, or gone."),
        }
    }
}

/// GPUs of an earlier run; none where they cannot be told: then a GPU that is missing is not noticed.
fn remembered(memory: &std::path::Path) -> Vec<Gpu> {
    let text = match std::fs::read(memory) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(file = %memory.display(), %error, "The GPUs of the last run cannot be read.");
            return Vec::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %memory.display(), %error, "The GPUs of the last run cannot be read.");
        Vec::new()
    })
}
