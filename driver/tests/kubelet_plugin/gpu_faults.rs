//! GPUs that are lost, reset or switched while the driver runs, and instances that other programs create.

use std::collections::BTreeSet;

use nvidia_ml::{Code, Fault, Topology, When, install};

use crate::node::{Node, PROFILE_2G, SLICE};

/// Settings for checking the GPUs each second.
const LOOK: [&str; 2] = ["--health-interval-seconds", "1"];

/// Returns the published devices with their taints.
fn published(node: &Node) -> Vec<(String, Option<String>)> {
    let slices = node.slices();
    let devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
    devices
        .map(|device| {
            let taints = device.taints.iter().flatten();
            let taint = taints.map(|taint| format!("{}:{}", taint.key, taint.effect)).next();
            (device.name.clone(), taint)
        })
        .collect()
}

fn taint_of(node: &Node, device: &str) -> Option<String> {
    published(node).into_iter().find(|(name, _)| name == device).and_then(|(_, taint)| taint)
}

fn offered(node: &Node) -> BTreeSet<String> {
    published(node).into_iter().filter(|(_, taint)| taint.is_none()).map(|(name, _)| name).collect()
}

fn of_gpu_0(node: &Node) -> Vec<(String, Option<String>)> {
    published(node).into_iter().filter(|(name, _)| name.starts_with("gpu-0-mig")).collect()
}

const LOST: &str = "gpu.sluice.dev/gpu-lost:NoExecute";

#[test]
fn a_claim_whose_gpu_is_lost_is_released_and_the_gpu_tainted_until_then_and_withdrawn_after() {
    let mut node = Node::with_claim(&LOOK);
    let before = offered(&node);
    node.gpus.lose_gpu(0).unwrap();
    node.eventually("taints of the lost GPU", |node| {
        let all = of_gpu_0(node);
        (!all.is_empty() && all.iter().all(|(_, taint)| taint.as_deref() == Some(LOST))).then_some(())
    });
    node.eventually("the other GPU", |node| offered(node).iter().eq(["gpu-1"]).then_some(()));
    node.eventually("word of the lost GPU", |node| {
        let log = node.log();
        (log.contains("GPULost") && log.contains("default/bert")).then_some(())
    });
    assert_eq!(node.metric("sluice_driver_slices_in_use{profile=\"2g.10gb\"}"), 0.0);
    // The claim of its pod cannot be prepared any more, and is released at once.
    let error = node.kubelet().prepare("bert").unwrap_err();
    assert!(error.contains("the GPU is lost"), "{error}");
    node.kubelet().unprepare("bert").unwrap();
    assert!(node.cdi("bert").is_none());
    assert!(node.log().contains("ReleasedWithoutGPU"), "{}", node.log());
    // The claim still has an allocation, which is removed at the end of the pod.
    node.delete_claim("bert");
    node.eventually("withdrawal", |node| of_gpu_0(node).is_empty().then_some(()));
    // After a reset it is offered again.
    node.gpus.reset_gpu(0).unwrap();
    node.eventually("the GPU's devices", |node| (offered(node) == before).then_some(()));
}

#[test]
fn a_gpu_that_is_absent_at_the_start_is_tainted_while_something_of_it_is_allocated() {
    let mut node = Node::with_claim(&LOOK);
    assert!(node.terminate());
    let mut topology = Topology::uniform("A100-SXM4-40GB", 2);
    topology.gpus[0].mig_enabled = true;
    // The remaining one is the second GPU, as before.
    topology.gpus[1].uuid = Some(node.gpus.state().unwrap().gpus[1].uuid.clone());
    (topology.gpus[1].minor, topology.gpus[1].bus_id) = (Some(1), Some("00000000:0B:00.0".to_owned()));
    topology.gpus.remove(0);
    node.gpus = install(node.gpus.dir(), &topology).unwrap();
    node.start(&LOOK);
    node.eventually("taints of the absent GPU", |node| {
        (taint_of(node, SLICE).as_deref() == Some(LOST)).then_some(())
    });
    node.kubelet().unprepare("bert").unwrap();
    node.delete_claim("bert");
    node.eventually("withdrawal", |node| of_gpu_0(node).is_empty().then_some(()));
    node.eventually("the other GPU", |node| offered(node).contains("gpu-1").then_some(()));
}

