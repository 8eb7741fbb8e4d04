//! The preloader and its watchdog: gates, trust, one Secret.

use serde_json::{Value, json};

use crate::policy::{Policy, Question, request};

const FILE: &str = "preloader/admission.yaml";
const ACCOUNTS: [&str; 2] = ["sluice-preloader", "sluice-preloader-watchdog"];

fn gates_only() -> Policy {
    Policy::read(FILE, "sluice-preloader-gates-only")
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "bert", "namespace": "models", "uid": "1", "resourceVersion": "7", "generation": 1,
            "labels": {"app": "bert", "sluice.dev/inject": "enabled"},
            "annotations": {"sluice.dev/models": "bert"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "bert", "uid": "2"}],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update"}],
        },
        "spec": {
            "schedulingGates": [{"name": "first.example"}, {"name": "sluice.dev/gpu-preload"}, {"name": "gpu-preload"}],
            "containers": [{"name": "model", "image": "model:1", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "sluice-batcher", "image": "batcher:1"}],
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "nodeSelector": {"gpu": "a100"},
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 57,
        },
        "status": {"phase": "Pending"},
    })
}

/// What the policy says where `change` is made to `before`.
fn changing(before: &Value, change: impl FnOnce(&mut Value)) -> String {
    let mut after = before.clone();
    change(&mut after);
    let mut said = ACCOUNTS.map(|account| {
        let question = Question {
            request: request(account, "UPDATE", "pods", json!({"name": "bert", "namespace": "models"})),
            object: after.clone(),
            old_object: before.clone(),
            ..Question::default()
        };
        assert!(gates_only().concerns(&question));
        gates_only().refusals(&question).join("; ")
    });
    assert_eq!(said[0], said[1], "both accounts may do the same");
    std::mem::take(&mut said[0])
}

fn gates(pod: &mut Value, names: &[&str]) {
    pod["spec"]["schedulingGates"] = names.iter().map(|name| json!({ "name": name })).collect();
}

#[test]
fn a_lift_is_allowed() {
    let recorded = |pod: &mut Value| {
        pod["metadata"]["resourceVersion"] = json!("8");
        pod["metadata"]["generation"] = json!(2);
        pod["metadata"]["managedFields"] = json!([{"manager": "sluice-preloader"}]);
    };
    for left in [
        &["first.example", "gpu-preload"][..],
        &["first.example"],
        &["first.example", "sluice.dev/gpu-preload"],
    ] {
        let said = changing(&pod(), |pod| {
            gates(pod, left);
            recorded(pod);
        });
        assert_eq!(said, "", "{left:?}");
    }
    let mut alone = pod();
    gates(&mut alone, &["sluice.dev/gpu-preload"]);
    // The API server leaves an empty list out, or keeps it.
    assert_eq!(changing(&alone, |pod| gates(pod, &[])), "");
    let without =
        changing(&alone, |pod| drop(pod["spec"].as_object_mut().unwrap().remove("schedulingGates")));
    assert_eq!(without, "");
    assert_eq!(changing(&alone, |_| ()), "", "what changes nothing is harmless");
}

#[test]
fn gates_of_others_stay_and_none_is_added() {
    let foreign = changing(&pod(), |pod| gates(pod, &["sluice.dev/gpu-preload", "gpu-preload"]));
    assert!(foreign.contains("may not remove the scheduling gates first.example"), "{foreign}");
    let added = changing(&pod(), |pod| {
        gates(pod, &["first.example", "sluice.dev/gpu-preload", "gpu-preload", "more.example"]);
    });
    assert!(added.contains("may not add"), "{added}");
    let swapped =
        changing(&pod(), |pod| gates(pod, &["gpu-preload", "first.example", "sluice.dev/gpu-preload"]));
    assert!(swapped.contains("reorder"), "{swapped}");
    let grown = changing(&pod(), |pod| pod["spec"]["schedulingGates"][1]["until"] = json!("later"));
    assert!(grown.contains("add, change"), "a field that gates may get one day: {grown}");

    let mut outside = pod();
    outside["metadata"]["labels"] = json!({"app": "bert"});
    let bare = changing(&outside, |pod| gates(pod, &["first.example", "sluice.dev/gpu-preload"]));
    assert!(bare.contains("may not remove the scheduling gates gpu-preload"), "{bare}");
    assert_eq!(
        changing(&outside, |pod| gates(pod, &["first.example", "gpu-preload"])),
        "",
        "the gate is named as Sluice's"
    );
    outside["metadata"].as_object_mut().unwrap().remove("labels");
    let bare = changing(&outside, |pod| gates(pod, &["first.example", "sluice.dev/gpu-preload"]));
    assert!(bare.contains("gpu-preload"), "{bare}");
}

