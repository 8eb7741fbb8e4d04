//! One batch at a model server: merge, send, split; and when the answer is not a plain success, find out which
//! request is to blame without letting the others pay for it.
//!
//! - 4xx (or 500) for a batch of several: each half again, so that a bad row fails alone.
//! - An answer that cannot be shared out by rows: each request again, alone.
//! - The connection broke: back to the queue, at its head, as often as `retries` allows.

// A request is several hundred bytes and changes hands often: its box is moved, not the request.
#![allow(clippy::vec_box)]

use std::collections::VecDeque;
use std::sync::Arc;

use http::{Request, StatusCode};
use tokio::time::Instant;

use super::call::{CallError, as_it_came, batch_request, call, wire_of};
use super::handle::Event;
use super::{Entry, Failure, ModelHandle, Reply, Slot, merging};
use crate::observe::trail::Sending;
use crate::upstream::connection::{Answer, Chunks};
use crate::upstream::{InFlight, Report, Upstream};

/// What the owner hears when a batch has ended.
#[derive(Debug)]
pub struct Finished {
    /// Number of the batch.
    pub number: u64,
    /// Where it ran.
    pub upstream: Arc<Upstream>,
    /// The slot, unless its connection failed.
    pub slot: Option<Slot>,
    /// Rows and seconds of each successful call.
    pub times: Vec<(u32, f64)>,
    /// Requests to be sent again.
    pub again: Vec<Box<Entry>>,
}

/// Runs a batch in a task of its own; the owner hears of its end in any case, a panic included.
pub(super) fn spawn(
    handle: Arc<ModelHandle>,
    number: u64,
    slot: Slot,
    guard: InFlight,
    entries: Vec<Box<Entry>>,
) {
    let mut dispatch = Dispatch {
        upstream: Arc::clone(&slot.upstream),
        epoch: slot.epoch.number,
        finished: Some(Finished {
            number,
            upstream: Arc::clone(&slot.upstream),
            slot: None,
            times: Vec::new(),
            again: Vec::new(),
        }),
        slot: Some(slot),
        extra_calls: 0,
        handle,
        _guard: guard,
    };
    // Boxed, because the runtime moves what it is given several times, and this is kilobytes.
    tokio::spawn(Box::pin(async move { dispatch.run(entries).await }));
}

/// What follows for the other groups of the batch.
enum Next {
    Continue,
    /// The slot is gone.
    Lost,
}

