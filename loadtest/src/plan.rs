//! Validated plan of a run: the only input of the generator.

mod mix;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use mix::{Mix, Protocol, UnknownProtocol};

use crate::arrivals::{RateCurve, Spacing};

/// Plan of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the scenario, for reports.
    pub name: String,
    /// Address of the target.
    pub address: SocketAddr,
    /// Content of the requests.
    pub payload: Payload,
    /// Schedule of the requests.
    pub load: Load,
    /// Time limit of a request, counted from its intended send time. A request without a complete response by then is lost.
    pub timeout: Duration,
    /// Latency objective; `None` means that attainment is not reported.
    pub objective: Option<Duration>,
    /// Connections opened before the first request, per kind of connection.
    pub connections: usize,
    /// Maximum number of requests in flight. One more is not sent: it counts as lost and makes the run invalid.
    pub max_in_flight: usize,
    /// Length of a reporting interval.
    pub interval: Duration,
    /// Seed of the schedule and of the mix of protocols.
    pub seed: u64,
}

/// Schedule of requests.
#[derive(Debug, Clone)]
pub enum Load {
    /// Open loop: requests are sent by a schedule, whatever the target does.
    Open {
        /// Requests per second over time.
        rate: RateCurve,
        /// How arrivals are spaced.
        spacing: Spacing,
    },
    /// Closed loop: a fixed number of clients, each of which waits for its answer before it sends again.
    Closed {
        /// Clients.
        concurrency: usize,
        /// Length of the run.
        duration: Duration,
    },
}

impl Load {
    /// Returns a description for reports.
    pub fn describe(&self) -> String {
        match self {
            Self::Open { rate, spacing } => {
                let spacing = match spacing {
                    Spacing::Poisson => "Poisson",
                    Spacing::Constant => "constant",
                };
                let seconds = rate.duration_s();
                format!(
                    "open loop, {spacing} arrivals, {:.1} requests/s on average for {seconds:.1} s",
                    rate.arrivals() / seconds
                )
            }
            Self::Closed { concurrency, duration } => format!(
                "closed loop, {concurrency} clients for {:.1} s (coordinated omission: a client that waits does not \
                 send, so that latencies hide what a stall would have cost)",
                duration.as_secs_f64()
            ),
        }
    }
}

/// Content of requests.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Rows of the reference function.
    Reference {
        model: String,
        /// Protocols.
        mix: Mix,
        /// Rows per request.
        rows: usize,
        /// Whether answers are checked row by row, or only by status.
        verify: bool,
        /// Id of the first row; ids grow by one over the whole run.
        first_id: i64,
    },
    /// The same bytes in each request; responses are judged by status alone.
    Body {
        /// Path that they are posted to.
        path: String,
        /// The bytes.
        body: Bytes,
        /// Their content type.
        content_type: String,
        /// `Inference-Header-Content-Length`, for binary tensors.
        json_bytes: Option<usize>,
    },
}

impl Payload {
    /// Returns a description for reports.
    pub fn describe(&self) -> String {
        match self {
            Self::Reference { mix, rows, verify, .. } => {
                let checked = if *verify { "checked row by row" } else { "judged by status alone" };
                format!("{mix}, {rows} row(s) per request, answers {checked}")
            }
            Self::Body { path, body, .. } => {
                format!("{} bytes posted to {path}, answers judged by status alone", body.len())
            }
        }
    }
}
