//! Invalid input: errors name what is wrong, where, and what to do.

use std::process::Output;

use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::node::Node;

/// Runs a driver that cannot start.
fn run(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = node.command().args(arguments).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_second_driver_on_the_same_state_is_refused() {
    let node = Node::started();
    let (code, message) = run(&node, &[]);
    assert_eq!(code, Some(1));
    assert!(message.contains("in use by another sluice-driver"), "{message}");
}

#[test]
fn an_unknown_setting_is_named_with_the_nearest_one() {
    let node = Node::new();
    let file = node.path("settings.yaml");
    std::fs::write(&file, "driverRot: /\n").unwrap();
    let (code, message) = run(&node, &["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(64));
    assert!(message.contains("driverRot") && message.contains("did you mean `driverRoot`?"), "{message}");
    let (code, message) = run(&node, &["--slice-form", "both"]);
    assert_eq!(code, Some(64));
    assert!(message.contains("auto, combined, split"), "{message}");
}

#[test]
fn without_a_directory_and_without_a_cluster_the_ways_to_one_are_named() {
    let node = Node::new();
    let output = node
        .command_without_store()
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", node.path("home"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for way in ["KUBECONFIG", "service account", "--store DIR"] {
        assert!(message.contains(way), "{message}");
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    let node = Node::new();
    let (code, message) = run(&node, &["--kubelet-dir", &format!("/tmp/{}", "x".repeat(100))]);
    assert_eq!(code, Some(1));
    assert!(message.contains("shorter --kubelet-dir"), "{message}");
}

#[test]
fn a_damaged_checkpoint_stops_the_driver_and_is_kept() {
    let node = Node::new();
    let file = node.path("state/checkpoint.json");
    std::fs::create_dir_all(node.path("state")).unwrap();
    std::fs::write(&file, "{").unwrap();
    let (code, message) = run(&node, &[]);
    assert_eq!(code, Some(1));
    assert!(message.contains("checkpoint.json is damaged"), "{message}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{");
}

#[test]
fn claims_that_cannot_be_prepared_say_why() {
    let node = Node::started();
    let kubelet = node.kubelet();
    let error = kubelet.prepare("absent").unwrap_err();
    assert!(error.contains("no such claim"), "{error}");
    node.allocate("odd", "gpu-7");
    let error = kubelet.prepare("odd").unwrap_err();
    assert!(error.contains("gpu-7 is not published by this node"), "{error}");
    // An invalid claim file is an error, and not an absent claim.
    let file = node.objects.root().join("resourceclaims/default/odd.json");
    std::fs::write(&file, "{").unwrap();
    let error = kubelet.prepare("odd").unwrap_err();
    assert!(error.contains("odd.json"), "{error}");
}

#[test]
fn a_configuration_that_is_not_supported_is_refused_by_field() {
    let node = Node::started();
    node.allocate("shared", "gpu-1");
    let mut claim: ResourceClaim = node.objects.get(Some("default"), "shared").unwrap().unwrap();
    let allocation = claim.status.as_mut().and_then(|status| status.allocation.as_mut()).unwrap();
    allocation.devices.as_mut().unwrap().config = serde_json::from_value(serde_json::json!([
        {"source": "FromClaim", "requests": ["gpu"], "opaque": {"driver": "gpu.sluice.dev", "parameters": {
            "apiVersion": "gpu.sluice.dev/v1alpha1", "kind": "DeviceConfig",
            "sharing": {"strategy": "TimeSlicing"},
        }}},
    ]))
    .unwrap();
    node.objects.put(Some("default"), "shared", &claim).unwrap();
    let error = node.kubelet().prepare("shared").unwrap_err();
    assert!(
        error.contains(
            "sharing.strategy is \"TimeSlicing\"; unknown variant `TimeSlicing`, expected `Exclusive`"
        ),
        "{error}"
    );
    assert!(node.cdi("shared").is_none());
}
