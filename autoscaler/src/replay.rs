//! `sluice-autoscaler replay`: decides every recorded decision again and compares it bit for bit.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use sluice_scaling_policy::{DecisionRecord, replay};

/// Maximum differences that the report describes.
const MAX_DESCRIBED: usize = 20;

/// Result of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of records that were decided again.
    pub records: usize,
    /// Number of these whose decision differs.
    pub differences: usize,
    /// Number of lines that are not a record.
    pub unreadable: usize,
    /// Descriptions of the first of both, with their line numbers.
    pub described: Vec<String>,
}

impl Report {
    /// Returns whether every line is a record with the same decision.
    pub fn is_equal(&self) -> bool {
        self.differences == 0 && self.unreadable == 0
    }

    fn describe(&mut self, line: usize, what: &dyn fmt::Display) {
        if self.described.len() < MAX_DESCRIBED {
            self.described.push(format!("line {line}: {what}"));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.described {
            writeln!(f, "{line}")?;
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
/// Fails where the file cannot be read.
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
                    report.describe(number, &difference);
                }
            }
            Err(error) => {
                report.unreadable += 1;
                report.describe(number, &format!("not a record: {error}"));
            }
        }
    }
    Ok(report)
}
