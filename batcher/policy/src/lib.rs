//! Decides which requests to admit, when to cut a batch and which requests to drop, by a learned service curve.
//!
//! The rules, and why (each was compared with its alternatives by discrete-event simulation):
//! - **Work-conserving.** A slot (a batch that the model server runs at a time) is free → dispatch what waits, up
//!   to [`batch_limit`] rows. No timer: at low load it would only add latency, at high load the queue fills
//!   batches by itself.
//! - **B\* = max b with 2·L(b) ≤ objective.** A request that arrives just after a batch was sent waits for one
//!   batch and is part of the next.
//! - **Drop the head, keep the batch full.** A request that cannot make its deadline is dropped; shrinking the
//!   batch to save it is a death spiral: smaller batches, less throughput, more late heads.
//! - **Reject on arrival** when the predicted finish is past the deadline, with the time after which trying again
//!   makes sense.
//! - **L(b) = α + β·b is learned** from the batches themselves, never set: [`CurveEstimator`].
//!
//! Everything here is a pure function or an accumulator: instants come in as microseconds (`u64`, from any epoch
//! that never goes back), durations are microseconds in integers (`_us`) or seconds in floats (`_seconds`). No
//! clock, no task, no lock.
//!
//! | module | what is there |
//! |---|---|
//! | `engine` | the queue of one model as a state machine made of all that follows: change here when a batch is cut (`engine/cutting`) |
//! | `pool` | the slots of one model server between the models that use it |
//! | `curve` | the service curve, its estimator, and the curves of shape classes |
//! | `size` | what a request adds to a batch, and what a batch may hold: rows, bytes, tokens |
//! | `limit` | B\*, the most rows of a batch |
//! | `sizes` | the sizes that a batch may have: pad up or batch down |
//! | `queue` | requests that wait, in order: class, then the tenants' fair share, then deadline, then arrival |
//! | `cut` | one batch out of one lane of that order |
//! | `deferral` | with several slots: whether to wait for a larger batch although one is free |
//! | `rate` | arrival rate of rows |
//! | `backlog` | what waits by class and tenant, and how much of it will be served before a new arrival |
//! | `admit` | the decision on arrival: admit or reject |
//! | `streams` | requests that the server batches itself: how many at a time, and which next |
//! | `discovery` | how many batches a model server runs at a time, by its throughput |
//! | `sequences` | requests that follow one another: which server has their state, and which step has its turn |
//! | `share` | slots shared between models: in turn while all can wait, else by fair share |
//! | `blame` | which requests are to blame for a call that failed |
//! | `suspects` | requests of failed calls: which are sent again together, and when |
//! | `offenders` | senders of requests that break calls: their requests are sent apart for a while |
//! | `overdue` | when a batch takes so long that its requests are tried elsewhere too |
//! | `window` | busy fraction and attainment over the last seconds |
//! | `work` | which of several model servers gets the next batch |

mod admit;
mod backlog;
mod blame;
mod curve;
mod cut;
mod deferral;
mod discovery;
mod engine;
mod limit;
mod offenders;
mod overdue;
mod pool;
mod queue;
mod rate;
mod sequences;
mod share;
mod size;
mod sizes;
mod streams;
mod suspects;
mod window;
mod work;

pub use admit::{Admission, AdmitView, admit, admit_of_class, predicted_wait_us};
pub use backlog::{Backlog, Flow};
pub use blame::{AfterError, Breaks, ErrorSearch};
pub use curve::{ClassCurves, CurveEstimator, ServiceCurve, ShapeClass};
pub use cut::{BatchLimits, Cut, Lane, cut};
pub use deferral::{
    DeferView, balanced_rows, defer_until, deferral_pays, deferred_limit, spread_objective_us,
};
pub use discovery::SlotDiscovery;
pub use engine::{
    BatchEnd, Effect, Engine, EngineSettings, Forecast, NextTurn, Pool, QueueEvent, Release, Request,
    SentBatch, ServerEpoch, Slot, Unserved,
};
pub use limit::batch_limit;
pub use offenders::Offenders;
pub use overdue::overdue_after_us;
pub use pool::{PoolView, SlotGrant, SlotPool, SlotRequest, SlotUse};
pub use queue::{Batch, Order, Ticket, WaitQueue, Waiting};
pub use rate::ArrivalRate;
pub use sequences::{Asked, SequenceLimits, SequenceRefusal, Sequences, StepEnd, Turn};
pub use share::{NextBatch, SlotShare};
pub use size::{Budget, Size};
pub use sizes::{BatchSizes, Fit};
pub use streams::{Arrival, ConcurrencyLimiter, Left, LimitBounds, StreamAdmission, StreamAdmissionSettings};
pub use suspects::{Fault, Suspects};
pub use window::{AttainmentWindow, BusyWindow};
pub use work::{Load, least_work};

/// The deadline of a request that has none.
pub const NO_DEADLINE: u64 = u64::MAX;

/// Microseconds in a second.
const US_PER_SECOND: f64 = 1e6;

/// Converts seconds to whole microseconds, rounded up, so that a predicted time is never too early.
fn to_us(seconds: f64) -> u64 {
    // A float-to-int cast saturates: negative and NaN give 0, too large gives u64::MAX.
    (seconds * US_PER_SECOND).ceil() as u64
}
