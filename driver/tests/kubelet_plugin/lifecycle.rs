//! Idempotence, restarts, reboots, deleted claims, metrics.

use nvidia_ml::{Fault, When};

use crate::node::{DEADLINE, Node, PROFILE_2G, exists};

#[test]
fn the_driver_registers_itself_and_leaves_no_socket_behind() {
    let mut node = Node::started();
    let info = node.kubelet().register();
    assert_eq!(info.r#type, "DRAPlugin");
    assert_eq!(info.name, "gpu.sluice.dev");
    assert_eq!(info.supported_versions, ["v1.DRAPlugin"]);
    assert!(info.endpoint.starts_with('/') && exists(info.endpoint.as_ref()));
    let registration = node.path("kubelet/plugins_registry/gpu.sluice.dev-reg.sock");
    assert!(exists(&registration));
    assert!(node.terminate());
    assert!(!exists(&registration) && !exists(info.endpoint.as_ref()));
    assert!(!node.slices().is_empty(), "slices stay, so that a restart takes no device away");
}

#[test]
fn a_kubelet_that_names_the_sockets_path_as_authority_is_answered() {
    let node = Node::started();
    let answer = node.kubelet().register_by_path("v1.DRAPlugin").unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("gpu.sluice.dev/dra.sock"));
}

#[test]
fn an_idle_connection_of_the_kubelet_does_not_keep_the_driver_from_stopping() {
    let mut node = Node::started();
    let kubelet = node.kubelet();
    assert!(kubelet.while_connected(|| node.terminate()));
}

#[test]
fn a_stop_waits_for_the_call_in_flight() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.gpus
        .add_fault("gate", &Fault::block("nvmlDeviceCreateGpuInstanceWithPlacement", When::After))
        .unwrap();
    let kubelet = node.kubelet();
    std::thread::scope(|scope| {
        let call = scope.spawn(move || kubelet.prepare("bert"));
        node.gpus.wait_blocked("gate", DEADLINE).unwrap();
        node.signal_terminate();
        node.eventually("stop", |node| node.log().contains("Stopping.").then_some(()));
        node.gpus.remove_fault("gate").unwrap();
        call.join().unwrap().unwrap();
    });
    assert!(node.wait());
    assert_eq!(node.standing().len(), 1);
}

#[test]
fn a_stop_while_nvml_is_still_being_initialised_ends_the_driver() {
    let mut node = Node::new();
    node.gpus.add_fault("gate", &Fault::block("nvmlInit_v2", When::Before)).unwrap();
    node.spawn(&[]);
    node.gpus.wait_blocked("gate", DEADLINE).unwrap();
    node.signal_terminate();
    node.eventually_ends();
}

#[test]
fn a_second_prepare_brings_a_lost_cdi_file_back_and_changes_nothing_else() {
    let node = Node::started();
    let kubelet = node.kubelet();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    let first = kubelet.prepare("bert").unwrap();
    let (standing, cdi) = (node.standing(), node.cdi("bert"));
    std::fs::remove_file(node.cdi_path("bert")).unwrap();
    assert_eq!(kubelet.prepare("bert").unwrap(), first);
    assert_eq!((node.standing(), node.cdi("bert")), (standing, cdi));
}

#[test]
fn an_unknown_claim_is_unprepared_with_success_and_twice_is_once() {
    let node = Node::started();
    let kubelet = node.kubelet();
    kubelet.unprepare("never").unwrap();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    kubelet.prepare("bert").unwrap();
    kubelet.unprepare("bert").unwrap();
    kubelet.unprepare("bert").unwrap();
}

#[test]
fn prepared_claims_outlive_the_driver() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.kubelet().prepare("bert").unwrap();
    let standing = node.standing();
    assert!(node.terminate());
    node.start(&[]);
    assert_eq!(node.standing(), standing);
    node.kubelet().unprepare("bert").unwrap();
    assert!(node.standing().is_empty());
}

#[test]
fn a_foreign_instance_is_never_touched() {
    let mut node = Node::new();
    node.gpus.create_instance(0, PROFILE_2G, 4).unwrap();
    let foreign = node.standing();
    node.start(&[]);
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    let error = node.kubelet().prepare("bert").unwrap_err();
    assert!(error.contains("was not made by this driver"), "{error}");
    node.kubelet().unprepare("bert").unwrap();
    node.allocate("beside", "gpu-0-mig-2g-10gb-2");
    node.kubelet().prepare("beside").unwrap();
    node.kubelet().unprepare("beside").unwrap();
    assert!(node.terminate());
    node.start(&[]);
    assert_eq!(node.standing(), foreign);
}

