//! Installation for tests and demonstrations: a folder with the library, its topology, its state and its faults.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings as sys;

use crate::code::Code;
use crate::fault::{Blocked, Fault, FaultError, FaultPoint};
use crate::geometry::{ComputeProfile, Placement};
use crate::mig::Incarnation;
use crate::state::{State, WHOLE_GPU};
use crate::store::{StateError, StateFile};
use crate::topology::{Topology, TopologyError};

/// Name by which clients look for the library.
pub const LIBRARY_NAME: &str = "libnvidia-ml.so.1";

/// Period of polling while waiting.
const POLL: Duration = Duration::from_millis(2);

/// Folder with an installed library.
#[derive(Debug, Clone)]
pub struct Installation {
    dir: PathBuf,
    store: StateFile,
}

/// GPU instance in the state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Index of the GPU.
    pub gpu: usize,
    /// UUID of the GPU.
    pub gpu_uuid: String,
    /// Id of the GPU instance.
    pub gpu_instance_id: u32,
    /// Name of its profile, such as `1g.5gb`.
    pub profile: &'static str,
    /// First memory slice.
    pub start: u32,
    /// Number of memory slices.
    pub size: u32,
    /// Id and MIG UUID of each compute instance.
    pub compute_instances: Vec<(u32, String)>,
}

/// Reason why an installation could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The topology is invalid.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The library has not been built.
    #[error("no libnvidia_ml.so in {}; `cargo build -p sluice-nvml-sim` makes it", searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoLibrary {
        /// Folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// The file system failed.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// MIG does not allow the operation.
    #[error("the simulated GPU {gpu} refuses: {}", .code.text().unwrap_or(c"unknown code").to_string_lossy())]
    Refused {
        /// Index of the GPU.
        gpu: usize,
        /// Return code of NVML.
        code: Code,
    },
}

/// Returns the path of the cdylib that cargo built together with the running program: beside it, in `deps/`, or in
/// the folder above.
///
/// Cargo builds this crate before the programs and tests of a package that depends on it, also by a dev-dependency.
pub fn built_library() -> Result<PathBuf, InstallError> {
    let program = std::env::current_exe()
        .map_err(|source| InstallError::Io { path: PathBuf::from("/proc/self/exe"), source })?;
    let beside = program.parent().map(Path::to_owned).unwrap_or_default();
    // The newest file is used, because an older one may be left over from another command.
    let above = beside.parent().map(Path::to_owned).unwrap_or_default();
    let searched = vec![beside.clone(), beside.join("deps"), above];
    let found = searched.iter().map(|folder| folder.join("libnvidia_ml.so")).filter_map(|path| {
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        Some((modified, path))
    });
    match found.max() {
        Some((_, path)) => Ok(path),
        None => Err(InstallError::NoLibrary { searched }),
    }
}

/// Writes `topology.yaml` into `dir`, which is created if needed, and copies the built library there as
/// `libnvidia-ml.so.1`. Existing state stays.
pub fn install(dir: &Path, topology: &Topology) -> Result<Installation, InstallError> {
    install_library(&built_library()?, dir, topology)
}

/// Does as [`install`], with the given library file.
pub fn install_library(
    library: &Path,
    dir: &Path,
    topology: &Topology,
) -> Result<Installation, InstallError> {
    let boards = topology.boards()?;
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| InstallError::Io { path, source }
    };
    let dir = std::path::absolute(dir).map_err(io_error(dir))?;
    fs::create_dir_all(&dir).map_err(io_error(&dir))?;
    let yaml = serde_saphyr::to_string(topology)
        .map_err(|error| io_error(&dir.join("topology.yaml"))(io::Error::other(error)))?;
    replace(&dir.join("topology.yaml"), |path| fs::write(path, yaml))?;
    // The library is copied and not linked, because the dynamic linker takes two names of one file for one library.
    replace(&dir.join(LIBRARY_NAME), |path| fs::copy(library, path).map(|_| ()))?;
    Ok(Installation { store: StateFile::new(dir.clone(), boards), dir })
}

/// Replaces the file `path` in one step.
fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), InstallError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    write(&temporary)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|source| InstallError::Io { path: path.to_owned(), source })
}

impl Installation {
    /// Opens an installation that another process made.
    pub fn open(dir: &Path) -> Result<Installation, InstallError> {
        let dir =
            std::path::absolute(dir).map_err(|source| InstallError::Io { path: dir.to_owned(), source })?;
        let topology = Topology::read(&dir.join("topology.yaml"))?;
        Ok(Installation { store: StateFile::new(dir.clone(), topology.boards()?), dir })
    }

    /// Returns the folder. A client finds the library with `LD_LIBRARY_PATH` set to it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the library.
    pub fn library(&self) -> PathBuf {
        self.dir.join(LIBRARY_NAME)
    }

    /// Returns the present state.
    pub fn state(&self) -> Result<State, InstallError> {
        Ok(self.store.read()?)
    }

