//! The condition under which the webhook of warnings is asked, evaluated as the API server does it.
#![cfg(feature = "crd")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use serde_json::{Value, json};

/// Whether the API server asks about the object.
fn is_asked(object: &Value) -> bool {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("preloader/webhook.yaml");
    let webhooks: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let hints = webhooks["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|hook| hook["failurePolicy"] == "Ignore" && hook["clientConfig"]["service"]["path"] == "/hints")
        .unwrap();
    let rule = hints["matchConditions"][0]["expression"].as_str().unwrap().replace("object", "self");
    let schema = json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-validations": [{ "rule": rule, "message": "not asked" }],
    });
    match kube_cel::validate(&schema, object, None) {
        Ok(()) => true,
        Err(errors) => {
            let errors = errors.to_string();
            assert!(errors.contains("not asked"), "{errors}");
            false
        }
    }
}

#[test]
fn only_what_speaks_of_sluice_is_asked_about() {
    let metadata =
        |labels: Value, annotations: Value| json!({ "labels": labels, "annotations": annotations });
    let pod = |metadata: Value, spec: Value| json!({ "metadata": metadata, "spec": spec });
    let plain = metadata(json!({ "app": "bert" }), json!({ "example.com/a": "b" }));
    assert!(!is_asked(&pod(plain.clone(), json!({ "containers": [] }))));
    assert!(!is_asked(&pod(json!({}), json!({}))));
    assert!(is_asked(&pod(metadata(json!({ "sluice.dev/inject": "true" }), json!({})), json!({}))));
    assert!(is_asked(&pod(metadata(json!({}), json!({ "slucie.dev/models": "x" })), json!({}))));
    assert!(is_asked(&pod(plain.clone(), json!({ "schedulingGates": [{ "name": "gpu-preload" }] }))));
    assert!(!is_asked(&pod(plain.clone(), json!({ "schedulingGates": [{ "name": "example.com/quota" }] }))));
    let labelled = metadata(json!({ "sluice.dev/inject": "true" }), json!({}));
    let template =
        |metadata: &Value| json!({ "template": { "metadata": metadata, "spec": { "containers": [] } } });
    assert!(is_asked(&pod(plain.clone(), template(&labelled))));
    assert!(!is_asked(&pod(plain.clone(), template(&plain))));
    assert!(is_asked(&pod(plain.clone(), json!({ "jobTemplate": { "spec": template(&labelled) } }))));
    assert!(!is_asked(&pod(plain.clone(), json!({ "jobTemplate": { "spec": template(&plain) } }))));
}
