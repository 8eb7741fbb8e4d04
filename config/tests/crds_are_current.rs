//! The committed CustomResourceDefinitions are what the Rust types say. `REGENERATE=1` rewrites them.
#![cfg(feature = "crd")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use serde_json::{Value, json};
use sluice_config::api::crd;

#[test]
fn the_committed_definition_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crd/inferenceautoscalers.yaml");
    let made = crd::inference_autoscaler_yaml().unwrap();
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "{} differs from the types; run REGENERATE=1 cargo test -p sluice-config --all-features \
         --test crds_are_current",
        path.display()
    );
}

/// What the definition's CEL rules say to a specification that is right but for `change`.
fn refusals(change: impl FnOnce(&mut Value)) -> String {
    let text = crd::inference_autoscaler_yaml().unwrap();
    assert!(text.contains("rule: type(self) == int"), "{text}");
    // The library here knows no `type`; these two say the same of an integer and of a text.
    let text = text.replace("rule: type(self) == int", "rule: self != string(self)");
    let crd: Value = serde_saphyr::from_str(&text).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut object = json!({"spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "bert"},
        "model": "bert", "objective": {"percentile": 99.0, "latencyMs": 300},
        "minReplicas": 1, "maxReplicas": 3,
    }});
    change(&mut object["spec"]);
    match kube_cel::validate(schema, &object, None) {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_definition_refuses_what_cannot_be_followed_and_names_the_field() {
    assert_eq!(refusals(|_| ()), "");
    for percentile in [0.0, 100.0, -1.0, 49.9] {
        let refused = refusals(|spec| spec["objective"]["percentile"] = json!(percentile));
        assert!(refused.contains("percentile must be at least 50 and below 100"), "{refused}");
        assert!(!refused.contains("did you mean"), "{refused}");
    }
    for (share, percent) in [(0.99, "99"), (0.95, "95"), (0.999, "99.9"), (0.57, "57")] {
        let refused = refusals(|spec| spec["objective"]["percentile"] = json!(share));
        assert!(refused.contains(&format!("did you mean {percent}?")), "{refused}");
    }
    let refused = refusals(|spec| spec["objective"]["latencyMs"] = json!("300ms"));
    assert!(refused.contains("latencyMs: milliseconds without a unit, e.g. 300"), "{refused}");
    let refused = refusals(|spec| {
        spec["behavior"] =
            json!({"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": "15s"}]}})
    });
    assert!(refused.contains("periodSeconds: seconds without a unit, e.g. 30"), "{refused}");
    let refused = refusals(|spec| spec["minReplicas"] = json!(4));
    assert!(refused.contains("maxReplicas must be at least minReplicas"), "{refused}");
    let refused = refusals(|spec| spec["minReplicas"] = json!(0));
    assert!(refused.contains("minReplicas must be at least 1 unless spec.gateway is set"), "{refused}");
    let to_zero = refusals(|spec| {
        spec["minReplicas"] = json!(0);
        spec["gateway"] = json!({"matchLabels": {"app": "gateway"}});
    });
    assert_eq!(to_zero, "");
    let refused = refusals(|spec| spec["scaleTargetRef"]["kind"] = json!("LocalDeployment"));
    assert!(refused.contains("scale subresource"), "{refused}");
}

#[test]
fn texts_that_become_paths_or_lines_have_a_pattern_and_a_length() {
    let crd: Value = serde_saphyr::from_str(&crd::inference_autoscaler_yaml().unwrap()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let target = &spec["scaleTargetRef"]["properties"];
    for (field, most) in
        [(&spec["model"], 253), (&target["apiVersion"], 253), (&target["kind"], 63), (&target["name"], 253)]
    {
        assert_eq!((&field["minLength"], &field["maxLength"]), (&json!(1), &json!(most)), "{field}");
        let pattern = field["pattern"].as_str().unwrap_or_default();
        assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{field}");
    }
}
