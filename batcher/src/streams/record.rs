//! Measures one stream from its arrival to its end.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::events::{Events, usage};
use super::{Permit, StreamHandle};
use crate::media_type;
use crate::metrics::{Outcome, RejectReason};

/// Maximum size of a JSON answer that is searched for its usage.
const MOST_ANSWER_BYTES: usize = 256 << 10;

/// A stream under way. If dropped before its outcome is known, it counts as cancelled: its client has left.
#[derive(Debug)]
pub struct Record {
    handle: Arc<StreamHandle>,
    arrived_us: u64,
    permit: Option<Permit>,
    outcome: Option<Outcome>,
    answer: ResponseBody,
    /// When the last token came, in microseconds of the process's clock; `None` before the first.
    last_us: Option<u64>,
}

/// How the body of the answer is read.
#[derive(Debug)]
enum ResponseBody {
    /// Server-sent events: each counts as one token.
    Events(Events),
    /// One JSON document, kept up to the maximum size.
    Document(Vec<u8>),
    /// Anything else; not read.
    Other,
}

impl Record {
    /// Creates the record of a request that has just arrived.
    pub fn new(handle: Arc<StreamHandle>, arrived_us: u64) -> Self {
        handle.came();
        Self { handle, arrived_us, permit: None, outcome: None, answer: ResponseBody::Other, last_us: None }
    }

    /// Notes that the request was admitted.
    pub fn starts(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Counts the request as rejected.
    pub fn refused(&mut self, reason: RejectReason) {
        self.handle.metrics.count_refused(reason);
    }

    /// Ends the record with the status of an error response of the batcher itself.
    pub fn fails(mut self, status: u16) {
        self.outcome = Some(Outcome::of_status(status));
    }

    /// Takes the head of the model server's answer.
    pub fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        // A success may still break off, so its outcome is not known yet.
        self.answer = match status.is_success() {
            true if media_type::is(headers, "text/event-stream") => ResponseBody::Events(Events::default()),
            true if media_type::is(headers, "application/json") => ResponseBody::Document(Vec::new()),
            true => ResponseBody::Other,
            false => {
                self.outcome = Some(Outcome::of_status(status.as_u16()));
                return;
            }
        };
        if !matches!(self.answer, ResponseBody::Events(_)) {
            self.first();
        }
    }

    /// Takes a piece of the answer's body.
    pub fn data(&mut self, data: &Bytes) {
        let ended = match &mut self.answer {
            ResponseBody::Events(events) => events.push(data),
            ResponseBody::Document(document) if document.len() + data.len() <= MOST_ANSWER_BYTES => {
                document.extend_from_slice(data);
                return;
            }
            ResponseBody::Document(_) => {
                self.answer = ResponseBody::Other;
                return;
            }
            ResponseBody::Other => return,
        };
        if ended == 0 {
            return;
        }
        self.handle.count_work(ended as u64);
        let now_us = self.handle.clock.now_us();
        let first = self.last_us.is_none();
        let mut gaps = ended;
        if first {
            self.first();
            gaps -= 1;
        }
        if let Some(last_us) = self.last_us
            && gaps > 0
        {
            // Several tokens that came in one piece share the time since the token before.
            let gap = now_us.saturating_sub(last_us) as f64 / 1e6 / gaps as f64;
            (0..gaps).for_each(|_| self.handle.metrics.inter_token_seconds.record(gap));
        }
        self.last_us = Some(now_us);
    }

    /// Ends the record with the answer; `whole` is false if the model server broke it off.
    pub fn ended(mut self, whole: bool) {
        if self.outcome.is_some() {
            return;
        }
        let (usage, failed) = match &self.answer {
            ResponseBody::Events(events) => (events.usage(), events.has_failed()),
            ResponseBody::Document(document) => {
                let usage = usage(document);
                self.handle.count_work(usage.map_or(1, |usage| usage.completion_tokens.max(1)));
                (usage, false)
            }
            ResponseBody::Other => {
                self.handle.count_work(1);
                (None, false)
            }
        };
        if let Some(usage) = usage {
            self.handle.metrics.count_tokens(usage);
        }
        self.outcome = Some(if whole && !failed { Outcome::Ok } else { Outcome::Error });
        if let (true, Some(permit)) = (whole, &mut self.permit) {
            permit.came_to_its_end();
        }
    }

    /// Notes the first token. For an answer that is not a stream, that is its head.
    fn first(&mut self) {
        let now_us = self.handle.clock.now_us();
        if let Some(permit) = &self.permit {
            permit.first_token();
        }
        let seconds = now_us.saturating_sub(self.arrived_us) as f64 / 1e6;
        if matches!(self.answer, ResponseBody::Events(_)) {
            self.handle.metrics.first_token_seconds.record(seconds);
        }
        self.last_us = Some(now_us);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.handle.metrics.count(self.outcome.unwrap_or(Outcome::Cancelled));
        let seconds = self.handle.clock.now_us().saturating_sub(self.arrived_us) as f64 / 1e6;
        self.handle.metrics.stream_seconds.record(seconds);
        self.handle.went();
    }
}