#[test]
fn a_claim_deleted_while_the_driver_was_down_is_released_at_its_start() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.kubelet().prepare("bert").unwrap();
    node.kill();
    node.delete_claim("bert");
    node.start(&[]);
    node.eventually("release", |node| node.standing().is_empty().then_some(()));
    node.eventually("removal of the CDI file", |node| node.cdi("bert").is_none().then_some(()));
}

#[test]
fn a_claim_deleted_while_the_driver_runs_is_released() {
    let mut node = Node::new();
    node.start(&["--reconcile-interval-seconds", "1"]);
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.kubelet().prepare("bert").unwrap();
    node.delete_claim("bert");
    node.eventually("release", |node| node.standing().is_empty().then_some(()));
}

#[test]
fn a_claim_that_was_made_again_under_its_name_is_another_claim() {
    let node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    let file = node.objects.root().join("resourceclaims/default/bert.json");
    let other = std::fs::read_to_string(&file).unwrap().replace("bert-uid", "other-uid");
    std::fs::write(&file, other).unwrap();
    let error = node.kubelet().prepare("bert").unwrap_err();
    assert!(error.contains("other-uid"), "{error}");
}

#[test]
fn a_slice_that_is_in_use_stays_until_a_later_call() {
    let node = Node::started();
    let kubelet = node.kubelet();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    kubelet.prepare("bert").unwrap();
    let in_use = Fault::error("nvmlGpuInstanceDestroy", When::Before, nvidia_ml::Code::IN_USE);
    node.gpus.add_fault("in-use", &in_use).unwrap();
    let error = kubelet.unprepare("bert").unwrap_err();
    assert!(error.contains("still in use"), "{error}");
    node.gpus.remove_fault("in-use").unwrap();
    kubelet.unprepare("bert").unwrap();
    assert!(node.standing().is_empty());
}

#[test]
fn a_failed_compute_instance_leaves_no_gpu_instance() {
    let node = Node::started();
    let kubelet = node.kubelet();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    let create = "nvmlGpuInstanceCreateComputeInstance";
    for when in [When::Before, When::After] {
        let fault = Fault::error(create, when, nvidia_ml::Code::UNKNOWN);
        node.gpus.add_fault("failed", &fault).unwrap();
        let error = kubelet.prepare("bert").unwrap_err();
        assert!(error.contains(create) && error.contains("999"), "{error}");
        assert!(node.standing().is_empty());
    }
    node.gpus.remove_fault("failed").unwrap();
    kubelet.prepare("bert").unwrap();
}

/// A call for a claim with another call in progress, from two pods that share it or from a kubelet that was
/// restarted.
#[test]
fn a_prepare_that_meets_a_running_one_of_its_claim_joins_it() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.gpus
        .add_fault("gate", &Fault::block("nvmlDeviceCreateGpuInstanceWithPlacement", When::Before))
        .unwrap();
    let (first, second) = (node.kubelet(), node.kubelet());
    std::thread::scope(|scope| {
        let first = scope.spawn(move || first.prepare("bert"));
        node.gpus.wait_blocked("gate", DEADLINE).unwrap();
        let second = scope.spawn(move || second.prepare("bert"));
        node.eventually("the second call", |node| {
            node.log().contains("Waiting for another operation").then_some(())
        });
        // Another claim on another GPU does not wait.
        node.allocate("whole", "gpu-1");
        node.kubelet().prepare("whole").unwrap();
        assert!(!second.is_finished());
        node.gpus.remove_fault("gate").unwrap();
        assert_eq!(first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
    });
    assert_eq!(node.standing().len(), 1);
}

#[test]
fn a_prepare_whose_caller_is_gone_is_joined_by_the_next_caller() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.gpus
        .add_fault("gate", &Fault::block("nvmlDeviceCreateGpuInstanceWithPlacement", When::After))
        .unwrap();
    let (killed, restarted) = (node.kubelet(), node.kubelet());
    std::thread::scope(|scope| {
        let call = scope.spawn(move || killed.prepare_until("bert", std::time::Duration::from_millis(500)));
        node.gpus.wait_blocked("gate", DEADLINE).unwrap();
        call.join().unwrap().unwrap_err();
        let call = scope.spawn(move || restarted.prepare("bert"));
        node.eventually("the second call", |node| {
            node.log().contains("Waiting for another operation").then_some(())
        });
        node.gpus.remove_fault("gate").unwrap();
        call.join().unwrap().unwrap();
    });
    assert_eq!(node.standing().len(), 1);
}

