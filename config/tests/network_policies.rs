//! The network policies name the ports that the workloads have, all of them and no other.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sluice_config::names::{SYSTEM_NAMESPACE, pod};

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let all: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    all.into_iter().filter(Value::is_object).collect()
}

fn policy(name: &str) -> Value {
    documents(&format!("network-policy/{name}.yaml")).pop().unwrap()
}

/// Ports of all rules of one direction.
fn ports(policy: &Value, direction: &str) -> BTreeSet<String> {
    let rules = policy["spec"][direction].as_array().unwrap();
    let ports = rules.iter().flat_map(|rule| rule["ports"].as_array().unwrap());
    ports.map(|port| port["port"].to_string()).collect()
}

fn matches(policy: &Value, labels: &Value) -> bool {
    let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object();
    wanted.is_none_or(|wanted| wanted.iter().all(|(label, value)| labels[label] == *value))
}

#[test]
fn every_port_of_every_program_is_let_in_by_a_policy_and_no_other() {
    let ingress: Vec<Value> = ["metrics", "preloader"].map(policy).into();
    for file in [
        "autoscaler/deployment.yaml",
        "preloader/deployment.yaml",
        "preloader/watchdog.yaml",
        "driver/daemonset.yaml",
    ] {
        let workload = documents(file).pop().unwrap();
        let template = &workload["spec"]["template"];
        assert!(template["spec"]["hostNetwork"].is_null(), "{file}: no policy holds for the node's network");
        let containers = template["spec"]["containers"].as_array().unwrap();
        let listens: BTreeSet<String> = containers
            .iter()
            .flat_map(|container| container["ports"].as_array().unwrap())
            .map(|port| port["name"].to_string())
            .collect();
        let labels = &template["metadata"]["labels"];
        let open = ingress.iter().filter(|policy| matches(policy, labels));
        let open: BTreeSet<String> = open.flat_map(|policy| ports(policy, "ingress")).collect();
        assert_eq!(open, listens, "{file}");
        assert!(matches(&policy("api-server"), labels) && matches(&policy("default-deny"), labels), "{file}");
    }
}

#[test]
fn the_autoscaler_may_read_sidecars_and_they_may_be_read() {
    let admin = pod::ADMIN_PORT.to_string();
    assert!(ports(&policy("autoscaler"), "egress").contains(&admin));
    let samples = documents("samples/network-policy.yaml");
    let opted_in = json!({ pod::INJECT_LABEL: pod::INJECT_ENABLED });
    let gateway = documents("batcher/gateway/deployment.yaml").pop().unwrap();
    for labels in [&opted_in, &gateway["spec"]["template"]["metadata"]["labels"]] {
        let sample = samples.iter().find(|sample| matches(sample, labels)).unwrap();
        assert_eq!(ports(sample, "ingress"), BTreeSet::from([admin.clone(), pod::FRONT_PORT.to_string()]));
        let rules = sample["spec"]["ingress"].as_array().unwrap();
        let guarded = rules.iter().find(|rule| rule["ports"][0]["port"] == pod::ADMIN_PORT).unwrap();
        let from = &guarded["from"][0];
        let namespace = &from["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
        assert_eq!(*namespace, SYSTEM_NAMESPACE);
        assert_eq!(from["podSelector"], policy("autoscaler")["spec"]["podSelector"]);
    }
}
