//! The whole program without its process: which replica leads, what it writes, and from which source it decides.

use std::time::Duration;

use serde_json::json;

use crate::objects::{AUTOSCALERS, DEPLOYMENTS, LEASES, PODS, autoscaler, cluster, deployment, pod, until};
use crate::page::{Counter, Server};
use crate::program::{condition, replicas, start, status, written};
use sluice_testkit::api_server::{ApiServer, Health};

/// Returns a cluster with a Deployment of one ready pod, and the page of the pod's sidecar, with the rows of `counter`.
async fn bert(counter: &Counter) -> (ApiServer, Server) {
    let sidecar = Server::batcher(counter).await;
    let api = cluster();
    api.put(DEPLOYMENTS, deployment("bert", 1));
    api.put(PODS, pod("bert", "bert-a", sidecar.port, true));
    api.put(AUTOSCALERS, autoscaler("bert", "bert"));
    (api, sidecar)
}

#[tokio::test]
async fn replicas_follow_demand_as_far_as_slices_are_free_and_the_object_says_so() {
    let counter = Counter::default();
    let (api, _sidecar) = bert(&counter).await;
    let program = start(&api, "one", |_| ());
    until("it is ready", || program.readiness.get().is_ok()).await;
    until("it decides", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    assert_eq!(replicas(&api), 1);
    counter.set_rate(6000.0);
    until("it grew", || replicas(&api) == 3).await;
    until("it says why no further", || {
        condition(&api, "bert", "CapacityLimited") == ("True".to_owned(), "TooFewFreeSlices".to_owned())
    })
    .await;
    let status = status(&api, "bert");
    assert_eq!(status["observedGeneration"], json!(1));
    assert!(status["decisions"][0]["explanation"].as_array().unwrap().len() > 5, "{status}");
    // Everything that was written is a scale, a status, or an event.
    let mut others = written(&api);
    others
        .retain(|path| !path.ends_with("/scale") && !path.ends_with("/status") && !path.ends_with("/events"));
    assert!(others.is_empty(), "{others:?}");
    program.end().await;
}

#[tokio::test]
async fn a_status_that_says_nothing_new_is_not_written() {
    let counter = Counter::default();
    let (api, _sidecar) = bert(&counter).await;
    let program = start(&api, "one", |_| ());
    until("it decides", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    counter.read(20).await;
    written(&api);
    counter.read(30).await;
    let writes = written(&api);
    assert!(writes.len() <= 1, "30 rounds: {writes:?}");
    program.end().await;
}

#[tokio::test]
async fn of_two_one_acts_and_the_other_takes_over_without_changing_anything() {
    let counter = Counter::default();
    let (api, _sidecar) = bert(&counter).await;
    counter.set_rate(1500.0);
    let seen_by_one = api.with_own_health();
    let one = start(&seen_by_one, "one", |_| ());
    until("it grew", || replicas(&api) >= 2).await;
    until("its decisions are written", || status(&api, "bert")["desiredReplicas"] == json!(3)).await;
    let grown = replicas(&api);
    let two = start(&api, "two", |_| ());
    until("the other knows the cluster", || two.readiness.get().is_ok()).await;
    // Like kill -9: the process writes nothing any more, and does not release the Lease.
    seen_by_one.set_health(Health::Unavailable);
    let holder =
        || api.get(LEASES, "sluice-system", "sluice-autoscaler").unwrap()["spec"]["holderIdentity"].clone();
    until("the other leads", || holder() == json!("two")).await;
    written(&api);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(replicas(&api), grown);
    let writes = written(&api);
    assert!(!writes.iter().any(|path| path.ends_with("/scale")), "{writes:?}");
    assert!(!writes.iter().any(|path| path.ends_with("/events")), "{writes:?}");
    one.end().await;
    two.end().await;
    assert_eq!(holder(), json!(""), "who is told to stop gives the Lease back");
}

#[tokio::test]
async fn who_lost_the_lease_writes_nothing_any_more() {
    let counter = Counter::default();
    let (api, _sidecar) = bert(&counter).await;
    let program = start(&api, "one", |_| ());
    until("it decides", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    let mut lease = api.get(LEASES, "sluice-system", "sluice-autoscaler").unwrap();
    lease["spec"]["holderIdentity"] = json!("somebody else");
    lease["spec"]["leaseDurationSeconds"] = json!(600);
    let looks = api.reads(LEASES);
    api.put(LEASES, lease);
    // The first read may have been answered before the change; the second shows it; at the third the process has seen
    // it.
    until("renewals show it", || api.reads(LEASES) >= looks + 3).await;
    api.writes();
    counter.set_rate(6000.0);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(api.writes(), Vec::new());
    assert_eq!(replicas(&api), 1);
    program.end().await;
}

#[tokio::test]
async fn decisions_go_on_from_prometheus_and_without_any_source_replicas_are_held() {
    let counter = Counter::default();
    let (api, sidecar) = bert(&counter).await;
    let prometheus = Server::prometheus("bert-a", &counter).await;
    let url = format!("http://127.0.0.1:{}", prometheus.port);
    let program = start(&api, "one", |settings| settings.prometheus_url = Some(url));
    until("it decides", || condition(&api, "bert", "MetricsFresh").0 == "True").await;
    drop(sidecar);
    until("it says where it reads", || {
        condition(&api, "bert", "MetricsFresh") == ("True".to_owned(), "SecondSource".to_owned())
    })
    .await;
    counter.set_rate(1000.0);
    until("it grew", || replicas(&api) == 2).await;
    drop(prometheus);
    until("it says that nothing is known", || condition(&api, "bert", "MetricsFresh").0 == "False").await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert_eq!(replicas(&api), 2);
    assert_eq!(status(&api, "bert")["decisions"][0]["reason"], json!("MetricsMissing"));
    program.end().await;
}

#[tokio::test]
async fn objects_that_cannot_be_followed_say_why_and_disturb_nobody() {
    let (api, _sidecar) = bert(&Counter::default()).await;
    let mut wrong = autoscaler("wrong", "other");
    wrong["spec"]["objective"]["percentile"] = json!(100);
    api.put(AUTOSCALERS, wrong);
    let mut second = autoscaler("second", "bert");
    second["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    api.put(AUTOSCALERS, second);
    api.put(AUTOSCALERS, autoscaler("lost", "nothing"));
    let program = start(&api, "one", |_| ());
    let able = |name: &str| condition(&api, name, "AbleToScale");
    until("all are told", || {
        able("wrong") == ("False".to_owned(), "InvalidSpec".to_owned())
            && able("second") == ("False".to_owned(), "AmbiguousTarget".to_owned())
            && able("lost") == ("False".to_owned(), "TargetNotFound".to_owned())
            && able("bert").0 == "True"
    })
    .await;
    // The user corrects one and removes another.
    let mut corrected = api.get(AUTOSCALERS, "ns", "second").unwrap();
    corrected["spec"]["scaleTargetRef"]["name"] = json!("other");
    api.put(DEPLOYMENTS, deployment("other", 0));
    api.put(AUTOSCALERS, corrected);
    api.delete(AUTOSCALERS, "ns", "lost");
    until("the corrected one is followed", || {
        api.get(DEPLOYMENTS, "ns", "other").unwrap()["spec"]["replicas"] == json!(1)
    })
    .await;
    program.end().await;
}
