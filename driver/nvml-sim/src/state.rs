//! What all processes share: `state.json`, the instances on each simulated GPU and the events that happened.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::geometry::Placement;
use crate::topology::Board;

/// Events kept; older ones are forgotten, as the real driver forgets those that nobody waits for.
pub const MAX_EVENTS: usize = 256;

/// In an event: not one instance but the whole GPU.
pub const WHOLE_GPU: u32 = 0xFFFF_FFFF;

/// Everything that lives as long as the machine is up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// The number that the next created instance gets; it tells incarnations of the same id apart.
    pub next_generation: u64,
    /// The number that the next event gets.
    pub next_event: u64,
    /// The GPUs in the order of the topology.
    pub gpus: Vec<GpuState>,
    /// The last events, oldest first.
    pub events: VecDeque<Event>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuState {
    /// Its UUID, which ties it to the topology.
    pub uuid: String,
    /// Whether MIG is on.
    pub mig_enabled: bool,
    /// Whether MIG will be on after the next reset.
    pub mig_pending: bool,
    /// Existing GPU instances, by id.
    pub gpu_instances: Vec<GpuInstance>,
    /// Whether it has fallen off the bus: every call to it answers GPU_IS_LOST.
    #[serde(default)]
    pub lost: bool,
}

/// One GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuInstance {
    /// GPU-instance id, which follows from the placement.
    pub id: u32,
    /// Id of its profile.
    pub profile_id: u32,
    /// First memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
    /// Number of this incarnation.
    pub generation: u64,
    /// Existing compute instances, by id.
    pub compute_instances: Vec<ComputeInstance>,
}

/// One compute instance, and the MIG device that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComputeInstance {
    /// Compute-instance id inside its GPU instance.
    pub id: u32,
    /// Id of its profile.
    pub profile_id: u32,
    /// First compute slice inside its GPU instance.
    pub start: u32,
    /// Compute slices.
    pub size: u32,
    /// Number of this incarnation.
    pub generation: u64,
    /// UUID of the MIG device.
    pub uuid: String,
}

/// One event for those that wait in `nvmlEventSetWait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Its number, growing.
    pub sequence: u64,
    /// The GPU.
    pub gpu_uuid: String,
    /// One bit of `nvmlEventType*`.
    pub event_type: u64,
    /// For an XID event its number.
    pub data: u64,
    /// GPU instance, or [`WHOLE_GPU`].
    pub gpu_instance_id: u32,
    /// Compute instance, or [`WHOLE_GPU`].
    pub compute_instance_id: u32,
}

impl GpuInstance {
    /// Its interval of memory slices.
    pub fn placement(&self) -> Placement {
        Placement { start: self.start, size: self.size }
    }
}

impl ComputeInstance {
    /// Its interval of compute slices.
    pub fn placement(&self) -> Placement {
        Placement { start: self.start, size: self.size }
    }
}

impl State {
    /// The state with exactly the GPUs of `boards`, in their order: known ones stay as they are, new ones start empty,
    /// those that the topology names no more are gone.
    pub(crate) fn on(mut self, boards: &[Board]) -> State {
        let mut known = std::mem::take(&mut self.gpus);
        self.gpus = boards
            .iter()
            .map(|board| match known.iter().position(|gpu| gpu.uuid == board.uuid) {
                Some(at) => known.swap_remove(at),
                None => GpuState {
                    uuid: board.uuid.clone(),
                    mig_enabled: board.mig_enabled,
                    mig_pending: board.mig_enabled,
                    gpu_instances: Vec::new(),
                    lost: false,
                },
            })
            .collect();
        self
    }

    /// A number for a new incarnation.
    pub(crate) fn generation(&mut self) -> u64 {
        self.next_generation += 1;
        self.next_generation
    }

    /// Records an event; (gpu instance, compute instance) may each be [`WHOLE_GPU`].
    pub(crate) fn push_event(&mut self, gpu_uuid: &str, event_type: u64, data: u64, scope: (u32, u32)) {
        self.next_event += 1;
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            sequence: self.next_event,
            gpu_uuid: gpu_uuid.to_owned(),
            event_type,
            data,
            gpu_instance_id: scope.0,
            compute_instance_id: scope.1,
        });
    }
}
