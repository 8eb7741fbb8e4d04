//! Scenarios of the comparison: models and loads. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Group of measurements on one simulated model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Closed loops on 2 ms + 0.1 ms per row.
    Closed,
    /// Closed loops on a model that takes no time: they measure the cost of a proxy itself.
    Hop,
    /// Open loops around and above the hard maximum of 20 ms + 1 ms per row.
    Open,
}

/// Simulated model: a batch of b rows takes `alpha_ms` + `beta_ms`·b, one batch at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Model {
    /// Fixed time of a batch, in milliseconds.
    pub alpha_ms: f64,
    /// Time per row, in milliseconds.
    pub beta_ms: f64,
    /// Most rows of a batch.
    pub max_batch_rows: u32,
}

/// Load of one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPoint {
    /// Closed loop of this many clients, each of which waits for its answer.
    Clients(usize),
    /// Open loop at this multiple of the hard maximum.
    HardMaximum(f64),
}

impl Model {
    /// Returns the hard maximum of rows per second of one slot: cap ÷ (α + β·cap). Infinite for a model that takes no time.
    pub fn hard_maximum_rps(self) -> f64 {
        let rows = f64::from(self.max_batch_rows);
        rows / (self.alpha_ms + self.beta_ms * rows) * 1e3
    }
}

impl Scenario {
    /// All scenarios, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Hop, Self::Open];

    /// Returns the scenario's model.
    pub fn model(self) -> Model {
        let (alpha_ms, beta_ms) = match self {
            Self::Closed => (2.0, 0.1),
            Self::Hop => (0.0, 0.0),
            Self::Open => (20.0, 1.0),
        };
        Model { alpha_ms, beta_ms, max_batch_rows: 64 }
    }

    /// Returns the latency objective that peers are configured with, in milliseconds; `None` for no objective.
    pub fn objective_ms(self) -> Option<u64> {
        (self == Self::Open).then_some(300)
    }

    /// Returns the scenario's loads.
    pub fn loads(self) -> &'static [LoadPoint] {
        use LoadPoint::{Clients, HardMaximum};
        match self {
            Self::Closed => &[Clients(1), Clients(16), Clients(64)],
            Self::Hop => &[Clients(1), Clients(16)],
            Self::Open => &[HardMaximum(0.5), HardMaximum(1.5), HardMaximum(3.0)],
        }
    }
}

impl fmt::Display for LoadPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(1) => f.pad("1 client"),
            Self::Clients(clients) => f.pad(&format!("{clients} clients")),
            Self::HardMaximum(factor) => f.pad(&format!("{factor} x max")),
        }
    }
}
