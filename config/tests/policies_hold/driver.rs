//! The driver: slices of the node on which it runs, which its token names.

use serde_json::{Value, json};

use crate::policy::{Policy, Question, request};

fn slice(node: &str, pool: &str) -> Value {
    json!({"metadata": {"name": "s"}, "spec": {"driver": "gpu.sluice.dev", "nodeName": node, "pool": {"name": pool}}})
}

fn writing(node: Option<&str>, operation: &str, old_object: Value, object: Value) -> String {
    let mut request = request("sluice-driver", operation, "resourceslices", json!({}));
    if let Some(node) = node {
        request["userInfo"]["extra"] = json!({"authentication.kubernetes.io/node-name": [node]});
    }
    let policy = Policy::read("driver/admission.yaml", "sluice-driver-own-node");
    let question = Question { request, object, old_object, ..Question::default() };
    assert!(policy.concerns(&question));
    policy.refusals(&question).join("; ")
}

#[test]
fn a_driver_writes_its_own_nodes_slices_alone() {
    let (own, other) = (slice("a", "a/gpu"), slice("b", "b/gpu"));
    for (operation, before, after) in [
        ("CREATE", Value::Null, own.clone()),
        ("UPDATE", own.clone(), own.clone()),
        ("DELETE", own.clone(), Value::Null),
    ] {
        assert_eq!(writing(Some("a"), operation, before.clone(), after.clone()), "", "{operation}");
        let said = writing(None, operation, before, after);
        assert!(said.contains("only with the token of a pod that runs on a node"), "{said}");
    }
    for (operation, before, after) in [
        ("CREATE", Value::Null, other.clone()),
        ("UPDATE", other.clone(), other.clone()),
        ("UPDATE", other.clone(), own.clone()),
        ("UPDATE", own.clone(), other.clone()),
        ("DELETE", other, Value::Null),
    ] {
        let said = writing(Some("a"), operation, before, after);
        assert!(said.contains("may not write ResourceSlices of node \"b"), "{operation}: {said}");
    }
}

#[test]
fn a_driver_takes_no_pool_of_another_node_and_no_other_drivers_slices() {
    let said = writing(Some("a"), "CREATE", Value::Null, slice("a", "b/gpu"));
    assert!(said.contains("of pool \"a/gpu\" alone, not of \"b/gpu\""), "{said}");
    let mut everywhere = slice("a", "a/gpu");
    everywhere["spec"].as_object_mut().unwrap().remove("nodeName");
    everywhere["spec"]["allNodes"] = json!(true);
    assert_ne!(writing(Some("a"), "CREATE", Value::Null, everywhere), "");
    let mut foreign = slice("a", "a/gpu");
    foreign["spec"]["driver"] = json!("gpu.example.com");
    let said = writing(Some("a"), "CREATE", Value::Null, foreign);
    assert!(said.contains("of driver \"gpu.example.com\""), "{said}");
}
