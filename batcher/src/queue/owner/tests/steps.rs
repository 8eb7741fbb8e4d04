//! Steps of sequences that wait for their turn.

use sluice_batch_policy::Asked;
use sluice_protocol::SequenceId;

use super::*;
use crate::queue::sequence::{InSequence, SequenceKey};

impl Bench {
    /// A step of the only sequence, due within so many objectives.
    fn step(&self, starts: bool, objectives: u64) -> oneshot::Receiver<Reply> {
        let (mut entry, waiting) = self.entry();
        let asked = Asked { starts, ends: false, tenant: 0, sole: false };
        let key = SequenceKey { version: None, id: SequenceId::Number(7) };
        entry.sequence = Some(Box::new(InSequence::new(key, asked)));
        entry.deadline_us = entry.arrived_us + objectives * OBJECTIVE_MS * 1000;
        assert!(self.handle.submit(entry).is_ok());
        waiting
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_behind_another_one_is_told_at_its_deadline_and_what_counts_on_it_with_it() {
    let bench = Bench::new(Settings::default());
    let _first = bench.step(true, 1);
    let (_reports, _listener) = bench.give_slot().await;
    assert_eq!(bench.handle.queued_rows(), 0, "the start is on its way");
    let from_ms = bench.elapsed_ms();
    let (second, third) = (bench.step(false, 2), bench.step(false, 50));
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 2);
    let got = failure(second).await;
    assert_eq!((got.status, got.refusal), (429, Some(RejectReason::Expired)));
    assert!((bench.elapsed_ms() - from_ms).abs_diff(2 * OBJECTIVE_MS) <= 2);
    let got = failure(third).await;
    assert_eq!(got.status, 409, "{}", got.message);
    assert!((bench.elapsed_ms() - from_ms).abs_diff(2 * OBJECTIVE_MS) <= 2);
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_client_leaves_takes_those_behind_it_along() {
    let bench = Bench::new(Settings::default());
    let _first = bench.step(true, 1);
    let (_reports, _listener) = bench.give_slot().await;
    let (second, third) = (bench.step(false, 100), bench.step(false, 100));
    bench.settled().await;
    drop(second);
    assert_eq!(failure(third).await.status, 409);
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_never_had_a_server_is_held_and_ends_what_follows() {
    let bench = Bench::new(Settings::default());
    let (first, second) = (bench.step(true, 1), bench.step(false, 1));
    let got = failure(first).await;
    assert_eq!((got.status, got.refusal), (503, Some(RejectReason::HoldExpired)));
    assert!([409, 503].contains(&failure(second).await.status));
    assert!(bench.elapsed_ms().abs_diff(HOLD_MS) <= 2);
    assert_eq!(bench.handle.queued_rows(), 0);
}
