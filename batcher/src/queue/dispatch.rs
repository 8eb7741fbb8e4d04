//! Runs one batch at a model server: merges, sends and divides the response. When the response is not a plain success,
//! finds the request that is to blame without failing the others for it.
//!
//! - 4xx (or 500, 502, 504) for several requests: each half is sent again, so that a bad row fails alone.
//! - A response that cannot be divided by rows: each request is sent again, alone.
//! - A broken connection or a timeout: the owner sends the requests again in parts, apart from all others; steps of
//!   sequences are never sent again.
//! - A response that is too large: each half is sent again.
//!
//! | module | what is there |
//! |---|---|
//! | `reading` | reads requests by the metadata of the model server that they are sent to |
//! | `unanswered` | decides what follows for the requests of a call without a response |
//! | `copies` | sends the requests of a call that takes far too long to another slot too |

// A request is several hundred bytes and changes hands often: its box is moved, not the request.
#![allow(clippy::vec_box)]

mod copies;
mod reading;
mod unanswered;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use sluice_batch_policy::{AfterError, BatchEnd, ErrorSearch};
use sluice_protocol::{BatchRows, Merged, WireFormat};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::QueueEvent;
use super::call::{as_it_came, batch_request, call};
use super::{Entry, ModelHandle, Reply, merging, recording};
use crate::failure::Failure;
use crate::observe::request_trace::Sending;
use crate::settings::Settings;
use crate::upstream::connection::{Chunks, UpstreamResponse, Wire};
use crate::upstream::slot::Slot;
use crate::upstream::{InFlight, Report, Upstream};

/// Runs a batch in a task of its own, which reports its end to the owner in any case, a panic included. `overdue_after`:
/// time after which the batch is tried on another slot too, where that is possible; `None`: never.
pub(super) fn spawn(
    handle: Arc<ModelHandle>,
    number: u64,
    slot: Slot,
    guard: InFlight,
    entries: Vec<Box<Entry>>,
    overdue_after: Option<Duration>,
) {
    let is_stateful = slot.profile.stateful;
    let mut dispatch = Dispatch {
        upstream: Arc::clone(&slot.upstream),
        epoch: slot.epoch.number,
        finished: Some(BatchEnd {
            number,
            server: slot.upstream.number(),
            slot: None,
            times: Vec::new(),
            again: Vec::new(),
            suspects: Vec::new(),
            unsent_suspects: Vec::new(),
            offenders: Vec::new(),
        }),
        number,
        is_stateful,
        max_rows: slot.profile.max_rows,
        began_beside_others: slot.upstream.inflight() > 1,
        begun: slot.upstream.begun(),
        slot: Some(slot),
        search: ErrorSearch::default(),
        overdue_after: overdue_after.filter(|_| !is_stateful),
        handle,
        guard: Some(guard),
    };
    // Boxed, because the runtime moves what it is given several times, and this is kilobytes.
    tokio::spawn(Box::pin(async move { dispatch.run(entries).await }));
}

/// Whether the other groups of the batch can still be sent.
enum Next {
    /// The slot is still good.
    Continue,
    /// The slot is gone: the other groups go back to the queue.
    Lost,
}

/// Request of a merged batch, ready to be sent.
struct Ready {
    /// Rows of each request, and of padding.
    rows: BatchRows,
    format: WireFormat,
    request: Request<Chunks>,
    /// Started call in the traces of its requests; `None` where none is traced.
    sending: Option<Sending>,
}

