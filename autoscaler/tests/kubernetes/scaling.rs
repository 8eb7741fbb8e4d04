//! Replicas, capacity and growth of targets, as the platform reports them.

use serde_json::json;
use sluice_autoscaler::capacity::Capacity;
use sluice_autoscaler::platform::kubernetes::KubernetesPlatform;
use sluice_autoscaler::platform::{Platform, PlatformError, ScaleTarget, Target};
use sluice_inventory_watch::InventoryWatch;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::objects::{CLAIMS, DEPLOYMENTS, PODS, claim, cluster, deployment, node, pod, until};
use sluice_testkit::api_server::{ApiServer, Health};

struct Rig {
    api: ApiServer,
    platform: KubernetesPlatform,
    leads: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn rig(api: ApiServer) -> Rig {
    let stop = CancellationToken::new();
    let leads = watch::Sender::new(true);
    let inventory = InventoryWatch::start(api.client(), stop.clone());
    let platform = KubernetesPlatform::start(api.client(), None, inventory, leads.subscribe(), &stop);
    platform.ready().await;
    Rig { api, platform, leads, stop }
}

fn target(kind: &str, name: &str) -> ScaleTarget {
    ScaleTarget {
        at: Target { namespace: "ns".to_owned(), name: name.to_owned() },
        api_version: "apps/v1".to_owned(),
        kind: kind.to_owned(),
    }
}

impl Rig {
    fn replicas_of(&self, name: &str) -> serde_json::Value {
        self.api.get(DEPLOYMENTS, "ns", name).unwrap()["spec"]["replicas"].clone()
    }

    async fn free(&self, name: &str) -> (Option<u32>, String) {
        let target = target("Deployment", name);
        self.platform.replicas(&target, None).await.unwrap();
        let free = Capacity::of(&self.platform.capacity(&target).await.unwrap()).free;
        (free.slices, free.reason)
    }

    /// Waits until the platform has seen a change: until `is` holds for the number of free slices and the reason.
    async fn until_free(&self, name: &str, what: &str, is: impl Fn(Option<u32>, &str) -> bool) {
        let mut last = self.free(name).await;
        for _ in 0..3000 {
            if is(last.0, &last.1) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            last = self.free(name).await;
        }
        panic!("never happened: {what}; {last:?}");
    }
}

#[tokio::test]
async fn a_target_has_the_replicas_that_its_pods_are() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 3));
    api.put(PODS, pod("bert", "bert-a", 8081, true));
    api.put(PODS, pod("bert", "bert-b", 8081, false));
    api.put(PODS, pod("other", "other-a", 8081, true));
    let rig = rig(api).await;
    let replicas = rig.platform.replicas(&target("Deployment", "bert"), None).await.unwrap();
    assert_eq!((replicas.asked, replicas.ready, replicas.starting), (3, 1, 2));
    let names: Vec<_> = replicas.batchers.iter().map(|b| (b.name.as_str(), b.is_required)).collect();
    assert_eq!(names, [("bert-a", true), ("bert-b", false)]);
    assert!(rig.api.writes().is_empty(), "reading writes nothing");
}

#[tokio::test]
async fn what_cannot_be_scaled_is_told_by_its_field() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("empty", 1));
    let mut bare = pod("empty", "empty-a", 8081, true);
    bare["spec"]["initContainers"] = json!([]);
    api.put(PODS, bare);
    let rig = rig(api).await;
    let error = |error: PlatformError| error.to_string();
    let bare = rig.platform.replicas(&target("Deployment", "empty"), None).await.map_err(error).unwrap_err();
    assert!(bare.contains("sluice.dev/inject: enabled"), "{bare}");
    let gone = rig.platform.replicas(&target("Deployment", "gone"), None).await.map_err(error).unwrap_err();
    assert!(gone.contains("Deployment ns/gone does not exist"), "{gone}");
    for (kind, says) in [("DaemonSet", "has no scale subresource"), ("Frobnicator", "is not known")] {
        let error = rig.platform.replicas(&target(kind, "x"), None).await.map_err(error).unwrap_err();
        assert!(error.contains("spec.scaleTargetRef") && error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn free_slices_are_what_is_left_after_all_that_is_promised() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 1));
    let rig = rig(api).await;
    assert_eq!(rig.free("bert").await.0, Some(2), "three fit, and one replica has no pod yet");
    rig.api.put(PODS, pod("bert", "bert-a", 8081, false));
    rig.api.put(PODS, pod("other", "other-a", 8081, false));
    rig.until_free("bert", "its pod and another's count, both without a claim", |free, _| free == Some(1))
        .await;
    rig.api.put(CLAIMS, claim("bert-a", None));
    rig.api.put(CLAIMS, claim("other-a", Some("gpu-0-mig-2g-10gb-0")));
    rig.until_free("bert", "they count by their claims", |_, reason| reason.contains("ns/other-a-gpu")).await;
    assert_eq!(rig.free("bert").await.0, Some(1), "the same as before");
    rig.api.put("api/v1/nodes", node(json!({"unschedulable": true})));
    rig.until_free("bert", "nothing is placed on a cordoned node", |free, _| free == Some(0)).await;
}

