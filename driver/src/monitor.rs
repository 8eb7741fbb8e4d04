//! Monitor of the GPUs: checks them periodically and derives what is published, what can be prepared, whether the
//! driver is ready, and which Kubernetes Events claims get.
//!
//! It checks every few seconds and after each error. When the checkpoint changes, it evaluates the last check again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_config::names::devices as names;
use sluice_inventory::{DeviceIndex, Gpu, device_classes};
use sluice_process::atomic_file::write_atomic;
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

/// Pause before the next check while a GPU does not respond.
const RETRY: Duration = Duration::from_secs(1);
/// Pause between an error and the check that follows it, so that several errors at once cause one check.
const SETTLE: Duration = Duration::from_millis(100);
/// Period of reopening NVML while a GPU is missing, because only a new session sees a GPU that came back.
const REOPEN: Duration = Duration::from_secs(30);
/// Maximum wait of a start for the first check. NVML may hang while the NVIDIA driver is being loaded.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Results that other tasks read.
#[derive(Clone)]
pub(crate) struct Views {
    /// Content of the ResourceSlices; `None` until it is known.
    pub publication: watch::Receiver<Option<Publication>>,
    /// Devices that can be prepared; `None` until they are known.
    pub node: watch::Receiver<Option<Arc<NodeDevices>>>,
    /// Whether the GPUs can be queried, or why not.
    pub session: watch::Receiver<Result<(), String>>,
    /// Devices of prepared claims that do not exist any more.
    pub gone: watch::Receiver<Arc<BTreeSet<ClaimDevice>>>,
}

/// State of the monitoring task.
pub(crate) struct Monitor {
    device_state: Arc<DeviceState>,
    store: Arc<dyn Store>,
    /// Publication without the parts that follow from the GPUs.
    template: Publication,
    /// File of the known GPUs, for the next start.
    memory: PathBuf,
    nudge: Arc<Notify>,
    inventory: Inventory,
    kept: Vec<Gpu>,
    /// Devices that are allocated to claims, from the last list of claims.
    listed: BTreeSet<String>,
    reported: BTreeSet<(String, String, Fault)>,
    reopened: Instant,
    looking: Option<JoinHandle<Result<ObservedGpus, GpuError>>>,
    publication: watch::Sender<Option<Publication>>,
    node: watch::Sender<Option<Arc<NodeDevices>>>,
    session: watch::Sender<Result<(), String>>,
    gone: watch::Sender<Arc<BTreeSet<ClaimDevice>>>,
}

impl Monitor {
    /// Creates a monitor of the GPUs of `device_state`, which `nudge` wakes. GPUs that an earlier run knew are read
    /// from the file `memory`.
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
            reported: BTreeSet::new(),
            reopened: Instant::now(),
            looking: None,
            publication,
            node,
            session,
            gone,
        };
        (monitor, Views { publication: publications, node: nodes, session: sessions, gone: gones })
    }

    /// Checks the GPUs before anything is served. [`Self::run`] waits for a check that hangs.
    pub(crate) async fn first_look(&mut self) {
        if tokio::time::timeout(FIRST_LOOK, self.look()).await.is_err() {
            tracing::warn!("NVML does not respond yet; serving what needs no GPU meanwhile.");
        }
    }

    /// Checks the GPUs every `interval` until `stop`.
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
                // Without the checkpoint's thread the checkpoint does not change any more.
                if changed.is_err() {
                    next.as_mut().await;
                    break;
                }
                tokio::select! {
                    () = self.judge() => {}
                    () = stop.cancelled() => return,
                }
                // A prepare may have created a missing instance again.
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

    /// Checks the GPUs once. It may be dropped and called again: the next call continues the check that was started.
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
                    tracing::info!("The GPUs can be queried again.");
                }
                self.judge().await;
            }
            Ok(Err(error)) => {
                self.inventory.see_nothing();
                self.report_failure(error.to_string());
                if self.node.borrow().is_some() {
                    self.judge().await;
                }
            }
            Err(error) => self.report_failure(error.to_string()),
        }
    }

    fn report_failure(&self, reason: String) {
        let said = self.session.send_replace(Err(reason.clone()));
        // Checks follow each other, so the same reason is logged once.
        if said != Err(reason.clone()) {
            tracing::error!("Failed to query the GPUs: {reason}");
        }
    }

    /// Returns the names of devices that claims hold.
    fn held(&self) -> BTreeSet<String> {
        let checkpoint = self.device_state.checkpoints().checkpoint();
        let devices = checkpoint.claims.values().flat_map(|record| &record.devices);
        devices.map(|device| device.device.clone()).chain(self.listed.iter().cloned()).collect()
    }

    /// Publishes and reports what follows from the last check.
    async fn judge(&mut self) {
        self.list_claims().await;
        let offer = self.inventory.offer(&self.held());
        self.remember(&offer);
        self.inform(&offer).await;
        self.publish_events().await;
    }

    /// Lists the devices of claims that were allocated and never prepared. It does so only while a GPU is lost,
    /// because such a GPU is withdrawn once no claim has a device of it.
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
            // An unnecessary taint does less harm than withdrawing a device that a claim has.
            Err(error) => {
                tracing::warn!(%error, "Failed to list ResourceClaims; lost GPUs stay published with a taint.");
                let index = DeviceIndex::new(&self.inventory.gpus());
                self.listed = index.iter().map(|device| device.name.clone()).collect();
            }
        }
    }

    /// Saves the known GPUs for the next start, which may find one of them missing.
    fn remember(&mut self, offer: &Offer) {
        let keep = self.inventory.worth_keeping(offer);
        if keep == self.kept {
            return;
        }
        let text = serde_json::to_vec_pretty(&keep).map_err(std::io::Error::other);
        match text.and_then(|text| write_atomic(&self.memory, &text)) {
            Ok(()) => self.kept = keep,
            Err(error) => {
                tracing::warn!(file = %self.memory.display(), %error, "Failed to save the list of known GPUs.");
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
                tracing::warn!(%error, "Failed to write DeviceClasses.");
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
                log_marks(last.as_ref(), &publication);
                *last = Some(publication);
            }
            is_new
        });
    }

    /// Publishes a Kubernetes Event for each claim whose device is gone, once.
    async fn publish_events(&mut self) {
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
                if !self.reported.contains(&key) {
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
        self.reported = due;
        self.gone.send_replace(Arc::new(gone));
    }
}

/// Logs which devices are withheld from claims, and which are offered again.
fn log_marks(last: Option<&Publication>, now: &Publication) {
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
                tracing::warn!(fault = fault.name(), devices = ?is, "Tainted devices.");
            }
            Mark::Withheld if !is.is_empty() => {
                tracing::warn!(devices = ?is, "Not publishing devices: foreign MIG instances occupy their placements.");
            }
            _ => tracing::info!(devices = ?was, "Devices are published again, or removed."),
        }
    }
}

/// Reads the GPUs of an earlier run. Without them, a GPU that is missing at the start is not noticed.
fn remembered(memory: &std::path::Path) -> Vec<Gpu> {
    let text = match std::fs::read(memory) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(file = %memory.display(), %error, "Failed to read the list of GPUs of the last run.");
            return Vec::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %memory.display(), %error, "Failed to parse the list of GPUs of the last run.");
        Vec::new()
    })
}
