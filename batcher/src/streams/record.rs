//! One request from its arrival to its end, and what is measured on the way.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::events::{Events, usage};
use super::{Permit, StreamHandle};
use crate::media_type;
use crate::metrics::{Outcome, RejectReason};

/// Longest answer that is not a stream and yet looked into for its usage.
const MOST_ANSWER_BYTES: usize = 256 << 10;

/// A request that is not over. Dropped before it was told how it ended, it counts as cancelled: its client has left.
#[derive(Debug)]
pub struct Record {
    handle: Arc<StreamHandle>,
    arrived_us: u64,
    permit: Option<Permit>,
    outcome: Option<Outcome>,
    answer: ResponseBody,
    /// When the last token came.
    last_us: Option<u64>,
}

/// What is looked for in the answer's body.
#[derive(Debug)]
enum ResponseBody {
    /// Server-sent events: each is taken for a token.
    Events(Events),
    /// One JSON document, kept as far as it may be looked into.
    Document(Vec<u8>),
    /// Anything else.
    Other,
}

impl Record {
    /// A request that has just arrived.
    pub fn new(handle: Arc<StreamHandle>, arrived_us: u64) -> Self {
        handle.came();
        Self { handle, arrived_us, permit: None, outcome: None, answer: ResponseBody::Other, last_us: None }
    }

    /// It may be sent.
    pub fn starts(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// It was refused.
    pub fn refused(&mut self, reason: RejectReason) {
        self.handle.metrics.count_refused(reason);
    }

    /// It ends with this status, of the batcher's own.
    pub fn fails(mut self, status: u16) {
        self.outcome = Some(Outcome::of_status(status));
    }

    /// The head of the model server's answer.
    pub fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        // If all comes; how it ends is not known yet.
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

    /// A piece of the answer.
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
            // Several that came in one piece share the time since the one before.
            let gap = now_us.saturating_sub(last_us) as f64 / 1e6 / gaps as f64;
            (0..gaps).for_each(|_| self.handle.metrics.inter_token_seconds.record(gap));
        }
        self.last_us = Some(now_us);
    }

    /// The answer has ended: with its last byte, or because the model server broke it off.
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

    /// The first token (of an answer in one piece: its head, which comes with all of it).
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
