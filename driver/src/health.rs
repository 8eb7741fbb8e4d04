//! Health of the GPUs: from observations to what may be offered. Pure.
//!
//! A GPU that is lost, or whose MIG mode was changed, is tainted as long as a claim has a device of it, so that
//! Kubernetes moves the claim's pods; afterwards a lost GPU is not offered, and a changed one is offered as it is
//! now. A slice whose instance is gone is tainted until its claim ends. Placements that a foreign instance occupies
//! are not offered until it is gone.

use std::collections::{BTreeMap, BTreeSet};

use sluice_inventory::{DeviceIndex, DeviceKind, Gpu};

use crate::device_state::{ClaimDevice, Observation, ObservedGpus};
use crate::gpus::{GpuInstance, Reason};

/// Consecutive checks without a response after which a GPU gets no new claims. One failed call is not enough
/// evidence.
const SILENT_LOOKS: u32 = 2;

/// Reason why a device is withheld from claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The GPU is gone, and nothing on it can be used.
    GpuLost,
    /// The MIG instance of a claim was destroyed by another program or by a reset.
    InstanceGone,
    /// MIG mode was switched while a claim had a device of the GPU.
    MigModeChanged,
    /// The GPU does not respond at the moment.
    Unreachable,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] =
        [Self::GpuLost, Self::InstanceGone, Self::MigModeChanged, Self::Unreachable];

    /// Returns the name in the key of the taint.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GpuLost => "gpu-lost",
            Self::InstanceGone => "instance-gone",
            Self::MigModeChanged => "mig-mode-changed",
            Self::Unreachable => "unreachable",
        }
    }

    /// Returns the reason of the Kubernetes Event.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::GpuLost => "GPULost",
            Self::InstanceGone => "MIGInstanceGone",
            Self::MigModeChanged => "MIGModeChanged",
            Self::Unreachable => "GPUUnreachable",
        }
    }

    /// Returns whether pods that have the device are moved, because they cannot use it any more.
    pub(crate) fn ends_pods(self) -> bool {
        self != Self::Unreachable
    }
}

/// Restriction of a device that is not offered normally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Published with a taint.
    Tainted(Fault),
    /// Not published.
    Withheld,
}

/// Known GPUs of the node and their condition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    /// GPUs by UUID, as described at the last successful check.
    known: BTreeMap<String, Gpu>,
    /// Condition at the last check, by UUID of the GPU.
    seen: BTreeMap<String, Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    state: State,
    /// Foreign instances on the GPU, from the last check that could list instances.
    foreign: Vec<GpuInstance>,
    missing: BTreeSet<ClaimDevice>,
    /// Number of consecutive checks without a response.
    silent: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Well,
    /// The GPU responds, and its devices differ from those that claims still hold.
    Changed(Box<Gpu>),
    Lost(Reason),
    Silent,
}

/// GPUs and devices to be offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Published GPUs.
    pub gpus: Vec<Gpu>,
    /// Restrictions of their devices, by name of the device.
    pub marks: BTreeMap<String, Mark>,
}

impl Inventory {
    /// Starts with the GPUs of an earlier run, which have not been observed yet.
    pub(crate) fn remembered(gpus: Vec<Gpu>) -> Self {
        let known = gpus.into_iter().map(|gpu| (gpu.uuid.clone(), gpu)).collect();
        Self { known, seen: BTreeMap::new() }
    }

    /// Returns all known GPUs in any state, except a lost one whose minor number another GPU has now.
    pub(crate) fn gpus(&self) -> Vec<Gpu> {
        let is_there = |gpu: &Gpu| self.is_there(&gpu.uuid);
        let is_replaced =
            |gpu: &&Gpu| !is_there(gpu) && self.known.values().any(|o| o.minor == gpu.minor && is_there(o));
        self.known.values().filter(|gpu| !is_replaced(gpu)).cloned().collect()
    }

    /// Returns whether the GPU responded at the last check.
    fn is_there(&self, gpu_uuid: &str) -> bool {
        let state = self.seen.get(gpu_uuid).map(|condition| &condition.state);
        matches!(state, Some(State::Well | State::Changed(_)))
    }

    /// Returns whether a GPU did not respond at the last check and may respond at the next.
    pub(crate) fn has_silent_gpus(&self) -> bool {
        self.seen.values().any(|condition| condition.state == State::Silent)
    }

    /// Returns whether a known GPU is lost. It may come back.
    pub(crate) fn misses_gpus(&self) -> bool {
        self.seen.values().any(|condition| matches!(condition.state, State::Lost(_)))
    }

    /// Returns devices of prepared claims whose MIG instance is gone.
    pub(crate) fn missing(&self) -> BTreeSet<ClaimDevice> {
        self.seen.values().flat_map(|condition| condition.missing.iter().cloned()).collect()
    }

    /// Returns why the GPU is lost; `None` if it is not.
    pub(crate) fn lost(&self, gpu_uuid: &str) -> Option<&Reason> {
        match &self.seen.get(gpu_uuid)?.state {
            State::Lost(reason) => Some(reason),
            _ => None,
        }
    }

    /// Records an observation. `held` are the names of devices that claims hold.
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

    /// Records that no GPU could be observed.
    pub(crate) fn see_nothing(&mut self) {
        for uuid in self.known.keys() {
            let last = self.seen.remove(uuid);
            self.seen.insert(uuid.clone(), Condition::failing(Reason::Other(0), last));
        }
    }

    /// Takes over a new description of a GPU, unless it lacks devices that claims hold.
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

    /// Returns what may be offered while claims hold the devices in `held`.
    pub(crate) fn offer(&mut self, held: &BTreeSet<String>) -> Offer {
        self.settle(held);
        let mut offer = Offer::default();
        let mut names = BTreeSet::new();
        // GPUs that respond come first: after a reboot, another GPU may have the minor number of a lost one.
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

    /// Takes over new descriptions that were kept back and lack no held device any more.
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

    /// Returns the GPUs to save for the next start: all except those that are lost and not held.
    pub(crate) fn worth_keeping(&self, offer: &Offer) -> Vec<Gpu> {
        let offered = |gpu: &&Gpu| offer.gpus.iter().any(|offered| offered.uuid == gpu.uuid);
        self.known.values().filter(|gpu| offered(gpu) || self.lost(&gpu.uuid).is_none()).cloned().collect()
    }
}

impl Condition {
    fn failing(reason: Reason, last: Option<Self>) -> Self {
        let silent = last.as_ref().map_or(0, |last| last.silent) + 1;
        let (foreign, missing) = last.map(|last| (last.foreign, last.missing)).unwrap_or_default();
        // While the NVIDIA driver is being loaded, it may not list all GPUs, and for a lost GPU pods are moved.
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
        // A GPU has one set of media engines, which an instance of an unpublished profile may have.
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
