//! `sluice-autoscaler replay`: every recorded decision is decided again and compared bit for bit.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use sluice_scaling_policy::{DecisionRecord, replay};

/// Most differences that are told in words.
const MOST_TOLD: usize = 20;

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that were decided again.
    pub records: usize,
    /// Of these, those that came out differently.
    pub differences: usize,
    /// Lines that are no record.
    pub unreadable: usize,
    /// The first few of both, with their lines.
    pub told: Vec<String>,
}

impl Report {
    /// Whether every line is a record and came out the same.
    pub fn is_equal(&self) -> bool {
        self.differences == 0 && self.unreadable == 0
    }

    fn tell(&mut self, line: usize, what: &dyn fmt::Display) {
        if self.told.len() < MOST_TOLD {
            self.told.push(format!("line {line}: {what}"));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for told in &self.told {
            writeln!(f, "{told}")?;
        }
        write!(
            f,
            "{} decisions replayed, {} differ, {} lines unreadable",
            self.records, self.differences, self.unreadable
        )
    }
}

/// Replays a file of the decision log.
///
/// # Errors
/// When the file cannot be read.
pub fn replay_file(path: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    for (index, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let (line, number) = (line?, index + 1);
        if line.trim().is_empty() {
            continue;
        }
        match DecisionRecord::from_line(&line) {
            Ok(record) => {
                report.records += 1;
                if let Err(difference) = replay(&record) {
                    report.differences += 1;
                    report.tell(number, &difference);
                }
            }
            Err(error) => {
                report.unreadable += 1;
                report.tell(number, &format!("not a record: {error}"));
            }
        }
    }
    Ok(report)
}
