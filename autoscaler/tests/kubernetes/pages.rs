//! The whole program, with pods whose pages are made to be expensive to read.

use serde_json::json;

use crate::objects::{AUTOSCALERS, DEPLOYMENTS, LEASES, PODS, autoscaler, cluster, deployment, pod, until};
use crate::page::{Counter, Server};
use crate::program::{condition, start, status};

fn message(api: &sluice_testkit::api_server::ApiServer, name: &str, wanted: &str) -> String {
    let status = status(api, name);
    let found = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == wanted);
    found.and_then(|one| one["message"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_pod_with_a_page_of_too_many_buckets_is_named_and_costs_nobody_else_anything() {
    let bucket = |at: usize| {
        format!("sluice_batcher_request_duration_seconds_bucket{{model=\"bert\",le=\"{at}\"}} {at}\n")
    };
    let bad = Server::of_text((0..50_000).map(bucket).collect()).await;
    let counter = Counter::default();
    let good = Server::batcher(&counter).await;
    let api = cluster();
    for name in ["bad", "good"] {
        api.put(DEPLOYMENTS, deployment(name, 1));
        api.put(AUTOSCALERS, autoscaler(name, name));
    }
    for name in ["bad-a", "bad-b", "bad-c", "bad-d"] {
        api.put(PODS, pod("bad", name, bad.port, true));
    }
    api.put(PODS, pod("good", "good-a", good.port, true));
    let program = start(&api, "one", |_| ());
    until("the good one is decided", || condition(&api, "good", "MetricsFresh").0 == "True").await;
    until("the bad one is held and told why", || {
        let message = message(&api, "bad", "MetricsFresh");
        condition(&api, "bad", "MetricsFresh").0 == "False"
            && message.contains("bad-a could not be read")
            && message.contains("256 buckets (the cap)")
            && message.contains("3 more could not be read")
    })
    .await;
    // For as long as it takes to renew the Lease three times.
    let looks = api.reads(LEASES);
    until("the Lease is renewed", || api.reads(LEASES) >= looks + 3).await;
    let lease = api.get(LEASES, "sluice-system", "sluice-autoscaler").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], json!("one"));
    assert_eq!(lease["spec"]["leaseTransitions"], json!(0));
    assert_eq!(condition(&api, "good", "MetricsFresh").0, "True");
    program.end().await;
}
