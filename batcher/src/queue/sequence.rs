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
    /// The version of the model that is asked for by name.
    pub version: Option<String>,
    /// The client's name for it.
    pub id: SequenceId,
}

/// What a step has with it.
#[derive(Debug)]
pub struct InSequence {
    /// Whose step it is.
    pub key: Arc<SequenceKey>,
    /// What it asks for.
    pub asked: Asked,
    /// Where it must go; `None`: anywhere, or it does not have its turn.
    pub(super) home: Option<ServerEpoch>,
    /// Queue that is to hear of the end of its turn.
    queue: Option<Arc<ModelHandle>>,
    turn: Option<HasTurn>,
}

/// A step's turn. It ends when the step is dropped, in whatever way: the owner hears of it.
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
    /// A step that has just come.
    pub fn new(key: SequenceKey, asked: Asked) -> Self {
        Self { key: Arc::new(key), asked, home: None, queue: None, turn: None }
    }

    /// Notes the queue that is to hear of the end of its turn.
    pub(super) fn reports_to(&mut self, queue: &Arc<ModelHandle>) {
        self.queue = Some(Arc::clone(queue));
    }

    /// Starts its turn. It must go to `home`; `None`: anywhere.
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

/// How a step's turn would end if it were dropped now. Nothing happens for requests that are none.
impl Entry {
    /// It is about to be sent: until there is an answer, nobody knows what has become of it.
    pub(super) fn step_is_sent(&mut self) {
        self.step_ends_with(StepEnd::Uncertain);
    }

    /// It was not sent after all.
    pub(super) fn step_was_not_sent(&mut self) {
        self.step_ends_with(StepEnd::Unsent);
    }

    /// The model server has answered.
    pub(super) fn step_is_answered(&mut self, well: bool) {
        self.step_ends_with(StepEnd::Answered { well });
    }

    fn step_ends_with(&mut self, end: StepEnd) {
        if let Some(sequence) = &mut self.sequence {
            sequence.ends_with(end);
        }
    }
}

/// The answer to a step that is not sent. 409 and ABORTED say that the request is not to be repeated but the whole
/// sequence; whoever repeats the step all the same is told the same.
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
