//! What a tenant can learn about others from its own objects: how much is held, but not by which tenant.

use serde_json::json;
use sluice_config::names;

use crate::objects::{AUTOSCALERS, CLAIMS, DEPLOYMENTS, PODS, autoscaler, cluster, deployment, pod, until};
use crate::page::{Counter, Server};
use crate::program::{condition, start, status};

#[tokio::test]
async fn names_of_other_namespaces_are_in_no_status_and_no_event() {
    let counter = Counter::default();
    let sidecar = Server::batcher(&counter).await;
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 1));
    api.put(PODS, pod("bert", "bert-a", sidecar.port, true));
    api.put(AUTOSCALERS, autoscaler("bert", "bert"));
    let mut template =
        api.get("apis/resource.k8s.io/v1/resourceclaimtemplates", "ns", "slice").unwrap()["spec"].clone();
    let spec = template["spec"].take();
    // One has a device, one waits for it, and one has a device that is gone.
    for (claim, device) in [
        ("topsecret-claim", Some("gpu-0-mig-2g-10gb-0")),
        ("topsecret-lost", Some("gpu-0-mig-9g-0")),
        ("topsecret-waiting", None),
    ] {
        let mut object = json!({
            "metadata": {"namespace": "rival", "name": claim, "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "topsecret-pod", "uid": claim},
            ]},
            "spec": spec,
        });
        if let Some(device) = device {
            object["status"] = json!({"allocation": {"devices": {"results": [
                {"request": "gpu", "driver": names::DRIVER, "pool": "node/gpu", "device": device},
            ]}}});
        }
        api.put(CLAIMS, object);
    }
    let program = start(&api, "one", |_| ());
    until("it decides", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    counter.set_rate(6000.0);
    until("it says that slices are missing", || condition(&api, "bert", "CapacityLimited").0 == "True").await;
    let told = |text: &str| text.contains("rival") || text.contains("topsecret");
    let status = status(&api, "bert").to_string();
    assert!(status.contains("held by other namespaces"), "{status}");
    assert!(!told(&status), "{status}");
    let mut events = 0;
    until("an event tells it too", || {
        for (_, path, body) in api.writes() {
            assert!(!told(&body.to_string()), "{path}: {body}");
            events += usize::from(path.ends_with("/events"));
        }
        events > 0
    })
    .await;
    program.end().await;
}