#[test]
fn a_lost_gpu_stays_tainted_for_a_claim_that_was_allocated_and_never_prepared() {
    let mut node = Node::new();
    node.start(&LOOK);
    node.allocate("late", SLICE);
    node.gpus.lose_gpu(0).unwrap();
    node.eventually("taint", |node| (taint_of(node, SLICE).as_deref() == Some(LOST)).then_some(()));
    node.delete_claim("late");
    node.eventually("withdrawal", |node| of_gpu_0(node).is_empty().then_some(()));
}

#[test]
fn a_full_gpu_that_cannot_be_used_is_not_prepared() {
    let mut node = Node::new();
    node.start(&LOOK);
    node.allocate("whole", "gpu-1");
    let refused = |node: &mut Node, words: &str| {
        node.eventually(words, |node| {
            let error = node.kubelet().prepare("whole").unwrap_err();
            assert!(node.cdi("whole").is_none());
            error.contains(words).then_some(())
        });
    };
    node.gpus.lose_gpu(1).unwrap();
    refused(&mut node, "the GPU is lost");
    node.gpus.reset_gpu(1).unwrap();
    node.gpus.set_mig_mode(1, true).unwrap();
    refused(&mut node, "MIG mode is on");
    node.gpus.set_mig_mode(1, false).unwrap();
    node.eventually("the full GPU again", |node| offered(node).contains("gpu-1").then_some(()));
    for code in [18, 16, 999] {
        let fault = Fault::error("nvmlDeviceGetMemoryInfo_v2", When::Before, Code(code));
        node.gpus.add_fault("broken", &fault).unwrap();
        refused(&mut node, &code.to_string().replace("16", "requires a reset"));
        node.gpus.remove_fault("broken").unwrap();
    }
    node.eventually("the full GPU's claim", |node| node.kubelet().prepare("whole").ok());
    // A claim that is prepared already is checked again, and keeps its record.
    node.gpus.lose_gpu(1).unwrap();
    node.kubelet().prepare("whole").unwrap_err();
    node.kubelet().unprepare("whole").unwrap();
    node.delete_claim("whole");
    node.eventually("withdrawal", |node| {
        (!published(node).iter().any(|(name, _)| name == "gpu-1") && !published(node).is_empty())
            .then_some(())
    });
}

#[test]
fn places_that_a_foreign_instance_takes_are_not_offered_until_it_is_gone() {
    let mut node = Node::new();
    node.gpus.create_instance(0, PROFILE_2G, 4).unwrap();
    node.start(&LOOK);
    let places =
        ["gpu-0-mig-1g-5gb-4", "gpu-0-mig-1g-5gb-me-5", SLICE, "gpu-0-mig-3g-20gb-4", "gpu-0-mig-7g-40gb-0"];
    let are_offered = |node: &Node| places.map(|place| offered(node).contains(place));
    assert_eq!(are_offered(&node), [false; 5], "from the first slice on");
    assert!(offered(&node).contains("gpu-0-mig-2g-10gb-2"));
    node.gpus.reset_gpu(0).unwrap();
    node.eventually("free places", |node| (are_offered(node) == [true; 5]).then_some(()));
    node.gpus.create_instance(0, PROFILE_2G, 4).unwrap();
    node.eventually("taken places", |node| (are_offered(node) == [false; 5]).then_some(()));
    // Own instances block no device, because the scheduler knows their claims.
    node.allocate("beside", "gpu-0-mig-2g-10gb-2");
    node.kubelet().prepare("beside").unwrap();
    node.kubelet().unprepare("beside").unwrap();
    assert!(offered(&node).contains("gpu-0-mig-2g-10gb-2"));
}

