//! Steps of sequences: each has its turn when the one before it is over, and goes where that one went.

use std::sync::Arc;

use sluice_batch_policy::{SequenceRefusal, StepEnd, Turn};

use super::Owner;
use crate::queue::sequence::{Home, SequenceKey, refusal};
use crate::queue::{Entry, Reply};

impl Owner {
    /// A request has come; a step may have to wait for its turn.
    pub(super) fn arrive(&mut self, entry: Box<Entry>) {
        let Some(sequence) = &entry.sequence else { return self.enter(entry) };
        let (key, asked) = (Arc::clone(&sequence.key), sequence.asked);
        let (now_us, places) = (self.handle.clock.now_us(), &self.places);
        let turn = self.sequences.arrive(now_us, key, asked, entry, |home| places.has(*home));
        if let Some(turn) = turn {
            self.take_turn(turn);
        }
    }

    /// A step's turn is over: the next one has its own.
    pub(super) fn step_over(&mut self, key: &Arc<SequenceKey>, end: StepEnd) {
        let (now_us, places) = (self.handle.clock.now_us(), &self.places);
        for turn in self.sequences.over(now_us, key, end, |home| places.has(*home)) {
            self.take_turn(turn);
        }
    }

    /// A step that could not be sent is tried again. `None`: it cannot be, and was answered.
    pub(super) fn step_again(&mut self, mut entry: Box<Entry>) -> Option<Box<Entry>> {
        let Some(sequence) = &mut entry.sequence else { return Some(entry) };
        let places = &self.places;
        match self.sequences.again(&sequence.key, |home| places.has(*home)) {
            Ok(home) => {
                sequence.home = home;
                Some(entry)
            }
            Err(why) => {
                // It does not wait there.
                sequence.home = None;
                self.refuse_step(*entry, why);
                None
            }
        }
    }

    fn take_turn(&mut self, turn: Turn<Home, Box<Entry>>) {
        match turn {
            Turn::Goes { at, mut step } => {
                if let Some(sequence) = &mut step.sequence {
                    sequence.begins(&self.handle, at);
                }
                self.enter(step);
            }
            Turn::Refused { why, step } => self.refuse_step(*step, why),
        }
    }

    /// Steps that wait for a slot of a model server that is gone.
    pub(super) fn refuse_lost(&mut self) {
        for home in self.places.lost_homes() {
            for waiting in self.pending.take_out(|waiting| waiting.payload.home() == Some(home)) {
                self.refuse_step(*waiting.payload, SequenceRefusal::Lost);
            }
        }
    }

    /// When the first of the steps that wait for their turn is due.
    pub(super) fn earliest_step_deadline_us(&self) -> Option<u64> {
        let deadlines = self.deadlines();
        self.sequences.waiting().map(|entry| deadlines.of(entry)).min()
    }

    /// Answers steps that wait for their turn and are due, lets those go that nobody waits for, and refuses what
    /// counts on them.
    pub(super) fn expire_steps(&mut self, now_us: u64) {
        let deadlines = self.deadlines();
        let (out, skipped) =
            self.sequences.take_out(|entry| entry.is_cancelled() || deadlines.of(entry) <= now_us);
        for entry in out {
            self.expired(*entry, now_us);
        }
        for entry in skipped {
            self.refuse_step(*entry, SequenceRefusal::Skipped);
        }
    }

    fn refuse_step(&mut self, entry: Entry, why: SequenceRefusal) {
        self.left(&entry);
        let Some(sequence) = &entry.sequence else { return };
        let failure = refusal(&sequence.key.id, why, self.handle.settings.now().sequences.max_sequences);
        entry.answer(Reply::Failed(failure));
    }
}
