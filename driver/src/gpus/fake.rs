//! GPUs in memory for tests: the placements of one A100 40 GB, instances that any program may add, and calls that can
//! be made to fail.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use sluice_inventory::{Gpu, Placement};

use super::{ComputeInstance, Discovered, GpuError, GpuInstance, Gpus, Reason, XidEvent, XidWatch};

pub(crate) const GPU_UUID: &str = "GPU-0";

#[derive(Default)]
struct State {
    instances: BTreeMap<u32, (GpuInstance, Vec<ComputeInstance>)>,
    failing: BTreeMap<&'static str, Reason>,
    calls: Vec<&'static str>,
    steals: bool,
}

/// GPU `GPU-0` with MIG mode on.
#[derive(Default)]
pub(crate) struct FakeGpus(Mutex<State>);

impl FakeGpus {
    /// Makes every call of `method` fail until [`Self::heal`].
    pub(crate) fn fail(&self, method: &'static str, reason: Reason) {
        self.0.lock().unwrap().failing.insert(method, reason);
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().failing.clear();
    }

    /// Returns the existing instances: id, profile id, start, number of compute instances.
    pub(crate) fn standing(&self) -> Vec<(u32, u32, u8, usize)> {
        let state = self.0.lock().unwrap();
        let all = state.instances.values();
        all.map(|(gi, cis)| (gi.id, gi.profile_id, gi.placement.start, cis.len())).collect()
    }

    /// Returns whether an instance covers any of these memory slices.
    pub(crate) fn is_taken(&self, placement: Placement) -> bool {
        self.0.lock().unwrap().instances.values().any(|(gi, _)| gi.placement.overlaps(placement))
    }

    /// Adds an instance of another program and returns its id.
    pub(crate) fn add_foreign(&self, profile_id: u32, placement: Placement) -> u32 {
        self.0.lock().unwrap().add(profile_id, placement).id
    }

    /// Makes the next create come too late: another program has created the same instance.
    pub(crate) fn steal_next_place(&self) {
        self.0.lock().unwrap().steals = true;
    }

    /// Removes all instances, as a reboot or a user of nvidia-smi does.
    pub(crate) fn wipe(&self) {
        self.0.lock().unwrap().instances.clear();
    }

    /// Returns the calls that changed something, in order.
    pub(crate) fn changes(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().calls.clone()
    }

    fn call<T>(
        &self,
        method: &'static str,
        act: impl FnOnce(&mut State) -> Result<T, Reason>,
    ) -> Result<T, GpuError> {
        let mut state = self.0.lock().unwrap();
        let result = match state.failing.get(method) {
            Some(reason) => Err(reason.clone()),
            None => act(&mut state),
        };
        if result.is_ok() && (method.starts_with("create") || method.starts_with("destroy")) {
            state.calls.push(method);
        }
        result.map_err(|reason| GpuError { call: method, gpu: GPU_UUID.to_owned(), reason })
    }
}

impl State {
    fn add(&mut self, profile_id: u32, placement: Placement) -> GpuInstance {
        // Real GPUs number halves, quarters and eighths like this.
        let id = u32::from(8 / placement.size - 1 + placement.start / placement.size);
        let instance = GpuInstance { id, profile_id, placement };
        self.instances.insert(id, (instance, Vec::new()));
        instance
    }

    fn get(&mut self, id: u32) -> Result<&mut (GpuInstance, Vec<ComputeInstance>), Reason> {
        self.instances.get_mut(&id).ok_or(Reason::NotFound)
    }
}

/// Returns the GPU as [`Gpus::discover`] describes it.
pub(crate) fn gpu() -> Gpu {
    let gpu = sluice_testkit::gpus::a100(0, &["1g.5gb", "2g.10gb", "3g.20gb"]);
    Gpu { uuid: GPU_UUID.to_owned(), product: "A100-SXM4-40GB".to_owned(), ..gpu }
}

impl Gpus for FakeGpus {
    fn refresh(&self, _: bool) -> Result<(), GpuError> {
        self.call("refresh", |_| Ok(()))
    }

    fn discover(&self) -> Result<Discovered, GpuError> {
        self.call("discover", |_| Ok(Discovered { gpus: vec![gpu()], ..Discovered::default() }))
    }

    fn check_whole(&self, _: &str) -> Result<(), GpuError> {
        self.call("check_whole", |_| Ok(()))
    }

    fn gpu_instances(&self, _: &str) -> Result<Vec<GpuInstance>, GpuError> {
        self.call("gpu_instances", |state| Ok(state.instances.values().map(|(gi, _)| *gi).collect()))
    }

    fn create_gpu_instance(
        &self,
        _: &str,
        profile_id: u32,
        placement: Placement,
    ) -> Result<GpuInstance, GpuError> {
        self.call("create_gpu_instance", |state| {
            if std::mem::take(&mut state.steals) {
                state.add(profile_id, placement);
            }
            match state.instances.values().any(|(gi, _)| gi.placement.overlaps(placement)) {
                true => Err(Reason::Occupied),
                false => Ok(state.add(profile_id, placement)),
            }
        })
    }

    fn destroy_gpu_instance(&self, _: &str, id: u32) -> Result<(), GpuError> {
        self.call("destroy_gpu_instance", |state| match state.get(id)?.1.is_empty() {
            true => {
                state.instances.remove(&id);
                Ok(())
            }
            false => Err(Reason::InUse),
        })
    }

    fn compute_instances(&self, _: &str, id: u32) -> Result<Vec<ComputeInstance>, GpuError> {
        self.call("compute_instances", |state| Ok(state.get(id)?.1.clone()))
    }

    fn create_compute_instance(&self, _: &str, id: u32) -> Result<ComputeInstance, GpuError> {
        self.call("create_compute_instance", |state| {
            let compute = ComputeInstance { id: 0, uuid: format!("MIG-{id}-0") };
            state.get(id)?.1.push(compute.clone());
            Ok(compute)
        })
    }

    fn destroy_compute_instance(&self, _: &str, id: u32, compute: u32) -> Result<(), GpuError> {
        self.call("destroy_compute_instance", |state| {
            state.get(id)?.1.retain(|instance| instance.id != compute);
            Ok(())
        })
    }

    fn watch_xids(&self) -> Box<dyn XidWatch> {
        Box::new(NoXids)
    }
}

struct NoXids;

impl XidWatch for NoXids {
    fn next(&mut self, _: Duration) -> Result<Option<XidEvent>, GpuError> {
        Ok(None)
    }
}
