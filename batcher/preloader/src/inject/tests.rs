//! Pods as their templates have them, before and after.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use sluice_config::names::pod as names;

use super::resources::Share;
use super::*;

mod hints;
mod hooks;
mod ports;

fn settings() -> Sidecar {
    Sidecar {
        image: "batcher:1".into(),
        pull_secret: None,
        resources: Resources {
            cpu: Share { request: Quantity("50m".into()), limit: Some(Quantity("1".into())) },
            memory: Share { request: Quantity("64Mi".into()), limit: Some(Quantity("1Gi".into())) },
        },
        drain_deadline_ms: 25_000,
        propagation_ms: 2_000,
    }
}

fn pod(change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {
            "generateName": "bert-",
            "labels": { "app": "bert", names::INJECT_LABEL: "enabled" },
            "annotations": { names::MODELS_ANNOTATION: "bert, other", names::OBJECTIVE_ANNOTATION: "300", names::MAX_BATCH_ROWS_ANNOTATION: "16" },
        },
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "initContainers": [{ "name": "fetch", "image": "fetch:1" }],
            "containers": [
                {
                    "name": "model",
                    "image": "model:1",
                    "ports": [
                        { "name": "metrics", "containerPort": 9002 },
                        { "name": "http", "containerPort": 9000, "protocol": "TCP" },
                    ],
                    "livenessProbe": { "httpGet": { "path": "/v2/health/live", "port": "http" }, "periodSeconds": 7 },
                    "startupProbe": { "tcpSocket": { "port": "http" } },
                },
                { "name": "logs", "image": "logs:1", "livenessProbe": { "httpGet": { "port": 9000 } } },
            ],
        },
    });
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

/// The pod after the sidecar's patch was applied to it, as the API server applies it.
fn injected(pod: &Pod) -> Value {
    let after = with_sidecar(pod, &settings(), "secret").unwrap().expect("it was not injected yet");
    let mut document = serde_json::to_value(pod).unwrap();
    json_patch::patch(&mut document, &patch(pod, &after).unwrap()).unwrap();
    assert_eq!(document, serde_json::to_value(&after).unwrap());
    document
}

fn class(name: &str) -> String {
    name.to_owned()
}

fn refusal(change: impl FnOnce(&mut Value)) -> InjectionError {
    with_sidecar(&pod(change), &settings(), "secret").unwrap_err()
}

#[test]
fn the_sidecar_stands_between_the_init_containers_and_the_model() {
    let document = injected(&pod(|_| ()));
    let spec = &document["spec"];
    assert_eq!(spec["initContainers"][0]["name"], "fetch");
    let golden = json!({
        "name": "sluice-batcher",
        "image": "batcher:1",
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "args": [
            "--admin-listen=0.0.0.0:8081",
            "--drain-deadline-ms=25000",
            "--listen=0.0.0.0:8080",
            "--log-format=json",
            "--max-batch-rows=16",
            "--models=bert,other",
            "--objective-ms=300",
            "--propagation-ms=2000",
            "--upstream=127.0.0.1:9000",
        ],
        "env": [{ "name": "SLUICE_BATCHER_DRAIN_TOKEN", "value": "secret" }],
        "ports": [
            { "name": "http", "containerPort": 8080, "protocol": "TCP" },
            { "name": "sluice-admin", "containerPort": 8081, "protocol": "TCP" },
        ],
        "startupProbe": {
            "httpGet": { "path": "/livez", "port": 8081 },
            "periodSeconds": 1, "failureThreshold": 120, "timeoutSeconds": 2,
        },
        "readinessProbe": {
            "httpGet": { "path": "/readyz", "port": 8081 },
            "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 2,
        },
        "livenessProbe": {
            "httpGet": { "path": "/livez", "port": 8081 },
            "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 5,
        },
        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    });
    assert_eq!(spec["initContainers"][1], golden);
}

#[test]
fn the_model_gives_its_port_and_its_probes_to_the_sidecar_and_is_drained_before_it_stops() {
    let document = injected(&pod(|_| ()));
    let golden = json!({
        "name": "model",
        "image": "model:1",
        "ports": [
            { "name": "metrics", "containerPort": 9002 },
            { "containerPort": 9000, "protocol": "TCP" },
        ],
        "livenessProbe": { "httpGet": { "path": "/upstream-livez?path=/v2/health/live", "port": 8081 }, "periodSeconds": 7 },
        "startupProbe": { "httpGet": { "path": "/upstream-startedz", "port": 8081 } },
        "lifecycle": { "preStop": { "httpGet": { "path": "/drain?token=secret&deadline_ms=27000", "port": 8081 } } },
    });
    assert_eq!(document["spec"]["containers"][0], golden);
    assert_eq!(document["spec"]["containers"][1]["livenessProbe"], json!({ "httpGet": { "port": 9000 } }));
    assert_eq!(document["spec"]["terminationGracePeriodSeconds"], 30 + 27, "the drain comes before the rest");
}

