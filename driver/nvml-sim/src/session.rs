//! Session of a process: the library between `nvmlInit` and `nvmlShutdown`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::code::Code;
use crate::geometry::Model;
use crate::handles::{Handles, Object};
use crate::mig::Incarnation;
use crate::state::{ComputeInstance, GpuInstance, State};
use crate::store::StateFile;
use crate::topology::{Board, Topology, TopologyError};
use crate::waiting::EventSet;

/// Open library. Each call holds an `Arc` of it, so a shutdown in another thread does not destroy it during the call.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) topology: Topology,
    pub(crate) store: StateFile,
    pub(crate) handles: Mutex<Handles>,
    pub(crate) event_sets: Mutex<HashMap<u64, EventSet>>,
}

/// Number of initialisations, and the open session.
static OPEN: Mutex<(u32, Option<Arc<Session>>)> = Mutex::new((0, None));

/// Locks a mutex. A panic of another holder is ignored, because every change under a lock is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one more initialisation. The first one reads the topology in `home`.
pub(crate) fn open(function: &str, home: &Path) -> Result<(), Code> {
    let mut open = lock(&OPEN);
    if open.1.is_none() {
        let session = Session::load(home).map_err(|error| {
            crate::report(&error);
            Code::DRIVER_NOT_LOADED
        })?;
        std::thread::sleep(session.topology.latency_of(function));
        open.1 = Some(Arc::new(session));
    }
    open.0 += 1;
    Ok(())
}

/// Counts one initialisation less. The last one closes the library and makes all handles invalid.
pub(crate) fn close() -> Result<(), Code> {
    let mut open = lock(&OPEN);
    open.0 = open.0.checked_sub(1).ok_or(Code::UNINITIALIZED)?;
    if open.0 == 0 {
        open.1 = None;
    }
    Ok(())
}

/// Returns the open library.
pub(crate) fn current() -> Result<Arc<Session>, Code> {
    lock(&OPEN).1.clone().ok_or(Code::UNINITIALIZED)
}

/// Device of a handle, with its present state.
#[derive(Debug)]
pub(crate) struct Device<'a> {
    pub(crate) gpu: usize,
    pub(crate) board: &'a Board,
    pub(crate) state: State,
    /// Instances of a MIG device; `None` for a whole GPU.
    pub(crate) mig: Option<(GpuInstance, ComputeInstance)>,
}

/// Returns an error if the GPU has fallen off the bus.
pub(crate) fn check_not_lost(state: &State, gpu: usize) -> Result<(), Code> {
    match state.gpus.get(gpu) {
        Some(gpu) if gpu.lost => Err(Code::GPU_IS_LOST),
        _ => Ok(()),
    }
}

impl Session {
    fn load(home: &Path) -> Result<Session, TopologyError> {
        let topology = Topology::read(&home.join("topology.yaml"))?;
        let store = StateFile::new(home.to_owned(), topology.boards()?);
        Ok(Session { topology, store, handles: Mutex::default(), event_sets: Mutex::default() })
    }

    /// Returns the handle of an object.
    pub(crate) fn handle_of(&self, object: Object) -> usize {
        lock(&self.handles).of(object)
    }

    /// Returns the object of a handle.
    pub(crate) fn object(&self, address: usize) -> Result<Object, Code> {
        lock(&self.handles).object(address)
    }

    /// Returns a GPU or MIG device that exists now.
    pub(crate) fn device(&self, address: usize) -> Result<Device<'_>, Code> {
        let object = self.object(address)?;
        let state = self.store.read()?;
        let (gpu, mig) = match object {
            Object::Gpu(gpu) => (gpu, None),
            Object::MigDevice(gpu, parent, instance) => {
                let of_gpu = state.gpus.get(gpu).ok_or(Code::INVALID_ARGUMENT)?;
                let found = of_gpu.mig_devices().find(|(owner, compute)| {
                    owner.id == parent
                        && compute.id == instance.id
                        && compute.generation == instance.generation
                });
                let (owner, compute) = found.ok_or(Code::INVALID_ARGUMENT)?;
                (gpu, Some((owner.clone(), compute.clone())))
            }
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        let board = self.store.boards().get(gpu).ok_or(Code::INVALID_ARGUMENT)?;
        check_not_lost(&state, gpu)?;
        Ok(Device { gpu, board, state, mig })
    }

    /// Returns a whole GPU; an error for a MIG device, which does not support the call.
    pub(crate) fn gpu(&self, address: usize) -> Result<Device<'_>, Code> {
        let device = self.device(address)?;
        if device.mig.is_some() { Err(Code::NOT_SUPPORTED) } else { Ok(device) }
    }

    /// Returns a GPU instance that exists now, with its GPU.
    pub(crate) fn gpu_instance(&self, address: usize) -> Result<(Device<'_>, GpuInstance), Code> {
        let Object::GpuInstance(gpu, incarnation) = self.object(address)? else {
            return Err(Code::INVALID_ARGUMENT);
        };
        let state = self.store.read()?;
        let instance = state.gpus.get(gpu).ok_or(Code::INVALID_ARGUMENT)?.gpu_instance(incarnation)?.clone();
        let board = self.store.boards().get(gpu).ok_or(Code::INVALID_ARGUMENT)?;
        check_not_lost(&state, gpu)?;
        Ok((Device { gpu, board, state, mig: None }, instance))
    }

    /// Returns the handle of the MIG device of a compute instance.
    pub(crate) fn mig_handle(&self, gpu: usize, parent: &GpuInstance, instance: &ComputeInstance) -> usize {
        let incarnation = Incarnation { id: instance.id, generation: instance.generation };
        self.handle_of(Object::MigDevice(gpu, parent.id, incarnation))
    }
}

impl Device<'_> {
    /// Returns the model of the GPU.
    pub(crate) fn model(&self) -> &'static Model {
        self.board.model
    }

    /// Returns the UUID.
    pub(crate) fn uuid(&self) -> &str {
        self.mig.as_ref().map_or(&self.board.uuid, |(_, compute)| &compute.uuid)
    }

    /// Returns the product name.
    pub(crate) fn name(&self) -> String {
        let product = self.model().product_name;
        let profile = self
            .mig
            .as_ref()
            .and_then(|(parent, compute)| parent.compute_profile(self.model(), compute.profile_id).ok());
        profile.map_or_else(|| product.to_owned(), |profile| format!("{product} MIG {}", profile.name))
    }

    /// Returns the memory in bytes: that of the GPU, or of the GPU instance.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let profile = self.mig.as_ref().and_then(|(parent, _)| self.model().profile(parent.profile_id));
        profile.map_or(self.model().memory_mib, |profile| profile.memory_mib) << 20
    }
}
