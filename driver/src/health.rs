//! From what was seen of the GPUs to what may be offered of them. Pure.
//!
//! A GPU that is lost, or whose mode was changed, is tainted as long as a claim has something of it, so that
//! Kubernetes moves the claim's pods away, and is not offered at all after that. A slice whose instance is
//! gone is tainted until its claim ends. Places where a foreign instance stands are not offered until it is
//! gone.

use std::collections::{BTreeMap, BTreeSet};

use sluice_inventory::{DeviceIndex, DeviceKind, Gpu};

use crate::device_state::{ClaimDevice, Observation, ObservedGpus};
use crate::gpus::{GpuInstance, Reason};

/// Looks in a row that find a GPU silent before nothing new is placed on it: one failed call says nothing.
const SILENT_LOOKS: u32 = 2;

/// Why a device is kept from claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The GPU is gone: nothing on it can be used.
    GpuLost,
    /// The instance of the claim's slice was destroyed by somebody else, or by a reset.
    InstanceGone,
    /// MIG mode was switched under a claim.
    MigModeChanged,
    /// The GPU does not answer at the moment.
    Unreachable,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::GpuLost, Self::InstanceGone, Self::MigModeChanged, Self::Unreachable];

    /// What the taint's key ends with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GpuLost => "gpu-lost",
            Self::InstanceGone => "instance-gone",
            Self::MigModeChanged => "mig-mode-changed",
            Self::Unreachable => "unreachable",
        }
    }

    /// The reason of an event.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::GpuLost => "GPULost",
            Self::InstanceGone => "MIGInstanceGone",
            Self::MigModeChanged => "MIGModeChanged",
            Self::Unreachable => "GPUUnreachable",
        }
    }

    /// Whether pods that have the device now can as well be moved: they cannot use it.
    pub(crate) fn ends_pods(self) -> bool {
        self != Self::Unreachable
    }
}

/// What keeps one device from being offered as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is published with a taint.
    Tainted(Fault),
    /// It is not published.
    Withheld,
}

/// All that is known of the node's GPUs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    /// GPUs by UUID, as they were described last.
    known: BTreeMap<String, Gpu>,
    /// What was seen last.
    seen: BTreeMap<String, Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    state: State,
    /// What stands on the GPU; of the last look that told.
    foreign: Vec<GpuInstance>,
    missing: BTreeSet<ClaimDevice>,
    /// Looks in a row at which it did not answer.
    silent: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Well,
    /// Well, and its devices are others than those of which some are held.
    Changed(Box<Gpu>),
    Lost(Reason),
    Silent,
}

/// What is to be offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// GPUs that are published.
    pub gpus: Vec<Gpu>,
    /// Devices of them that are not published as they are.
    pub marks: BTreeMap<String, Mark>,
}

impl Inventory {
    /// Begins with the GPUs of an earlier run, of which nothing was seen yet.
    pub(crate) fn remembered(gpus: Vec<Gpu>) -> Self {
        let known = gpus.into_iter().map(|gpu| (gpu.uuid.clone(), gpu)).collect();
        Self { known, seen: BTreeMap::new() }
    }

    /// All GPUs that are known, whatever their state, but for a lost one whose number another one has now.
    pub(crate) fn gpus(&self) -> Vec<Gpu> {
        let is_there = |gpu: &Gpu| self.is_there(&gpu.uuid);
        let is_replaced =
            |gpu: &&Gpu| !is_there(gpu) && self.known.values().any(|o| o.minor == gpu.minor && is_there(o));
        self.known.values().filter(|gpu| !is_replaced(gpu)).cloned().collect()
    }

    /// Whether the GPU answered at the last look.
    fn is_there(&self, gpu_uuid: &str) -> bool {
        let state = self.seen.get(gpu_uuid).map(|condition| &condition.state);
        matches!(state, Some(State::Well | State::Changed(_)))
    }

    /// Whether a GPU did not answer at the last look, and may at the next.
    pub(crate) fn has_silent_gpus(&self) -> bool {
        self.seen.values().any(|condition| condition.state == State::Silent)
    }

    /// Whether a GPU that was known is not there; it may come back.
    pub(crate) fn misses_gpus(&self) -> bool {
        self.seen.values().any(|condition| matches!(condition.state, State::Lost(_)))
    }

    /// Devices of prepared claims whose instance is gone.
    pub(crate) fn missing(&self) -> BTreeSet<ClaimDevice> {
        self.seen.values().flat_map(|condition| condition.missing.iter().cloned()).collect()
    }

    /// Why the GPU is lost, where it is.
    pub(crate) fn lost(&self, gpu_uuid: &str) -> Option<&Reason> {
        match &self.seen.get(gpu_uuid)?.state {
            State::Lost(reason) => Some(reason),
            _ => None,
        }
    }

    /// Takes in what was seen. `held` are names of devices that claims have.
    pub(crate) fn see(&mut self, observed: ObservedGpus, held: &BTreeSet<String>) {
        let ObservedGpus { mut gpus, is_incomplete } = observed;
        for uuid in self.known.keys() {
            gpus.entry(uuid.clone()).or_insert(Observation::Failing(match is_incomplete {
                true => Reason::Other(0),
                false => Reason::Absent,
            }));
        }
        for (uuid, observation) in gpus {
            let last = self.seen.remove(&uuid);
            let condition = match observation {
                Observation::Well { gpu, instances } => {
                    let state = self.described(*gpu, held);
                    let (foreign, missing) = match (instances, last) {
                        (Some(now), _) => (now.foreign, now.missing),
                        (None, Some(last)) => (last.foreign, last.missing),
                        (None, None) => Default::default(),
                    };
                    Condition { state, foreign, missing, silent: 0 }
                }
                Observation::Failing(reason) => Condition::failing(reason, last),
            };
            self.seen.insert(uuid, condition);
        }
    }

