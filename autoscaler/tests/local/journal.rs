//! Journal of what happened, in order and over all processes: one line per event, appended to one file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(crate) struct Journal(PathBuf);

impl Journal {
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Begins a journal, with a mark beside it: processes that do not find the mark any more know that the test is
    /// over.
    pub(crate) fn begin(path: &Path) -> Self {
        std::fs::write(path.with_extension("mark"), "").unwrap();
        Self::at(path)
    }

    pub(crate) fn is_over(&self) -> bool {
        !self.0.with_extension("mark").exists()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, line: &str) {
        // Each line is one write, so that appends of several processes do not mix.
        let mut file = OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Returns the lines with this beginning.
    pub(crate) fn matching(&self, beginning: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with(beginning)).collect()
    }

    pub(crate) fn has(&self, beginning: &str) -> bool {
        !self.matching(beginning).is_empty()
    }

    /// Asserts that the journal has lines with these beginnings in this order.
    #[track_caller]
    pub(crate) fn assert_order(&self, beginnings: &[&str]) {
        let lines = self.lines();
        let mut from = 0;
        for beginning in beginnings {
            let found = lines[from..].iter().position(|line| line.starts_with(beginning));
            let Some(found) = found else {
                panic!("{beginning:?} is missing after line {from} of:\n{}", lines.join("\n"))
            };
            from += found + 1;
        }
    }
}
