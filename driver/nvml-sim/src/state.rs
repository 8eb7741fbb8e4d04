//! State that all processes share (`state.json`): the instances on each simulated GPU, and recent events.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::geometry::Placement;
use crate::topology::Board;

/// Maximum events that are kept. Older ones are dropped, as the real driver drops those that no process waits for.
pub const MAX_EVENTS: usize = 256;

/// Instance id in events that concern the whole GPU.
pub const WHOLE_GPU: u32 = 0xFFFF_FFFF;

/// State of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Generation of the next created instance, which tells incarnations of the same id apart.
    pub next_generation: u64,
    /// Sequence number of the next event.
    pub next_event: u64,
    /// GPUs in the order of the topology.
    pub gpus: Vec<GpuState>,
    /// Last events, oldest first.
    pub events: VecDeque<Event>,
}

/// State of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuState {
    /// UUID, by which the topology refers to the GPU.
    pub uuid: String,
    /// Whether MIG mode is on.
    pub mig_enabled: bool,
    /// Whether MIG mode will be on after the next reset.
    pub mig_pending: bool,
    /// Existing GPU instances, by id.
    pub gpu_instances: Vec<GpuInstance>,
    /// Whether the GPU has fallen off the bus: every call to it returns GPU_IS_LOST.
    #[serde(default)]
    pub lost: bool,
}

/// GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuInstance {
    /// Id, which follows from the placement.
    pub id: u32,
    /// Id of the profile.
    pub profile_id: u32,
    /// First memory slice.
    pub start: u32,
    /// Number of memory slices.
    pub size: u32,
    /// Generation of this incarnation.
    pub generation: u64,
    /// Existing compute instances, by id.
    pub compute_instances: Vec<ComputeInstance>,
}

/// Compute instance, and the MIG device that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComputeInstance {
    /// Id inside the GPU instance.
    pub id: u32,
    /// Id of the profile.
    pub profile_id: u32,
    /// First compute slice inside the GPU instance.
    pub start: u32,
    /// Number of compute slices.
    pub size: u32,
    /// Generation of this incarnation.
    pub generation: u64,
    /// UUID of the MIG device.
    pub uuid: String,
}

/// Event for processes that wait in `nvmlEventSetWait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Sequence number, which only grows.
    pub sequence: u64,
    /// UUID of the GPU.
    pub gpu_uuid: String,
    /// Type: one bit of `nvmlEventType*`.
    pub event_type: u64,
    /// XID number of an XID event.
    pub data: u64,
    /// Id of the GPU instance, or [`WHOLE_GPU`].
    pub gpu_instance_id: u32,
    /// Id of the compute instance, or [`WHOLE_GPU`].
    pub compute_instance_id: u32,
}

impl GpuInstance {
    /// Returns the interval of memory slices.
    pub fn placement(&self) -> Placement {
        Placement { start: self.start, size: self.size }
    }
}

impl ComputeInstance {
    /// Returns the interval of compute slices.
    pub fn placement(&self) -> Placement {
        Placement { start: self.start, size: self.size }
    }
}

impl State {
    /// Returns the state with exactly the GPUs of `boards`, in their order: known ones stay as they are, new ones
    /// start without instances, and those that are not in the topology any more are removed.
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

    /// Returns the generation of a new incarnation.
    pub(crate) fn generation(&mut self) -> u64 {
        self.next_generation += 1;
        self.next_generation
    }

    /// Records an event. `scope` are the ids of GPU instance and compute instance, each of which may be
    /// [`WHOLE_GPU`].
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
