//! Counts requests and computes statistics per interval and for the whole run. Its memory does not grow with the run.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::interval::{Counts, Interval, Quantiles};
use super::outcome::{LostKind, Outcome};
use crate::plan::Protocol;

/// Longest time that the histograms can hold: one hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;
/// Maximum number of different failures counted separately; further ones are counted as `other`.
const MOST_FAILURES: usize = 100;
/// Maximum number of wrong answers that are described in the report.
const MOST_EXAMPLES: usize = 5;

/// Record of one finished request. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Clone)]
pub(crate) struct RequestRecord {
    /// Protocol that it was sent by.
    pub protocol: Protocol,
    /// Time at which it was due.
    pub intended_ns: u64,
    /// Time at which its bytes were handed to the socket; `None` if they were not.
    pub sent_ns: Option<u64>,
    /// Time at which its outcome was known.
    pub done_ns: u64,
    pub outcome: Outcome,
    /// Description of what is wrong with a wrong answer.
    pub example: Option<String>,
    /// Whether the response had `Retry-After`.
    pub retry_after: bool,
}

/// Counts and latencies of one protocol, or of all requests.
#[derive(Debug)]
pub(crate) struct Group {
    pub counts: Counts,
    latency_us: Histogram<u64>,
}

impl Group {
    fn new() -> Self {
        Self { counts: Counts::default(), latency_us: histogram() }
    }

    /// Returns the latencies of correct answers; `None` without any.
    pub(crate) fn latency(&self) -> Option<Quantiles> {
        Quantiles::of(&self.latency_us)
    }
}

/// Counts and histograms of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    objective_ns: Option<u64>,
    start_ns: u64,
    /// All requests.
    pub all: Group,
    /// The same by protocol.
    pub by_protocol: BTreeMap<Protocol, Group>,
    /// Lost requests by kind.
    pub lost_kinds: BTreeMap<LostKind, u64>,
    /// Failed requests by status.
    pub failures: BTreeMap<String, u64>,
    /// Descriptions of the first wrong answers.
    pub examples: Vec<String>,
    /// Rejections with `Retry-After`.
    pub rejected_retry_after: u64,
    /// Time at which the last outcome was known.
    pub last_done_ns: u64,
    send_lag_us: Histogram<u64>,
    current: Group,
    current_lag_us: Histogram<u64>,
    current_start_ns: u64,
    sent_before: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds of an hour in microseconds are valid")
}

impl Tally {
    /// Creates an empty tally for a run that starts at `start_ns`.
    pub(crate) fn new(start_ns: u64, objective_ns: Option<u64>) -> Self {
        Self {
            objective_ns,
            start_ns,
            all: Group::new(),
            by_protocol: BTreeMap::new(),
            lost_kinds: BTreeMap::new(),
            failures: BTreeMap::new(),
            examples: Vec::new(),
            rejected_retry_after: 0,
            last_done_ns: start_ns,
            send_lag_us: histogram(),
            current: Group::new(),
            current_lag_us: histogram(),
            current_start_ns: start_ns,
            sent_before: 0,
        }
    }

    /// Counts one request.
    pub(crate) fn record(&mut self, request: RequestRecord) {
        let latency_ns = request.done_ns.saturating_sub(request.intended_ns);
        let attained = self.objective_ns.is_none_or(|objective_ns| latency_ns <= objective_ns);
        self.last_done_ns = self.last_done_ns.max(request.done_ns);
        let own = self.by_protocol.entry(request.protocol).or_insert_with(Group::new);
        for group in [&mut self.all, &mut self.current, own] {
            group.counts.add(&request.outcome, attained);
            if request.outcome == Outcome::Answered {
                group.latency_us.saturating_record(latency_ns / 1000);
            }
        }
        if let Some(sent_ns) = request.sent_ns {
            let lag_us = sent_ns.saturating_sub(request.intended_ns) / 1000;
            self.send_lag_us.saturating_record(lag_us);
            self.current_lag_us.saturating_record(lag_us);
        }
        match request.outcome {
            Outcome::Lost(kind) => *self.lost_kinds.entry(kind).or_default() += 1,
            Outcome::Failed(status) => {
                let known = self.failures.len() < MOST_FAILURES || self.failures.contains_key(&status);
                *self.failures.entry(if known { status } else { "other".into() }).or_default() += 1;
            }
            Outcome::Rejected => self.rejected_retry_after += u64::from(request.retry_after),
            Outcome::Answered => {}
        }
        if let Some(example) = request.example
            && self.examples.len() < MOST_EXAMPLES
        {
            self.examples.push(example);
        }
    }

