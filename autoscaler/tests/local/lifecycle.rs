//! Replicas that start, stop and crash, and a driver that starts late.

use std::sync::atomic::Ordering;

use sluice_autoscaler::platform::Platform;
use sluice_autoscaler::platform::local::supervisor::{Command, Deployments};
use sluice_config::api::LocalDeployment;
use sluice_scaling_policy::Cause;

use crate::rig::{Rig, is_alive, target, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_claims_a_slice_prepares_it_and_starts_a_server_with_its_environment() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let running = rig.start();
    assert_eq!(running.set(2).await, 2);
    running.ready(2).await;

    let claims = rig.claims();
    assert_eq!(claims.len(), 2);
    for claim in &claims {
        let uid = claim.metadata.uid.as_deref().unwrap();
        let status = claim.status.as_ref().unwrap();
        let results = status.allocation.as_ref().unwrap().devices.as_ref().unwrap().results.as_ref().unwrap();
        assert_eq!(results[0].driver, "gpu.sluice.dev");
        assert_eq!(results[0].pool, "node/gpu");
        let start = rig.journal.lines().into_iter().find(|line| line.contains(uid)).unwrap();
        assert!(start.contains("profile=2g.10gb"), "the device's variables win: {start}");
        assert!(start.contains(&format!("device={}", results[0].device)), "{start}");
        assert!(start.contains(&format!("visible=MIG-{}", results[0].device)), "{start}");
        assert!(start.contains("own=yes"), "{start}");
    }
    let devices: Vec<_> =
        rig.journal.matching("start ").iter().map(|l| l.split(' ').nth(4).unwrap().to_owned()).collect();
    assert_ne!(devices[0], devices[1]);
    rig.journal.assert_order(&["registered true", "prepare bert-", "start bert-"]);
    assert_eq!(rig.gateway.members().len(), 2);
    until("a measured start-up time", || rig.config.state_dir.join("startup/default.bert.json").exists())
        .await;
    assert!(running.replicas().await.startup_ms.is_some());
    assert!(running.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_leaves_the_gateway_drains_stops_gives_the_slice_back_and_deletes_the_claim_in_this_order() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let running = rig.start();
    running.set(1).await;
    running.ready(1).await;
    running.set(2).await;
    running.ready(2).await;

    rig.gateway.holds_drains.store(true, Ordering::SeqCst);
    assert_eq!(running.set(1).await, 1);
    until("the gateway has noticed", || rig.journal.has("left bert-1")).await;
    let replicas = running.replicas().await;
    assert_eq!((replicas.asked, replicas.terminating), (1, 1));
    assert!(!rig.journal.has("sigterm"), "not while the gateway drains");
    assert_eq!(rig.claims().len(), 2);

    rig.gateway.holds_drains.store(false, Ordering::SeqCst);
    until("the claim is deleted", || rig.claims().len() == 1).await;
    until("the record is gone", || rig.records().len() == 1).await;
    rig.journal.assert_order(&[
        "left bert-1",
        "drained bert-1",
        "sigterm bert-1",
        "unprepare bert-1 claim-exists=true",
    ]);
    assert!(!rig.journal.has("left bert-0"), "the newest goes, the other stays");
    assert!(running.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_fits_is_not_asked_for() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let running = rig.start();
    assert_eq!(running.set(9).await, 3, "three slices fit");
    assert_eq!(running.replicas().await.asked, 3);
    let view = running.platform.capacity(&target()).await.unwrap();
    assert_eq!(sluice_autoscaler::capacity::Capacity::of(&view).free.slices, Some(0));
    assert!(running.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_started_again_on_the_same_claim() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let running = rig.start();
    running.set(1).await;
    running.ready(1).await;
    let uid = rig.claims()[0].metadata.uid.clone();
    let pid = rig.started_pids()[0];
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    until("it was started again", || rig.started_pids().len() == 2).await;
    running.ready(1).await;

    assert_eq!(rig.claims()[0].metadata.uid, uid);
    assert!(!rig.journal.has("unprepare"));
    rig.journal.assert_order(&["start bert-0", "left bert-0", "start bert-0"]);
    let members = rig.gateway.members();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].0, "bert-0-r1", "another process is another upstream");
    assert!(running.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_always_crashes_keeps_its_claim_and_can_be_ended() {
    let mut rig = Rig::new().await;
    rig.model_crashes = true;
    rig.start_plugin();
    let running = rig.start();
    running.set(1).await;
    until("it was started several times", || rig.started_pids().len() >= 3).await;
    assert_eq!(rig.claims().len(), 1);
    let replicas = running.replicas().await;
    assert_eq!(replicas.ready, 0);
    let told = &replicas.standing.obstacles[0];
    assert_eq!((told.cause, told.replicas, told.pod.as_str()), (Cause::CrashLoopBackOff, 1, "bert-0"));
    assert!(told.detail.ends_with(" times"), "{told:?}");
    running.set(0).await;
    until("nothing is left", || rig.claims().is_empty() && rig.records().is_empty()).await;
    assert!(rig.logs().join("default.bert-0.log").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_waits_for_a_driver_that_comes_late() {
    let mut rig = Rig::new().await;
    let running = rig.start();
    assert_eq!(running.set(1).await, 1);
    assert_eq!(rig.claims().len(), 1, "the slice is held while the driver is away");
    rig.start_plugin();
    running.ready(1).await;
    assert_eq!(rig.claims().len(), 1);
    assert!(running.stop_all().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_gone_keeps_the_claim_until_it_is_back() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let running = rig.start();
    running.set(1).await;
    running.ready(1).await;
    rig.plugin.take().unwrap().abort();
    running.set(0).await;
    until("the server was stopped", || rig.journal.has("sigterm bert-0")).await;
    assert_eq!(rig.claims().len(), 1, "not given back yet");
    assert_eq!(running.replicas().await.terminating, 1);
    rig.start_plugin();
    until("it was given back", || rig.claims().is_empty()).await;
    rig.journal.assert_order(&["sigterm bert-0", "unprepare bert-0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_leaves_no_process_no_claim_and_no_record() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let running = rig.start();
    running.set(3).await;
    running.ready(3).await;
    assert!(running.stop_all().await.is_empty());
    assert!(rig.claims().is_empty() && rig.records().is_empty() && rig.gateway.members().is_empty());
    assert!(rig.started_pids().into_iter().all(|pid| !is_alive(pid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_removed_ends_its_replicas_and_is_forgotten() {
    let mut rig = Rig::new().await;
    rig.start_plugin();
    let running = rig.start();
    running.set(1).await;
    running.ready(1).await;
    running.mailbox.send(Command::Deployments(Deployments::new())).await.unwrap();
    until("nothing is left", || rig.claims().is_empty() && rig.records().is_empty()).await;
    let unknown = running.platform.replicas(&target(), None).await.unwrap_err();
    assert!(unknown.to_string().contains("default/bert"), "{unknown}");
    until("the object is gone", || rig.config.store.list::<LocalDeployment>().unwrap().is_empty()).await;
}