#[test]
fn a_probes_path_keeps_its_query_and_numbers_count_as_names() {
    let document = injected(&pod(|pod| {
        pod["spec"]["containers"][0]["readinessProbe"] =
            json!({ "httpGet": { "path": "health?deep=1&b", "port": 9000 } });
        pod["spec"]["containers"][0]["livenessProbe"] =
            json!({ "httpGet": { "host": "10.0.0.1", "port": 9000 } });
    }));
    let model = &document["spec"]["containers"][0];
    assert_eq!(model["readinessProbe"]["httpGet"]["path"], "/upstream-startedz?path=/health%3Fdeep%3D1%26b");
    assert_eq!(model["readinessProbe"]["httpGet"]["port"], 8081);
    assert_eq!(model["livenessProbe"], json!({ "httpGet": { "host": "10.0.0.1", "port": 9000 } }));
}

#[test]
fn a_pod_that_has_its_sidecar_stays_as_it_is() {
    let once = with_sidecar(&pod(|_| ()), &settings(), "secret").unwrap().unwrap();
    assert_eq!(with_sidecar(&once, &settings(), "another").unwrap(), None);
    let claimed = [class("mig-2g-10gb.gpu.sluice.dev")];
    let gated = with_gate(&once, &claimed).unwrap();
    assert_eq!(with_gate(&gated, &claimed), None);
    assert_eq!(with_sidecar(&gated, &settings(), "another").unwrap(), None);
}

#[test]
fn a_pod_of_few_words_is_injected_too() {
    let document = injected(&pod(|pod| {
        pod["metadata"]["annotations"] = json!({ names::PORT_ANNOTATION: "serve" });
        pod["spec"] =
            json!({ "containers": [{ "name": "m", "ports": [{ "name": "serve", "containerPort": 1 }] }] });
    }));
    assert_eq!(document["spec"]["initContainers"][0]["ports"][0]["name"], "serve");
    assert_eq!(document["spec"]["terminationGracePeriodSeconds"], 57);
}

#[test]
fn a_pod_behind_a_gateway_has_a_sidecar_that_merges_nothing() {
    let batching = |value: &'static str| {
        pod(|pod| pod["metadata"]["annotations"][names::BATCHING_ANNOTATION] = json!(value))
    };
    let arguments = injected(&batching("off"))["spec"]["initContainers"][1]["args"].to_string();
    assert!(arguments.contains("\"--batching=off\""), "{arguments}");
    let refused = with_sidecar(&batching("no"), &settings(), "secret").unwrap_err();
    assert_eq!(refused.field, "metadata.annotations[sluice.dev/batching]");
    assert_eq!(refused.problem, "\"no\" is none of auto, on, off");
}

