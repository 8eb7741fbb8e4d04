use crate::fixtures::*;
use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use sluice_inventory::*;
use std::collections::{BTreeMap, BTreeSet};

fn published(slices: &[ResourceSlice]) -> Vec<&Device> {
    slices.iter().flat_map(|s| s.spec.devices.iter().flatten()).collect()
}

fn names_of(slices: &[ResourceSlice]) -> Vec<String> {
    published(slices).iter().map(|d| d.name.clone()).collect()
}

/// Checks every rule of resource.k8s.io/v1 for a slice of this layout.
fn assert_within_limits(slices: &[ResourceSlice], form: SliceLayout) {
    let is_label = |s: &str| {
        s.len() <= 63
            && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !s.starts_with('-')
            && !s.ends_with('-')
    };
    let mut sets: BTreeMap<&str, usize> = BTreeMap::new();
    let mut devices = BTreeSet::new();
    for (position, slice) in slices.iter().enumerate() {
        let spec = &slice.spec;
        assert_eq!(spec.pool.resource_slice_count, slices.len() as i64);
        let counters: Vec<_> = spec.shared_counters.iter().flatten().collect();
        let of_slice: Vec<_> = spec.devices.iter().flatten().collect();
        assert!(of_slice.len() <= 64);
        match form {
            SliceLayout::Split => {
                assert!(counters.is_empty() || of_slice.is_empty(), "either counters or devices");
                assert!(counters.len() <= 8);
            }
            SliceLayout::Combined => {
                assert!(counters.iter().map(|s| s.counters.len()).sum::<usize>() <= 32);
                let consumed = of_slice.iter().flat_map(|d| d.consumes_counters.iter().flatten());
                assert!(consumed.map(|c| c.counters.len()).sum::<usize>() <= 1024);
                for consumption in of_slice.iter().flat_map(|d| d.consumes_counters.iter().flatten()) {
                    assert!(counters.iter().any(|set| set.name == consumption.counter_set), "same slice");
                }
            }
        }
        for set in counters {
            assert!(is_label(&set.name) && set.counters.len() <= 32);
            assert!(sets.insert(&set.name, position).is_none(), "set names are unique in the pool");
        }
        for device in of_slice {
            assert!(is_label(&device.name), "{}", device.name);
            assert!(devices.insert(&device.name), "{} twice", device.name);
            let values =
                device.attributes.iter().flatten().count() + device.capacity.iter().flatten().count();
            assert!(values <= 32);
            for text in device
                .attributes
                .iter()
                .flatten()
                .filter_map(|(_, a)| a.string.as_ref().or(a.version.as_ref()))
            {
                assert!(text.len() <= 64);
            }
            let consumptions: Vec<_> = device.consumes_counters.iter().flatten().collect();
            assert!(consumptions.len() <= 2 && consumptions.iter().all(|c| c.counters.len() <= 32));
        }
    }
    for device in published(slices) {
        for consumption in device.consumes_counters.iter().flatten() {
            assert!(sets.contains_key(consumption.counter_set.as_str()));
        }
    }
}

#[test]
fn one_to_sixteen_gpus_keep_the_api_limits_in_both_forms() {
    for form in [SliceLayout::Combined, SliceLayout::Split] {
        for count in 0..=16 {
            let gpus: Vec<Gpu> = (0..count)
                .map(|minor| {
                    let mut gpu = [a100_40, h100_80, a30][minor as usize % 3](minor);
                    gpu.mig_switchable = minor % 2 == 0;
                    gpu
                })
                .collect();
            let slices = resource_slices("node-1", DRIVER, &gpus, form, 7).unwrap();
            assert_within_limits(&slices, form);
            let names = names_of(&slices);
            let index = DeviceIndex::new(&gpus);
            assert_eq!(names, index.iter().map(|e| e.name.clone()).collect::<Vec<_>>());
            assert!(slices.iter().all(|s| s.spec.pool.generation == 7));
            // Slices are allocated in order of their names, which must be the order of the list.
            let mut sorted = slices.clone();
            sorted.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
            assert_eq!(names_of(&sorted), names);
        }
    }
}

#[test]
fn a_gpu_in_mig_mode_publishes_its_placements_highest_start_first() {
    let slices = resource_slices("n", DRIVER, &[a100_40(0)], SliceLayout::Combined, 1).unwrap();
    let names = names_of(&slices);
    assert_eq!(
        names.len(),
        25,
        "seven profiles have 25 placements; the full GPU is not servable in MIG mode"
    );
    assert_eq!(&names[..2], ["gpu-0-mig-1g-5gb-6", "gpu-0-mig-1g-5gb-5"]);
    let of = |profile: &str| -> Vec<&String> {
        names.iter().filter(|n| n.starts_with(&format!("gpu-0-mig-{profile}-"))).collect()
    };
    assert_eq!(of("2g-10gb"), ["gpu-0-mig-2g-10gb-4", "gpu-0-mig-2g-10gb-2", "gpu-0-mig-2g-10gb-0"]);
    assert_eq!(of("3g-20gb"), ["gpu-0-mig-3g-20gb-4", "gpu-0-mig-3g-20gb-0"]);
    assert!(names.contains(&"gpu-0-mig-1g-5gb-me-3".to_owned()));
    assert_eq!(slices[0].spec.shared_counters.as_ref().unwrap()[0].counters.len(), 9);
}

