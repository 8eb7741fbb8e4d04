//! What a queue foretells while another one uses the same slots.

use super::*;

/// One slot for both; the first request of `bench` takes it and never ends. L(1) = 21 ms.
async fn both_at_one_slot(bench: &Bench) -> (Arc<ModelHandle>, mpsc::UnboundedReceiver<Report>, TcpListener) {
    let settings = bench.handle.settings.clone();
    let other = Arc::new(ModelHandle::new("other".into(), "other", settings, bench.clock));
    tokio::spawn(owner::run(Arc::clone(&other)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (upstream, epoch, reports) = Upstream::open_at(listener.local_addr().unwrap());
    let profile = Arc::new(Profile::unknown(Spoken::default()));
    for handle in [&bench.handle, &other] {
        let times = (1..=64).rev().map(|rows| (rows, 0.020 + 0.001 * f64::from(rows)));
        handle.tell(QueueEvent::Warmed(times.collect()));
        handle.tell(Message::Slot(Slot {
            upstream: Arc::clone(&upstream),
            epoch: Arc::clone(&epoch),
            profile: Arc::clone(&profile),
            connections: Default::default(),
        }));
    }
    bench.settled().await;
    (other, reports, listener)
}

/// What a request that arrives now would wait, as the owner knows when it has looked again.
async fn wait_ms(bench: &Bench) -> f64 {
    bench.handle.tell(QueueEvent::SlotsChanged);
    bench.settled().await;
    bench.handle.load().predicted_wait_seconds * 1e3
}

#[tokio::test(start_paused = true)]
async fn the_turns_of_another_queue_are_part_of_the_wait() {
    let bench = Bench::new(Settings::default());
    let (other, _reports, _listener) = both_at_one_slot(&bench).await;
    let _running = bench.submit();
    bench.settled().await;
    assert_eq!(bench.handle.queued_rows(), 0, "it is on its way");
    let alone_ms = wait_ms(&bench).await;
    let (entry, _waiting) = bench.entry();
    assert!(other.submit(entry).is_ok());
    bench.settled().await;
    assert_eq!(other.queued_rows(), 1);
    // The other's batch of one row comes first.
    let with_other_ms = wait_ms(&bench).await;
    assert!(
        (with_other_ms - alone_ms - 21.0).abs() < 2.0,
        "{alone_ms} ms alone, {with_other_ms} ms with the other"
    );
}