/// The pod was deleted while it was being prepared, or is created again while its slice is being released.
#[test]
fn an_unprepare_and_a_prepare_of_one_claim_wait_for_each_other() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    for (gate, when) in
        [("nvmlDeviceCreateGpuInstanceWithPlacement", When::After), ("nvmlGpuInstanceDestroy", When::Before)]
    {
        node.gpus.add_fault("gate", &Fault::block(gate, when)).unwrap();
        let begins = gate.contains("Create");
        let (first, second) = (node.kubelet(), node.kubelet());
        std::thread::scope(|scope| {
            let prepare = |kubelet: crate::kubelet::Kubelet| kubelet.prepare("bert").map(drop);
            let unprepare = |kubelet: crate::kubelet::Kubelet| kubelet.unprepare("bert");
            let said = node.log().matches("Waiting for another operation").count();
            let first = scope.spawn(move || if begins { prepare(first) } else { unprepare(first) });
            node.gpus.wait_blocked("gate", DEADLINE).unwrap();
            let second = scope.spawn(move || if begins { unprepare(second) } else { prepare(second) });
            node.eventually("the second call", |node| {
                (node.log().matches("Waiting for another operation").count() > said).then_some(())
            });
            node.gpus.remove_fault("gate").unwrap();
            first.join().unwrap().unwrap();
            second.join().unwrap().unwrap();
        });
        assert_eq!(node.standing().is_empty(), begins, "the later call decides");
        if begins {
            node.kubelet().prepare("bert").unwrap();
        }
    }
}

#[test]
fn metrics_count_slices_calls_and_slice_seconds() {
    let mut node = Node::started();
    let kubelet = node.kubelet();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    kubelet.prepare("bert").unwrap();
    let in_use = "sluice_driver_slices_in_use{profile=\"2g.10gb\"}";
    let seconds = "sluice_driver_slice_seconds_total{profile=\"2g.10gb\"}";
    let unused = "sluice_driver_slices_in_use{profile=\"7g.40gb\"}";
    assert_eq!(node.try_metric(unused), Some(0.0), "none is not the same as unknown");
    assert_eq!(node.metric(in_use), 1.0);
    assert_eq!(node.metric("sluice_driver_prepare_duration_seconds_count"), 1.0);
    node.eventually("a slice-second", |node| (node.metric(seconds) >= 1.0).then_some(()));
    node.kill();
    node.start(&[]);
    assert!(node.metric(seconds) >= 1.0);
    node.kubelet().unprepare("bert").unwrap();
    assert_eq!(node.metric(in_use), 0.0);
    assert!(node.metric(seconds) >= 1.0);
    assert_eq!(node.metric("sluice_driver_operations_total{operation=\"unprepare\",outcome=\"ok\"}"), 1.0);
}

#[test]
fn a_critical_error_of_a_slice_is_counted_by_its_device() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.kubelet().prepare("bert").unwrap();
    let [instance] = &node.gpus.instances().unwrap()[..] else { panic!("one instance") };
    // The driver may not have registered for events yet when it becomes ready, so several are sent.
    let scope = Some((instance.gpu_instance_id, 0));
    node.eventually("the slice's error in the metrics", |node| {
        node.gpus.inject_xid(0, 94, scope).unwrap();
        let series = "sluice_driver_xid_events_total{device=\"gpu-0-mig-2g-10gb-4\"}";
        (node.metric(series) >= 1.0).then_some(())
    });
    node.eventually("the GPU's error in the metrics", |node| {
        node.gpus.inject_xid(0, 79, None).unwrap();
        (node.metric("sluice_driver_xid_events_total{device=\"gpu-0\"}") >= 1.0).then_some(())
    });
}

#[test]
fn after_a_reboot_a_claim_is_made_again_when_it_is_prepared_again() {
    let mut node = Node::started();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.kubelet().prepare("bert").unwrap();
    let standing = node.standing();
    node.kill();
    node.gpus.reboot().unwrap();
    std::fs::remove_file(node.cdi_path("bert")).unwrap();
    node.start(&[]);
    assert!(node.standing().is_empty());
    node.kubelet().prepare("bert").unwrap();
    assert_eq!(node.standing(), standing);
    assert!(node.cdi("bert").is_some());
}