    /// Returns all GPU instances, by GPU and id.
    pub fn instances(&self) -> Result<Vec<Instance>, InstallError> {
        let state = self.store.read()?;
        let gpus = state.gpus.iter().zip(self.store.boards()).enumerate();
        let instances = gpus.flat_map(|(gpu, (state, board))| {
            state.gpu_instances.iter().map(move |instance| Instance {
                gpu,
                gpu_uuid: board.uuid.clone(),
                gpu_instance_id: instance.id,
                profile: board.model.profile(instance.profile_id).map_or("unknown", |profile| profile.name),
                start: instance.start,
                size: instance.size,
                compute_instances: instance
                    .compute_instances
                    .iter()
                    .map(|compute| (compute.id, compute.uuid.clone()))
                    .collect(),
            })
        });
        Ok(instances.collect())
    }

    /// Creates a GPU instance with one compute instance over all of it, as an administrator does by hand: for a
    /// driver it is foreign. Returns the UUID of the MIG device.
    pub fn create_instance(&self, gpu: usize, profile_id: u32, start: u32) -> Result<String, InstallError> {
        let board = self.board(gpu)?;
        let refused = |code| InstallError::Refused { gpu, code };
        self.store.update(|state| {
            let profile = board.model.profile(profile_id).ok_or(refused(Code::INVALID_ARGUMENT))?;
            let whole = ComputeProfile::all(board.model, profile).pop().ok_or(refused(Code::UNKNOWN))?;
            let (generation, compute_generation) = (state.generation(), state.generation());
            let gpu = state.gpus.get_mut(gpu).ok_or(refused(Code::UNKNOWN))?;
            let placement = Some(Placement { start, size: profile.size });
            let instance =
                gpu.create_gpu_instance(board.model, profile_id, placement, generation).map_err(refused)?;
            let within = Incarnation { id: instance.id, generation };
            gpu.create_compute_instance(board.model, within, (whole.id, None), compute_generation, None)
                .map(|compute| compute.uuid)
                .map_err(refused)
        })
    }

    /// Destroys all instances and removes all events, as a reboot does. The MIG mode stays.
    pub fn reboot(&self) -> Result<(), InstallError> {
        self.store.update(|state| {
            state.gpus.iter_mut().for_each(|gpu| gpu.gpu_instances.clear());
            state.events.clear();
            Ok(())
        })
    }

    /// Makes a GPU fall off the bus: every call to it returns GPU_IS_LOST until [`Self::reset_gpu`].
    pub fn lose_gpu(&self, gpu: usize) -> Result<(), InstallError> {
        self.change_gpu(gpu, |state| state.lost = true)
    }

    /// Destroys the instances of a GPU, as a reset or an administrator does. A lost GPU is back afterwards.
    pub fn reset_gpu(&self, gpu: usize) -> Result<(), InstallError> {
        self.change_gpu(gpu, |state| {
            state.lost = false;
            state.gpu_instances.clear();
        })
    }

    /// Switches MIG mode as an administrator does by hand. Switching it off destroys the instances.
    pub fn set_mig_mode(&self, gpu: usize, enabled: bool) -> Result<(), InstallError> {
        self.change_gpu(gpu, |state| {
            (state.mig_enabled, state.mig_pending) = (enabled, enabled);
            if !enabled {
                state.gpu_instances.clear();
            }
        })
    }

    fn change_gpu(
        &self,
        gpu: usize,
        change: impl FnOnce(&mut crate::state::GpuState),
    ) -> Result<(), InstallError> {
        self.store.update(|state| {
            let state = state.gpus.get_mut(gpu);
            change(state.ok_or(InstallError::Refused { gpu, code: Code::GPU_NOT_FOUND })?);
            Ok(())
        })
    }

    /// Reports an XID on a GPU to all processes that wait for it. `instance` are the ids of the GPU instance and
    /// compute instance; `None` for the whole GPU.
    pub fn inject_xid(&self, gpu: usize, xid: u64, instance: Option<(u32, u32)>) -> Result<(), InstallError> {
        let board = self.board(gpu)?;
        self.store.update(|state| {
            let scope = instance.unwrap_or((WHOLE_GPU, WHOLE_GPU));
            state.push_event(&board.uuid, sys::nvmlEventTypeXidCriticalError.into(), xid, scope);
            Ok(())
        })
    }

    /// Adds the fault `name` (letters, digits, `-`, `_`) or replaces it.
    pub fn add_fault(&self, name: &str, fault: &Fault) -> Result<(), FaultError> {
        FaultPoint::new(&self.dir).add(name, fault)
    }

    /// Removes the fault `name`, and calls that wait there continue. A missing fault is not an error.
    pub fn remove_fault(&self, name: &str) -> Result<(), FaultError> {
        FaultPoint::new(&self.dir).remove(name)
    }

    /// Returns the calls that wait at the fault `name`.
    pub fn blocked(&self, name: &str) -> Vec<Blocked> {
        FaultPoint::new(&self.dir).blocked(name)
    }

    /// Waits until a call waits at the fault `name`.
    pub fn wait_blocked(&self, name: &str, deadline: Duration) -> Result<Blocked, FaultError> {
        let start = Instant::now();
        loop {
            if let Some(blocked) = self.blocked(name).pop() {
                return Ok(blocked);
            }
            if start.elapsed() > deadline {
                return Err(FaultError::NothingBlocked { name: name.to_owned(), waited: deadline });
            }
            std::thread::sleep(POLL);
        }
    }

    fn board(&self, gpu: usize) -> Result<&crate::topology::Board, InstallError> {
        self.store.boards().get(gpu).ok_or(InstallError::Refused { gpu, code: Code::GPU_NOT_FOUND })
    }
}