    /// Takes in that nothing could be seen.
    pub(crate) fn see_nothing(&mut self) {
        for uuid in self.known.keys() {
            let last = self.seen.remove(uuid);
            self.seen.insert(uuid.clone(), Condition::failing(Reason::Other(0), last));
        }
    }

    /// Takes a new description, unless it takes devices away that claims have.
    fn described(&mut self, gpu: Gpu, held: &BTreeSet<String>) -> State {
        if let Some(known) = self.known.get(&gpu.uuid) {
            let now = DeviceIndex::new(std::slice::from_ref(&gpu));
            let before = DeviceIndex::new(std::slice::from_ref(known));
            if before.iter().any(|device| held.contains(&device.name) && now.get(&device.name).is_none()) {
                return State::Changed(Box::new(gpu));
            }
        }
        self.known.insert(gpu.uuid.clone(), gpu);
        State::Well
    }

    /// What may be offered while claims have the devices named in `held`.
    pub(crate) fn offer(&mut self, held: &BTreeSet<String>) -> Offer {
        self.settle(held);
        let mut offer = Offer::default();
        let mut names = BTreeSet::new();
        // GPUs that are there first: after a reboot, a lost one's number may be another's.
        let mut ordered: Vec<&Gpu> = self.known.values().collect();
        ordered.sort_by_key(|gpu| !self.is_there(&gpu.uuid));
        for gpu in ordered {
            let Some(condition) = self.seen.get(&gpu.uuid) else { continue };
            let devices = DeviceIndex::new(std::slice::from_ref(gpu));
            let is_held = devices.iter().any(|device| held.contains(&device.name));
            let is_lost = matches!(condition.state, State::Lost(_));
            if (is_lost && !is_held) || devices.iter().any(|device| names.contains(&device.name)) {
                continue;
            }
            names.extend(devices.iter().map(|device| device.name.clone()));
            offer.gpus.push(gpu.clone());
            for device in devices.iter() {
                if let Some(mark) = condition.mark(gpu, &device.name, &device.kind) {
                    offer.marks.insert(device.name.clone(), mark);
                }
            }
        }
        offer
    }

    /// GPUs whose new devices were kept back and may be offered now.
    fn settle(&mut self, held: &BTreeSet<String>) {
        let changed: Vec<Gpu> = self
            .seen
            .values()
            .filter_map(|condition| match &condition.state {
                State::Changed(gpu) => Some(Gpu::clone(gpu)),
                _ => None,
            })
            .collect();
        for gpu in changed {
            let uuid = gpu.uuid.clone();
            let state = self.described(gpu, held);
            if let Some(condition) = self.seen.get_mut(&uuid) {
                condition.state = state;
            }
        }
    }

    /// GPUs worth remembering over a restart: all but those that are lost and free.
    pub(crate) fn worth_keeping(&self, offer: &Offer) -> Vec<Gpu> {
        let offered = |gpu: &&Gpu| offer.gpus.iter().any(|offered| offered.uuid == gpu.uuid);
        self.known.values().filter(|gpu| offered(gpu) || self.lost(&gpu.uuid).is_none()).cloned().collect()
    }
}

impl Condition {
    fn failing(reason: Reason, last: Option<Self>) -> Self {
        let silent = last.as_ref().map_or(0, |last| last.silent) + 1;
        let (foreign, missing) = last.map(|last| (last.foreign, last.missing)).unwrap_or_default();
        // A driver that is being loaded may not list all GPUs at once, and pods are moved for a lost one.
        let is_certain = reason != Reason::Absent || silent >= SILENT_LOOKS;
        match reason {
            Reason::Lost | Reason::Absent | Reason::ResetRequired if is_certain => {
                Self { state: State::Lost(reason), foreign: Vec::new(), missing: BTreeSet::new(), silent }
            }
            _ => Self { state: State::Silent, foreign, missing, silent },
        }
    }

    fn mark(&self, gpu: &Gpu, name: &str, kind: &DeviceKind) -> Option<Mark> {
        match &self.state {
            State::Lost(_) => return Some(Mark::Tainted(Fault::GpuLost)),
            State::Changed(_) => return Some(Mark::Tainted(Fault::MigModeChanged)),
            State::Silent if self.silent >= SILENT_LOOKS => return Some(Mark::Tainted(Fault::Unreachable)),
            State::Well | State::Silent => {}
        }
        if self.missing.iter().any(|(_, device)| device == name) {
            return Some(Mark::Tainted(Fault::InstanceGone));
        }
        let DeviceKind::Mig { profile_id, placement, .. } = kind else { return None };
        // Media engines are one set a GPU; an instance of a profile that is not published may have them.
        let has_media =
            |id: u32| gpu.mig_profiles.iter().find(|p| p.profile_id == id).map(|p| p.has_media_extensions);
        let wants_media = has_media(*profile_id) == Some(true);
        let is_blocked = |foreign: &GpuInstance| {
            foreign.placement.overlaps(*placement)
                || (wants_media && has_media(foreign.profile_id) != Some(false))
        };
        self.foreign.iter().any(is_blocked).then_some(Mark::Withheld)
    }
}

#[cfg(test)]
mod tests;
