//! Nodes on which a pod may be placed, according to node and pod: kube-scheduler's filters NodeUnschedulable,
//! TaintToleration and NodeAffinity (pure). Resources that other pods use (CPU, memory, ports) are not considered.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, PodSpec, Taint, Toleration};
use sluice_inventory::node_selector::matches;

/// Prefix of Kubernetes' own taints: the node is being drained, does not respond, or lacks something.
const OWN_TAINTS: &str = "node.kubernetes.io/";
/// Prefix of the taints of cloud providers, for nodes that are not initialised yet or shut down.
const CLOUD_TAINTS: &str = "node.cloudprovider.kubernetes.io/";

/// Returns whether a node gets pods at all: it is not cordoned, it is ready, and it has no taint of Kubernetes
/// itself.
pub(crate) fn is_open(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let own = |taint: &Taint| taint.key.starts_with(OWN_TAINTS) || taint.key.starts_with(CLOUD_TAINTS);
    !cordoned && ready && !hard_taints(node).any(own)
}

/// Returns whether a pod may be placed on a node: the node gets pods, its taints are tolerated, and node selector and
/// required node affinity match.
pub(crate) fn admits(node: &Node, pod: &PodSpec) -> bool {
    let tolerations = pod.tolerations.as_deref().unwrap_or_default();
    let tolerated = |taint: &Taint| tolerations.iter().any(|toleration| tolerates(toleration, taint));
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selected = pod.node_selector.iter().flatten().all(|(label, value)| labels.get(label) == Some(value));
    let terms = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|selector| &selector.node_selector_terms);
    is_open(node)
        && hard_taints(node).all(tolerated)
        && selected
        && terms.is_none_or(|terms| terms.iter().any(|term| matches(term, node).unwrap_or(false)))
}

/// Iterates over the taints that exclude pods. `PreferNoSchedule` does not.
fn hard_taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute")
}

/// Returns whether a toleration matches a taint. An empty key with `Exists` matches every taint, an empty effect
/// every effect.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let key = set(&toleration.key);
    let same_key = key.as_ref().is_none_or(|key| *key == taint.key);
    let same_effect = set(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let same_value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            key.is_some()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    };
    same_key && same_effect && same_value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(spec: Value, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "labels": {"gpu": "a100", "slots": "8"}},
            "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn pod(spec: Value) -> PodSpec {
        let mut all = json!({"containers": []});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_node_that_is_cordoned_unready_or_tainted_by_kubernetes_takes_nobody() {
        assert!(is_open(&node(json!({}), "True")));
        assert!(!is_open(&node(json!({}), "Unknown")));
        assert!(!is_open(&node(json!({"unschedulable": true}), "True")));
        let taint = json!({"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]});
        assert!(!is_open(&node(taint, "True")));
    }

    #[test]
    fn a_users_taint_keeps_off_those_who_do_not_tolerate_it() {
        let tainted = |effect: &str| {
            node(json!({"taints": [{"key": "gpu", "value": "yes", "effect": effect}]}), "True")
        };
        assert!(is_open(&tainted("NoSchedule")));
        assert!(!admits(&tainted("NoSchedule"), &pod(json!({}))));
        assert!(admits(&tainted("PreferNoSchedule"), &pod(json!({}))));
        for (toleration, tolerated) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}), true),
            (json!({"key": "gpu", "value": "yes"}), true),
            (json!({"key": "gpu", "value": "no"}), false),
            (json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "gpu", "operator": "Gt", "value": "1"}), false),
        ] {
            let pod = pod(json!({"tolerations": [toleration]}));
            assert_eq!(admits(&tainted("NoSchedule"), &pod), tolerated, "{toleration}");
        }
    }

    #[test]
    fn selector_and_affinity_choose_nodes() {
        let node = node(json!({}), "True");
        assert!(admits(&node, &pod(json!({"nodeSelector": {"gpu": "a100"}}))));
        assert!(!admits(&node, &pod(json!({"nodeSelector": {"gpu": "h100"}}))));
        for (requirement, met) in [
            (json!({"key": "gpu", "operator": "In", "values": ["a100", "h100"]}), true),
            (json!({"key": "gpu", "operator": "NotIn", "values": ["a100"]}), false),
            (json!({"key": "zone", "operator": "NotIn", "values": ["a"]}), true),
            (json!({"key": "zone", "operator": "Exists"}), false),
            (json!({"key": "zone", "operator": "DoesNotExist"}), true),
            (json!({"key": "slots", "operator": "Gt", "values": ["7"]}), true),
            (json!({"key": "slots", "operator": "Lt", "values": ["7"]}), false),
            (json!({"key": "gpu", "operator": "Gt", "values": ["7"]}), false),
        ] {
            let terms = json!([{"matchExpressions": [requirement]}]);
            assert_eq!(admits(&node, &with_terms(terms)), met, "{requirement}");
        }
        let by_name = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]);
        assert!(admits(&node, &with_terms(by_name)));
        assert!(!admits(&node, &with_terms(json!([{}]))), "an empty term matches nothing");
    }

    fn with_terms(terms: Value) -> PodSpec {
        pod(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
        }}}))
    }
}
