//! A gateway in front of a target: demand is read only at the gateway, also while there is no replica.

use std::time::Duration;

use serde_json::{Value, json};

use crate::objects::{
    AUTOSCALERS, DEPLOYMENTS, PODS, autoscaler, cluster, deployment, gateway_pod, pod, until,
};
use crate::page::{Counter, Server};
use crate::program::{condition, replicas, start, status};
use sluice_testkit::api_server::ApiServer;

/// Port on which no process listens.
const CLOSED: u16 = 1;

fn behind_gateway() -> Value {
    let mut object = autoscaler("bert", "bert");
    object["spec"]["minReplicas"] = json!(0);
    object["spec"]["scaleToZeroIdleSeconds"] = json!(2);
    object["spec"]["gateway"] = json!({"matchLabels": {"app": "bert-gateway"}});
    object
}

/// Returns a cluster with `running` replicas, whose sidecars cannot be read, behind a gateway with this page.
fn behind(gateway: &Server, running: u32) -> ApiServer {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", running));
    for index in 0..running {
        api.put(PODS, pod("bert", &format!("bert-{index}"), CLOSED, true));
    }
    api.put(PODS, gateway_pod("gateway-a", gateway.port, true));
    api.put(AUTOSCALERS, behind_gateway());
    api
}

fn is_known(api: &ApiServer) -> bool {
    condition(api, "bert", "MetricsFresh").0 == "True"
}

#[tokio::test]
async fn a_held_request_brings_the_first_replica_and_silence_takes_the_last() {
    let counter = Counter::default();
    let gateway = Server::batcher(&counter).await;
    let api = behind(&gateway, 0);
    let program = start(&api, "one", |_| ());
    until("it decides", || is_known(&api)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(replicas(&api), 0, "nothing is asked for without demand");

    counter.set_rate(20.0);
    counter.latch(true);
    until("the first replica is asked for", || replicas(&api) == 1).await;
    // The status is written after the scale.
    until("it says why", || status(&api, "bert")["decisions"][0]["reason"] == json!("FromZero")).await;
    api.put(PODS, pod("bert", "bert-0", CLOSED, true));
    counter.latch(false);
    counter.set_rate(1000.0);
    until("it follows the gateway's demand", || replicas(&api) >= 2).await;
    counter.set_rate(0.0);
    until("the last one goes", || replicas(&api) == 0).await;
    program.end().await;
}

#[tokio::test]
async fn a_gateway_that_cannot_be_read_is_never_one_without_demand() {
    let gateway = Server::batcher(&Counter::default()).await;
    let api = behind(&gateway, 2);
    // This gateway is ready and its page does not respond: half of the demand is unknown.
    api.put(PODS, gateway_pod("gateway-b", CLOSED, true));
    let program = start(&api, "one", |_| ());
    until("it says so", || condition(&api, "bert", "MetricsFresh").0 == "False").await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(replicas(&api), 2, "longer than scaleToZeroIdleSeconds");
    api.delete(PODS, "ns", "gateway-b");
    until("the one that is left has no demand, and says so itself", || replicas(&api) == 0).await;
    program.end().await;
}

#[tokio::test]
async fn a_page_without_the_model_says_nothing_about_its_demand() {
    let gateway = Server::batcher_of(&Counter::default(), "another").await;
    let api = behind(&gateway, 2);
    let program = start(&api, "one", |_| ());
    until("it says so", || condition(&api, "bert", "MetricsFresh").0 == "False").await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(replicas(&api), 2);
    program.end().await;
}

#[tokio::test]
async fn a_gateway_that_is_not_there_holds_the_replicas_and_its_labels_are_told() {
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 2));
    // Sidecars that can be read do not replace it: clients send to the gateway.
    let sidecar = Server::batcher(&Counter::default()).await;
    api.put(PODS, pod("bert", "bert-0", sidecar.port, true));
    api.put(AUTOSCALERS, behind_gateway());
    let program = start(&api, "one", |_| ());
    let able = || condition(&api, "bert", "AbleToScale");
    until("it says so", || able() == ("False".to_owned(), "TargetNotScalable".to_owned())).await;
    let told = status(&api, "bert").to_string();
    assert!(told.contains("app=bert-gateway") && told.contains("spec.gateway"), "{told}");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(replicas(&api), 2);
    program.end().await;
}