#[test]
fn what_is_published_follows_the_mig_mode() {
    let mut gpu = h100_80(3);
    gpu.mig_enabled = false;
    let slices = resource_slices("n", DRIVER, std::slice::from_ref(&gpu), SliceLayout::Split, 1).unwrap();
    assert_eq!(names_of(&slices), ["gpu-3"]);
    assert!(slices.iter().all(|s| s.spec.shared_counters.is_none()), "one device shares nothing");
    gpu.mig_switchable = true;
    let slices = resource_slices("n", DRIVER, &[gpu], SliceLayout::Split, 1).unwrap();
    let devices = published(&slices);
    assert_eq!(devices.len(), 26);
    let full = devices.last().unwrap();
    assert_eq!(full.name, "gpu-3");
    assert_eq!(full.consumes_counters.as_ref().unwrap()[0].counters.len(), 9, "it excludes every placement");
}

#[test]
fn a_device_says_what_it_is_and_where_it_lies() {
    let slices = resource_slices("n", DRIVER, &[h100_80(2)], SliceLayout::Split, 1).unwrap();
    let devices = published(&slices);
    let device = devices.iter().find(|d| d.name == "gpu-2-mig-3g-40gb-4").unwrap();
    let attributes = device.attributes.as_ref().unwrap();
    let string = |name: &str| attributes[name].string.clone().unwrap();
    assert_eq!(string("type"), "mig");
    assert_eq!(string("profile"), "3g.40gb");
    assert_eq!(string("parentUUID"), "GPU-00000000-0000-0000-0000-000000000002");
    assert_eq!(string("resource.kubernetes.io/pciBusID"), "0000:02:00.0");
    assert_eq!(attributes["driverVersion"].version.as_deref(), Some("580.95.5"), "no leading zeros");
    assert_eq!(attributes["cudaComputeCapability"].version.as_deref(), Some("8.0.0"));
    assert_eq!(attributes["placementStart"].int, Some(4));
    assert_eq!(attributes["placementSize"].int, Some(4));
    assert_eq!(attributes["profileId"].int, Some(9));
    assert_eq!(device.capacity.as_ref().unwrap()["memory"].value.0, "40704Mi");
    let consumed = &device.consumes_counters.as_ref().unwrap()[0];
    assert_eq!(consumed.counter_set, "gpu-2-counters");
    let counters: Vec<_> = consumed.counters.keys().map(String::as_str).collect();
    assert_eq!(counters, ["memory-slice-4", "memory-slice-5", "memory-slice-6", "memory-slice-7"]);
}

#[test]
fn the_index_leads_from_a_name_to_what_prepare_must_create() {
    let index = DeviceIndex::new(&[a30(1), a100_40(0)]);
    let entry = index.get("gpu-0-mig-1g-5gb-me-3").unwrap();
    assert_eq!(entry.gpu_minor, 0);
    assert_eq!(entry.profile(), "1g.5gb+me");
    let placement = Placement { start: 3, size: 1 };
    assert_eq!(entry.kind, DeviceKind::Mig { profile_id: 20, profile: "1g.5gb+me".to_owned(), placement });
    assert!(index.get("gpu-0").is_none() && index.get("gpu-9").is_none());
}

#[test]
fn classes_exist_per_kind_and_per_profile() {
    let classes = device_classes(DRIVER, &[a100_40(0), a30(1)]);
    let names: Vec<_> = classes.iter().map(|c| c.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(names[..3], ["gpu.sluice.dev", "mig.gpu.sluice.dev", "mig-1g-5gb.gpu.sluice.dev"]);
    assert!(names.contains(&"mig-1g-5gb-me.gpu.sluice.dev") && names.contains(&"mig-2g-12gb.gpu.sluice.dev"));
    assert_eq!(names.len(), 2 + 7 + 5);
    assert!(
        classes.iter().all(|c| c.spec.extended_resource_name.as_deref().is_some_and(|n| !n.contains('+')))
    );
}

#[test]
fn a_node_without_gpus_publishes_an_empty_pool() {
    let slices = resource_slices("n", DRIVER, &[], SliceLayout::Split, 1).unwrap();
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].spec.pool.resource_slice_count, 1);
}

#[test]
fn what_the_api_server_would_refuse_is_refused_by_name() {
    let error = |node: &str, gpus: &[Gpu]| {
        resource_slices(node, DRIVER, gpus, SliceLayout::Combined, 1).unwrap_err().to_string()
    };
    assert!(error("Node_1", &[]).contains("\"Node_1\""));
    assert!(error("n", &[a100_40(0), a100_40(0)]).contains("gpu-0-mig-1g-5gb-6"));
    let mut outside = a30(0);
    outside.mig_profiles[0].placements.push(Placement { start: 4, size: 1 });
    assert!(error("n", &[outside]).contains("outside its 4 memory slices"));
    let mut long = a30(0);
    long.product = "x".repeat(65);
    assert!(error("n", &[long]).contains("productName"));
}