#[test]
fn a_port_that_is_not_the_one_is_refused_by_its_path() {
    let second = refusal(|pod| {
        pod["spec"]["containers"][1]["ports"] = json!([{ "name": "http", "containerPort": 1 }])
    });
    assert_eq!(second.field, "spec.containers[1].ports[0].name");
    assert!(second.to_string().contains("ambiguous"), "{second}");
    let none = refusal(|pod| pod["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 9000 }]));
    assert!(
        none.to_string().starts_with("spec.containers: no container has a port named \"http\""),
        "{none}"
    );
    let number = refusal(|pod| pod["metadata"]["annotations"][names::PORT_ANNOTATION] = json!("9000"));
    assert!(number.to_string().starts_with("metadata.annotations[sluice.dev/port]: \"9000\""), "{number}");
    let udp = refusal(|pod| pod["spec"]["containers"][0]["ports"][1]["protocol"] = json!("UDP"));
    assert_eq!(udp.field, "spec.containers[0].ports[1].protocol");
    let host = refusal(|pod| pod["spec"]["containers"][0]["ports"][1]["hostPort"] = json!(80));
    assert_eq!(host.field, "spec.containers[0].ports[1].hostPort");
    let sidecar = refusal(|pod| {
        pod["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
        pod["spec"]["initContainers"][0]["ports"] = json!([{ "name": "http", "containerPort": 1 }]);
    });
    assert_eq!(sidecar.field, "spec.initContainers[0].ports[0].name");
}

#[test]
fn what_the_sidecar_needs_for_itself_must_be_free() {
    let name = refusal(|pod| pod["spec"]["containers"][1]["name"] = json!("sluice-batcher"));
    assert_eq!(name.field, "spec.containers[1].name");
    let other = refusal(|pod| pod["spec"]["initContainers"][0]["name"] = json!("sluice-batcher"));
    assert_eq!(other.field, "spec.initContainers[0].name");
    assert_eq!(refusal(|pod| pod["spec"]["hostNetwork"] = json!(true)).field, "spec.hostNetwork");
    let tls =
        refusal(|pod| pod["spec"]["containers"][0]["livenessProbe"]["httpGet"]["scheme"] = json!("HTTPS"));
    assert_eq!(tls.field, "spec.containers[0].livenessProbe.httpGet.scheme");
}

#[test]
fn annotations_are_read_strictly() {
    for (name, value) in [
        (names::OBJECTIVE_ANNOTATION, "fast"),
        (names::OBJECTIVE_ANNOTATION, "0"),
        (names::MAX_BATCH_ROWS_ANNOTATION, "5000000000"),
        (names::GATE_DEADLINE_ANNOTATION, "-1"),
        (names::MODELS_ANNOTATION, "bert,,other"),
    ] {
        let refused = refusal(|pod| pod["metadata"]["annotations"][name] = json!(value));
        assert_eq!(refused.field, format!("metadata.annotations[{name}]"));
        assert!(refused.problem.contains(value), "{refused}");
    }
}

#[test]
fn only_pods_that_claim_our_devices_and_have_no_node_are_gated() {
    let ours = [class("other.example.com"), class("mig.gpu.sluice.dev")];
    let gated = with_gate(&pod(|_| ()), &ours).unwrap();
    let gates = gated.spec.unwrap().scheduling_gates.unwrap();
    assert_eq!(gates.iter().map(|gate| gate.name.as_str()).collect::<Vec<_>>(), [names::GATE]);
    assert_eq!(with_gate(&pod(|_| ()), &[]), None);
    assert_eq!(with_gate(&pod(|_| ()), &[class("notgpu.sluice.dev")]), None);
    assert_eq!(with_gate(&pod(|pod| pod["spec"]["nodeName"] = json!("n")), &ours), None);
    let alias = pod(|pod| pod["spec"]["schedulingGates"] = json!([{ "name": names::GATE_ALIAS }]));
    assert_eq!(with_gate(&alias, &ours), None, "one gate is enough");
    let foreign = pod(|pod| pod["spec"]["schedulingGates"] = json!([{ "name": "example.com/quota" }]));
    assert_eq!(with_gate(&foreign, &ours).unwrap().spec.unwrap().scheduling_gates.unwrap().len(), 2);
}

#[test]
fn a_pull_secret_stands_beside_those_that_the_pod_has_and_once() {
    let settings = Sidecar { pull_secret: Some("ours".into()), ..settings() };
    for (before, after) in [
        (json!(null), json!([{ "name": "ours" }])),
        (json!([{ "name": "theirs" }]), json!([{ "name": "theirs" }, { "name": "ours" }])),
        (json!([{ "name": "ours" }]), json!([{ "name": "ours" }])),
    ] {
        let pod = pod(|pod| pod["spec"]["imagePullSecrets"] = before);
        let injected = with_sidecar(&pod, &settings, "secret").unwrap().unwrap();
        assert_eq!(serde_json::to_value(injected).unwrap()["spec"]["imagePullSecrets"], after);
    }
}

#[test]
fn annotations_with_units_are_told_what_to_write() {
    let refused = refusal(|pod| pod["metadata"]["annotations"][names::OBJECTIVE_ANNOTATION] = json!("0.3s"));
    assert!(refused.problem.contains("milliseconds without a unit: 300"), "{refused}");
    let refused =
        refusal(|pod| pod["metadata"]["annotations"][names::GATE_DEADLINE_ANNOTATION] = json!("300000"));
    assert!(refused.problem.contains("more than a day"), "{refused}");
}

#[test]
fn without_a_pull_secret_the_pod_names_none() {
    assert!(injected(&pod(|_| ()))["spec"].get("imagePullSecrets").is_none());
}
