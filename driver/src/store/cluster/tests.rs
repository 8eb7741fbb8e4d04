use serde_json::{Value, json};
use sluice_inventory::resource_slices;
use sluice_testkit::api_server::{ApiServer, Health};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::publishing::{Publication, Published, publish};

const DRIVER: &str = "gpu.sluice.dev";
const SLICES: &str = "apis/resource.k8s.io/v1/resourceslices";
const CLAIMS: &str = "apis/resource.k8s.io/v1/resourceclaims";
const NODES: &str = "api/v1/nodes";

/// Creates a server of Kubernetes 1.37 with one node.
fn server() -> ApiServer {
    let server = ApiServer::new();
    set_minor(&server, "37");
    set_node_uid(&server, "node-uid-1");
    server
}

fn set_minor(server: &ApiServer, minor: &str) {
    server.serve("/version", json!({"major": "1", "minor": minor, "gitVersion": "v1"}));
}

fn set_node_uid(server: &ApiServer, uid: &str) {
    server.put(NODES, json!({"metadata": {"name": "n", "uid": uid}}));
}

/// Makes the server drop counters, as one does where the feature is off.
fn drop_counters(server: &ApiServer) {
    server.set_admission(SLICES, |slice| {
        let spec = slice["spec"].as_object_mut().unwrap();
        spec.remove("sharedCounters");
        for device in spec.get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten() {
            device.as_object_mut().unwrap().remove("consumesCounters");
        }
    });
}

fn store(server: &ApiServer) -> ClusterStore {
    ClusterStore::start(server.client(), DRIVER, "n")
}

fn slices() -> Vec<ResourceSlice> {
    resource_slices("n", DRIVER, &[crate::gpus::fake::gpu()], SliceLayout::Split, 1).unwrap()
}

/// Publishes to the server; ends with the test.
fn publisher(server: &ApiServer) -> watch::Receiver<Published> {
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

fn specs(server: &ApiServer) -> Vec<Value> {
    server.list(SLICES).into_iter().map(|slice| slice["spec"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn slices_that_a_kubelet_wipes_are_back_within_a_second() {
    let server = server();
    let mut published = publisher(&server);
    published.wait_for(Result::is_ok).await.unwrap();
    let before = specs(&server);
    assert_eq!(before.len(), slices().len());
    // Long after the last write: nothing but the watch can tell it.
    tokio::time::sleep(Duration::from_secs(30)).await;
    server.clear(SLICES);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(specs(&server), before);
}

#[tokio::test(start_paused = true)]
async fn slices_belong_to_the_node_that_is_there_now() {
    let server = server();
    let store = store(&server);
    let slice = &slices()[0];
    store.put_slice(slice).await.unwrap();
    let owner = |server: &ApiServer| server.list(SLICES)[0]["metadata"]["ownerReferences"][0].clone();
    assert_eq!(
        owner(&server),
        json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "node-uid-1", "controller": true})
    );
    set_node_uid(&server, "node-uid-2");
    store.put_slice(slice).await.unwrap();
    assert_eq!(owner(&server)["uid"], "node-uid-2");
    server.delete(NODES, "", "n");
    let error = store.put_slice(slice).await.unwrap_err().to_string();
    assert!(error.contains("Node n does not exist") && error.contains("nodeName"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_somebody_changes_at_the_same_time_is_replaced_all_the_same() {
    let server = server();
    let store = store(&server);
    let mut slice = slices().remove(0);
    store.put_slice(&slice).await.unwrap();
    slice.spec.pool.generation = 7;
    server.set_conflicts(2);
    store.put_slice(&slice).await.unwrap();
    assert_eq!(server.list(SLICES)[0]["spec"]["pool"]["generation"], 7);
    server.set_conflicts(1000);
    let error = store.put_slice(&slice).await.unwrap_err().to_string();
    assert!(error.contains("somebody else changed it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn only_a_claim_that_is_certainly_absent_is_none() {
    let server = server();
    let store = store(&server);
    server.put(CLAIMS, json!({"metadata": {"namespace": "default", "name": "a", "uid": "1"}, "spec": {}}));
    let found = store.claim("default", "a").await.unwrap().unwrap();
    assert_eq!(found.metadata.uid.as_deref(), Some("1"));
    assert!(store.claim("default", "b").await.unwrap().is_none());
    for (health, words) in [
        (Health::Failing, "500 InternalError: etcd is away"),
        (Health::Foreign, "404"),
        (Health::Silent, "within 10 s"),
    ] {
        server.set_health(health);
        let error = store.claim("default", "b").await.unwrap_err().to_string();
        assert!(error.contains("ResourceClaim default/b") && error.contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_tells_whether_counters_are_kept_and_leaves_nothing() {
    let server = server();
    let store = store(&server);
    let counters = &slices()[0];
    assert!(store.keeps_counters(counters).await.unwrap());
    drop_counters(&server);
    assert!(!store.keeps_counters(counters).await.unwrap());
    assert!(server.list(SLICES).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_loses_its_counters_on_the_way_is_taken_back() {
    let server = server();
    drop_counters(&server);
    let error = store(&server).put_slice(&slices()[0]).await.unwrap_err().to_string();
    assert!(error.contains("dropped its counters"), "{error}");
    assert!(server.list(SLICES).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_form_follows_an_upgrade_of_the_cluster() {
    let server = server();
    set_minor(&server, "34");
    let mut published = publisher(&server);
    published.wait_for(Result::is_ok).await.unwrap();
    let is_combined = |spec: &Value| spec["sharedCounters"].is_array() && spec["devices"].is_array();
    assert!(specs(&server).iter().all(is_combined));
    set_minor(&server, "35");
    tokio::time::sleep(RESYNC + Duration::from_secs(1)).await;
    let specs = specs(&server);
    assert!(!specs.iter().any(is_combined));
    assert!(specs.iter().all(|spec| spec["pool"]["generation"] == 2), "no reader mixes the two");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_is_published_to() {
    let server = server();
    server.set_health(Health::Failing);
    let mut published = publisher(&server);
    let told = published.wait_for(|told| told.as_ref().is_err_and(|reason| reason != "starting")).await;
    assert!(told.unwrap().as_ref().is_err_and(|reason| reason.contains("etcd is away")));
    tokio::time::sleep(Duration::from_secs(600)).await;
    server.set_health(Health::Healthy);
    published.wait_for(Result::is_ok).await.unwrap();
    assert_eq!(server.list(SLICES).len(), slices().len());
}
