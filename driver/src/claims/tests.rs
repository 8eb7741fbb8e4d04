use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::allocation::tests::{claim, node};
use crate::cdi::{CdiDir, Majors};
use crate::checkpoint::file::StateDir;
use crate::checkpoint::store::CheckpointStore;
use crate::gpus::Reason;
use crate::gpus::fake::FakeGpus;
use crate::store::memory::MemoryStore;

struct Fixture {
    _dir: tempfile::TempDir,
    gpus: Arc<FakeGpus>,
    store: Arc<MemoryStore>,
    claims: Claims,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let gpus = Arc::new(FakeGpus::default());
    let store = Arc::new(MemoryStore::default());
    let device_state = DeviceState::new(
        gpus.clone(),
        CheckpointStore::open(StateDir::lock(&dir.path().join("state")).unwrap()).unwrap(),
        CdiDir::new(dir.path().join("cdi"), dir.path(), Majors::default(), None),
        "boot-1".to_owned(),
        Arc::new(|| 1_000),
    );
    let claims = Claims {
        store: store.clone(),
        node: watch::channel(Some(Arc::new(node()))).1,
        session: watch::channel(Ok(())).1,
        device_state: Arc::new(device_state),
        in_progress: InProgress::default(),
        metrics: ClaimMetrics::new(),
        stale: Arc::new(Notify::new()),
        nudge: Arc::new(Notify::new()),
    };
    Fixture { _dir: dir, gpus, store, claims }
}

fn reference(uid: &str) -> ClaimRef {
    ClaimRef { namespace: "default".to_owned(), name: uid.to_owned(), uid: uid.to_owned() }
}

impl Fixture {
    fn allocate(&self, uid: &str, device: &str) {
        self.store.put_claim(claim(uid, "gpu.sluice.dev", "n/gpu", device));
    }
}

#[tokio::test]
async fn a_claim_that_is_not_in_the_store_is_not_prepared() {
    let fixture = fixture();
    assert!(matches!(fixture.claims.prepare(reference("a")).await, Err(ClaimError::Absent)));
    fixture.claims.unprepare(reference("a")).await.unwrap();
}