struct Dispatch {
    handle: Arc<ModelHandle>,
    upstream: Arc<Upstream>,
    epoch: u64,
    slot: Option<Slot>,
    finished: Option<Finished>,
    /// Calls beyond the first that server errors have cost.
    extra_calls: u32,
    _guard: InFlight,
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Dispatch {
    /// Gives the slot back and tells the owner, once.
    fn finish(&mut self) {
        let Some(mut finished) = self.finished.take() else { return };
        finished.slot = self.slot.take();
        if finished.slot.is_none() {
            let model = Arc::clone(&self.handle.model);
            self.upstream.report(Report::SlotFailed { epoch: self.epoch, model });
        }
        self.handle.tell(Event::Finished(finished));
    }

    async fn run(&mut self, entries: Vec<Box<Entry>>) {
        let mut groups = VecDeque::from([entries]);
        while let Some(group) = groups.pop_front() {
            let next = match group.first().map(|entry| entry.mergeable().is_some()) {
                None => Next::Continue,
                Some(true) => self.batch(group, &mut groups).await,
                Some(false) => self.alone(group, &mut groups).await,
            };
            if matches!(next, Next::Lost) {
                for entry in groups.drain(..).flatten() {
                    self.again(entry);
                }
            }
        }
    }

    /// Requests that may be merged, or one that is to be transcoded.
    async fn batch(&mut self, mut entries: Vec<Box<Entry>>, groups: &mut VecDeque<Vec<Box<Entry>>>) -> Next {
        let Some(slot) = &self.slot else { return self.lost(entries) };
        let form = slot.profile.form;
        let own = entries.iter().filter_map(|entry| entry.parsed()).map(|request| request.rows).sum();
        let (merged, path);
        (entries, merged, path) = merging::merged(entries, form, self.sent_rows(own)).await;
        let merged = match merged {
            Ok(merged) => merged,
            Err(error) if entries.len() > 1 => {
                let blamed = entries.remove(error.index.min(entries.len() - 1));
                groups.push_front(entries);
                groups.push_back(vec![blamed]);
                return Next::Continue;
            }
            Err(error) => return self.untranslatable(entries, groups, &error.reason).await,
        };
        let total = merged.total_rows() as u32;
        let (rows, sent_form) = (merged.rows.clone(), merged.form);
        let settings = self.handle.settings.now();
        let scope = entries.first().and_then(|entry| entry.scope.as_ref());
        let Ok(mut request) = batch_request(&self.upstream, &path, merged, scope, &settings) else {
            return fail(entries, &Failure::new(500, "the model's name is no valid path"));
        };
        let sending = self.sending(&entries, &mut request);
        let started = Instant::now();
        let answer = match call(&mut self.slot, wire_of(sent_form), request, &settings).await {
            Ok(answer) => answer,
            Err(error) => return self.unanswered(entries, error),
        };
        answered(sending, &answer);
        if answer.status != StatusCode::OK {
            return self.refused(entries, answer, groups);
        }
        let seconds = started.elapsed().as_secs_f64();
        self.handle.metrics.upstream_seconds.record(seconds);
        self.handle.metrics.padding_rows.increment(rows.padding as u64);
        if let Some(finished) = &mut self.finished {
            finished.times.push((total, seconds));
        }
        if groups.is_empty() {
            // The slot is free now: the next batch should be on its way while this answer is shared out.
            self.finish();
            if self.handle.queued_rows() > 0 {
                tokio::task::yield_now().await;
            }
        }
        let replies;
        (entries, replies) =
            merging::shared_out(entries, rows, sent_form, answer, &self.upstream.answers).await;
        match replies {
            Ok(replies) => {
                entries
                    .iter()
                    .take(1)
                    .filter_map(|entry| entry.parsed())
                    .for_each(|request| self.handle.record(request));
                for (entry, reply) in entries.into_iter().zip(replies) {
                    entry.answer(reply);
                }
            }
            Err(reason) => {
                tracing::warn!(model = %self.handle.model, reason, "An answer cannot be shared out by rows; its requests run again one by one.");
                for mut entry in entries {
                    if entry.alone {
                        entry.answer(Reply::Failed(Failure::new(502, reason.clone())));
                    } else {
                        entry.alone = true;
                        self.handle.tell(Event::Again(vec![entry]));
                    }
                }
            }
        }
        Next::Continue
    }

    /// Rows on the wire for a group of so many: parts of a batch are padded to sizes of their own.
    fn sent_rows(&self, rows: usize) -> usize {
        let settings = self.handle.settings.now();
        let sizes = settings.of_model(&self.handle.model).sizes();
        u32::try_from(rows).map_or(rows, |rows| sizes.sent_rows(rows) as usize)
    }

    /// A single request that cannot be transcoded: as it came where that is possible.
    async fn untranslatable(
        &mut self,
        entries: Vec<Box<Entry>>,
        groups: &mut VecDeque<Vec<Box<Entry>>>,
        reason: &str,
    ) -> Next {
        let Some(slot) = &self.slot else { return self.lost(entries) };
        let first = entries.first();
        if first.is_some_and(|entry| as_it_came(entry, &slot.profile, &self.upstream).is_some()) {
            return self.alone(entries, groups).await;
        }
        fail(entries, &Failure::new(400, reason))
    }

    /// Requests that go one by one: as they came where the model server speaks the client's protocol.
    async fn alone(&mut self, entries: Vec<Box<Entry>>, groups: &mut VecDeque<Vec<Box<Entry>>>) -> Next {
        let mut entries = entries.into_iter();
        let Some(entry) = entries.next() else { return Next::Continue };
        groups.extend(entries.map(|entry| vec![entry]));
        let Some(slot) = &self.slot else { return self.lost(vec![entry]) };
        let Some((wire, mut request)) = as_it_came(&entry, &slot.profile, &self.upstream) else {
            return Box::pin(self.alone_transcoded(entry)).await;
        };
        let sending = self.sending(std::slice::from_ref(&entry), &mut request);
        match call(&mut self.slot, wire, request, &self.handle.settings.now()).await {
            Ok(answer) => {
                answered(sending, &answer);
                entry.answer(Reply::Forwarded(answer));
                Next::Continue
            }
            Err(error) => self.unanswered(vec![entry], error),
        }
    }

    /// A request that must not be merged and that the model server cannot read as it came: a batch of one.
    async fn alone_transcoded(&mut self, entry: Box<Entry>) -> Next {
        let Some(slot) = &self.slot else { return self.lost(vec![entry]) };
        let Some(_) = entry.parsed() else {
            let message = "the request cannot be read, and the model server does not speak its protocol";
            return fail(vec![entry], &Failure::new(400, message));
        };
        let settings = self.handle.settings.now();
        let (entries, merged, path) = merging::merged(vec![entry], slot.profile.form, 0).await;
        let merged = match merged {
            Ok(merged) => merged,
            Err(error) => return fail(entries, &Failure::new(400, error.reason)),
        };
        let (rows, form) = (merged.rows.clone(), merged.form);
        let scope = entries.first().and_then(|entry| entry.scope.as_ref());
        let Ok(mut request) = batch_request(&self.upstream, &path, merged, scope, &settings) else {
            return fail(entries, &Failure::new(500, "the model's name is no valid path"));
        };
        let sending = self.sending(&entries, &mut request);
        let answer = match call(&mut self.slot, wire_of(form), request, &settings).await {
            Ok(answer) => answer,
            Err(error) => return self.unanswered(entries, error),
        };
        answered(sending, &answer);
        let (entries, replies) = if answer.status == StatusCode::OK {
            merging::shared_out(entries, rows, form, answer, &self.upstream.answers).await
        } else {
            (entries, Ok(vec![Reply::Forwarded(answer)]))
        };
        match replies {
            Ok(replies) => {
                for (entry, reply) in entries.into_iter().zip(replies) {
                    entry.answer(reply);
                }
                Next::Continue
            }
            Err(reason) => fail(entries, &Failure::new(502, reason)),
        }
    }

    /// No answer: again, or an error.
    fn unanswered(&mut self, entries: Vec<Box<Entry>>, error: CallError) -> Next {
        match error {
            CallError::Unsent(reason) => {
                tracing::debug!(model = %self.handle.model, reason, "A batch was not sent.");
                self.lost(entries)
            }
            CallError::Broken(reason) => {
                tracing::info!(model = %self.handle.model, upstream = self.upstream.name(), requests = entries.len(), reason, "A connection broke while a batch was in flight.");
                for mut entry in entries {
                    entry.broken += 1;
                    if entry.broken > self.handle.settings.now().retries {
                        let message = format!(
                            "the model server's connection broke {} times with this request in flight: {reason}",
                            entry.broken
                        );
                        entry.answer(Reply::Failed(Failure::new(502, message)));
                    } else {
                        self.again(entry);
                    }
                }
                Next::Lost
            }
            CallError::Timeout => {
                let message = format!(
                    "no answer of the model server within {} ms",
                    self.handle.settings.now().upstream_timeout_ms
                );
                fail(entries, &Failure::new(504, message))
            }
            CallError::TooLarge(message) => fail(entries, &Failure::new(502, message)),
        }
    }

    /// The model server said no to the whole batch.
    fn refused(
        &mut self,
        mut entries: Vec<Box<Entry>>,
        answer: Answer,
        groups: &mut VecDeque<Vec<Box<Entry>>>,
    ) -> Next {
        let status = answer.status;
        // Path, method and credentials are those of all requests of the batch: none is to blame for them.
        let concerns_all = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
        ];
        let blames_a_row = status.is_client_error() && !concerns_all.contains(&status);
        // Some servers answer a bad input with 500: worth looking for the row, but not for ever.
        let may_be_a_row = status == StatusCode::INTERNAL_SERVER_ERROR && self.extra_calls < 16;
        if entries.len() > 1 && (blames_a_row || may_be_a_row) {
            self.extra_calls += 2;
            let second = entries.split_off(entries.len() / 2);
            groups.push_front(second);
            groups.push_front(entries);
            return Next::Continue;
        }
        for entry in entries {
            entry.answer(Reply::Forwarded(answer.clone()));
        }
        Next::Continue
    }

    /// Notes the call, where somebody wants to know of it.
    fn sending(&self, entries: &[Box<Entry>], request: &mut Request<Chunks>) -> Option<Sending> {
        let entries = entries.iter().map(|entry| &**entry);
        Sending::begin(entries, self.upstream.name(), self.handle.clock, request)
    }

    fn lost(&mut self, entries: Vec<Box<Entry>>) -> Next {
        entries.into_iter().for_each(|entry| self.again(entry));
        Next::Lost
    }

    fn again(&mut self, entry: Box<Entry>) {
        if let Some(finished) = &mut self.finished {
            finished.again.push(entry);
        }
    }
}

fn answered(sending: Option<Sending>, answer: &Answer) {
    if let Some(sending) = sending {
        sending.answered(answer.status.as_u16());
    }
}

fn fail(entries: Vec<Box<Entry>>, failure: &Failure) -> Next {
    for entry in entries {
        entry.answer(Reply::Failed(failure.clone()));
    }
    Next::Continue
}
