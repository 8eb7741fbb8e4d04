//! NVML that is missing at first, that is replaced, or that fails temporarily.

use nvidia_ml::{Code, Fault, Topology, When, install};

use crate::node::{Node, SLICE};

/// Settings for checking the GPUs each second.
const LOOK: [&str; 2] = ["--health-interval-seconds", "1"];
/// `NVML_ERROR_LIB_RM_VERSION_MISMATCH`.
const MISMATCH: Code = Code(18);

/// Moves NVML away, or back.
fn move_library(node: &Node, away: bool) {
    let (library, hidden) = (node.gpus.library(), node.path("hidden"));
    let (from, to) = if away { (&library, &hidden) } else { (&hidden, &library) };
    std::fs::rename(from, to).unwrap();
}

#[test]
fn without_the_library_at_boot_the_driver_serves_what_needs_none_and_finds_it_later() {
    let mut node = Node::started();
    node.allocate("old", SLICE);
    node.allocate("whole", "gpu-1");
    node.kubelet().prepare("old").unwrap();
    node.kubelet().prepare("whole").unwrap();
    assert!(node.terminate());
    // A reboot: no instance survives it, and NVIDIA's driver starts later.
    node.gpus.reboot().unwrap();
    let checkpoint = node.path("state/checkpoint.json");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = std::fs::read_to_string(&checkpoint).unwrap().replace(boot.trim(), "an-earlier-boot");
    std::fs::write(&checkpoint, text).unwrap();
    let published = node.slices();
    move_library(&node, true);
    node.start_unready(&LOOK);
    node.eventually("the reason in /readyz", |node| {
        let ready = node.get("/readyz");
        let names_places = ready.contains("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
        (ready.starts_with("HTTP/1.1 503") && names_places).then_some(())
    });
    assert!(node.get("/livez").starts_with("HTTP/1.1 200"));
    // Claims of the previous boot are released without NVML, and nothing that is unknown is withdrawn.
    node.kubelet().unprepare("old").unwrap();
    node.kubelet().unprepare("whole").unwrap();
    assert_eq!(node.slices(), published);
    // A claim that arrives too early waits for the driver, and is then prepared.
    node.allocate("new", SLICE);
    let kubelet = node.kubelet();
    std::thread::scope(|scope| {
        let call = scope.spawn(move || kubelet.prepare("new"));
        node.eventually("the socket in use", |node| node.log().contains("registered").then_some(()));
        move_library(&node, false);
        call.join().unwrap().unwrap();
    });
    node.eventually("/readyz", |node| node.get("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    assert_eq!(node.standing().len(), 1);
}

#[test]
fn a_library_that_cannot_be_initialised_yet_is_tried_again() {
    let mut node = Node::new();
    node.gpus
        .add_fault("loading", &Fault::error("nvmlInit_v2", When::Before, Code::DRIVER_NOT_LOADED))
        .unwrap();
    node.start_unready(&LOOK);
    node.eventually("the reason in /readyz", |node| {
        node.get("/readyz").contains("Is the NVIDIA kernel module loaded?").then_some(())
    });
    node.gpus.remove_fault("loading").unwrap();
    node.eventually("/readyz", |node| node.get("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    assert!(!node.slices().is_empty());
}

/// Return code of every call after NVIDIA's driver was upgraded, until the library is reopened.
#[test]
fn a_driver_that_was_reloaded_underneath_is_noticed_and_said_and_nvml_opened_again() {
    let mut node = Node::new();
    node.start(&LOOK);
    node.allocate("bert", SLICE);
    node.kubelet().prepare("bert").unwrap();
    node.gpus.add_fault("upgrade", &Fault::error("*", When::Before, MISMATCH)).unwrap();
    node.eventually("the reason in /readyz", |node| node.get("/readyz").contains("mismatch").then_some(()));
    let error = node.kubelet().unprepare("bert").unwrap_err();
    assert!(error.contains("NVML"), "{error}");
    node.eventually("no new claims", |node| {
        let slices = node.slices();
        let mut devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
        devices
            .all(|device| device.taints.iter().flatten().any(|taint| taint.effect == "NoSchedule"))
            .then_some(())
    });
    // The upgraded library has the same path.
    let mut topology = Topology::uniform("A100-SXM4-40GB", 2);
    topology.gpus[0].mig_enabled = true;
    topology.driver_version = "590.10.01".to_owned();
    node.gpus = install(node.gpus.dir(), &topology).unwrap();
    node.gpus.remove_fault("upgrade").unwrap();
    node.eventually("/readyz", |node| node.get("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    node.eventually("the new driver's version", |node| {
        let slices = node.slices();
        let mut devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
        devices
            .all(|device| {
                let version = &device.attributes.as_ref().unwrap()["driverVersion"];
                version.version.as_deref() == Some("590.10.1")
                    && (device.taints.is_none() || device.name.ends_with("-monitor"))
            })
            .then_some(())
    });
    node.kubelet().unprepare("bert").unwrap();
    assert!(node.standing().is_empty());
}

#[test]
fn a_call_that_meets_a_changed_driver_opens_nvml_again_and_goes_on() {
    let node = Node::started();
    node.allocate("bert", SLICE);
    let once = |function| Fault::error(function, When::Before, MISMATCH).times(1);
    node.gpus.add_fault("upgrade", &once("nvmlDeviceGetGpuInstances")).unwrap();
    node.kubelet().prepare("bert").unwrap();
    node.gpus.add_fault("upgrade", &once("nvmlDeviceGetGpuInstances")).unwrap();
    node.kubelet().unprepare("bert").unwrap();
    assert!(node.standing().is_empty());
    let opened = node.log().matches("NVML is initialised.").count();
    assert_eq!(opened, 3, "at the start, and for each call that met a changed driver");
}

#[test]
fn a_gpu_that_fails_once_at_the_start_is_found_at_the_next_look() {
    for (function, count) in [
        ("nvmlDeviceGetHandleByIndex_v2", 1),
        ("nvmlDeviceGetUUID", 1),
        ("nvmlDeviceGetGpuInstanceProfileInfoV", 1),
        ("nvmlDeviceGetGpuInstancePossiblePlacements_v2", 1),
        ("nvmlDeviceGetMigMode", 1),
        ("nvmlDeviceGetMemoryInfo_v2", 1),
        ("nvmlDeviceGetGpuInstances", 1),
    ] {
        let mut node = Node::new();
        node.gpus
            .add_fault("once", &Fault::error(function, When::Before, Code::UNKNOWN).times(count))
            .unwrap();
        node.start_unready(&LOOK);
        node.eventually(&format!("all devices in spite of {function}"), |node| {
            let slices = node.slices();
            let devices: Vec<_> =
                slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten()).collect();
            let has = |name| devices.iter().any(|device| device.name == name && device.taints.is_none());
            (has("gpu-0-mig-1g-5gb-6") && has("gpu-0-mig-7g-40gb-0") && has("gpu-1")).then_some(())
        });
    }
}

/// An instance on a GPU that has not responded yet is not given up.
#[test]
fn a_claim_of_a_gpu_that_does_not_answer_at_the_start_is_not_released_without_its_instance() {
    let mut node = Node::started();
    node.allocate("bert", SLICE);
    node.kubelet().prepare("bert").unwrap();
    assert!(node.terminate());
    node.gpus
        .add_fault("silent", &Fault::error("nvmlDeviceGetHandleByIndex_v2", When::Before, Code::UNKNOWN))
        .unwrap();
    node.start_unready(&LOOK);
    node.kubelet().unprepare("bert").unwrap_err();
    assert_eq!(node.standing().len(), 1);
    node.gpus.remove_fault("silent").unwrap();
    node.eventually("release", |node| node.kubelet().unprepare("bert").ok());
    assert!(node.standing().is_empty());
}
