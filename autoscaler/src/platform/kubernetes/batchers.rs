//! Finds the processes in pods that measure demand, and their pages (pure): the sidecars of a target, or the gateway in
//! front of it. Both are recognised by the name of their admin port.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use sluice_config::names::pod as names;

use super::pods;
use crate::platform::Batcher;

/// Returns the sidecars of those pods that have an address.
pub(super) fn sidecars(pods: &[&Pod]) -> Vec<Batcher> {
    pods.iter().filter_map(|pod| batcher(pod, sidecar(pod)?, sidecar_status(pod))).collect()
}

/// Returns the gateways in those pods that have an address.
pub(super) fn gateways(pods: &[&Pod]) -> Vec<Batcher> {
    pods.iter()
        .filter_map(|pod| {
            let container = pod.spec.as_ref()?.containers.iter().find(|container| is_gateway(container))?;
            let statuses = pod.status.as_ref()?.container_statuses.as_deref().unwrap_or_default();
            batcher(pod, container, statuses.iter().find(|status| status.name == container.name))
        })
        .collect()
}

/// Returns whether a container is a gateway.
pub(super) fn is_gateway(container: &Container) -> bool {
    admin_port(container).is_some()
}

fn admin_port(container: &Container) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(names::ADMIN_PORT_NAME))?;
    Some(port.container_port)
}

fn sidecar(pod: &Pod) -> Option<&Container> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    containers.iter().find(|container| container.name == names::SIDECAR)
}

fn sidecar_status(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == names::SIDECAR)
}

/// Returns the batcher in a container. One that drains still counts requests, so it is read as long as it answers.
fn batcher(pod: &Pod, container: &Container, status: Option<&ContainerStatus>) -> Option<Batcher> {
    let port = admin_port(container)?;
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    if pods::is_over(pod) {
        return None;
    }
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    Some(Batcher {
        name: pods::name(pod).to_owned(),
        metrics_url: format!("http://{host}:{port}/metrics"),
        is_required: pods::is_ready(pod) && pods::is_live(pod),
        started_ms: status.and_then(started_ms),
    })
}

/// Returns when the container's present process started.
fn started_ms(status: &ContainerStatus) -> Option<u64> {
    Some(pods::millis(status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0))
}

#[cfg(test)]
mod tests {
    use super::super::pods::tests::{NOT_READY, TERMINATING, parsed, pod};
    use super::*;
    use serde_json::{Value, json};

    fn named(batchers: &[Batcher]) -> Vec<(&str, bool)> {
        batchers.iter().map(|batcher| (batcher.name.as_str(), batcher.is_required)).collect()
    }

    #[test]
    fn sidecars_are_read_and_only_those_of_ready_pods_must_be_readable() {
        let pods = [
            pod("a", json!({})),
            pod("b", parsed(NOT_READY)),
            pod("c", parsed(TERMINATING)),
            pod("d", json!({"status": {"podIP": null}})),
            pod("e", json!({"spec": {"initContainers": []}})),
            pod("f", json!({"status": {"podIP": "fd00::7"}})),
            pod("g", json!({"status": {"phase": "Succeeded"}})),
        ];
        let batchers = sidecars(&pods.iter().collect::<Vec<_>>());
        assert_eq!(named(&batchers), [("a", true), ("b", false), ("c", false), ("f", true)]);
        assert_eq!(batchers[0].metrics_url, "http://10.0.0.7:8081/metrics");
        assert_eq!(batchers[3].metrics_url, "http://[fd00::7]:8081/metrics");
        assert_eq!(batchers[0].started_ms, Some(1_767_225_601_000));
    }

    /// A pod of a gateway, as it is kept; changed by `patch`.
    fn gateway(name: &str, patch: &Value) -> Pod {
        let mut change = json!({
            "spec": {"initContainers": null, "containers": [
                {"name": "log-shipper", "ports": [{"name": "admin", "containerPort": 1}]},
                {"name": "gateway", "ports": [
                    {"name": "http", "containerPort": 8080},
                    {"name": "sluice-admin", "containerPort": 8085},
                ]},
            ]},
            "status": {"initContainerStatuses": null, "containerStatuses": [
                {"name": "log-shipper", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                {
                    "name": "gateway", "image": "", "imageID": "", "ready": true, "restartCount": 2,
                    "state": {"running": {"startedAt": "2026-01-01T00:00:02Z"}},
                },
            ]},
        });
        json_patch::merge(&mut change, patch);
        pod(name, change)
    }

    #[test]
    fn a_gateway_is_the_container_with_the_admin_port_wherever_it_stands() {
        let pods = [
            gateway("a", &json!({})),
            gateway("b", &parsed(NOT_READY)),
            gateway("c", &json!({"status": {"podIP": ""}})),
            // Another pod with the gateway's labels.
            pod("d", json!({"spec": {"initContainers": null}})),
        ];
        let pods: Vec<&Pod> = pods.iter().collect();
        let batchers = gateways(&pods);
        assert_eq!(named(&batchers), [("a", true), ("b", false)]);
        assert_eq!(batchers[0].metrics_url, "http://10.0.0.7:8085/metrics");
        assert_eq!(batchers[0].started_ms, Some(1_767_225_602_000));
        assert_eq!(sidecars(&pods), [], "a gateway is no sidecar");
    }
}
