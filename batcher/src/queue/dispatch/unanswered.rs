//! Calls without a response: the connection broke, the call timed out, or the response was too large. One of several
//! requests may be to blame, so all of them are sent again in parts; a request that was alone is to blame itself.

// A request is several hundred bytes and changes hands often: its box is moved, not the request.
#![allow(clippy::vec_box)]

use std::collections::VecDeque;

use sluice_batch_policy::Fault;

use super::{Dispatch, Next};
use crate::failure::Failure;
use crate::queue::call::CallError;
use crate::queue::{Entry, Reply};

impl Dispatch {
    /// Sends the requests of a call without a response again, or fails them.
    pub(super) fn unanswered(
        &mut self,
        mut entries: Vec<Box<Entry>>,
        error: CallError,
        groups: &mut VecDeque<Vec<Box<Entry>>>,
    ) -> Next {
        let model = &self.handle.model;
        let requests = entries.len();
        match &error {
            CallError::Unsent(reason) => {
                tracing::debug!(%model, reason, "A batch was not sent.");
                return self.lost(entries);
            }
            CallError::Broken(reason) => {
                tracing::info!(%model, upstream = self.upstream.name(), requests, reason, "A connection broke while a batch was in flight.");
            }
            CallError::Timeout => {
                tracing::info!(%model, upstream = self.upstream.name(), requests, "The model server did not answer a batch within upstreamTimeoutMs.");
            }
            CallError::TooLarge(reason) => {
                tracing::debug!(%model, requests, reason, "The answer to a batch is larger than maxBodyBytes.");
            }
        }
        let next = match error {
            CallError::Unsent(_) | CallError::Broken(_) => Next::Lost,
            CallError::Timeout | CallError::TooLarge(_) => Next::Continue,
        };
        // Requests with copies are answered by the other copy.
        let failure = self.failure(&error, 1);
        entries.extract_if(.., |entry| entry.has_copies()).for_each(|entry| entry.give_up(failure.clone()));
        entries.retain(|entry| !entry.is_cancelled());
        let now_us = self.handle.clock.now_us();
        match error {
            // Nothing happened to the slot or the server: the halves can go at once, and the sum of their calls is what
            // the answer takes anyway.
            CallError::TooLarge(_) if entries.len() > 1 && !self.is_stateful => {
                let second = entries.split_off(entries.len().div_ceil(2));
                groups.push_front(second);
                groups.push_front(entries);
                return next;
            }
            CallError::Timeout if requests > 1 => {
                let hold_us = self.handle.settings.now().holding.hold_ms.saturating_mul(1000);
                let late = |entry: &mut Box<Entry>| entry.held_until_us(hold_us) <= now_us;
                entries.extract_if(.., late).for_each(|entry| entry.give_up(failure.clone()));
            }
            _ => {}
        }
        entries.iter_mut().for_each(|entry| entry.suspicion.raise(now_us));
        if requests == 1 || self.is_stateful {
            entries.into_iter().for_each(|entry| self.gets_no_answer(entry, &error, requests == 1));
        } else {
            let fault = match error {
                CallError::Timeout => Fault::TimedOut,
                _ => Fault::Broke,
            };
            self.suspect(fault, entries);
        }
        next
    }

    /// Fails a request that was alone in a call without a response, or that must not be sent again; one that was alone when
    /// its connection broke is sent again as often as `retries` allows.
    fn gets_no_answer(&mut self, mut entry: Box<Entry>, error: &CallError, was_alone: bool) {
        if let CallError::Broken(reason) = error {
            if self.is_stateful || entry.is_stateful() {
                let what = if entry.is_stateful() {
                    "step of a sequence"
                } else {
                    "request to a model that keeps a state"
                };
                let message = format!(
                    "the model server's connection broke with this {what} in flight, which is not sent again because it may have been executed: {reason}"
                );
                entry.give_up(Failure::new(502, message));
                return;
            }
            entry.suspicion.breaks.count(self.has_company());
            if !entry.suspicion.breaks.are_too_many(self.handle.settings.now().servers.retries) {
                return self.suspect(Fault::Broke, vec![entry]);
            }
        }
        let failure = self.failure(error, entry.suspicion.breaks.total());
        if let Some(finished) = &mut self.finished
            && was_alone
            && let (Some(caller), Some(_)) = (entry.caller, entry.mergeable())
        {
            // A response that is too large is a response: it shows that the model server works.
            let is_answered = matches!(error, CallError::TooLarge(_));
            finished.offenders.push((caller, if is_answered { 0 } else { entry.suspicion.since_us }));
        }
        entry.answer(Reply::Failed(failure));
    }

    /// Returns the error for the client. `times`: connections that broke with the request alone in its call.
    fn failure(&self, error: &CallError, times: u32) -> Failure {
        match error {
            CallError::Unsent(reason) | CallError::Broken(reason) => Failure::new(
                502,
                format!(
                    "the model server's connection broke {times} times with this request alone in its call: {reason}"
                ),
            ),
            CallError::Timeout => {
                let timeout_ms = self.handle.settings.now().servers.upstream_timeout_ms;
                Failure::new(504, format!("no answer of the model server within {timeout_ms} ms"))
            }
            CallError::TooLarge(message) => Failure::new(502, message.clone()),
        }
    }

    /// Returns whether any other call has been in flight at the model server since this batch began.
    fn has_company(&self) -> bool {
        self.began_beside_others || self.upstream.begun() != self.begun
    }

    /// Has the owner send these requests again, in parts and apart from all others.
    fn suspect(&mut self, fault: Fault, entries: Vec<Box<Entry>>) {
        if let Some(finished) = &mut self.finished {
            finished.suspects.push((fault, entries));
        }
    }

    /// Fails the requests of a call that was given up because a later one with some of them takes too long as well.
    pub(super) fn given_up(&self, entries: Vec<Box<Entry>>) -> Next {
        let failure = Failure::new(504, "the model server does not answer, and the deadline has passed");
        for entry in entries {
            entry.give_up(failure.clone());
        }
        Next::Continue
    }
}