struct Dispatch {
    handle: Arc<ModelHandle>,
    upstream: Arc<Upstream>,
    epoch: u64,
    slot: Option<Slot>,
    finished: Option<BatchEnd<Box<Entry>, Slot>>,
    number: u64,
    /// Whether the model keeps a state: then no request is sent twice.
    is_stateful: bool,
    /// Maximum rows of a batch at this model server.
    max_rows: u32,
    /// Whether other requests were in flight at the model server when this batch began.
    began_beside_others: bool,
    /// Number of calls that had been started at the model server when this batch began.
    begun: u64,
    /// Search for the requests that a server error is about.
    search: ErrorSearch,
    overdue_after: Option<Duration>,
    /// Counts the batch as in flight until the slot is given back; what is left then is no work of the model server.
    guard: Option<InFlight>,
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Dispatch {
    /// Gives the slot back and reports the end of the batch to the owner, once.
    fn finish(&mut self) {
        let Some(mut finished) = self.finished.take() else { return };
        finished.slot = self.slot.take();
        self.guard = None;
        if finished.slot.is_none() {
            let model = Arc::clone(&self.handle.model);
            self.upstream.report(Report::SlotFailed { epoch: self.epoch, model });
        }
        self.handle.tell(QueueEvent::Ended(finished));
    }

    async fn run(&mut self, entries: Vec<Box<Entry>>) {
        let mut groups = VecDeque::from([entries]);
        while let Some(group) = groups.pop_front() {
            let group = self.read_anew(group, &mut groups).await;
            let next = match group.first().map(|entry| entry.mergeable().is_some()) {
                None => Next::Continue,
                Some(true) => self.batch(group, &mut groups).await,
                Some(false) => self.alone(group, &mut groups).await,
            };
            if matches!(next, Next::Lost) {
                for group in std::mem::take(&mut groups) {
                    self.lost(group);
                }
            }
        }
    }

    /// Sends requests that may be merged as one, and divides its response.
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
        let settings = self.handle.settings.now();
        let Ready { rows, format, request, sending } = match self.ready(&entries, merged, &path, &settings) {
            Ok(ready) => ready,
            Err(failure) => return fail(entries, &failure),
        };
        let started = Instant::now();
        let answer = {
            let mut call = pin!(call(&mut self.slot, Wire::of(format), request, &settings));
            let in_time = match self.overdue_after {
                None => Ok(call.as_mut().await),
                Some(overdue_after) => tokio::time::timeout(overdue_after, call.as_mut()).await,
            };
            match in_time {
                Ok(answer) => Some(answer),
                Err(_) => {
                    let give_up;
                    (entries, give_up) = copies::make(&self.handle, self.number, entries);
                    tokio::select! {
                        answer = call => Some(answer),
                        () = given_up(give_up.as_ref()) => None,
                    }
                }
            }
        };
        let answer = match answer {
            None => return self.given_up(entries),
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return self.unanswered(entries, error, groups),
        };
        answered(sending, &answer);
        if answer.status != StatusCode::OK {
            return self.refused(entries, answer, groups);
        }
        self.search.succeeded();
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
        (entries, replies) = merging::shared_out(entries, rows, format, answer, &self.upstream.answers).await;
        match replies {
            Ok(replies) => {
                entries
                    .iter()
                    .take(1)
                    .filter_map(|entry| entry.parsed())
                    .for_each(|request| recording::record(&self.handle, request));
                for (entry, reply) in entries.into_iter().zip(replies) {
                    entry.answer(reply);
                }
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!(model = %self.handle.model, reason, "An answer cannot be shared out by rows; its requests run again one by one.");
                for mut entry in entries {
                    if entry.alone || self.is_stateful {
                        entry.answer(Reply::Failed(Failure::new(502, reason.clone())));
                    } else {
                        entry.alone = true;
                        self.handle.tell(QueueEvent::Again(vec![entry]));
                    }
                }
            }
        }
        Next::Continue
    }

    /// Makes the HTTP request of a merged batch and records the start of its call.
    ///
    /// # Errors
    /// The path is not valid.
    fn ready(
        &self,
        entries: &[Box<Entry>],
        merged: Merged,
        path: &str,
        settings: &Settings,
    ) -> Result<Ready, Failure> {
        let (rows, format) = (merged.rows.clone(), merged.format);
        let scope = entries.first().and_then(|entry| entry.scope.as_ref());
        let mut request = batch_request(&self.upstream, path, merged, scope, settings)
            .map_err(|_| Failure::new(500, "the model's name is no valid path"))?;
        let sending = self.sending(entries, &mut request);
        Ok(Ready { rows, format, request, sending })
    }

    /// Returns how many rows a group of `rows` rows has on the wire: each part of a batch is padded to a size of its own.
    fn sent_rows(&self, rows: usize) -> usize {
        // Of a model that takes no batches dimension 0 may be anything.
        if self.max_rows <= 1 {
            return rows;
        }
        let settings = self.handle.settings.now();
        let sizes = settings.batching.of_model(&self.handle.model).sizes();
        u32::try_from(rows).map_or(rows, |rows| sizes.sent_rows(rows) as usize)
    }

    /// Sends a single request that cannot be transcoded as it came, or fails it where the model server does not speak its
    /// protocol.
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

    /// Sends the first of the requests that go one by one: as it came where the model server speaks the client's protocol.
    async fn alone(&mut self, entries: Vec<Box<Entry>>, groups: &mut VecDeque<Vec<Box<Entry>>>) -> Next {
        let mut entries = entries.into_iter();
        let Some(mut entry) = entries.next() else { return Next::Continue };
        groups.extend(entries.map(|entry| vec![entry]));
        let Some(slot) = &self.slot else { return self.lost(vec![entry]) };
        let Some((wire, mut request)) = as_it_came(&entry, &slot.profile, &self.upstream) else {
            return Box::pin(self.alone_transcoded(entry, groups)).await;
        };
        let sending = self.sending(std::slice::from_ref(&entry), &mut request);
        entry.step_is_sent();
        match call(&mut self.slot, wire, request, &self.handle.settings.now()).await {
            Ok(answer) => {
                answered(sending, &answer);
                entry.step_is_answered(answer.status.is_success());
                entry.answer(Reply::Forwarded(answer));
                Next::Continue
            }
            Err(error) => self.unanswered(vec![entry], error, groups),
        }
    }

