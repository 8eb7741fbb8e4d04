//! Thread that sends the requests. One event loop serves the timer, the sockets and the counting, so that only this
//! thread's own work can delay a write after its due time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::client::Client;
use super::judge::judge;
use super::pacer::Pacer;
use super::payload::{Prepared, Requests};
use super::stamp::Stamp;
use crate::arrivals::Arrivals;
use crate::clock;
use crate::plan::{Load, Payload, Plan, Protocol};
use crate::record::{Interval, LostKind, Outcome, RequestRecord, RunRecord, Tally};

/// Time from the start of the thread to the first due time; connections are open by then.
const LEAD_IN_NS: u64 = 20_000_000;
/// Maximum number of intervals kept: one day of seconds.
const MOST_INTERVALS: usize = 86_400;

/// Sends the requests of `plan` until its end or `stop`, publishes each interval, and returns when the outcome of
/// every request is known.
pub(super) async fn run(
    plan: &Plan,
    intervals: broadcast::Sender<Interval>,
    stop: CancellationToken,
) -> Result<RunRecord, RunError> {
    let requests = Requests::new(plan)?;
    let client = Client::new(plan.address);
    let protocols: Vec<Protocol> = match &plan.payload {
        Payload::Reference { mix, .. } => mix.protocols().collect(),
        Payload::Body { .. } => vec![Protocol::Body],
    };
    client
        .open_ahead(&protocols, plan.connections)
        .await
        .map_err(|source| RunError::Connect { address: plan.address, source })?;

    let start_ns = clock::now_ns() + LEAD_IN_NS;
    let (outcomes, receiver) = mpsc::channel(plan.max_in_flight);
    let sent = Arc::new(AtomicU64::new(0));
    let permits = Arc::new(Semaphore::new(plan.max_in_flight));
    let counting = tokio::spawn(count(
        Tally::new(start_ns, plan.objective.map(|objective| objective.as_nanos() as u64)),
        receiver,
        Arc::clone(&sent),
        plan.interval,
        intervals,
    ));
    let sender = Sender { client: client.clone(), outcomes, sent, timeout: plan.timeout };
    let stopped_early = match &plan.load {
        Load::Open { rate, spacing } => {
            let arrivals = Arrivals::new(rate.clone(), *spacing, plan.seed);
            open_loop(arrivals, start_ns, requests, &sender, &permits, &stop).await?
        }
        Load::Closed { concurrency, duration } => {
            let end_ns = start_ns + duration.as_nanos() as u64;
            Pacer::new()?.wait_until(start_ns).await?;
            closed_loop(*concurrency, end_ns, requests, &sender, &stop).await;
            clock::now_ns() < end_ns
        }
    };
    drop(sender);
    let (tally, series) = counting.await.map_err(|_| RunError::Panicked)?;
    Ok(RunRecord { tally, series, connections_opened: client.opened(), stopped_early })
}

async fn open_loop(
    arrivals: Arrivals,
    start_ns: u64,
    mut requests: Requests,
    sender: &Sender,
    permits: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Result<bool, RunError> {
    let pacer = Pacer::new()?;
    let end_ns = start_ns + (arrivals.duration_s() * 1e9) as u64;
    for due_ns in arrivals {
        let intended_ns = start_ns + due_ns;
        // Built before it is due.
        let prepared = requests.prepare();
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(true),
            waited = pacer.wait_until(intended_ns) => waited?,
        }
        sender.sent.fetch_add(1, Ordering::Relaxed);
        match Arc::clone(permits).try_acquire_owned() {
            Ok(permit) => {
                tokio::spawn(sender.clone().send_one(prepared, intended_ns, Some(permit)));
            }
            Err(_full) => {
                let outcome = Outcome::Lost(LostKind::Unsent);
                sender
                    .report(RequestRecord {
                        protocol: prepared.protocol,
                        intended_ns,
                        sent_ns: None,
                        done_ns: clock::now_ns(),
                        outcome,
                        example: None,
                        retry_after: false,
                    })
                    .await;
            }
        }
    }
    // The run ends with its schedule, not with the last arrival.
    tokio::select! {
        () = stop.cancelled() => Ok(true),
        waited = pacer.wait_until(end_ns) => { waited?; Ok(false) }
    }
}

