//! Steps of sequences: each has its turn when the one before it is over, and goes where that one went.

use super::outside::{Request, ServerEpoch, Slot};
use super::{Engine, Unserved};
use crate::{SequenceRefusal, StepEnd, Turn};

impl<R: Request, S: Slot> Engine<R, S> {
    /// Takes a request in; a step may have to wait for its turn.
    pub(super) fn arrive(&mut self, now_us: u64, request: R) {
        let Some((key, asked)) = request.step() else { return self.enter(now_us, request) };
        let servers = &self.servers;
        let turn = self.sequences.arrive(now_us, key, asked, request, |home| servers.has(*home));
        if let Some(turn) = turn {
            self.take_turn(now_us, turn);
        }
    }

    /// Ends a step's turn: the next one has its own.
    pub(super) fn step_over(&mut self, now_us: u64, key: &R::Sequence, end: StepEnd) {
        let servers = &self.servers;
        for turn in self.sequences.over(now_us, key, end, |home| servers.has(*home)) {
            self.take_turn(now_us, turn);
        }
    }

    /// Tries a step again that could not be sent. `None`: it cannot be, and fails.
    pub(super) fn step_again(&mut self, mut request: R) -> Option<R> {
        let Some((key, _)) = request.step() else { return Some(request) };
        let servers = &self.servers;
        match self.sequences.again(&key, |home| servers.has(*home)) {
            Ok(home) => {
                request.set_home(home);
                Some(request)
            }
            Err(why) => {
                // It does not wait there.
                request.set_home(None);
                self.fail(request, Unserved::Step(why));
                None
            }
        }
    }

    fn take_turn(&mut self, now_us: u64, turn: Turn<ServerEpoch, R>) {
        match turn {
            Turn::Goes { at, mut step } => {
                step.begin_turn(at);
                self.enter(now_us, step);
            }
            Turn::Refused { why, step } => self.fail(step, Unserved::Step(why)),
        }
    }

    /// Fails steps that wait for a slot of a model server that is gone.
    pub(super) fn fail_lost(&mut self) {
        let lost: Vec<_> = self.pending.bound.homes().filter(|home| !self.servers.has(*home)).collect();
        for home in lost {
            for waiting in self.pending.queue.take_out(|waiting| waiting.payload.home() == Some(home)) {
                self.fail(waiting.payload, Unserved::Step(SequenceRefusal::Lost));
            }
        }
    }

    /// Returns when the first of the steps that wait for their turn is due.
    pub(super) fn earliest_step_deadline_us(&self) -> Option<u64> {
        // Asked for the deadlines only where there are steps: they look at all servers.
        let mut waiting = self.sequences.waiting().peekable();
        waiting.peek()?;
        let deadlines = self.deadlines();
        waiting.map(|request| deadlines.of(request)).min()
    }

    /// Fails steps that wait for their turn and are due, lets those go whose clients have gone, and fails the steps that
    /// count on them.
    pub(super) fn expire_steps(&mut self, now_us: u64) {
        let deadlines = self.deadlines();
        let (out, skipped) =
            self.sequences.take_out(|request| request.is_cancelled() || deadlines.of(request) <= now_us);
        for request in out {
            self.expired(request);
        }
        for request in skipped {
            self.fail(request, Unserved::Step(SequenceRefusal::Skipped));
        }
    }
}
