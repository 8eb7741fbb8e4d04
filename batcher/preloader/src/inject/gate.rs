//! Adds the scheduling gate to pods that claim a device of ours and have no node yet.

use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate};
use sluice_config::names::{devices::CLASS_FULL_GPU, pod as names};

/// DeviceClasses of the pod's claims.
pub type ClaimedClasses = [String];

/// Returns whether a DeviceClass is one of ours, by its name: `gpu.sluice.dev` and everything below it.
pub fn is_ours(class: &str) -> bool {
    class.strip_suffix(CLASS_FULL_GPU).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// Returns the pod with its gate; `None` if it has one, has a node, or claims no device of ours.
pub fn with_gate(pod: &Pod, claimed: &ClaimedClasses) -> Option<Pod> {
    let spec = pod.spec.as_ref()?;
    let gates = spec.scheduling_gates.iter().flatten();
    let has_gate =
        gates.into_iter().any(|gate| [names::GATE, names::GATE_ALIAS].contains(&gate.name.as_str()));
    let is_placed = spec.node_name.as_ref().is_some_and(|node| !node.is_empty());
    if has_gate || is_placed || !claimed.iter().any(|class| is_ours(class)) {
        return None;
    }
    let mut gated = pod.clone();
    let gates = gated.spec.get_or_insert_default().scheduling_gates.get_or_insert_default();
    gates.push(PodSchedulingGate { name: names::GATE.to_owned() });
    Some(gated)
}
