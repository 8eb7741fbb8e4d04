//! Session of NVML and its replacement: when NVIDIA's driver is reloaded or upgraded, every call fails until the
//! library is shut down, loaded and initialised again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;

use super::raw::{self, DeviceHandle, Failure, ProfileInfo};
use super::{OpenError, enumerate, library, on_gpu};
use crate::gpus::{GpuError, Reason};

/// Maximum wait for the end of calls to the old library. A wait for events is the longest of them.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// GPU of a session.
#[derive(Debug)]
pub(super) struct KnownGpu {
    pub(super) uuid: String,
    pub(super) handle: DeviceHandle,
    /// All GPU-instance profiles of the GPU, including those that are not published, because foreign instances may
    /// have any of them.
    pub(super) profiles: Vec<ProfileInfo>,
}

/// GPUs that were looked up. Looking them up again takes seconds on a busy node.
#[derive(Debug, Default)]
struct Lookup {
    known: BTreeMap<String, Arc<KnownGpu>>,
    /// Reasons why the GPUs of these indices are not known.
    silent: BTreeMap<u32, Reason>,
}

/// Initialised NVML. It is shut down when the last call that uses it has ended.
pub(super) struct Session {
    pub(super) nvml: Nvml,
    /// Number of the session, from 1.
    pub(super) number: u64,
    is_stale: AtomicBool,
    lookup: RwLock<Lookup>,
}

impl Session {
    fn open(driver_root: &Path, number: u64) -> Result<Self, OpenError> {
        let path = library::find(driver_root)?;
        // An upgraded library has another file name; by the same name the linker would take it for the old one.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let failed = |source| OpenError::Init { path: path.clone(), source };
        let nvml = Nvml::builder().lib_path(path.as_os_str()).init().map_err(failed)?;
        let count = nvml.device_count().map_err(failed)?;
        let silent = (0..count).map(|index| (index, Reason::Other(0))).collect();
        let lookup = RwLock::new(Lookup { known: BTreeMap::new(), silent });
        let session = Self { nvml, number, is_stale: AtomicBool::new(false), lookup };
        session.look_up();
        tracing::info!(library = %path.display(), gpus = session.gpus().len(), "NVML is initialised.");
        Ok(session)
    }

    /// Looks up GPUs that have not responded so far.
    fn look_up(&self) {
        let silent: Vec<(u32, Reason)> = {
            let lookup = self.lookup.read().unwrap_or_else(PoisonError::into_inner);
            lookup.silent.iter().map(|(index, reason)| (*index, reason.clone())).collect()
        };
        for (index, before) in silent {
            let found = known(&self.nvml, index);
            let mut lookup = self.lookup.write().unwrap_or_else(PoisonError::into_inner);
            match found {
                Ok(gpu) => {
                    lookup.silent.remove(&index);
                    lookup.known.insert(gpu.uuid.clone(), Arc::new(gpu));
                }
                Err((call, reason)) => {
                    if reason != before {
                        tracing::warn!(index, call, %reason, "A GPU does not respond, retrying.");
                    }
                    lookup.silent.insert(index, reason);
                }
            }
        }
    }

    /// Returns all GPUs that have responded once.
    pub(super) fn gpus(&self) -> Vec<Arc<KnownGpu>> {
        let lookup = self.lookup.read().unwrap_or_else(PoisonError::into_inner);
        lookup.known.values().cloned().collect()
    }

    /// Returns whether a GPU may exist whose UUID is not known. A lost GPU counts as absent.
    pub(super) fn is_incomplete(&self) -> bool {
        let lookup = self.lookup.read().unwrap_or_else(PoisonError::into_inner);
        lookup.silent.values().any(|reason| !reason.is_gone())
    }

    /// Returns a GPU; [`Reason::Absent`] if the node certainly does not have it.
    pub(super) fn gpu(&self, uuid: &str) -> Result<Arc<KnownGpu>, GpuError> {
        let lookup = self.lookup.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lookup.known.get(uuid) {
            return Ok(Arc::clone(known));
        }
        let silent = lookup.silent.values().find(|reason| !reason.is_gone());
        let reason = silent.cloned().unwrap_or(Reason::Absent);
        Err(on_gpu(uuid)(("look-up", reason)))
    }

    /// Runs calls to NVML, and marks the session as stale if they report that the driver changed.
    pub(super) fn call<T>(&self, act: impl FnOnce(&Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let result = act(self);
        if let Err((call, reason @ Reason::DriverChanged(_))) = &result
            && !self.is_stale.swap(true, Ordering::Relaxed)
        {
            tracing::error!(call, %reason, "NVIDIA's driver changed; NVML must be reopened.");
        }
        result
    }
}

fn known(nvml: &Nvml, index: u32) -> Result<KnownGpu, Failure> {
    let failed = |call| move |error| (call, raw::wrapped(&error));
    let device = nvml.device_by_index(index).map_err(failed("nvmlDeviceGetHandleByIndex_v2"))?;
    let uuid = device.uuid().map_err(failed("nvmlDeviceGetUUID"))?;
    let handle = raw::handle(&device);
    let profiles = match enumerate(|profile| raw::gpu_instance_profile(nvml.lib(), handle, profile)) {
        Ok(profiles) => profiles,
        // The GPU or its driver does not support MIG.
        Err((_, Reason::FunctionMissing)) => Vec::new(),
        Err(failure) => return Err(failure),
    };
    Ok(KnownGpu { uuid, handle, profiles })
}

struct Current {
    session: Option<Arc<Session>>,
    /// Reason why there is no session.
    missing: String,
    opened: u64,
}

/// Session of the process, which is replaced while threads use it.
pub(super) struct Sessions {
    driver_root: PathBuf,
    current: RwLock<Current>,
    /// Lock that makes sure that one session is opened at a time.
    opening: Mutex<()>,
}

impl Sessions {
    pub(super) fn new(driver_root: &Path) -> Self {
        let current = Current { session: None, missing: "it was not opened yet".to_owned(), opened: 0 };
        Self { driver_root: driver_root.to_owned(), current: RwLock::new(current), opening: Mutex::new(()) }
    }

    pub(super) fn current(&self) -> Option<Arc<Session>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).session.clone()
    }

    pub(super) fn get(&self) -> Result<Arc<Session>, GpuError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let missing = || on_gpu("this node")(("NVML", Reason::NoSession(current.missing.clone())));
        current.session.clone().ok_or_else(missing)
    }

    pub(super) fn refresh(&self, anew: bool) -> Result<(), GpuError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        match self.current() {
            Some(session) if !anew && !session.is_stale.load(Ordering::Relaxed) => session.look_up(),
            Some(session) => {
                let number = session.number;
                drop(session);
                self.close();
                self.open(number + 1);
            }
            None => {
                let opened = self.current.read().unwrap_or_else(PoisonError::into_inner).opened;
                self.open(opened + 1);
            }
        }
        self.get().map(drop)
    }

    /// Drops the session and waits for the last call that uses it, so that the library is really shut down.
    fn close(&self) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = current.session.take();
        current.missing = "it is being opened again".to_owned();
        drop(current);
        let Some(old) = old else { return };
        let begin = Instant::now();
        // A thread may hang in the library forever. The next session is then a second user of the old library, and is
        // closed in its turn.
        while Arc::strong_count(&old) > 1 && begin.elapsed() < LAST_CALLS {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn open(&self, number: u64) {
        let opened = Session::open(&self.driver_root, number);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match opened {
            Ok(session) => {
                current.session = Some(Arc::new(session));
                current.opened = number;
            }
            Err(error) => current.missing = error.to_string(),
        }
    }
}