#[tokio::test]
async fn a_node_whose_taint_the_pods_do_not_tolerate_has_nothing_for_them() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 0));
    api.put("api/v1/nodes", node(json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]})));
    let mut tolerant = deployment("tolerant", 0);
    tolerant["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}]);
    api.put(DEPLOYMENTS, tolerant);
    let rig = rig(api).await;
    assert_eq!(rig.free("bert").await.0, Some(0));
    assert_eq!(rig.free("tolerant").await.0, Some(3));
}

#[tokio::test]
async fn no_more_is_asked_for_than_fits_and_two_targets_do_not_count_on_the_same_slice() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("a", 1));
    api.put(DEPLOYMENTS, deployment("b", 1));
    let rig = rig(api).await;
    let (a, b) = (target("Deployment", "a"), target("Deployment", "b"));
    for target in [&a, &b] {
        // Each tick reads both before it asks.
        rig.platform.replicas(target, None).await.unwrap();
        rig.platform.capacity(target).await.unwrap();
    }
    let (asked_a, asked_b) = tokio::join!(rig.platform.set_replicas(&a, 8), rig.platform.set_replicas(&b, 8));
    assert_eq!(asked_a.unwrap() + asked_b.unwrap(), 3, "three slices in all");
    let writes = rig.api.writes();
    assert_eq!(writes.len(), 1, "who got nothing writes nothing: {writes:?}");
    let (method, path, body) = &writes[0];
    assert_eq!(method, "PATCH");
    assert!(path.ends_with("/scale"), "{path}");
    assert_eq!(body["spec"], json!({"replicas": 2}));
}

#[tokio::test]
async fn a_change_by_somebody_else_is_not_overwritten() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 2));
    let rig = rig(api).await;
    let target = target("Deployment", "bert");
    rig.platform.replicas(&target, None).await.unwrap();
    rig.api.put(DEPLOYMENTS, deployment("bert", 3));
    let error = rig.platform.set_replicas(&target, 1).await.unwrap_err().to_string();
    assert!(error.contains("3 replicas by somebody else"), "{error}");
    assert_eq!(rig.replicas_of("bert"), json!(3));
    rig.platform.replicas(&target, None).await.unwrap();
    assert_eq!(rig.platform.set_replicas(&target, 1).await, Ok(1));
    assert_eq!(rig.replicas_of("bert"), json!(1));
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 2));
    let rig = rig(api).await;
    let target = target("Deployment", "bert");
    rig.platform.replicas(&target, None).await.unwrap();
    rig.leads.send_replace(false);
    assert!(rig.platform.set_replicas(&target, 1).await.is_err());
    assert!(rig.api.writes().is_empty());
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_reason_to_change_anything() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 2));
    let rig = rig(api).await;
    let target = target("Deployment", "bert");
    rig.platform.replicas(&target, None).await.unwrap();
    rig.api.set_health(Health::Unavailable);
    let error = rig.platform.replicas(&target, None).await.unwrap_err();
    assert!(matches!(error, PlatformError::Unavailable(_)), "{error}");
    rig.api.set_health(Health::Healthy);
    until("it answers again", || true).await;
    assert!(rig.platform.replicas(&target, None).await.is_ok());
}
