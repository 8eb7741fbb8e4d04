//! Sockets, CDI files, device numbers and allocations that other programs change or remove.

use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::node::{Node, SLICE, exists};

/// Settings for checking for removed claims each second.
const LOOK: [&str; 2] = ["--reconcile-interval-seconds", "1"];

/// Returns the major number of a device node in a claim's CDI file.
fn major(node: &Node, claim: &str, path: &str) -> Option<u64> {
    let cdi = node.cdi(claim)?;
    let nodes = cdi["devices"][0]["containerEdits"]["deviceNodes"].as_array()?.clone();
    nodes.iter().find(|node| node["path"] == path)?["major"].as_u64()
}

#[test]
fn device_numbers_are_those_of_the_kernel_now_also_for_claims_that_were_prepared_before() {
    let mut node = Node::new();
    let numbers = |node: &Node, text: &str| {
        std::fs::create_dir_all(node.path("root/proc")).unwrap();
        std::fs::write(node.path("root/proc/devices"), format!("Character devices:\n{text}")).unwrap();
    };
    numbers(&node, "195 nvidia\n");
    node.start(&LOOK);
    node.allocate("bert", SLICE);
    node.kubelet().prepare("bert").unwrap();
    // The module was not loaded yet, so its number was the default.
    assert_eq!(major(&node, "bert", "/dev/nvidia-uvm"), Some(511));
    numbers(&node, "195 nvidia\n509 nvidia-uvm\n508 nvidia-caps\n");
    node.allocate("next", "gpu-1");
    node.kubelet().prepare("next").unwrap();
    assert_eq!(major(&node, "next", "/dev/nvidia-uvm"), Some(509));
    node.eventually("the number in the older file", |node| {
        let uvm = major(node, "bert", "/dev/nvidia-uvm");
        let cap = major(node, "bert", "/dev/nvidia-caps/nvidia-cap48");
        ((uvm, cap) == (Some(509), Some(508))).then_some(())
    });
}

#[test]
fn a_cdi_file_that_somebody_deleted_is_written_again_and_at_a_start_at_once() {
    let mut node = Node::with_claim(&LOOK);
    let cdi = node.cdi("bert");
    std::fs::remove_file(node.cdi_path("bert")).unwrap();
    node.eventually("the CDI file", |node| (node.cdi("bert") == cdi).then_some(()));
    assert!(node.terminate());
    std::fs::remove_dir_all(node.path("cdi")).unwrap();
    node.start(&["--reconcile-interval-seconds", "3600"]);
    assert_eq!(node.cdi("bert"), cdi);
}

#[test]
fn a_claim_that_was_deallocated_or_moved_without_unprepare_is_released() {
    for moves in [false, true] {
        let mut node = Node::with_claim(&LOOK);
        let mut claim: ResourceClaim = node.objects.get(Some("default"), "bert").unwrap().unwrap();
        let status = claim.status.as_mut().unwrap();
        if moves {
            let devices = status.allocation.as_mut().unwrap().devices.as_mut().unwrap();
            devices.results.as_mut().unwrap()[0].pool = "n2/gpu".to_owned();
        } else {
            status.allocation = None;
        }
        node.objects.put(Some("default"), "bert", &claim).unwrap();
        node.eventually("release", |node| {
            (node.standing().is_empty() && node.cdi("bert").is_none()).then_some(())
        });
    }
}

#[test]
fn sockets_that_somebody_deleted_are_bound_again_and_liveness_asks_them() {
    let mut node = Node::with_claim(&LOOK);
    let registration = node.path("kubelet/plugins_registry/gpu.sluice.dev-reg.sock");
    let dra = node.path("kubelet/plugins/gpu.sluice.dev/dra.sock");
    let alive = |node: &Node| node.get("/livez").starts_with("HTTP/1.1 200").then_some(());
    node.eventually("/livez", alive);
    for deleted in [vec![&dra], vec![&registration], vec![&registration, &dra]] {
        for socket in &deleted {
            std::fs::remove_file(socket).unwrap();
        }
        node.eventually("the sockets", |_| (exists(&dra) && exists(&registration)).then_some(()));
        node.eventually("/livez", alive);
        node.kubelet().prepare("bert").unwrap();
    }
    std::fs::remove_dir_all(node.path("kubelet")).unwrap();
    node.eventually("the sockets in new folders", |_| (exists(&dra) && exists(&registration)).then_some(()));
    node.kubelet().prepare("bert").unwrap();
    assert!(node.terminate());
    assert!(!exists(&registration) && !exists(&dra));
}