#[tokio::test]
async fn a_uid_that_would_leave_its_folder_is_refused() {
    let fixture = fixture();
    for uid in ["../../etc/x", "", "a/b"] {
        assert!(matches!(fixture.claims.prepare(reference(uid)).await, Err(ClaimError::Uid(_))));
        assert!(matches!(fixture.claims.unprepare(reference(uid)).await, Err(ClaimError::Uid(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_call_for_a_claim_waits_for_the_first_and_is_told_of_it_before_the_kubelet_gives_up() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-4");
    let mark = fixture.claims.in_progress.begin("a", "prepare").unwrap();
    let begin = tokio::time::Instant::now();
    let error = fixture.claims.prepare(reference("a")).await.unwrap_err();
    assert!(matches!(error, ClaimError::Busy(_)), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(45));
    let (prepared, unprepared, ()) = tokio::join!(
        fixture.claims.prepare(reference("a")),
        fixture.claims.unprepare(reference("a")),
        async { drop(mark) },
    );
    assert_eq!(prepared.unwrap().len(), 1);
    unprepared.unwrap();
}

#[tokio::test]
async fn slices_of_deleted_claims_are_released_and_those_of_others_are_kept() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-4");
    fixture.allocate("b", "gpu-0-mig-2g-10gb-2");
    for uid in ["a", "b"] {
        fixture.claims.prepare(reference(uid)).await.unwrap();
    }
    fixture.store.delete_claim("default", "a");
    fixture.claims.reconcile_once(&CancellationToken::new()).await;
    assert_eq!(fixture.gpus.standing(), [(4, 14, 2, 1)]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_releases_nothing() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-4");
    fixture.claims.prepare(reference("a")).await.unwrap();
    fixture.store.delete_claim("default", "a");
    fixture.store.set_broken(true);
    fixture.claims.reconcile_once(&CancellationToken::new()).await;
    assert_eq!(fixture.gpus.standing().len(), 1);
    fixture.store.set_broken(false);
    fixture.claims.reconcile_once(&CancellationToken::new()).await;
    assert!(fixture.gpus.standing().is_empty());
}

#[tokio::test]
async fn a_release_that_failed_is_finished_by_the_reconciler() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-4");
    fixture.claims.prepare(reference("a")).await.unwrap();
    fixture.gpus.fail("destroy_gpu_instance", Reason::InUse);
    fixture.claims.unprepare(reference("a")).await.unwrap_err();
    fixture.gpus.heal();
    fixture.claims.reconcile_once(&CancellationToken::new()).await;
    assert!(fixture.gpus.standing().is_empty());
}

#[tokio::test]
async fn a_claim_that_was_prepared_again_while_the_reconciler_looked_is_kept() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-2");
    fixture.allocate("b", "gpu-0-mig-2g-10gb-4");
    fixture.claims.prepare(reference("a")).await.unwrap();
    fixture.claims.prepare(reference("b")).await.unwrap();
    fixture.gpus.fail("destroy_gpu_instance", Reason::InUse);
    fixture.claims.unprepare(reference("b")).await.unwrap_err();
    fixture.gpus.heal();
    // The reconciliation has seen b half released and is reading a when b is requested again.
    let open = fixture.store.hold("a");
    let stop = CancellationToken::new();
    tokio::join!(fixture.claims.reconcile_once(&stop), async {
        fixture.claims.prepare(reference("b")).await.unwrap();
        open.notify_one();
    });
    assert_eq!(fixture.gpus.standing().len(), 2);
}

#[tokio::test]
async fn a_device_of_a_vanished_claim_is_freed_for_the_one_that_needs_it() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-4");
    fixture.claims.prepare(reference("a")).await.unwrap();
    let stop = CancellationToken::new();
    let reconciler = tokio::spawn(fixture.claims.clone().reconcile(Duration::from_secs(3600), stop.clone()));
    // First pass, while the claim still exists.
    tokio::task::yield_now().await;
    fixture.store.delete_claim("default", "a");
    fixture.allocate("b", "gpu-0-mig-2g-10gb-4");
    // The kubelet would retry only after a minute, so the first call must succeed.
    fixture.claims.prepare(reference("b")).await.unwrap();
    stop.cancel();
    reconciler.await.unwrap();
}

#[tokio::test]
async fn a_claim_whose_gpu_is_lost_is_released_with_a_word_to_whoever_looks() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-4");
    fixture.claims.prepare(reference("a")).await.unwrap();
    fixture.gpus.fail("gpu_instances", Reason::Lost);
    fixture.claims.unprepare(reference("a")).await.unwrap();
    let told = fixture.store.published_events();
    let [(claim, event)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((claim.uid.as_str(), event.reason), ("a", "ReleasedWithoutGPU"));
    assert!(
        event.message.contains("gpu-0-mig-2g-10gb-4") && event.message.contains("lost"),
        "{}",
        event.message
    );
}

#[tokio::test]
async fn a_gpu_that_does_not_answer_for_a_moment_keeps_its_claim() {
    let fixture = fixture();
    fixture.allocate("a", "gpu-0-mig-2g-10gb-4");
    fixture.claims.prepare(reference("a")).await.unwrap();
    for reason in [Reason::Other(999), Reason::ResetRequired, Reason::NotFound, Reason::DriverChanged(18)] {
        fixture.gpus.fail("gpu_instances", reason);
        fixture.claims.unprepare(reference("a")).await.unwrap_err();
    }
    fixture.gpus.heal();
    assert_eq!(fixture.gpus.standing().len(), 1);
    fixture.claims.unprepare(reference("a")).await.unwrap();
    assert!(fixture.gpus.standing().is_empty());
}
