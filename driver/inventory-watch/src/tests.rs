//! Tests of the watches, with a function as API server.

use std::convert::Infallible;
use std::sync::Mutex;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// Server that responds to lists from memory. A watch never gets an event, and an unknown kind gets a 500, as from a server
/// that has just started.
#[derive(Default)]
struct Server {
    objects: Mutex<Vec<(&'static str, Vec<Value>)>>,
}

impl Server {
    fn put(&self, plural: &'static str, objects: Vec<Value>) {
        self.objects.lock().unwrap().push((plural, objects));
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let uri = request.uri();
        if uri.query().unwrap_or_default().contains("watch=true") {
            std::future::pending::<()>().await;
        }
        let objects = self.objects.lock().unwrap();
        let found = objects.iter().find(|(plural, _)| uri.path().ends_with(plural));
        let (status, body) = match found {
            Some((_, items)) => (200, json!({"metadata": {"resourceVersion": "1"}, "items": items})),
            None => (500, json!({"kind": "Status", "status": "Failure", "code": 500, "message": "no"})),
        };
        let body = Body::from(serde_json::to_vec(&body).unwrap());
        Ok(Response::builder().status(status).body(body).unwrap())
    }
}

fn client(server: &Arc<Server>) -> Client {
    let server = Arc::clone(server);
    Client::new(tower::service_fn(move |request| Arc::clone(&server).answer(request)), "default")
}

fn slice(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "driver": "gpu.sluice.dev", "nodeName": node,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
    }})
}

fn node(name: &str, taints: Value) -> Value {
    json!({
        "metadata": {"name": name, "managedFields": [{"manager": "kubelet"}]},
        "spec": {"taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": ["large"]}]},
    })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_every_kind_was_listed_and_a_server_that_fails_is_asked_again() {
    let server = Arc::new(Server::default());
    let stop = CancellationToken::new();
    let watch = InventoryWatch::start(client(&server), stop.clone());
    let mut changes = watch.changes();
    server.put("resourceslices", vec![slice("b", "gone"), slice("a", "open")]);
    server.put("resourceclaims", vec![]);
    server.put("deviceclasses", vec![]);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(watch.cluster().is_none(), "nodes are missing");
    let tainted = json!([{"key": "gpu", "effect": "NoSchedule"}]);
    server.put("nodes", vec![node("open", json!([])), node("tainted", tainted)]);
    watch.clone().ready().await;
    let cluster = watch.cluster().unwrap();
    let names: Vec<_> = cluster.slices.iter().map(|slice| slice.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(cluster.unschedulable_nodes, BTreeSet::from(["gone".to_owned()]));
    let for_pod = watch.cluster_for(&PodSpec::default()).unwrap();
    assert_eq!(for_pod.unschedulable_nodes, BTreeSet::from(["gone".to_owned(), "tainted".to_owned()]));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let kept = watch.kinds.nodes.all().unwrap();
    assert!(kept.iter().all(|node| node.metadata.managed_fields.as_ref().is_none_or(Vec::is_empty)));
    assert!(kept.iter().all(|node| node.status.as_ref().unwrap().images.is_none()));
    stop.cancel();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(watch.cluster().is_some(), "what was known last stays known");
}

#[test]
fn a_node_that_is_named_and_does_not_exist_gets_no_pods_however_it_is_named() {
    let by_name = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["by-selector"]}]}]});
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
    let slices: Vec<ResourceSlice> = [
        json!({"driver": "d", "pool": pool, "nodeName": "by-slice"}),
        json!({"driver": "d", "pool": pool, "nodeSelector": by_name}),
        json!({"driver": "d", "pool": pool, "perDeviceNodeSelection": true, "devices": [
            {"name": "x", "nodeName": "by-device"}, {"name": "y", "nodeName": "open"}, {"name": "z", "allNodes": true}]}),
    ]
    .map(|spec| serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap())
    .into();
    let open: Node = serde_json::from_value(node("open", json!([]))).unwrap();
    let closed = closed(&slices, [&open].into_iter(), |_| false);
    assert_eq!(closed, ["by-device", "by-selector", "by-slice"].map(str::to_owned).into());
}
