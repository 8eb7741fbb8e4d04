use serde_json::{Value, json};
use sluice_inventory::resource_slices;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fake::{Behavior, FakeApiServer};
use super::*;
use crate::publishing::{Publication, Published, publish};

const DRIVER: &str = "gpu.sluice.dev";

fn store(server: &FakeApiServer) -> ClusterStore {
    ClusterStore::start(server.client(), DRIVER, "n")
}

fn slices() -> Vec<ResourceSlice> {
    resource_slices("n", DRIVER, &[crate::gpus::fake::gpu()], SliceLayout::Split, 1).unwrap()
}

/// Publishes to the server; ends with the test.
fn publisher(server: &FakeApiServer) -> watch::Receiver<Published> {
    let publication = Publication {
        node: "n".to_owned(),
        driver: DRIVER.to_owned(),
        gpus: vec![crate::gpus::fake::gpu()],
        marks: Default::default(),
        monitors: false,
        layout: None,
    };
    let (sender, published) = watch::channel(Err("starting".to_owned()));
    let publications = watch::channel(Some(publication)).1;
    tokio::spawn(publish(Arc::new(store(server)), publications, sender, CancellationToken::new()));
    published
}

fn specs(server: &FakeApiServer) -> Vec<Value> {
    server.slices().into_iter().map(|slice| slice["spec"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn slices_that_a_kubelet_wipes_are_back_within_a_second() {
    let server = FakeApiServer::new();
    let mut published = publisher(&server);
    published.wait_for(Result::is_ok).await.unwrap();
    let before = specs(&server);
    assert_eq!(before.len(), slices().len());
    // Long after the last write: nothing but the watch can tell it.
    tokio::time::sleep(Duration::from_secs(30)).await;
    server.wipe();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(specs(&server), before);
}

#[tokio::test(start_paused = true)]
async fn slices_belong_to_the_node_that_is_there_now() {
    let server = FakeApiServer::new();
    let store = store(&server);
    let slice = &slices()[0];
    store.put_slice(slice).await.unwrap();
    let owner = |server: &FakeApiServer| server.slices()[0]["metadata"]["ownerReferences"][0].clone();
    assert_eq!(
        owner(&server),
        json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "node-uid-1", "controller": true})
    );
    server.set_node_uid(Some("node-uid-2"));
    store.put_slice(slice).await.unwrap();
    assert_eq!(owner(&server)["uid"], "node-uid-2");
    server.set_node_uid(None);
    let error = store.put_slice(slice).await.unwrap_err().to_string();
    assert!(error.contains("Node n does not exist") && error.contains("nodeName"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_somebody_changes_at_the_same_time_is_replaced_all_the_same() {
    let server = FakeApiServer::new();
    let store = store(&server);
    let mut slice = slices().remove(0);
    store.put_slice(&slice).await.unwrap();
    slice.spec.pool.generation = 7;
    server.set_rivals(2);
    store.put_slice(&slice).await.unwrap();
    assert_eq!(server.slices()[0]["spec"]["pool"]["generation"], 7);
    server.set_rivals(1000);
    let error = store.put_slice(&slice).await.unwrap_err().to_string();
    assert!(error.contains("somebody else changed it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn only_a_claim_that_is_certainly_absent_is_none() {
    let server = FakeApiServer::new();
    let store = store(&server);
    server.put_claim("a", json!({"metadata": {"name": "a", "uid": "1"}, "spec": {}}));
    let found = store.claim("default", "a").await.unwrap().unwrap();
    assert_eq!(found.metadata.uid.as_deref(), Some("1"));
    assert!(store.claim("default", "b").await.unwrap().is_none());
    for (behavior, words) in [
        (Behavior::Failing, "500 InternalError: etcd is away"),
        (Behavior::Foreign, "404"),
        (Behavior::Silent, "within 10 s"),
    ] {
        server.set_behavior(behavior);
        let error = store.claim("default", "b").await.unwrap_err().to_string();
        assert!(error.contains("ResourceClaim default/b") && error.contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_tells_whether_counters_are_kept_and_leaves_nothing() {
    let server = FakeApiServer::new();
    let store = store(&server);
    let counters = &slices()[0];
    assert!(store.keeps_counters(counters).await.unwrap());
    server.set_keeps_counters(false);
    assert!(!store.keeps_counters(counters).await.unwrap());
    assert!(server.slices().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_loses_its_counters_on_the_way_is_taken_back() {
    let server = FakeApiServer::new();
    server.set_keeps_counters(false);
    let error = store(&server).put_slice(&slices()[0]).await.unwrap_err().to_string();
    assert!(error.contains("dropped its counters"), "{error}");
    assert!(server.slices().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_form_follows_an_upgrade_of_the_cluster() {
    let server = FakeApiServer::new();
    server.set_minor("34");
    let mut published = publisher(&server);
    published.wait_for(Result::is_ok).await.unwrap();
    let is_combined = |spec: &Value| spec["sharedCounters"].is_array() && spec["devices"].is_array();
    assert!(specs(&server).iter().all(is_combined));
    server.set_minor("35");
    tokio::time::sleep(RESYNC + Duration::from_secs(1)).await;
    let specs = specs(&server);
    assert!(!specs.iter().any(is_combined));
    assert!(specs.iter().all(|spec| spec["pool"]["generation"] == 2), "no reader mixes the two");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_is_published_to() {
    let server = FakeApiServer::new();
    server.set_behavior(Behavior::Failing);
    let mut published = publisher(&server);
    let told = published.wait_for(|told| told.as_ref().is_err_and(|reason| reason != "starting")).await;
    assert!(told.unwrap().as_ref().is_err_and(|reason| reason.contains("etcd is away")));
    tokio::time::sleep(Duration::from_secs(600)).await;
    server.set_behavior(Behavior::Well);
    published.wait_for(Result::is_ok).await.unwrap();
    assert_eq!(server.slices().len(), slices().len());
}
