//! A request as a step of a sequence: which one, whether it has its turn, and how that ends.

use std::sync::Arc;

use sluice_batch_policy::{Asked, SequenceRefusal, ServerEpoch, StepEnd};
use sluice_protocol::SequenceId;

use super::QueueEvent;
use super::{Entry, ModelHandle};
use crate::failure::Failure;
use crate::metrics::RejectReason;
use crate::retry_after::RetryAfter;

/// Longest name of a sequence, and of a version, in bytes. Triton takes names of 128.
pub const MAX_NAME_BYTES: usize = 256;

/// Name of a sequence of one model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SequenceKey {
    /// Version of the model that the request names; `None` where it names none.
    pub version: Option<String>,
    /// Name that the client gave the sequence.
    pub id: SequenceId,
}

/// State of a request that is a step of a sequence.
#[derive(Debug)]
pub struct InSequence {
    /// Sequence of the step.
    pub key: Arc<SequenceKey>,
    /// Whether the step starts, continues or ends the sequence.
    pub asked: Asked,
    /// Model server and epoch that the step must go to; `None`: any, or the step does not have its turn.
    pub(super) home: Option<ServerEpoch>,
    /// Queue to report the end of the step's turn to.
    queue: Option<Arc<ModelHandle>>,
    turn: Option<HasTurn>,
}

/// Turn of a step. It ends when the step is dropped, for whatever reason, and its end is reported to the owner.
#[derive(Debug)]
struct HasTurn {
    handle: Arc<ModelHandle>,
    key: Arc<SequenceKey>,
    end: StepEnd,
}

impl Drop for HasTurn {
    fn drop(&mut self) {
        self.handle.tell(QueueEvent::StepOver(Arc::clone(&self.key), self.end));
    }
}

impl InSequence {
    /// Creates a step that does not have its turn yet.
    pub fn new(key: SequenceKey, asked: Asked) -> Self {
        Self { key: Arc::new(key), asked, home: None, queue: None, turn: None }
    }

    /// Sets the queue to report the end of the step's turn to.
    pub(super) fn reports_to(&mut self, queue: &Arc<ModelHandle>) {
        self.queue = Some(Arc::clone(queue));
    }

    /// Starts the step's turn. `home`: model server and epoch that it must go to; `None`: any.
    pub(super) fn begins(&mut self, home: Option<ServerEpoch>) {
        self.home = home;
        let key = Arc::clone(&self.key);
        self.turn = self.queue.take().map(|handle| HasTurn { handle, key, end: StepEnd::Unsent });
    }

    fn ends_with(&mut self, end: StepEnd) {
        if let Some(turn) = &mut self.turn {
            turn.end = end;
        }
    }
}

/// How the turn of a step would end if it were dropped now. Requests that are no steps are unaffected.
impl Entry {
    /// Records that the step is about to be sent: until there is a response, it is not known whether it was executed.
    pub(super) fn step_is_sent(&mut self) {
        self.step_ends_with(StepEnd::Uncertain);
    }

    /// Records that the step was not sent after all.
    pub(super) fn step_was_not_sent(&mut self) {
        self.step_ends_with(StepEnd::Unsent);
    }

    /// Records that the model server has answered. `well`: with a success.
    pub(super) fn step_is_answered(&mut self, well: bool) {
        self.step_ends_with(StepEnd::Answered { well });
    }

    fn step_ends_with(&mut self, end: StepEnd) {
        if let Some(sequence) = &mut self.sequence {
            sequence.ends_with(end);
        }
    }
}

/// Returns the error for a step that is not sent. 409 and ABORTED ask the client to repeat the whole sequence, not the step;
/// a client that repeats the step gets the same error.
pub(super) fn refusal(id: &SequenceId, why: SequenceRefusal, most: usize) -> Failure {
    const ANEW: &str = "begin the sequence anew (sequence_start)";
    let because = match why {
        SequenceRefusal::Lost => {
            format!(
                "the model server that has its state is gone: it was restarted, changed or removed; {ANEW}"
            )
        }
        SequenceRefusal::Uncertain => {
            format!("a step before this one was broken off, and may have been executed or not; {ANEW}")
        }
        SequenceRefusal::Unknown => format!(
            "this step does not start it, and it is not known which model server has its state: it has ended, was idle for too long (sequenceIdleMs, maxSequences), or began elsewhere; {ANEW}"
        ),
        SequenceRefusal::Skipped => "a step that came before this one was not executed".to_owned(),
        SequenceRefusal::Full => {
            let message = format!("sequence {id}: {most} other sequences have a step here (maxSequences)");
            return Failure::refused(429, RejectReason::QueueFull, message, RetryAfter::UNPREDICTED);
        }
    };
    Failure::new(409, format!("sequence {id}: {because}"))
}