#[test]
fn nothing_else_of_a_pod_may_change() {
    let pointers = [
        ("/metadata/labels/app", "metadata.labels"),
        ("/metadata/labels/sluice.dev~1inject", "metadata.labels"),
        ("/metadata/annotations/sluice.dev~1models", "metadata.annotations"),
        ("/metadata/ownerReferences/0/uid", "metadata.ownerReferences"),
        ("/metadata/uid", "metadata.uid"),
        ("/spec/containers/0/image", "spec.containers"),
        ("/spec/containers/0/resources/requests/cpu", "spec.containers"),
        ("/spec/initContainers/0/image", "spec.initContainers"),
        ("/spec/tolerations/0/key", "spec.tolerations"),
        ("/spec/nodeSelector/gpu", "spec.nodeSelector"),
        ("/spec/serviceAccountName", "spec.serviceAccountName"),
        ("/spec/terminationGracePeriodSeconds", "spec.terminationGracePeriodSeconds"),
        ("/status/phase", "status"),
        ("/apiVersion", "apiVersion"),
    ];
    let mut ungated = pod();
    ungated["spec"].as_object_mut().unwrap().remove("schedulingGates");
    for (pointer, named) in pointers {
        for before in [&pod(), &ungated] {
            let said = changing(before, |pod| {
                *pod.pointer_mut(pointer).unwrap() = json!("other");
                // Also beside a lift.
                if !pod["spec"]["schedulingGates"].is_null() {
                    gates(pod, &["first.example"]);
                }
            });
            assert!(said.contains(&format!("this would change {named}.")), "{pointer}: {said}");
        }
    }
    // Fields that come and go, those of a later Kubernetes too.
    for (parent, prefix) in [("", ""), ("/metadata", "metadata."), ("/spec", "spec.")] {
        let said = changing(&pod(), |pod| pod.pointer_mut(parent).unwrap()["newField"] = json!({"a": 1}));
        assert!(said.contains(&format!("change {prefix}newField.")), "{said}");
    }
    for (parent, field) in [
        ("/spec", "tolerations"),
        ("/spec", "nodeSelector"),
        ("/metadata", "ownerReferences"),
        ("/metadata", "labels"),
    ] {
        let said = changing(&pod(), |pod| {
            pod.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        });
        assert!(said.contains(field), "{said}");
    }
    for (field, value) in
        [("finalizers", json!(["a.example/b"])), ("deletionTimestamp", json!("2026-01-01T00:00:00Z"))]
    {
        let said = changing(&pod(), |pod| pod["metadata"][field] = value);
        assert!(said.contains(&format!("metadata.{field}")), "{said}");
    }
    let affinity = changing(&pod(), |pod| pod["spec"]["affinity"] = json!({"nodeAffinity": {}}));
    assert!(affinity.contains("spec.affinity"), "{affinity}");
}

#[test]
fn no_other_request_about_a_pod_is_allowed() {
    for (operation, subresource) in [
        ("CREATE", ""),
        ("DELETE", ""),
        ("UPDATE", "status"),
        ("UPDATE", "ephemeralcontainers"),
        ("UPDATE", "resize"),
        ("CREATE", "binding"),
        ("CREATE", "eviction"),
        ("CONNECT", "exec"),
    ] {
        let more = if subresource.is_empty() { json!({}) } else { json!({ "subResource": subresource }) };
        let (object, old_object) = match operation {
            "UPDATE" => (pod(), pod()),
            "DELETE" => (Value::Null, pod()),
            _ => (pod(), Value::Null),
        };
        let request = request(ACCOUNTS[0], operation, "pods", more);
        let said = gates_only().refusals(&Question { request, object, old_object, ..Question::default() });
        assert_eq!(said.len(), 1, "{operation} {subresource}: {said:?}");
        assert!(said[0].contains("only to remove its scheduling gate"), "{said:?}");
    }
}

