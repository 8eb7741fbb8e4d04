//! What a run has measured: the outcome of each request, counts and histograms per interval and in all.

mod interval;
mod outcome;
mod tally;

pub(crate) use interval::{Counts, Interval, Quantiles};
pub(crate) use outcome::{LostKind, Outcome};
pub(crate) use tally::{RequestRecord, Tally};

/// Everything that a finished run has measured.
#[derive(Debug)]
pub(crate) struct RunRecord {
    pub(crate) tally: Tally,
    pub(crate) series: Vec<Interval>,
    pub(crate) connections_opened: usize,
    /// Whether the run was stopped before the end of its schedule.
    pub(crate) stopped_early: bool,
}
