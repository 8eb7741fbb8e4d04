//! Folder of the library, which also holds its topology, state and faults.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Name of the topology file in the folder.
const TOPOLOGY: &str = "topology.yaml";

/// Returns the folder of the library's files: its own if it has a topology; else that of the file that
/// `SLUICE_NVML_TOPOLOGY` names, for a test that has this crate linked in; else its own.
pub(crate) fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let own = library().and_then(|library| std::path::absolute(library).ok());
        let own = own.and_then(|library| library.parent().map(Path::to_owned)).unwrap_or_default();
        let named = std::env::var_os("SLUICE_NVML_TOPOLOGY").map(PathBuf::from);
        match named {
            Some(named) if !own.join(TOPOLOGY).exists() => {
                named.parent().map(Path::to_owned).unwrap_or_default()
            }
            _ => own,
        }
    })
}

/// Returns the path by which the dynamic linker loaded the object with this function.
fn library() -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let inside: fn() -> Option<PathBuf> = library;
    // SAFETY: the address is only looked up, and `info` is valid for writes.
    let found = unsafe { libc::dladdr(inside as *const libc::c_void, info.as_mut_ptr()) };
    // SAFETY: all-zero bytes are a valid Dl_info, so it is initialised whether dladdr wrote to it or not.
    let info = unsafe { info.assume_init() };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: not null, and the linker keeps this text as long as the object is loaded, which it is while it runs this.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
