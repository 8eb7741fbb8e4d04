//! What the engine is told, and what it has done about it.

use super::outside::{Pool, Request, Slot};
use super::{EngineSettings, Forecast};
use crate::{Fault, SequenceRefusal, StepEnd};

/// Something has happened to one model's queue. Requests that arrive are no events: a turn takes them in.
#[derive(Debug)]
pub enum QueueEvent<R: Request, S: Slot> {
    /// A model server is warm, or can be trusted again after its connection failed.
    Slot {
        /// A slot of it.
        slot: S,
        /// Pool of its slots.
        pool: S::Pool,
    },
    /// A slot that was requested is granted.
    Granted(<S::Pool as Pool>::Grant),
    /// Warm-up batches have run: rows and seconds of each.
    Warmed(Vec<(u32, f64)>),
    /// A batch has ended.
    Ended(BatchEnd<R, S>),
    /// Requests of a batch that goes on are to run again.
    Again(Vec<R>),
    /// A batch takes far longer than predicted.
    Overdue {
        /// Number of the batch.
        number: u64,
        /// Copies of its requests, where they may run twice.
        copies: Vec<R>,
    },
    /// The turn of a step of a sequence is over.
    StepOver(R::Sequence, StepEnd),
    /// The epochs of some slots may be over.
    SlotsChanged,
    /// The number of model servers has changed, ready or not.
    Members(usize),
    /// Other settings hold from now on.
    SettingsChanged(EngineSettings),
}

/// How a batch ended.
#[derive(Debug)]
pub struct BatchEnd<R: Request, S> {
    /// Number of the batch.
    pub number: u64,
    /// Number of the model server where it ran.
    pub server: u64,
    /// The slot; `None` where its connection failed.
    pub slot: Option<S>,
    /// Rows and seconds of each successful call.
    pub times: Vec<(u32, f64)>,
    /// Requests that are to be sent again.
    pub again: Vec<R>,
    /// Requests of calls that failed, those of each call together: one of them may be to blame.
    pub suspects: Vec<(Fault, Vec<R>)>,
    /// Suspects that were not sent.
    pub unsent_suspects: Vec<Vec<R>>,
    /// Senders whose requests failed alone, and since when these were suspected (microseconds).
    pub offenders: Vec<(R::Sender, u64)>,
}

/// Something that is to be done.
#[derive(Debug)]
pub enum Effect<R: Request, S: Slot> {
    /// A batch is to be sent; its requests no longer wait.
    Send(SentBatch<R, S>),
    /// A request no longer waits and is to be answered with an error.
    Fail {
        /// The request.
        request: R,
        /// The reason.
        reason: Unserved,
    },
    /// A request no longer waits, and its client has gone.
    Gone(R),
    /// A sender's requests share no batch with those of others for a while.
    SetApart(R::Sender),
    /// What can be expected has changed.
    Publish {
        /// What a new request has to expect.
        forecast: Forecast,
        /// Batches in flight.
        running: usize,
        /// Slots that can be used, and those of batches under way elsewhere.
        slots: usize,
    },
}

/// A batch on its way.
#[derive(Debug)]
pub struct SentBatch<R, S: Slot> {
    /// Number of the batch.
    pub number: u64,
    /// Where to send it.
    pub slot: S,
    /// Counts it as in flight there.
    pub inflight: S::InFlight,
    /// Its requests, in order.
    pub requests: Vec<R>,
    /// Its rows.
    pub rows: u32,
    /// Why it was cut when it was.
    pub release: Release,
    /// Duration after which its requests are to be tried elsewhere too, microseconds; `None`: never.
    pub overdue_after_us: Option<u64>,
}

/// Why a batch was cut when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// A slot was free and all that waited fitted.
    SlotFree,
    /// It has as many rows as a batch may have.
    Full,
    /// A slot was free before; the batch waited for more rows.
    Deferred,
    /// A request that must not share a batch.
    Alone,
    /// Requests of a call that failed, apart from all others.
    Suspect,
}

impl Release {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::SlotFree, Self::Full, Self::Deferred, Self::Alone, Self::Suspect];

    /// Returns its name in metrics and traces.
    pub fn label(self) -> &'static str {
        match self {
            Self::SlotFree => "slot_free",
            Self::Full => "full",
            Self::Deferred => "deferred",
            Self::Alone => "alone",
            Self::Suspect => "suspect",
        }
    }
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// Its deadline can no longer be met: the model servers are saturated.
    TooLate,
    /// No model server became ready in time.
    NoServer {
        /// Model servers that have not reported yet whether they have the model, while all others lack it; 0 where that
        /// is not the reason.
        unsure: usize,
    },
    /// It is a step of a sequence that cannot go on.
    Step(SequenceRefusal),
}