    /// Ends the current interval and returns its statistics. `sent` is the number of requests sent since the start of the run.
    pub(crate) fn end_interval(&mut self, now_ns: u64, sent: u64) -> Interval {
        let seconds = |from_ns: u64| now_ns.saturating_sub(from_ns) as f64 / 1e9;
        let latency = self.current.latency();
        let interval = Interval {
            t_s: seconds(self.start_ns),
            length_s: seconds(self.current_start_ns),
            sent: sent - self.sent_before,
            counts: std::mem::take(&mut self.current.counts),
            in_flight: sent.saturating_sub(self.all.counts.requests()),
            p50_ms: latency.map(|latency| latency.p50_ms),
            p99_ms: latency.map(|latency| latency.p99_ms),
            max_ms: latency.map(|latency| latency.max_ms),
            send_lag_p99_ms: Quantiles::of(&self.current_lag_us).map(|lag| lag.p99_ms),
        };
        self.current.latency_us.reset();
        self.current_lag_us.reset();
        self.current_start_ns = now_ns;
        self.sent_before = sent;
        interval
    }

    /// Returns the send lag of all requests; `None` if none was sent.
    pub(crate) fn send_lag(&self) -> Option<Quantiles> {
        Quantiles::of(&self.send_lag_us)
    }

    /// Returns the time from the start of the run to the last outcome, in seconds.
    pub(crate) fn elapsed_s(&self) -> f64 {
        (self.last_done_ns - self.start_ns) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn request(intended_ms: u64, latency_ms: u64, outcome: Outcome) -> RequestRecord {
        let intended_ns = intended_ms * MS;
        RequestRecord {
            protocol: Protocol::RestJson,
            intended_ns,
            sent_ns: Some(intended_ns + MS / 10),
            done_ns: intended_ns + latency_ms * MS,
            outcome,
            example: None,
            retry_after: false,
        }
    }

    #[test]
    fn every_request_is_in_one_count_and_only_correct_answers_have_a_latency() {
        let mut tally = Tally::new(0, Some(10 * MS));
        tally.record(request(0, 5, Outcome::Answered));
        tally.record(request(0, 10, Outcome::Answered));
        tally.record(request(0, 11, Outcome::Answered));
        tally.record(request(0, 1, Outcome::Rejected));
        tally.record(request(0, 1, Outcome::Failed("400".into())));
        tally.record(request(0, 9000, Outcome::Lost(LostKind::Timeout)));
        let counts = Counts { answered: 3, attained: 2, rejected: 1, failed: 1, lost: 1 };
        assert_eq!(tally.all.counts, counts);
        assert_eq!(counts.requests(), 6);
        let latency = tally.all.latency().unwrap();
        assert!((latency.max_ms - 11.0).abs() < 0.02, "{latency:?}");
        assert_eq!(tally.lost_kinds[&LostKind::Timeout], 1);
        assert_eq!(tally.failures["400"], 1);
        assert!((tally.send_lag().unwrap().p99_ms - 0.1).abs() < 0.001);
    }

    #[test]
    fn an_interval_holds_what_was_learnt_in_it() {
        let mut tally = Tally::new(0, None);
        tally.record(request(0, 5, Outcome::Answered));
        let first = tally.end_interval(1000 * MS, 3);
        tally.record(request(900, 300, Outcome::Answered));
        let second = tally.end_interval(2000 * MS, 4);
        assert_eq!((first.sent, first.counts.answered, first.in_flight), (3, 1, 2));
        assert_eq!((second.sent, second.counts.answered, second.in_flight, second.t_s), (1, 1, 2, 2.0));
        assert!((second.p50_ms.unwrap() - 300.0).abs() < 0.5);
        assert_eq!(tally.end_interval(3000 * MS, 4).p50_ms, None);
    }

    #[test]
    fn kinds_of_failure_and_examples_are_bounded() {
        let mut tally = Tally::new(0, None);
        for status in 0..1000 {
            let example = Some(format!("example {status}"));
            tally.record(RequestRecord { example, ..request(0, 1, Outcome::Failed(status.to_string())) });
        }
        assert!(tally.failures.len() <= MOST_FAILURES + 1);
        assert_eq!(tally.failures.values().sum::<u64>(), 1000);
        assert_eq!(tally.examples.len(), MOST_EXAMPLES);
    }
}