    /// Sends a request that must not be merged and that the model server cannot read as it came, as a batch of one.
    async fn alone_transcoded(&mut self, entry: Box<Entry>, groups: &mut VecDeque<Vec<Box<Entry>>>) -> Next {
        let Some(slot) = &self.slot else { return self.lost(vec![entry]) };
        let Some(_) = entry.parsed() else {
            let message = "the request cannot be read, and the model server does not speak its protocol";
            return fail(vec![entry], &Failure::new(400, message));
        };
        let settings = self.handle.settings.now();
        let (mut entries, merged, path) = merging::merged(vec![entry], slot.profile.form, 0).await;
        let merged = match merged {
            Ok(merged) => merged,
            Err(error) => return fail(entries, &Failure::new(400, error.reason)),
        };
        let Ready { rows, format, request, sending } = match self.ready(&entries, merged, &path, &settings) {
            Ok(ready) => ready,
            Err(failure) => return fail(entries, &failure),
        };
        entries.iter_mut().for_each(|entry| entry.step_is_sent());
        let answer = match call(&mut self.slot, Wire::of(format), request, &settings).await {
            Ok(answer) => answer,
            Err(error) => return self.unanswered(entries, error, groups),
        };
        answered(sending, &answer);
        entries.iter_mut().for_each(|entry| entry.step_is_answered(answer.status.is_success()));
        let (entries, replies) = if answer.status == StatusCode::OK {
            merging::shared_out(entries, rows, format, answer, &self.upstream.answers).await
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
            Err(error) => fail(entries, &Failure::new(502, error.to_string())),
        }
    }

    /// Decides what follows for requests that the model server answered with an error together.
    fn refused(
        &mut self,
        mut entries: Vec<Box<Entry>>,
        answer: UpstreamResponse,
        groups: &mut VecDeque<Vec<Box<Entry>>>,
    ) -> Next {
        // Which of those it is about that run elsewhere too is found there.
        for copied in entries.extract_if(.., |entry| entry.has_copies()) {
            copied.give_up(Reply::Forwarded(answer.clone()));
        }
        match self.search.after(answer.status.as_u16(), entries.len(), !self.is_stateful) {
            AfterError::HalvesNext => {
                let second = entries.split_off(entries.len() / 2);
                groups.push_front(second);
                groups.push_front(entries);
                return Next::Continue;
            }
            AfterError::HalvesLast => {
                let hold_us = self.handle.settings.now().holding.hold_ms.saturating_mul(1000);
                let now_us = self.handle.clock.now_us();
                for late in entries.extract_if(.., |entry| entry.held_until_us(hold_us) <= now_us) {
                    late.answer(Reply::Forwarded(answer.clone()));
                }
                let second = entries.split_off(entries.len() / 2);
                groups.extend([entries, second]);
                return Next::Continue;
            }
            AfterError::Answer => {}
        }
        for entry in entries {
            entry.answer(Reply::Forwarded(answer.clone()));
        }
        Next::Continue
    }

    /// Records the start of a call in the traces of its requests; `None` where no request is traced.
    fn sending(&self, entries: &[Box<Entry>], request: &mut Request<Chunks>) -> Option<Sending> {
        let trails = entries.iter().filter_map(|entry| entry.trail.clone()).collect();
        Sending::begin(trails, entries.len(), self.upstream.name(), self.handle.clock, request)
    }

    /// Hands requests that were not sent, because the slot is gone, back to the queue.
    fn lost(&mut self, mut entries: Vec<Box<Entry>>) -> Next {
        entries.iter_mut().for_each(|entry| entry.step_was_not_sent());
        if let Some(finished) = &mut self.finished {
            match entries.iter().any(|entry| entry.suspicion.is_raised()) {
                true => finished.unsent_suspects.push(entries),
                false => finished.again.extend(entries),
            }
        }
        Next::Lost
    }
}

/// Waits until a call is given up; for ever where `give_up` is `None`.
async fn given_up(give_up: Option<&CancellationToken>) {
    match give_up {
        Some(give_up) => give_up.cancelled().await,
        None => std::future::pending().await,
    }
}

fn answered(sending: Option<Sending>, answer: &UpstreamResponse) {
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
