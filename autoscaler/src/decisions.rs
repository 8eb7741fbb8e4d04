//! Decision logs: one JSON line per decision, made to be replayed. All logs together are bounded on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::platform::Target;

mod budget;

use budget::{Budget, Part};

/// Prefix and suffix of a current file's name; the previous file has `.1` after that.
const PREFIX: &str = "decisions-";
const SUFFIX: &str = ".jsonl";
/// Longest name that is used unchanged in a file's name, bytes; file systems allow 255 in all.
const MAX_NAME_BYTES: usize = 200;

/// Decision logs of a directory.
#[derive(Debug, Clone)]
pub(crate) struct DecisionLogs {
    dir: PathBuf,
    budget: Arc<Mutex<Budget>>,
}

impl DecisionLogs {
    /// Opens the logs of `dir`, those of earlier runs included, limited to `most_bytes` of disk together. A directory that
    /// cannot be read shows when a log is written.
    pub(crate) fn open(dir: &Path, most_bytes: u64) -> Self {
        let mut budget = Budget::new(most_bytes);
        for (name, part, bytes) in found(dir) {
            budget.found(&name, part, bytes);
        }
        let too_much = budget.make_room(0);
        let logs = Self { dir: dir.to_owned(), budget: Arc::new(Mutex::new(budget)) };
        too_much.iter().for_each(|(name, part)| logs.remove_file(name, *part));
        logs
    }

    /// Returns the log of one object. Its file is created with the first line.
    pub(crate) fn log(&self, of: &Target) -> DecisionLog {
        let name = file_name(of);
        self.budget().set_open(&name, true);
        DecisionLog { logs: self.clone(), name, file: None, bytes: 0 }
    }

    /// Removes the logs of objects that are gone.
    pub(crate) fn keep<'a>(&self, objects: impl Iterator<Item = &'a Target>) {
        let wanted: std::collections::BTreeSet<String> = objects.map(file_name).collect();
        let gone = self.budget().take_unwanted(|name| wanted.contains(name));
        for name in gone {
            self.remove_file(&name, Part::Current);
            self.remove_file(&name, Part::Before);
        }
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        // Its numbers are consistent at every moment.
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str, part: Part) -> PathBuf {
        let more = if part == Part::Before { ".1" } else { "" };
        self.dir.join(format!("{PREFIX}{name}{SUFFIX}{more}"))
    }

    fn remove_file(&self, name: &str, part: Part) {
        let path = self.path(name, part);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "Failed to remove a decision log.")
            }
        }
    }
}

/// Finds the decision logs in a directory.
fn found(dir: &Path) -> Vec<(String, Part, u64)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let name = name.strip_prefix(PREFIX)?;
            let (name, part) = match name.strip_suffix(".1") {
                Some(name) => (name, Part::Before),
                None => (name, Part::Current),
            };
            let name = name.strip_suffix(SUFFIX)?.to_owned();
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((name, part, metadata.len()))
        })
        .collect()
}

/// Returns the name of an object's log: `<namespace>.<name>` where that can be a file's name, else its beginning, `~`, which
/// no object's name contains, and a number that no other object has.
fn file_name(of: &Target) -> String {
    let plain = format!("{}.{}", of.namespace, of.name);
    let is_safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if plain.len() <= MAX_NAME_BYTES && plain.chars().all(is_safe) && !of.namespace.contains('.') {
        return plain;
    }
    let begin: String =
        plain.chars().map(|c| if is_safe(c) { c } else { '_' }).take(MAX_NAME_BYTES / 2).collect();
    // A slash separates the parts, because neither can contain one in an API server.
    let number = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}/{}", of.namespace, of.name).as_bytes());
    format!("{begin}~{}", number.simple())
}

/// Decision log of one object: the current file, and the previous one as `<name>.1`.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    logs: DecisionLogs,
    name: String,
    /// Open file; `None` before the first line, and after a failed write.
    file: Option<File>,
    /// Length of the current file.
    bytes: u64,
}

impl Drop for DecisionLog {
    fn drop(&mut self) {
        self.logs.budget().set_open(&self.name, false);
    }
}

