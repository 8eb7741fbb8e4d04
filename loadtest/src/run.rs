//! `sluice-loadtest run`, and the same as a library: start a run by its `Plan`, follow it interval by
//! interval, get its `Report`.
//!
//! | module | what it holds |
//! |---|---|
//! | `settings`, `flags` | scenario files and flags; they become a `Plan` |
//! | `target` | which addresses it may go to |
//! | `payload`, `judge` | pure: requests to send; the outcome of a request, from its response |
//! | `generator`, `pacer`, `client`, `stamp` | the thread that sends: schedule, timer, connections, send lag |
//! | `program` | the command: live lines, report files, exit code |
//!
//! The generator is one thread with one event loop, whose timer is a timerfd: the thread that wakes for a
//! due time is the thread that writes. Latency counts from the *intended* time, so that a stalled target
//! shows in the percentiles what it would have cost its users.

mod client;
pub mod flags;
mod generator;
mod judge;
mod pacer;
mod payload;
pub mod program;
pub mod settings;
mod stamp;
mod target;

use std::net::SocketAddr;
use std::time::SystemTime;

use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::plan::Plan;
use crate::record::Interval;
use crate::report::Report;

/// Intervals that a slow subscriber may fall behind before it misses some.
const INTERVALS_KEPT: usize = 256;
/// Number of tasks that the event loop polls before it checks the timer again; tokio's default of 61 would add send lag.
const TASKS_PER_LOOK: u32 = 8;

/// Why a run could not be started or finished.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The target refuses connections.
    #[error("target {address}: {source}; is the server started?")]
    Connect { address: SocketAddr, source: std::io::Error },
    /// A path or header value that is not valid in a request.
    #[error(transparent)]
    Path(#[from] payload::BadPath),
    /// The timer, the thread or the event loop failed.
    #[error("generator: {0}")]
    System(#[from] std::io::Error),
    /// The generator panicked, which is a defect.
    #[error("the generator ended by a panic")]
    Panicked,
}

/// A run in progress.
#[derive(Debug)]
pub struct Run {
    first: Option<broadcast::Receiver<Interval>>,
    intervals: broadcast::WeakSender<Interval>,
    stop: CancellationToken,
    report: oneshot::Receiver<Result<Report, RunError>>,
}

impl Run {
    /// Subscribes to the intervals from now on; the first call gets all of them. The channel closes when the run ends.
    pub fn subscribe(&mut self) -> broadcast::Receiver<Interval> {
        if let Some(first) = self.first.take() {
            return first;
        }
        match self.intervals.upgrade() {
            Some(sender) => sender.subscribe(),
            // The run has ended: return a closed channel.
            None => broadcast::channel(1).1,
        }
    }

    /// Returns a token that stops the run: nothing more is sent, and requests in flight are still awaited.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits for the end of the run and returns its report.
    ///
    /// # Errors
    /// [`RunError`]: the target could not be reached at all, or the generator failed.
    pub async fn finish(self) -> Result<Report, RunError> {
        self.report.await.unwrap_or(Err(RunError::Panicked))
    }
}

/// Starts a run on a thread of its own.
pub fn start(plan: Plan) -> std::io::Result<Run> {
    raise_file_limit();
    let (intervals, first) = broadcast::channel(INTERVALS_KEPT);
    let (sender, report) = oneshot::channel();
    let stop = CancellationToken::new();
    let run = Run { first: Some(first), intervals: intervals.downgrade(), stop: stop.clone(), report };
    std::thread::Builder::new().name("generator".into()).spawn(move || {
        // Fails only if the caller has dropped the run and so does not need the report.
        let _ = sender.send(generate(&plan, intervals, stop));
    })?;
    Ok(run)
}

fn generate(
    plan: &Plan,
    intervals: broadcast::Sender<Interval>,
    stop: CancellationToken,
) -> Result<Report, RunError> {
    clock::keep_time_on_this_thread();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().event_interval(TASKS_PER_LOOK).build()?;
    let started = SystemTime::now();
    let finished = runtime.block_on(generator::run(plan, intervals, stop))?;
    Ok(Report::of(plan, &finished, started))
}

/// Raises the soft limit of open files, often 1024, to the hard limit: when a target stalls, more connections are
/// needed.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "Failed to raise the limit of open files; a stalled target may exhaust it.");
    }
}
