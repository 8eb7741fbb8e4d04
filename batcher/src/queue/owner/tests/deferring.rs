//! Waiting for more although a slot is free.

use sluice_protocol::{Limits, Target, parse_json};

use super::*;
use crate::settings::Deferral;
use crate::with_settings;

const SLOTS: usize = 4;
/// Between two arrivals: 500 rows per second.
const GAP: Duration = Duration::from_millis(2);

/// Before a server with four slots that takes 20 ms + 2 ms·b, at 500 rows per second. A batch of 15 rows would be the
/// largest for 100 ms, where none is deferred.
async fn busy(deferral: Deferral) -> (Bench, mpsc::UnboundedReceiver<Report>, TcpListener) {
    let bench = Bench::new(with_settings!(
        Settings::default(),
        batching.deferral = deferral,
        batching.slots_per_upstream = SLOTS
    ));
    let times = (1..=64).rev().map(|rows| (rows, 0.020 + 0.002 * f64::from(rows)));
    bench.handle.tell(QueueEvent::Warmed(times.collect()));
    // Their clients do not wait for the slots.
    for _ in 0..50 {
        drop(submit(&bench));
        tokio::time::sleep(GAP).await;
    }
    let (reports, listener) = bench.give_slot_of(64).await;
    assert_eq!(bench.handle.queued_rows(), 0);
    (bench, reports, listener)
}

/// A request that may share a batch.
fn submit(bench: &Bench) -> oneshot::Receiver<Reply> {
    submit_within(bench, Duration::from_millis(OBJECTIVE_MS))
}

fn submit_within(bench: &Bench, due: Duration) -> oneshot::Receiver<Reply> {
    let (mut entry, waiting) = bench.entry();
    let target = Target { model: "m".to_owned(), version: None };
    let body = r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT32","data":[1]}]}"#;
    entry.work = Work::Parsed(parse_json(&target, body.into(), &Limits::default()).unwrap());
    entry.deadline_us = entry.arrived_us + due.as_micros() as u64;
    assert!(bench.handle.submit(entry).is_ok());
    waiting
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_as_one_batch_once_it_is_of_the_balanced_size() {
    let (bench, _reports, _listener) = busy(Deferral::Auto).await;
    // λ·α/(S − λ·β), S less the room that is left for chance, is 4.4 rows; these arrivals count too.
    let mut sent = Vec::new();
    loop {
        sent.push(submit(&bench));
        bench.settled().await;
        match bench.handle.queued_rows() {
            0 => break,
            rows => assert_eq!(rows, sent.len() as u64, "none goes alone"),
        }
    }
    assert!((4..=6).contains(&sent.len()), "{}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_more_goes_after_a_turn_of_the_slots_even_if_nothing_comes() {
    let (bench, _reports, _listener) = busy(Deferral::Auto).await;
    let _waiting = submit(&bench);
    bench.settled().await;
    // A turn is L(4)/S: about 8 ms.
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(bench.handle.queued_rows(), 1);
    tokio::time::sleep(Duration::from_millis(7)).await;
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_soon_does_not_wait() {
    let (bench, _reports, _listener) = busy(Deferral::Auto).await;
    let _company = submit(&bench);
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 1);
    // A batch of the balanced size takes about 28 ms.
    let _urgent = submit_within(&bench, Duration::from_millis(28));
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_alone_waits_for_nobody() {
    let (bench, _reports, _listener) = busy(Deferral::Auto).await;
    let _waiting = bench.submit();
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn at_low_load_nothing_waits_although_deferral_is_on() {
    let (bench, _reports, _listener) = busy(Deferral::Auto).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _waiting = submit(&bench);
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deferred_unless_that_is_asked_for() {
    let (bench, _reports, _listener) = busy(Deferral::Off).await;
    let _waiting = submit(&bench);
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 0);
}
