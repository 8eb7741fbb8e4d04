//! Several replicas at one Lease, in paused time.

use super::store::fake::FakeStore;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Replica {
    leading: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(store: &FakeStore, identity: &str) -> Self {
        let (leads, leading) = watch::channel(false);
        let stop = CancellationToken::new();
        let settings = LeaseSettings::new("sluice-system", "example", identity);
        let task = tokio::spawn(run(store.clone(), settings, leads, stop.clone()));
        Self { leading, stop, task }
    }

    fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    async fn until(&mut self, leads: bool) {
        self.leading.wait_for(|now| *now == leads).await.unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_stays_the_leader() {
    let store = FakeStore::default();
    let mut first = Replica::start(&store, "a");
    first.until(true).await;
    let second = Replica::start(&store, "b");
    for _ in 0..60 {
        tokio::time::sleep(SECOND).await;
        assert!(first.leads() && !second.leads());
    }
    let lease = store.with(|state| state.lease.clone()).unwrap();
    let record = lease.spec.unwrap();
    assert_eq!(record.lease_duration_seconds, Some(15));
    assert_eq!(record.lease_transitions, Some(0));
    assert!(store.with(|state| state.writes) > 15, "it is renewed");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_gives_the_lease_back_and_another_takes_it_at_its_next_look() {
    let store = FakeStore::default();
    let mut first = Replica::start(&store, "a");
    first.until(true).await;
    let mut second = Replica::start(&store, "b");
    tokio::time::sleep(SECOND).await;
    first.stop().await;
    assert_eq!(store.holder().as_deref(), Some(""));
    let begun = Instant::now();
    second.until(true).await;
    assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
    let record = store.with(|state| state.lease.clone()).unwrap().spec.unwrap();
    assert_eq!(record.lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_leader_that_died_is_taken_after_its_duration_and_not_before() {
    let store = FakeStore::default();
    let mut first = Replica::start(&store, "a");
    first.until(true).await;
    let mut second = Replica::start(&store, "b");
    tokio::time::sleep(SECOND).await;
    first.task.abort();
    let begun = Instant::now();
    second.until(true).await;
    let waited = begun.elapsed();
    assert!(waited >= 12 * SECOND && waited <= 16 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_from_the_api_server_stops_before_another_begins() {
    for hanging in [false, true] {
        let store = FakeStore::default();
        let mut first = Replica::start(&store, "a");
        first.until(true).await;
        tokio::time::sleep(SECOND).await;
        store.with(|state| (state.away, state.hanging) = (!hanging, hanging));
        let begun = Instant::now();
        first.until(false).await;
        assert!(begun.elapsed() <= 10 * SECOND, "{:?}", begun.elapsed());
        // The record as another replica finds it, which has only now seen it for the first time.
        store.with(|state| (state.away, state.hanging) = (false, false));
        first.task.abort();
        let mut second = Replica::start(&store, "b");
        second.until(true).await;
        assert!(begun.elapsed() >= 15 * SECOND, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_cut_off_leads_again_when_the_api_server_is_back() {
    let store = FakeStore::default();
    let mut replica = Replica::start(&store, "a");
    replica.until(true).await;
    store.with(|state| state.hanging = true);
    replica.until(false).await;
    tokio::time::sleep(60 * SECOND).await;
    store.with(|state| state.hanging = false);
    tokio::time::timeout(20 * SECOND, replica.until(true)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_machines_clock_is_not_trusted() {
    let store = FakeStore::default();
    let mut first = Replica::start(&store, "a");
    first.until(true).await;
    first.task.abort();
    // Renewed long ago, as its writer's clock has it; still good for 15 s since it was seen.
    store.with(|state| {
        let record = state.lease.as_mut().and_then(|lease| lease.spec.as_mut()).unwrap();
        record.renew_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(
            k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        ));
    });
    let mut second = Replica::start(&store, "b");
    let begun = Instant::now();
    second.until(true).await;
    assert!(begun.elapsed() >= 15 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_away_stops_at_its_next_look() {
    let store = FakeStore::default();
    let mut first = Replica::start(&store, "a");
    first.until(true).await;
    store.with(|state| {
        state.version += 1;
        let version = state.version.to_string();
        let lease = state.lease.as_mut().unwrap();
        lease.metadata.resource_version = Some(version);
        lease.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
    });
    let begun = Instant::now();
    first.until(false).await;
    assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_of_the_same_name_goes_on_at_once() {
    let store = FakeStore::default();
    let mut first = Replica::start(&store, "a");
    first.until(true).await;
    first.task.abort();
    let mut again = Replica::start(&store, "a");
    let begun = Instant::now();
    again.until(true).await;
    assert!(begun.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deleted_is_made_again() {
    let store = FakeStore::default();
    let mut first = Replica::start(&store, "a");
    first.until(true).await;
    store.with(|state| state.lease = None);
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(store.holder().as_deref(), Some("a"));
    assert!(first.leads());
}
