//! Warnings: probable mistakes, and ports that bypass the sidecar.

use serde_json::{Value, json};

use super::*;

#[test]
fn a_service_that_sends_to_the_models_number_is_told() {
    let service = |target: Value| -> Service {
        let ports = json!([{ "port": 80, "targetPort": target }]);
        serde_json::from_value(json!({
            "metadata": { "name": "bert" },
            "spec": { "selector": { "app": "bert" }, "ports": ports },
        }))
        .unwrap()
    };
    let pod = pod(|_| ());
    let told = passes_by(&service(json!(9000)), &pod).unwrap();
    assert!(told.contains("Service bert: spec.ports[0].targetPort is 9000"), "{told}");
    assert_eq!(passes_by(&service(json!("http")), &pod), None);
    assert_eq!(passes_by(&service(json!(9002)), &pod), None);
}

#[test]
fn what_somebody_probably_meant_is_said() {
    let told = |change: &dyn Fn(&mut Value)| hints(&pod(change), "models", "sluice-system").join("\n");
    assert_eq!(told(&|_| ()), "");
    let label = |value: &'static str| {
        move |pod: &mut Value| pod["metadata"]["labels"][names::INJECT_LABEL] = json!(value)
    };
    for value in ["true", "Enabled", "yes", ""] {
        let told = told(&label(value));
        assert!(told.contains("gets no sidecar and no gate; did you mean \"enabled\"?"), "{value}: {told}");
    }
    assert_eq!(told(&label("disabled")), "");
    let gate = told(&|pod| {
        pod["metadata"]["labels"] = json!({});
        pod["spec"]["schedulingGates"] =
            json!([{ "name": "example.com/quota" }, { "name": names::GATE_ALIAS }]);
    });
    assert!(
        gate.starts_with(
            "spec.schedulingGates[1] is \"gpu-preload\", which is lifted on pods that opt in alone"
        ),
        "{gate}"
    );
    let near = told(&|pod| pod["spec"]["schedulingGates"] = json!([{ "name": "sluice.dev/gpu-preloads" }]));
    assert!(near.contains("did you mean \"sluice.dev/gpu-preload\"?"), "{near}");
    for (annotation, meant) in [
        ("sluice.dev/model", "did you mean sluice.dev/models?"),
        ("sluice.dev/objectiveMs", "did you mean sluice.dev/objective-ms?"),
        ("slucie.dev/batching", "did you mean sluice.dev/batching?"),
        ("sluice.io/batching", "did you mean sluice.dev/batching?"),
        ("sluice.dev/colour", "means nothing to Sluice; there are `sluice.dev/port`"),
        ("sluice.dev/inject", "is a label"),
    ] {
        let told = told(&|pod| pod["metadata"]["annotations"][annotation] = json!("x"));
        assert!(told.contains(meant), "{annotation}: {told}");
    }
    let other = told(&|pod| pod["metadata"]["annotations"]["example.com/models"] = json!("x"));
    assert_eq!(other, "");
    let label = told(&|pod| pod["metadata"]["labels"]["sluice.dev/injects"] = json!("enabled"));
    assert!(
        label.contains("metadata.labels[sluice.dev/injects]") && label.contains("sluice.dev/inject?"),
        "{label}"
    );
    let label = told(&|pod| pod["metadata"]["labels"][names::MODELS_ANNOTATION] = json!("bert"));
    assert!(label.contains("is an annotation"), "{label}");
    for namespace in ["kube-system", "sluice-system", "sluice-elsewhere"] {
        let told = hints(&pod(|_| ()), namespace, "sluice-elsewhere").join("\n");
        assert!(told.contains("is left alone by Sluice"), "{told}");
    }
}

#[test]
fn ports_that_pass_the_sidecar_by_are_told() {
    let with = |ports: Value| {
        pod(move |pod| {
            pod["spec"]["containers"][0]["ports"] = ports;
            pod["spec"]["containers"][1]["ports"] = json!([{ "name": "grpc", "containerPort": 7000 }]);
        })
    };
    let http = json!({ "name": "http", "containerPort": 9000 });
    let quiet = with(json!([http, { "name": "metrics", "containerPort": 9002 }]));
    assert_eq!(second_ports(&quiet, &[]), Vec::<String>::new());
    let grpc = with(json!([http, { "name": "grpc", "containerPort": 9001 }]));
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "bert-grpc" },
        "spec": { "selector": { "app": "bert" }, "ports": [{ "port": 80, "targetPort": "grpc" }] },
    }))
    .unwrap();
    let told = second_ports(&grpc, &[service]);
    assert!(told[0].starts_with("spec.containers[0].ports[1] (9001) of the model's container"), "{told:?}");
    assert!(
        told[1].starts_with("Service bert-grpc: spec.ports[0].targetPort leads to port 9001"),
        "{told:?}"
    );
    let twice = second_ports(&with(json!([http, { "containerPort": 9000 }])), &[]);
    assert!(twice[0].contains("is the model's port 9000 once more"), "{twice:?}");
    let host = json!([http, { "name": "metrics", "containerPort": 9002, "hostPort": 99 }]);
    assert!(second_ports(&with(host), &[])[0].contains("hostPort 99"));
}
