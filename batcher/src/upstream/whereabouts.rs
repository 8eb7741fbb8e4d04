//! Remembers which models a server has that it was not warmed for: each is asked for once, and the answer is kept for a
//! while. Clients may send any name, so both the number of kept answers and the rate of questions are bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Maximum number of names that are remembered per model server.
const MOST_NAMES: usize = 1024;
/// Time for which an answer is believed, in microseconds: a model may be loaded at any time.
const BELIEVED_US: u64 = 30_000_000;
/// Number of questions that may be asked at once, and per second.
const BURST: f64 = 64.0;
const PER_SECOND: f64 = 16.0;

/// Answers of one model server about models.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    answers: Mutex<Answers>,
    /// Held while a question is asked: there is one at a time, and a task that waited for the lock finds the answer.
    pub(super) asking: tokio::sync::Mutex<()>,
}

impl Whereabouts {
    /// Returns whether the epoch has the model; `None` if that was not asked lately.
    pub(super) fn of(&self, epoch: u64, model: &str, now_us: u64) -> Option<bool> {
        self.lock().of(epoch, model, now_us)
    }

    /// Counts one more question; returns false if it may not be asked now.
    pub(super) fn may_ask(&self, now_us: u64) -> bool {
        self.lock().may_ask(now_us)
    }

    /// Stores an answer.
    pub(super) fn answered(&self, epoch: u64, model: &str, has_it: bool, now_us: u64) {
        self.lock().answered(epoch, model, has_it, now_us);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Answers> {
        // A cache may lose entries, so a panic elsewhere does no harm.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers of one epoch.
#[derive(Debug, Default)]
struct Answers {
    epoch: u64,
    /// By name: whether the server has the model, and when it said so.
    known: HashMap<Box<str>, (bool, u64)>,
    /// The names, oldest first.
    order: VecDeque<Box<str>>,
    /// Questions of the token bucket that have not been refilled yet.
    asked: f64,
    asked_us: u64,
}

impl Answers {
    fn of(&self, epoch: u64, model: &str, now_us: u64) -> Option<bool> {
        let (has_it, said_us) = self.known.get(model).filter(|_| self.epoch == epoch)?;
        (now_us < said_us.saturating_add(BELIEVED_US)).then_some(*has_it)
    }

    fn may_ask(&mut self, now_us: u64) -> bool {
        let paid = now_us.saturating_sub(self.asked_us) as f64 / 1e6 * PER_SECOND;
        self.asked = (self.asked - paid).max(0.0);
        self.asked_us = self.asked_us.max(now_us);
        let may_ask = self.asked + 1.0 <= BURST;
        if may_ask {
            self.asked += 1.0;
        }
        may_ask
    }

    fn answered(&mut self, epoch: u64, model: &str, has_it: bool, now_us: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.known.clear();
            self.order.clear();
        }
        if self.known.insert(model.into(), (has_it, now_us)).is_none() {
            self.order.push_back(model.into());
        }
        while self.order.len() > MOST_NAMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn an_answer_holds_for_its_epoch_and_for_a_while() {
        let mut answers = Answers::default();
        answers.answered(1, "a", true, 0);
        answers.answered(1, "b", false, 0);
        assert_eq!(
            [answers.of(1, "a", 0), answers.of(1, "b", 0), answers.of(1, "c", 0)],
            [Some(true), Some(false), None]
        );
        assert_eq!(answers.of(2, "a", 0), None, "another server");
        assert_eq!(answers.of(1, "a", BELIEVED_US - 1), Some(true));
        assert_eq!(answers.of(1, "a", BELIEVED_US), None);
        answers.answered(2, "b", true, 0);
        assert_eq!([answers.of(2, "a", 0), answers.of(2, "b", 0)], [None, Some(true)]);
    }

    #[test]
    fn invented_names_are_bounded_in_number_and_in_rate() {
        let mut answers = Answers::default();
        (0..10_000).for_each(|name| answers.answered(1, &name.to_string(), false, 0));
        assert_eq!((answers.known.len(), answers.order.len()), (MOST_NAMES, MOST_NAMES));
        let mut ask = |now_us| (0..10_000).filter(|_| answers.may_ask(now_us)).count();
        assert_eq!(ask(0), 64);
        assert_eq!(ask(SECOND_US), 16);
        assert_eq!(ask(1000 * SECOND_US), 64, "no more at once, however long it was quiet");
        assert_eq!(ask(0), 0, "time does not go back");
    }
}