async fn closed_loop(
    concurrency: usize,
    end_ns: u64,
    requests: Requests,
    sender: &Sender,
    stop: &CancellationToken,
) {
    let requests = Arc::new(std::sync::Mutex::new(requests));
    let mut clients = JoinSet::new();
    for _ in 0..concurrency {
        let (requests, sender, stop) = (Arc::clone(&requests), sender.clone(), stop.clone());
        clients.spawn(async move {
            while clock::now_ns() < end_ns && !stop.is_cancelled() {
                let prepared = requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).prepare();
                sender.sent.fetch_add(1, Ordering::Relaxed);
                let connected = sender.clone().send_one(prepared, clock::now_ns(), None).await;
                if !connected {
                    // Without this pause an unreachable target would be tried in a busy loop.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    while clients.join_next().await.is_some() {}
}

/// Sends requests and reports their outcomes.
#[derive(Debug, Clone)]
struct Sender {
    client: Client,
    outcomes: mpsc::Sender<RequestRecord>,
    sent: Arc<AtomicU64>,
    timeout: Duration,
}

impl Sender {
    /// Sends a request and reports its outcome; returns whether a connection could be opened.
    async fn send_one(
        self,
        prepared: Prepared,
        intended_ns: u64,
        permit: Option<OwnedSemaphorePermit>,
    ) -> bool {
        let Prepared { protocol, request, expected } = prepared;
        let stamp = Stamp::default();
        let late = Duration::from_nanos(clock::now_ns().saturating_sub(intended_ns));
        let left = self.timeout.saturating_sub(late);
        let answer = tokio::time::timeout(left, self.client.send(protocol, request, &stamp)).await;
        let mut retry_after = false;
        let (outcome, example, done_ns) = match answer {
            Ok(Ok(arrived)) => {
                retry_after = arrived.received.headers.contains_key(http::header::RETRY_AFTER);
                let (outcome, example) = judge(protocol, &arrived.received, expected);
                (outcome, example, arrived.at_ns)
            }
            Ok(Err(kind)) => (Outcome::Lost(kind), None, clock::now_ns()),
            Err(_elapsed) => (Outcome::Lost(LostKind::Timeout), None, clock::now_ns()),
        };
        let connected = outcome != Outcome::Lost(LostKind::Connect);
        let sent_ns = stamp.marked_ns();
        self.report(RequestRecord { protocol, intended_ns, sent_ns, done_ns, outcome, example, retry_after })
            .await;
        drop(permit);
        connected
    }

    async fn report(&self, outcome: RequestRecord) {
        // The counting task outlives all senders: a failure means that it panicked, which is reported at the end.
        let _ = self.outcomes.send(outcome).await;
    }
}

async fn count(
    mut tally: Tally,
    mut outcomes: mpsc::Receiver<RequestRecord>,
    sent: Arc<AtomicU64>,
    length: Duration,
    intervals: broadcast::Sender<Interval>,
) -> (Tally, Vec<Interval>) {
    let mut series = Vec::new();
    let first = tokio::time::Instant::now() + Duration::from_nanos(LEAD_IN_NS) + length;
    let mut ticks = tokio::time::interval_at(first, length);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let over = tokio::select! {
            outcome = outcomes.recv() => match outcome {
                Some(outcome) => {
                    tally.record(outcome);
                    continue;
                }
                None => true,
            },
            _ = ticks.tick() => false,
        };
        let interval = tally.end_interval(clock::now_ns(), sent.load(Ordering::Relaxed));
        if over {
            // A short last interval would look like a change of rate, so it is merged into the one before.
            match series.last_mut() {
                Some(last) => Interval::absorb(last, &interval),
                None => series.push(interval),
            }
            return (tally, series);
        }
        let _ = intervals.send(interval.clone());
        if series.len() < MOST_INTERVALS {
            series.push(interval);
        }
    }
}