#[test]
fn a_claim_whose_instance_a_reset_destroyed_is_told_and_tainted_until_it_ends() {
    let mut node = Node::with_claim(&LOOK);
    node.gpus.reset_gpu(0).unwrap();
    let gone = "gpu.sluice.dev/instance-gone:NoExecute";
    node.eventually("the slice's taint", |node| {
        (taint_of(node, SLICE).as_deref() == Some(gone)).then_some(())
    });
    node.eventually("word of it", |node| node.log().contains("MIGInstanceGone").then_some(()));
    node.eventually("others", |node| offered(node).contains("gpu-0-mig-2g-10gb-2").then_some(()));
    assert_eq!(node.metric("sluice_driver_slices_in_use{profile=\"2g.10gb\"}"), 0.0);
    node.kubelet().unprepare("bert").unwrap();
    node.eventually("the place", |node| offered(node).contains(SLICE).then_some(()));
}

/// Does what `mig-parted apply` does: it clears the GPU and partitions it in its own way.
#[test]
fn a_gpu_that_somebody_cut_anew_is_told_of_truly() {
    let mut node = Node::with_claim(&LOOK);
    node.gpus.reset_gpu(0).unwrap();
    for start in [0, 2, 4] {
        node.gpus.create_instance(0, PROFILE_2G, start).unwrap();
    }
    // The instance in place of the slice has the same profile and id, so it is not distinguished from the own one.
    node.allocate("other", "gpu-0-mig-2g-10gb-2");
    let error = node.kubelet().prepare("other").unwrap_err();
    assert!(error.contains("was not made by this driver"), "{error}");
    node.eventually("taken places", |node| {
        let offered = offered(node);
        let taken = ["gpu-0-mig-2g-10gb-0", "gpu-0-mig-2g-10gb-2", "gpu-0-mig-1g-5gb-3"];
        taken.iter().all(|place| !offered.contains(*place)).then_some(())
    });
    node.gpus.reset_gpu(0).unwrap();
    node.gpus.create_instance(0, 9, 4).unwrap();
    node.eventually("word of it", |node| node.log().contains("MIGInstanceGone").then_some(()));
    assert_eq!(node.metric("sluice_driver_slices_in_use{profile=\"2g.10gb\"}"), 0.0);
}

#[test]
fn a_gpu_whose_mig_mode_is_switched_is_published_as_it_is_now() {
    let mut node = Node::new();
    node.start(&LOOK);
    node.gpus.set_mig_mode(1, true).unwrap();
    node.eventually("slices of GPU 1", |node| offered(node).contains("gpu-1-mig-2g-10gb-4").then_some(()));
    node.eventually("no full GPU 1", |node| (!offered(node).contains("gpu-1")).then_some(()));
    node.allocate("bert", "gpu-1-mig-2g-10gb-4");
    node.kubelet().prepare("bert").unwrap();
    node.gpus.set_mig_mode(1, false).unwrap();
    let changed = "gpu.sluice.dev/mig-mode-changed:NoExecute";
    node.eventually("taint", |node| {
        (taint_of(node, "gpu-1-mig-2g-10gb-4").as_deref() == Some(changed)).then_some(())
    });
    node.kubelet().unprepare("bert").unwrap();
    node.eventually("the full GPU", |node| offered(node).contains("gpu-1").then_some(()));
}

#[test]
fn others_that_hand_out_the_nodes_gpus_are_named_with_what_to_do() {
    let mut node = Node::new();
    let object: k8s_openapi::api::core::v1::Node = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "n1", "labels": {"nvidia.com/mig.config": "all-1g.5gb"}},
        "status": {"allocatable": {"nvidia.com/gpu": "2"}},
    }))
    .unwrap();
    node.objects.put(None, "n1", &object).unwrap();
    node.start(&[]);
    node.eventually("words of both", |node| {
        let log = node.log();
        (log.contains("gpu.deploy.device-plugin=false") && log.contains("gpu.deploy.mig-manager=false"))
            .then_some(())
    });
    for neighbour in ["device-plugin", "mig-manager"] {
        let series = format!("sluice_driver_neighbours{{neighbour=\"{neighbour}\"}}");
        node.eventually("the metric", |node| (node.metric(&series) == 1.0).then_some(()));
    }
}
