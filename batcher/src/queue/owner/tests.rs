//! The owner alone, in paused time: requests go in, replies come out.

mod deferring;
mod sharing;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use sluice_batch_policy::{Flow, Size};
use sluice_protocol::WireFormat;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::failure::Failure;
use crate::metrics::RejectReason;
use crate::queue::bytes::ByteBudget;
use crate::queue::{Entry, ModelHandle, Reply, Work, owner};
use crate::queue::{Message, QueueEvent};
use crate::settings::{Live, Settings};
use crate::upstream::discovery::{Profile, Spoken};
use crate::upstream::slot::Slot;
use crate::upstream::{Report, Upstream};
use crate::with_settings;

const OBJECTIVE_MS: u64 = 100;
const HOLD_MS: u64 = 5000;

struct Bench {
    handle: Arc<ModelHandle>,
    clock: Clock,
    start: Instant,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let settings =
            with_settings!(settings, batching.objective_ms = OBJECTIVE_MS, holding.hold_ms = HOLD_MS);
        let (clock, start) = (Clock::start(), Instant::now());
        let handle = Arc::new(ModelHandle::new("m".into(), "m", Live::new(settings), clock));
        tokio::spawn(owner::run(Arc::clone(&handle)));
        Self { handle, clock, start }
    }

    /// A request that goes alone and is due within the objective.
    fn entry(&self) -> (Box<Entry>, oneshot::Receiver<Reply>) {
        let (reply, waiting) = oneshot::channel();
        let arrived_us = self.clock.now_us();
        let entry = Entry {
            work: Work::Raw(Bytes::from_static(b"?")),
            form: WireFormat::Json,
            size: Size::of_rows(1),
            flow: Flow { class: 1, tenant: 0, weight: 1 },
            tenant: None,
            trail: None,
            is_ranked: false,
            scope: None,
            sequence: None,
            origin: Some(Request::post("/").body(()).unwrap().into_parts().0),
            arrived_us,
            deadline_us: arrived_us + OBJECTIVE_MS * 1000,
            signature: None,
            caller: None,
            suspicion: Default::default(),
            alone: false,
            reply: reply.into(),
            bytes: ByteBudget::new(1).empty(None),
        };
        (Box::new(entry), waiting)
    }

    fn submit(&self) -> oneshot::Receiver<Reply> {
        let (entry, waiting) = self.entry();
        assert!(self.handle.submit(entry).is_ok());
        waiting
    }

    /// The only slot is given to a request that never ends; whoever hears the reports can end it.
    async fn saturate(&self) -> (oneshot::Receiver<Reply>, mpsc::UnboundedReceiver<Report>, TcpListener) {
        let first = self.submit();
        let (reports, listener) = self.give_slot().await;
        assert_eq!(self.handle.queued_rows(), 0, "the first one is on its way");
        (first, reports, listener)
    }

    /// A slot, whose first request never ends.
    async fn give_slot(&self) -> (mpsc::UnboundedReceiver<Report>, TcpListener) {
        self.give_slot_of(1).await
    }

    /// A slot for batches of so many rows. No batch ever ends.
    async fn give_slot_of(&self, max_rows: u32) -> (mpsc::UnboundedReceiver<Report>, TcpListener) {
        let (slot, reports, listener) = slot_of(max_rows).await;
        self.handle.tell(Message::Slot(slot));
        self.settled().await;
        (reports, listener)
    }

    /// Lets the owner do what it can do now. While this yields, no time passes.
    async fn settled(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn elapsed_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// A slot of a model server that takes batches of so many rows and answers none.
async fn slot_of(max_rows: u32) -> (Slot, mpsc::UnboundedReceiver<Report>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (upstream, epoch, reports) = Upstream::open_at(listener.local_addr().unwrap());
    let profile = Arc::new(Profile { max_rows, ..Profile::unknown(Spoken::default()) });
    (Slot { upstream, epoch, profile, connections: Default::default() }, reports, listener)
}

async fn failure(waiting: oneshot::Receiver<Reply>) -> Failure {
    match waiting.await.unwrap() {
        Reply::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_model_server_a_request_is_held_long_and_then_told_so() {
    let bench = Bench::new(Settings::default());
    let got = failure(bench.submit()).await;
    assert_eq!((got.status, got.refusal), (503, Some(RejectReason::HoldExpired)));
    assert!(bench.elapsed_ms().abs_diff(HOLD_MS) <= 2, "{} ms", bench.elapsed_ms());
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn with_a_busy_one_a_request_is_told_at_its_deadline_to_come_back() {
    let bench = Bench::new(Settings::default());
    let (_first, _reports, _listener) = bench.saturate().await;
    let from_ms = bench.elapsed_ms();
    let got = failure(bench.submit()).await;
    assert_eq!((got.status, got.refusal), (429, Some(RejectReason::Expired)));
    assert!(got.retry_after.is_some_and(|time| time.ms() >= 1));
    let waited_ms = bench.elapsed_ms() - from_ms;
    assert!(waited_ms.abs_diff(OBJECTIVE_MS) <= 2, "{waited_ms} ms");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_due_sooner_than_those_before_it_is_told_in_time() {
    let bench = Bench::new(Settings::default());
    let (_first, _reports, _listener) = bench.saturate().await;
    let later = bench.submit();
    bench.settled().await;
    let from_ms = bench.elapsed_ms();
    let (mut entry, sooner) = bench.entry();
    entry.deadline_us = entry.arrived_us + 20_000;
    assert!(bench.handle.submit(entry).is_ok());
    assert_eq!(failure(sooner).await.status, 429);
    assert!((bench.elapsed_ms() - from_ms).abs_diff(20) <= 2);
    assert_eq!(failure(later).await.status, 429);
}

#[tokio::test(start_paused = true)]
async fn when_the_last_model_server_goes_those_that_wait_are_held() {
    let bench = Bench::new(Settings::default());
    let (first, reports, listener) = bench.saturate().await;
    let second = bench.submit();
    tokio::time::sleep(Duration::from_millis(OBJECTIVE_MS / 2)).await;
    // Nobody vouches for the connection: the slot is lost, the first request waits again.
    drop((reports, listener));
    for waiting in [first, second] {
        let got = failure(waiting).await;
        assert_eq!((got.status, got.refusal), (503, Some(RejectReason::HoldExpired)));
    }
    assert!(bench.elapsed_ms() >= HOLD_MS - 2, "{} ms", bench.elapsed_ms());
}

#[tokio::test(start_paused = true)]
async fn after_a_broken_connection_the_same_model_server_is_used_again() {
    let bench = Bench::new(Settings::default());
    let (slot, mut reports, _listener) = slot_of(1).await;
    let again = slot.without_connection();
    let _first = bench.submit();
    bench.handle.tell(Message::Slot(slot));
    bench.settled().await;
    let _second = bench.submit();
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 1, "the second one waits for the slot");
    match reports.recv().await {
        Some(Report::Verify { reply, .. }) => reply.send(false).unwrap(),
        other => panic!("{other:?}"),
    }
    assert!(matches!(reports.recv().await, Some(Report::SlotFailed { .. })));
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 2, "nothing is sent while the model server is in doubt");
    bench.handle.tell(Message::Slot(again));
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 1, "one is on its way again");
    assert!(matches!(reports.recv().await, Some(Report::Verify { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_connection_in_time_was_not_sent_and_waits_again() {
    let bench = Bench::new(with_settings!(Settings::default(), servers.upstream_timeout_ms = 1000));
    let (first, _reports, _listener) = bench.saturate().await;
    // Nobody answers whether the connection is to the model server that was warmed.
    let got = failure(first).await;
    assert_eq!((got.status, got.refusal), (503, Some(RejectReason::HoldExpired)));
    assert!(bench.elapsed_ms().abs_diff(HOLD_MS) <= 2, "{} ms", bench.elapsed_ms());
}

#[tokio::test(start_paused = true)]
async fn when_one_comes_back_those_that_were_held_keep_their_time_and_later_ones_have_their_own() {
    let bench = Bench::new(Settings::default());
    let held = [bench.submit(), bench.submit()];
    tokio::time::sleep(Duration::from_millis(10 * OBJECTIVE_MS)).await;
    let (_reports, _listener) = bench.give_slot().await;
    let from_ms = bench.elapsed_ms();
    let later = bench.submit();
    assert_eq!(failure(later).await.refusal, Some(RejectReason::Expired));
    assert!((bench.elapsed_ms() - from_ms).abs_diff(OBJECTIVE_MS) <= 2);
    let [first, second] = held;
    let got = failure(second).await;
    assert_eq!(
        (got.status, got.refusal),
        (429, Some(RejectReason::Expired)),
        "a model server is there, and busy"
    );
    assert!(bench.elapsed_ms().abs_diff(HOLD_MS) <= 2, "{} ms", bench.elapsed_ms());
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_connection_broke_is_held_until_there_is_a_model_server() {
    let bench = Bench::new(Settings::default());
    let (slot, mut reports, listener) = slot_of(1).await;
    let waiting = bench.submit();
    bench.handle.tell(Message::Slot(slot));
    let (connection, _) = listener.accept().await.unwrap();
    match reports.recv().await {
        Some(Report::Verify { reply, .. }) => reply.send(true).unwrap(),
        other => panic!("{other:?}"),
    }
    connection.readable().await.unwrap();
    drop(connection);
    assert!(matches!(reports.recv().await, Some(Report::SlotFailed { .. })));
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 1, "it waits again");
    let got = failure(waiting).await;
    assert_eq!((got.status, got.refusal), (503, Some(RejectReason::HoldExpired)));
    assert!(bench.elapsed_ms() >= HOLD_MS - 2, "{} ms", bench.elapsed_ms());
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn clients_that_leave_while_requests_are_held_take_theirs_with_them() {
    let bench = Bench::new(Settings::default());
    let stays = bench.submit();
    let leaves = bench.submit();
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 2);
    drop(leaves);
    tokio::time::sleep(Duration::from_millis(HOLD_MS / 2)).await;
    assert_eq!(bench.handle.queued_rows(), 1);
    drop(stays);
}