impl DecisionLog {
    /// Adds a line. It goes to the page cache (microseconds), so it may be called from a task.
    ///
    /// # Errors
    /// What the file system says, or that there is no room; the line is lost and the log stays usable.
    pub(crate) fn append(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        let written = self.write(line.as_bytes());
        if written.is_err() {
            // Half a line may stand at the end; it is looked at when the file is opened again.
            self.file = None;
        }
        written
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        let plan = self.logs.budget().write(&self.name, line.len() as u64);
        if plan.ends_current {
            fs::rename(self.path(), self.logs.path(&self.name, Part::Before))?;
            file = self.open()?;
        }
        plan.remove.iter().for_each(|(name, part)| self.logs.remove_file(name, *part));
        if !plan.fits {
            return Err(io::Error::other(
                "all decision logs together have no room for it (decisionLogBytes)",
            ));
        }
        if let Err(error) = file.write_all(line) {
            let _ = file.set_len(self.bytes);
            self.logs.budget().found(&self.name, Part::Current, self.bytes);
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn open(&mut self) -> io::Result<File> {
        fs::create_dir_all(&self.logs.dir)?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(self.path())?;
        self.bytes = file.metadata()?.len();
        if self.bytes > 0 {
            // A process that was killed while writing leaves half a line, which the next line must not continue.
            let mut last = [0_u8];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                self.bytes += 1;
            }
        }
        self.logs.budget().found(&self.name, Part::Current, self.bytes);
        Ok(file)
    }

    /// Returns the path of the current file.
    pub(crate) fn path(&self) -> PathBuf {
        self.logs.path(&self.name, Part::Current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, name: &str) -> Target {
        Target { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn files(dir: &Path) -> Vec<(String, u64)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    }

    fn bytes(dir: &Path) -> u64 {
        files(dir).iter().map(|(_, bytes)| bytes).sum()
    }

    const LINE: &str =
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn all_logs_together_stay_within_the_bound_and_each_keeps_its_newest() {
        let dir = tempfile::tempdir().unwrap();
        let logs = DecisionLogs::open(dir.path(), 1 << 20);
        let mut all: Vec<_> = (0..20).map(|at| logs.log(&object("ns", &format!("bert-{at}")))).collect();
        for line in 0..1500 {
            for log in &mut all {
                log.append(&format!("{LINE} {line}")).unwrap();
            }
            if line % 100 == 0 {
                assert!(bytes(dir.path()) <= 1 << 20, "{}", bytes(dir.path()));
            }
        }
        assert!(bytes(dir.path()) <= 1 << 20, "{}", bytes(dir.path()));
        for log in &all {
            assert!(fs::read_to_string(log.path()).unwrap().ends_with(" 1499\n"));
        }
    }

    #[test]
    fn files_of_objects_that_are_gone_go_and_those_of_an_earlier_run_count() {
        let dir = tempfile::tempdir().unwrap();
        let [kept, gone] = [object("ns", "kept"), object("ns", "gone")];
        for of in [&kept, &gone] {
            DecisionLogs::open(dir.path(), 1 << 20).log(of).append("{}").unwrap();
        }
        fs::write(dir.path().join("decisions-ns.gone.jsonl.1"), "x".repeat(900 << 10)).unwrap();
        fs::write(dir.path().join("decisions-ns.lost.jsonl"), "x".repeat(500 << 10)).unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        let logs = DecisionLogs::open(dir.path(), 1 << 20);
        assert!(bytes(dir.path()) <= 1 << 20, "what an earlier run left is within the bound at once");
        logs.keep([kept].iter());
        let names: Vec<String> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["decisions-ns.kept.jsonl", "lock"]);
    }

    #[test]
    fn half_a_line_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = DecisionLogs::open(dir.path(), 1 << 20).log(&object("ns", "bert")).path();
        fs::write(&path, "{\"half").unwrap();
        DecisionLogs::open(dir.path(), 1 << 20).log(&object("ns", "bert")).append("{}").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\n{}\n");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_tried_again_with_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = DecisionLogs::open(dir.path(), 1 << 20).log(&object("ns", "bert"));
        fs::create_dir(log.path()).unwrap();
        assert!(log.append("{}").is_err());
        fs::remove_dir(log.path()).unwrap();
        log.append("{}").unwrap();
        assert_eq!(fs::read_to_string(log.path()).unwrap(), "{}\n");
    }

    #[test]
    fn names_of_files_are_safe_short_and_of_one_object_each() {
        let long = "n".repeat(253);
        let names = [
            ("ns", "bert"),
            ("ns", "a.b"),
            ("ns", &long),
            ("ns", &long[1..]),
            ("ns", "../../etc/passwd"),
            ("../ns", "bert"),
            ("n.s", "bert"),
            ("n", "s.bert"),
            ("ns", "new\nline"),
        ];
        let names: Vec<String> =
            names.iter().map(|(namespace, name)| file_name(&object(namespace, name))).collect();
        assert_eq!(names[0], "ns.bert");
        for (at, name) in names.iter().enumerate() {
            assert!(name.len() <= 240 && !name.contains(['/', '\n', '\0']), "{name}");
            assert!(!names[..at].contains(name), "{name}");
        }
    }
}