#[test]
fn others_are_not_concerned() {
    let policies =
        ["sluice-preloader-gates-only", "sluice-preloader-trust-only", "sluice-preloader-own-secret"];
    for policy in policies {
        for (account, concerned) in [(ACCOUNTS[0], true), (ACCOUNTS[1], true), ("sluice-autoscaler", false)] {
            let request = request(account, "UPDATE", "pods", json!({}));
            let question = Question { request, ..Question::default() };
            assert_eq!(Policy::read(FILE, policy).concerns(&question), concerned, "{policy} {account}");
        }
    }
}

fn configuration() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("preloader/webhook.yaml");
    let mut shipped: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    shipped["metadata"]["generation"] = json!(1);
    shipped["metadata"]["annotations"] = json!({"a": "b"});
    shipped
}

fn trusting(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let before = configuration();
    let mut after = before.clone();
    change(&mut after);
    let request = request(ACCOUNTS[0], "UPDATE", "mutatingwebhookconfigurations", json!({ "name": name }));
    let question = Question { request, object: after, old_object: before, ..Question::default() };
    Policy::read(FILE, "sluice-preloader-trust-only").refusals(&question).join("; ")
}

#[test]
fn of_its_webhook_the_preloader_writes_whom_to_trust_and_nothing_else() {
    const OWN: &str = "sluice-preloader";
    let trust = |configuration: &mut Value| {
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!("QUJD");
        }
        configuration["metadata"]["generation"] = json!(2);
    };
    assert_eq!(trusting(OWN, trust), "");
    assert!(trusting("another", trust).contains("no webhook configuration but"), "by name");
    for (pointer, value) in [
        ("/webhooks/0/rules/0/resources", json!(["secrets"])),
        ("/webhooks/1/rules", json!([])),
        ("/webhooks/1/namespaceSelector", json!({})),
        ("/webhooks/0/objectSelector", json!({})),
        ("/webhooks/0/failurePolicy", json!("Fail")),
        ("/webhooks/1/clientConfig/service/name", json!("another")),
        ("/webhooks/1/clientConfig/service/path", json!("/")),
        ("/webhooks/1/clientConfig", json!({"url": "https://example.com"})),
        ("/webhooks/0/timeoutSeconds", json!(30)),
        ("/webhooks/0/name", json!("b.example")),
        ("/metadata/labels", json!({})),
        ("/metadata/annotations/a", json!("c")),
    ] {
        let said = trusting(OWN, |configuration| {
            *configuration.pointer_mut(pointer).unwrap() = value;
            trust(configuration);
        });
        assert!(said.contains("may"), "{pointer}: {said}");
    }
    for (parent, field) in [
        ("", "newField"),
        ("/metadata", "finalizers"),
        ("/webhooks/1", "matchConditions"),
        ("/webhooks/1/clientConfig", "url"),
    ] {
        let said = trusting(OWN, |configuration| {
            configuration.pointer_mut(parent).unwrap()[field] = json!(["x"]);
        });
        assert!(said.contains("may change only webhooks[].clientConfig.caBundle"), "{field}: {said}");
    }
    let gone = trusting(OWN, |configuration| drop(configuration["webhooks"].as_array_mut().unwrap().pop()));
    assert!(gone.contains("may not add, remove"), "{gone}");
    let swapped = trusting(OWN, |configuration| configuration["webhooks"].as_array_mut().unwrap().reverse());
    assert!(swapped.contains("reorder"), "{swapped}");
}

#[test]
fn of_secrets_the_preloader_makes_its_own() {
    let making = |namespace: &str, name: &str, more: Value| {
        let mut object = json!({ "metadata": { "name": name, "namespace": namespace } });
        object.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        let request = request(ACCOUNTS[0], "CREATE", "secrets", json!({ "namespace": namespace }));
        let question = Question { request, object, ..Question::default() };
        Policy::read(FILE, "sluice-preloader-own-secret").refusals(&question).join("; ")
    };
    const OWN: &str = "sluice-preloader-tls";
    assert_eq!(making("sluice-system", OWN, json!({"type": "Opaque"})), "");
    assert_eq!(making("sluice-system", OWN, json!({})), "");
    for (namespace, name, type_) in [
        ("sluice-system", "another", "Opaque"),
        ("kube-system", OWN, "Opaque"),
        // The API server would fill it with another account's token.
        ("sluice-system", OWN, "kubernetes.io/service-account-token"),
    ] {
        let said = making(namespace, name, json!({ "type": type_ }));
        assert!(said.contains("no Secret but sluice-preloader-tls"), "{namespace}/{name} {type_}: {said}");
    }
}
