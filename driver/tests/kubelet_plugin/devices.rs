//! Content of a prepared device.

use crate::node::{Node, environment};

#[test]
fn a_mig_claim_gets_an_instance_at_its_placement_and_a_cdi_file_that_names_it() {
    let node = Node::started();
    let kubelet = node.kubelet();
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    let devices = kubelet.prepare("bert").unwrap();

    let standing = node.standing();
    let [(0, profile, 4, computes)] = &standing[..] else { panic!("{standing:?}") };
    assert_eq!((profile.as_str(), computes.len()), ("2g.10gb", 1));

    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].request_names, ["gpu"]);
    assert_eq!(devices[0].pool_name, "n1/gpu");
    assert_eq!(devices[0].device_name, "gpu-0-mig-2g-10gb-4");
    assert_eq!(devices[0].cdi_device_ids, ["sluice.dev/claim=bert-uid-gpu-0-mig-2g-10gb-4"]);

    let cdi = node.cdi("bert").unwrap();
    assert_eq!(cdi["kind"], "sluice.dev/claim");
    assert_eq!(cdi["devices"][0]["name"], "bert-uid-gpu-0-mig-2g-10gb-4");
    let expected = [
        ("SLUICE_UUID_GPU_0_MIG_2G_10GB_4", computes[0].as_str()),
        ("SLUICE_PROFILE", "2g.10gb"),
        ("SLUICE_DEVICE", "gpu-0-mig-2g-10gb-4"),
        ("SLUICE_CLAIM_UID", "bert-uid"),
    ];
    assert_eq!(environment(&cdi), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let nodes = cdi["devices"][0]["containerEdits"]["deviceNodes"].as_array().unwrap();
    let paths: Vec<_> = nodes.iter().map(|node| node["path"].as_str().unwrap()).collect();
    // GPU instance 5 of GPU 0: 3 + 9 * 5, and its compute instance 0 after it.
    let expected = ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-caps/nvidia-cap48"];
    assert_eq!(paths[..4], expected);
    assert_eq!(paths[4], "/dev/nvidia-caps/nvidia-cap49");

    kubelet.unprepare("bert").unwrap();
    assert!(node.standing().is_empty());
    assert!(node.cdi("bert").is_none());
}

#[test]
fn every_published_slice_can_be_prepared_and_given_back() {
    let node = Node::started();
    let kubelet = node.kubelet();
    let slices = node.slices();
    let names: Vec<_> =
        slices.iter().flat_map(|s| s.spec.devices.iter().flatten()).map(|d| d.name.clone()).collect();
    assert!(names.len() > 20, "{names:?}");
    // Monitoring devices are for claims with adminAccess.
    let names: Vec<_> = names.into_iter().filter(|name| !name.ends_with("-monitor")).collect();
    for (number, device) in names.iter().enumerate() {
        let claim = format!("c{number}");
        node.allocate(&claim, device);
        let prepared = kubelet.prepare(&claim).unwrap_or_else(|error| panic!("{device}: {error}"));
        assert_eq!(prepared[0].device_name, *device);
        let instances = usize::from(device.contains("mig"));
        assert_eq!(node.standing().len(), instances, "{device}");
        assert!(node.standing().iter().all(|(.., computes)| computes.len() == 1), "{device}");
        kubelet.unprepare(&claim).unwrap();
        assert!(node.standing().is_empty(), "{device}");
    }
}

#[test]
fn a_full_gpu_needs_no_instance() {
    let node = Node::started();
    node.allocate("whole", "gpu-1");
    node.kubelet().prepare("whole").unwrap();
    assert!(node.standing().is_empty());
    let environment = environment(&node.cdi("whole").unwrap());
    assert!(environment.iter().any(|(n, v)| n == "SLUICE_UUID_GPU_1" && v.starts_with("GPU-")));
    assert!(environment.contains(&("SLUICE_PROFILE".to_owned(), "full".to_owned())));
}

#[test]
fn slices_of_one_gpu_are_prepared_at_the_same_time() {
    let node = Node::started();
    let claims: Vec<_> =
        (0..7).map(|start| (format!("c{start}"), format!("gpu-0-mig-1g-5gb-{start}"))).collect();
    for (claim, device) in &claims {
        node.allocate(claim, device);
    }
    std::thread::scope(|scope| {
        for (claim, _) in &claims {
            let kubelet = node.kubelet();
            scope.spawn(move || kubelet.prepare(claim).unwrap());
        }
    });
    let starts: Vec<_> = node.standing().iter().map(|(_, _, start, _)| *start).collect();
    assert_eq!(starts.len(), 7);
    assert_eq!(node.metric("sluice_driver_slices_in_use{profile=\"1g.5gb\"}"), 7.0);
}

/// A program that monitors GPUs claims all of a node's, which must fit into a claim of 32 devices.
#[test]
fn a_watcher_of_a_node_with_eight_gpus_sees_every_gpu_and_instance_beside_their_users() {
    let mut node = Node::with(nvidia_ml::Topology::uniform("H100-80GB-HBM3", 8).with_mig());
    node.gpus.create_instance(7, 19, 6).unwrap();
    node.start(&[]);
    let kubelet = node.kubelet();
    for gpu in 0..7 {
        let claim = format!("user-{gpu}");
        node.allocate(&claim, &format!("gpu-{gpu}-mig-1g-10gb-6"));
        kubelet.prepare(&claim).unwrap();
    }
    // Allocation that the scheduler makes for allocationMode All.
    let slices = node.slices();
    let all: Vec<String> = slices
        .iter()
        .flat_map(|slice| slice.spec.devices.iter().flatten())
        .filter(|device| device.attributes.as_ref().unwrap()["type"].string.as_deref() == Some("monitor"))
        .map(|device| device.name.clone())
        .collect();
    assert_eq!(all.len(), 8, "32 at most, so that All is possible");
    let requests: Vec<_> = all.iter().map(|device| ("watch", device.as_str())).collect();
    node.allocate_requests("watcher", &requests);
    let error = kubelet.prepare("watcher").unwrap_err();
    assert!(error.contains("adminAccess"), "{error}");
    node.give_admin_access("watcher");
    kubelet.prepare("watcher").unwrap();
    let cdi = node.cdi("watcher").unwrap();
    let paths: std::collections::BTreeSet<&str> = cdi["devices"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|device| device["containerEdits"]["deviceNodes"].as_array().unwrap())
        .map(|node| node["path"].as_str().unwrap())
        .collect();
    for gpu in 0..8 {
        assert!(paths.contains(format!("/dev/nvidia{gpu}").as_str()));
        // GPU instance 13 is at memory slice 6.
        let capability = 3 + 135 * gpu + 9 * 13;
        for minor in [capability, capability + 1] {
            assert!(
                paths.contains(format!("/dev/nvidia-caps/nvidia-cap{minor}").as_str()),
                "{minor} in {paths:?}"
            );
        }
    }
    assert!(paths.contains("/dev/nvidia-caps/nvidia-cap2"), "instances that are made later are seen as well");
    // A second monitoring claim, and the end of one, do not disturb the others.
    node.allocate_requests("second", &requests);
    node.give_admin_access("second");
    kubelet.prepare("second").unwrap();
    kubelet.unprepare("watcher").unwrap();
    assert_eq!(node.standing().len(), 8);
    assert_eq!(node.metric("sluice_driver_slices_in_use{profile=\"1g.10gb\"}"), 7.0);
    node.allocate("whole", "gpu-0-mig-2g-20gb-0");
    kubelet.prepare("whole").unwrap();
}
