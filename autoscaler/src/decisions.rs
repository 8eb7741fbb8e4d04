//! The log of decisions: one JSON line each, bounded on disk, made to be replayed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Two files: the current one, and the one before it as `<name>.1`.
#[derive(Debug)]
pub struct DecisionLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    most_bytes_per_file: u64,
}

impl DecisionLog {
    /// Opens or creates `<dir>/decisions-<namespace>.<name>.jsonl`. Both files together stay within
    /// `most_bytes` (plus one line).
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(dir: &Path, namespace: &str, name: &str, most_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("decisions-{namespace}.{name}.jsonl"));
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            // A process that was killed while it wrote leaves half a line; the next one must not continue it.
            let mut last = [0_u8];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        Ok(Self { path, file, bytes, most_bytes_per_file: most_bytes / 2 })
    }

    /// Adds a line. It goes to the page cache (microseconds), so it may be called from a task.
    ///
    /// # Errors
    /// What the file system says; the log stays usable.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.bytes > 0 && self.bytes + length > self.most_bytes_per_file {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            fs::rename(&self.path, before)?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.bytes += length;
        Ok(())
    }

    /// Where the current file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_within_its_size_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = DecisionLog::open(dir.path(), "default", "bert", 100).unwrap();
        for line in 0..100 {
            log.append(&format!("line {line:03}")).unwrap();
        }
        let sizes: u64 =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(sizes <= 100, "{sizes}");
        assert!(fs::read_to_string(log.path()).unwrap().ends_with("line 099\n"));
    }

    #[test]
    fn half_a_line_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = DecisionLog::open(dir.path(), "default", "bert", 1000).unwrap().path().to_owned();
        fs::write(&path, "{\"half").unwrap();
        DecisionLog::open(dir.path(), "default", "bert", 1000).unwrap().append("{}").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\n{}\n");
    }
}
