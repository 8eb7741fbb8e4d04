//! Fault points, of which every call passes two: one before its effect and one after it.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{Action, Blocked, Fault, FaultError, When};
use crate::code::Code;

/// Period at which a blocked call checks whether it may continue.
const POLL: Duration = Duration::from_millis(2);

/// Faults of one directory, which is read again at each call.
#[derive(Debug, Clone)]
pub(crate) struct FaultPoint {
    dir: PathBuf,
}

impl FaultPoint {
    /// Creates the fault points of the library in `home`.
    pub(crate) fn new(home: &Path) -> FaultPoint {
        FaultPoint { dir: home.join("faults") }
    }

    /// Lets a call of `function` pass, fails it, or blocks it.
    pub(crate) fn pass(&self, function: &str, when: When) -> Result<(), Code> {
        let faults = self.matching(function, when).map_err(|error| {
            crate::report(&error);
            Code::UNKNOWN
        })?;
        for (path, fault) in faults {
            let hit = self.hit(&path, &fault).map_err(|source| {
                crate::report(&FaultError::Io { path: path.clone(), source });
                Code::UNKNOWN
            })?;
            match fault.action {
                _ if !hit => {}
                Action::Error => return Err(Code(fault.code.unwrap_or(Code::UNKNOWN.0))),
                Action::Block => self.wait(&path, function, when),
            }
        }
        Ok(())
    }

    fn matching(&self, function: &str, when: When) -> Result<Vec<(PathBuf, Fault)>, FaultError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(FaultError::Io { path: self.dir.clone(), source }),
        };
        let mut faults = Vec::new();
        for path in entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            // The file was removed after the listing, so the fault does not strike any more.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let malformed = |reason| FaultError::Malformed { path: path.clone(), reason };
            let fault: Fault = serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?;
            fault.check().map_err(|error| malformed(error.to_string()))?;
            if fault.matches(function, when) {
                faults.push((path, fault));
            }
        }
        faults.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(faults)
    }

    /// Counts a matching call of any process, and returns whether the fault strikes it.
    fn hit(&self, path: &Path, fault: &Fault) -> io::Result<bool> {
        if fault.skip == 0 && fault.count.is_none() {
            return Ok(true);
        }
        // The counter has a file of its own, so that counting never restores a removed fault.
        let mut options = fs::OpenOptions::new();
        let counter =
            options.create(true).truncate(false).read(true).write(true).open(path.with_extension("calls"))?;
        flock(&counter, FlockOperation::LockExclusive)?;
        let calls = io::read_to_string(&counter)?.trim().parse().unwrap_or(0_u64);
        counter.write_all_at(format!("{:<20}", calls + 1).as_bytes(), 0)?;
        let struck = calls.checked_sub(u64::from(fault.skip));
        Ok(struck.is_some_and(|struck| fault.count.is_none_or(|count| struck < u64::from(count))))
    }

    /// Writes the marker and waits until the file of the fault is removed.
    fn wait(&self, path: &Path, function: &str, when: When) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let marker = path.with_extension(format!("{pid}-{number}.blocked"));
        let blocked = Blocked { pid, function: function.to_owned(), when };
        let written = serde_json::to_vec(&blocked).map_err(io::Error::from).and_then(|bytes| {
            let temporary = path.with_extension(format!("{pid}-{number}.new"));
            fs::write(&temporary, bytes)?;
            fs::rename(temporary, &marker)
        });
        if let Err(source) = written {
            crate::report(&FaultError::Io { path: marker.clone(), source });
        }
        while path.exists() {
            std::thread::sleep(POLL);
        }
        // A leftover marker does no harm; the test removes it with the fault.
        let _ = fs::remove_file(&marker);
    }

    /// Writes the fault `name` in one step, and removes an older one of that name with its counter and markers.
    pub(crate) fn add(&self, name: &str, fault: &Fault) -> Result<(), FaultError> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(FaultError::BadName { name: name.to_owned() });
        }
        fault.check()?;
        let path = self.path(name);
        let io_error = |source| FaultError::Io { path: path.clone(), source };
        let text = serde_json::to_string(fault).map_err(|error| io_error(error.into()))?;
        fs::create_dir_all(&self.dir).map_err(io_error)?;
        self.remove(name)?;
        let temporary = path.with_extension("yaml.new");
        fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)).map_err(io_error)
    }

    /// Removes the fault `name` with its other files. Calls that wait there continue.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FaultError> {
        let path = self.path(name);
        let io_error = |source| FaultError::Io { path: path.clone(), source };
        let prefix = format!("{name}.");
        let Ok(entries) = fs::read_dir(&self.dir) else { return Ok(()) };
        for entry in entries.filter_map(|entry| entry.ok()) {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                match fs::remove_file(entry.path()) {
                    // A call that continues removes its own marker.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Returns the calls that wait at the fault `name`.
    pub(crate) fn blocked(&self, name: &str) -> Vec<Blocked> {
        let prefix = format!("{name}.");
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let markers = entries.filter_map(|entry| entry.ok()).filter(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            file.starts_with(&prefix) && file.ends_with(".blocked")
        });
        markers.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.yaml"))
    }
}
