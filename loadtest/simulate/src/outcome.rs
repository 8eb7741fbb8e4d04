//! What became of the requests of one source.

/// Counts of one source. Requests that arrived before [`Simulation::count_from`](crate::Simulation::count_from) are left
/// out.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Requests that were sent.
    pub sent: u64,
    /// Requests that were taken in.
    pub admitted: u64,
    /// Requests that were taken in and failed later.
    pub failed: u64,
    /// Requests that were answered within the objective.
    pub met: u64,
    /// Batches that had requests of this source.
    pub batches: u64,
    /// All answers, in the order in which they came.
    pub answers: Vec<Answer>,
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// When its request arrived, microseconds.
    pub arrived_us: u64,
    /// Time from the arrival to the answer, microseconds.
    pub latency_us: u64,
    /// Predicted less real time of the answer, microseconds; 0 where nothing was predicted.
    pub early_us: i64,
}

impl Outcome {
    /// Returns how many requests were taken in and are still on their way.
    pub fn on_their_way(&self) -> u64 {
        self.admitted - self.failed - self.answers.len() as u64
    }

    /// Returns the part, 0 to 1, of all requests sent that was answered within the objective. Those that are still on their
    /// way belong to neither side.
    pub fn attainment(&self) -> f64 {
        self.met as f64 / (self.sent - self.on_their_way()).max(1) as f64
    }

    /// Returns the part, 0 to 1, of the requests taken in that was answered within the objective. Those that are still on
    /// their way belong to neither side.
    pub fn kept(&self) -> f64 {
        self.met as f64 / (self.admitted - self.on_their_way()).max(1) as f64
    }

    /// Returns a quantile of the latency, microseconds; 0 without answers.
    pub fn latency_us(&self, quantile: f64) -> u64 {
        let mut sorted: Vec<u64> = self.answers.iter().map(|answer| answer.latency_us).collect();
        sorted.sort_unstable();
        // The casts are of small numbers.
        let index = (quantile * sorted.len() as f64) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Returns how much earlier than predicted answers came on average, milliseconds; negative: later.
    pub fn early_ms(&self) -> f64 {
        let early_us: i64 = self.answers.iter().map(|answer| answer.early_us).sum();
        early_us as f64 / 1e3 / self.answers.len().max(1) as f64
    }
}
