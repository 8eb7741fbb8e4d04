//! The autoscaler: scales within the bounds of what names its target.

use serde_json::{Value, json};

use crate::policy::{Policy, Question, request};

fn scaling(resource: &str, name: &str, replicas: (i64, i64), autoscaler: &Value) -> String {
    let policy = Policy::read("autoscaler/admission.yaml", "sluice-autoscaler-within-bounds");
    let scale = |replicas: i64| match replicas {
        // A Scale of 0 leaves the field out.
        0 => json!({"metadata": {"name": name}, "spec": {}}),
        _ => json!({"metadata": {"name": name}, "spec": {"replicas": replicas}}),
    };
    let more = json!({"name": name, "namespace": "models", "subResource": "scale"});
    let question = Question {
        request: request("sluice-autoscaler", "UPDATE", resource, more),
        old_object: scale(replicas.0),
        object: scale(replicas.1),
        params: autoscaler.clone(),
    };
    assert!(policy.concerns(&question));
    policy.refusals(&question).join("; ")
}

#[test]
fn what_an_autoscaler_names_stays_within_its_bounds() {
    let bounded = json!({"metadata": {"name": "ias"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "bert"},
        "minReplicas": 2, "maxReplicas": 8,
    }});
    for (from, to) in [(2, 8), (8, 2), (3, 3), (20, 12), (20, 8), (0, 1), (1, 2), (9, 9)] {
        assert_eq!(scaling("deployments", "bert", (from, to), &bounded), "", "{from} to {to}");
    }
    for (from, to) in [(2, 9), (8, 1), (2, 0), (20, 21), (20, 1), (1, 0), (0, 9)] {
        let said = scaling("deployments", "bert", (from, to), &bounded);
        assert!(said.contains("InferenceAutoscaler ias allows 2 to 8"), "{from} to {to}: {said}");
    }
    // It says nothing of others.
    assert_eq!(scaling("deployments", "other", (1, 99), &bounded), "");
    assert_eq!(scaling("statefulsets", "bert", (1, 99), &bounded), "");
    let mut to_zero = bounded;
    to_zero["spec"]["minReplicas"] = json!(0);
    assert_eq!(scaling("deployments", "bert", (1, 0), &to_zero), "");
}

#[test]
fn the_clusters_own_workloads_are_not_scaled() {
    let policy = Policy::read("autoscaler/admission.yaml", "sluice-autoscaler-not-of-the-system");
    for (namespace, allowed) in [("kube-system", false), ("sluice-system", false), ("models", true)] {
        let more = json!({"name": "a", "namespace": namespace, "subResource": "scale"});
        let request = request("sluice-autoscaler", "UPDATE", "deployments", more);
        let question = Question { request, ..Question::default() };
        assert!(policy.concerns(&question));
        let said = policy.refusals(&question);
        assert_eq!(said.is_empty(), allowed, "{namespace}: {said:?}");
    }
}
