//! Live view: one line per arm, rewritten each second on a terminal, appended every few seconds elsewhere.

use std::io::{IsTerminal, Write};

use super::outcome::Sample;
use super::settings::DemoSettings;

/// Interval between two lines per arm where there is no terminal, in seconds.
const PLAIN_INTERVAL_S: u32 = 10;

/// State of the live view.
#[derive(Debug)]
pub(crate) struct Live {
    arms: Vec<(String, Option<Sample>)>,
    of_s: u32,
    objective_ms: u32,
    is_terminal: bool,
    drawn_t_s: Option<u32>,
}

impl Live {
    /// Creates a view of these arms on standard output.
    pub(crate) fn new(arms: Vec<String>, settings: &DemoSettings) -> Self {
        Self {
            arms: arms.into_iter().map(|name| (name, None)).collect(),
            of_s: settings.duration_seconds,
            objective_ms: settings.objective.latency_ms,
            is_terminal: std::io::stdout().is_terminal(),
            drawn_t_s: None,
        }
    }

    /// Records the latest second of an arm, and draws once it has that of all arms.
    pub(crate) fn show(&mut self, arm: usize, sample: Sample) {
        let t_s = sample.t_s;
        if let Some((_, latest)) = self.arms.get_mut(arm) {
            *latest = Some(sample);
        }
        let is_whole =
            self.arms.iter().all(|(_, latest)| latest.as_ref().is_some_and(|latest| latest.t_s >= t_s));
        let is_due = self.is_terminal || t_s.is_multiple_of(PLAIN_INTERVAL_S);
        if is_whole && is_due && self.drawn_t_s != Some(t_s) {
            // A closed standard output is no reason to stop the run.
            let _ = self.draw(t_s);
            self.drawn_t_s = Some(t_s);
        }
    }

    fn draw(&self, t_s: u32) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.is_terminal && self.drawn_t_s.is_some() {
            // Move up over the last drawing: the head line and one line per arm.
            write!(out, "\x1b[{}A", self.arms.len() + 1)?;
        }
        // Lines are cut off on a narrow terminal, not wrapped, so that each line is one row to move up.
        let (clear, cut, wrap) =
            if self.is_terminal { ("\x1b[2K", "\x1b[?7l", "\x1b[?7h") } else { ("", "", "") };
        let head = format!("{t_s:>4}/{} s", self.of_s);
        let objective = format!("p99 ms (≤ {})", self.objective_ms);
        writeln!(
            out,
            "{cut}{clear}{head:<12} {:>6} {:>6} {:>8} {objective:>14} {:>6} {:>15} {:>17}",
            "req/s", "429/s", "p50 ms", "queue", "ready/asked", "slices used/free"
        )?;
        for (name, sample) in &self.arms {
            writeln!(out, "{clear}{}", line(name, sample.as_ref()))?;
        }
        write!(out, "{wrap}")?;
        out.flush()
    }
}

fn line(arm: &str, sample: Option<&Sample>) -> String {
    let Some(sample) = sample else { return format!("{arm:<12} starting") };
    format!(
        "{arm:<12} {:>6} {:>6} {:>8.1} {:>14.1} {:>6} {:>15} {:>17}",
        sample.sent,
        sample.rejected,
        sample.p50_ms,
        sample.p99_ms,
        sample.queue_rows,
        format!("{}/{}", sample.ready_replicas, sample.desired_replicas),
        format!("{}/{}", sample.slices_in_use, sample.slices_free),
    )
}
