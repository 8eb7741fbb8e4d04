//! kill -9 of the supervisor, and how the next one adopts the replicas that it finds.

use sluice_autoscaler::platform::local::records::ReplicaRecords;

use crate::rig::{Rig, is_alive, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_servers_are_adopted_and_nothing_is_started_or_stopped() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let first = rig.start();
    first.set(2).await;
    first.ready(2).await;
    let (pids, claims) = (rig.started_pids(), rig.claims());
    first.drop_abruptly().await;
    assert!(pids.iter().all(|pid| is_alive(*pid)), "model servers outlive the supervisor");

    let second = rig.start();
    assert_eq!(second.replicas().await.asked, 2, "at once, not when they are ready again");
    second.ready(2).await;
    assert_eq!(rig.started_pids(), pids);
    assert_eq!(rig.claims(), claims);
    assert!(!rig.journal.has("left"), "the gateway never lost them");

    // They are not its children; it must still be able to stop them in good order.
    assert_eq!(second.set(1).await, 1);
    until("one is gone", || rig.claims().len() == 1 && rig.records().len() == 1).await;
    rig.journal.assert_order(&["left", "drained", "sigterm", "unprepare"]);
    assert!(second.stop_all().await.is_empty());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_died_meanwhile_is_started_again() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let first = rig.start();
    first.set(1).await;
    first.ready(1).await;
    first.drop_abruptly().await;
    let pid = rustix::process::Pid::from_raw(rig.started_pids()[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("it is dead", || !is_alive(rig.started_pids()[0])).await;

    let second = rig.start();
    assert_eq!(second.replicas().await.asked, 1);
    second.ready(1).await;
    assert_eq!(rig.started_pids().len(), 2);
    assert!(second.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_pid_was_never_written_down_is_found_by_its_claim() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let first = rig.start();
    first.set(1).await;
    first.ready(1).await;
    first.drop_abruptly().await;
    // As if the kill had come between the start and the record of it.
    let mut record = rig.records().remove(0);
    record.process = None;
    ReplicaRecords::new(&rig.config.state_dir).put(&record).unwrap();

    let second = rig.start();
    second.ready(1).await;
    assert_eq!(rig.started_pids().len(), 1, "the same process, no second one");
    assert!(second.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_cut_short_is_finished() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let first = rig.start();
    first.set(2).await;
    first.ready(2).await;
    first.drop_abruptly().await;
    let mut record = rig.records().remove(1);
    record.terminating = true;
    ReplicaRecords::new(&rig.config.state_dir).put(&record).unwrap();

    let second = rig.start();
    assert_eq!(second.replicas().await.asked, 1);
    until("its claim is gone", || rig.claims().len() == 1).await;
    second.ready(1).await;
    assert!(rig.journal.has("sigterm bert-1"));
    assert!(second.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_claim_was_taken_away_is_ended() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let first = rig.start();
    first.set(1).await;
    first.ready(1).await;
    first.drop_abruptly().await;
    let claim = rig.claims().remove(0);
    let name = claim.metadata.name.as_deref().unwrap();
    rig.config.store.delete::<k8s_openapi::api::resource::v1::ResourceClaim>(Some("default"), name).unwrap();

    let second = rig.start();
    assert_eq!(second.replicas().await.asked, 0);
    until("its record is gone", || rig.records().is_empty()).await;
    rig.journal.assert_order(&["sigterm bert-0", "unprepare bert-0 claim-exists=false"]);
    assert!(second.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_only_the_same_pid_is_left_alone() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let first = rig.start();
    first.set(1).await;
    first.ready(1).await;
    let pid = rig.started_pids()[0];
    first.drop_abruptly().await;
    let mut record = rig.records().remove(0);
    let real = record.process.clone().unwrap();
    // The pid of this test's process, with the start time of another process.
    let mut other = real.clone();
    other.pid = i32::try_from(std::process::id()).unwrap();
    other.start_ticks += 1;
    record.process = Some(other);
    record.terminating = true;
    ReplicaRecords::new(&rig.config.state_dir).put(&record).unwrap();

    let second = rig.start();
    until("its record is gone", || rig.records().is_empty()).await;
    until("what has the claim's environment is gone too", || !is_alive(pid)).await;
    assert!(second.stop_all().await.is_empty());
}
