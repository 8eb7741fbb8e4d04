//! ResourceSlices and DeviceClasses in the object directory.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceSlice};

use crate::node::Node;

fn devices(slices: &[ResourceSlice]) -> BTreeSet<String> {
    slices.iter().flat_map(|s| s.spec.devices.iter().flatten()).map(|d| d.name.clone()).collect()
}

fn counter_sets(slice: &ResourceSlice) -> usize {
    slice.spec.shared_counters.iter().flatten().count()
}

#[test]
fn both_forms_publish_the_same_devices_by_their_servers_rules() {
    let mut node = Node::started();
    let split = node.slices();
    assert!(split.iter().all(|s| (counter_sets(s) == 0) != s.spec.devices.is_none()), "either, or");
    assert!(node.terminate());
    node.start(&["--slice-form", "combined"]);
    let combined = node.slices();
    assert!(combined.iter().any(|s| counter_sets(s) > 0 && s.spec.devices.is_some()), "both in one");
    assert_eq!(devices(&combined), devices(&split));

    let expected = [
        "gpu-0-mig-1g-5gb-6",
        "gpu-0-mig-1g-5gb-me-0",
        "gpu-0-mig-2g-10gb-4",
        "gpu-0-mig-7g-40gb-0",
        "gpu-1",
    ];
    for device in expected {
        assert!(devices(&split).contains(device), "{device} in {:?}", devices(&split));
    }
    for slices in [&split, &combined] {
        for slice in slices {
            assert_eq!(slice.spec.pool.name, "n1/gpu");
            assert_eq!(slice.spec.node_name.as_deref(), Some("n1"));
            assert_eq!(slice.spec.pool.resource_slice_count, slices.len() as i64);
        }
    }
    let generation = |slices: &[ResourceSlice]| slices.iter().map(|s| s.spec.pool.generation).max();
    assert!(generation(&combined) > generation(&split), "no reader mixes the two");
}

#[test]
fn wiped_slices_come_back() {
    let mut node = Node::started();
    let published = node.slices();
    assert!(published.len() > 1);
    for slice in &published {
        node.objects.delete::<ResourceSlice>(None, slice.metadata.name.as_deref().unwrap()).unwrap();
    }
    node.eventually("slices", |node| (node.slices() == published).then_some(()));
    let one = published[0].metadata.name.as_deref().unwrap();
    node.objects.delete::<ResourceSlice>(None, one).unwrap();
    node.eventually("the one slice", |node| (node.slices() == published).then_some(()));
}

#[test]
fn files_that_are_no_slices_do_not_keep_it_from_publishing() {
    let mut node = Node::started();
    let published = node.slices();
    let folder = node.objects.root().join("resourceslices/_");
    std::fs::write(folder.join("somebodys.json"), "{").unwrap();
    let own = format!("{}.json", published[0].metadata.name.as_deref().unwrap());
    std::fs::write(folder.join(own), "{").unwrap();
    node.eventually("its own slice again", |node| {
        let (slices, broken) = node.objects.list_readable::<ResourceSlice>().unwrap();
        (slices == published && broken.len() == 1).then_some(())
    });
    assert!(node.log().contains("somebodys.json"));
}

#[test]
fn slices_of_other_drivers_are_left_alone() {
    let mut node = Node::new();
    let mut other = ResourceSlice::default();
    other.metadata.name = Some("n1-other".to_owned());
    other.spec.driver = "other.example".to_owned();
    other.spec.node_name = Some("n1".to_owned());
    node.objects.put(None, "n1-other", &other).unwrap();
    node.start(&[]);
    let read: Option<ResourceSlice> = node.objects.get(None, "n1-other").unwrap();
    assert_eq!(read, Some(other));
}

#[test]
fn a_class_for_each_kind_and_profile_is_offered() {
    let node = Node::started();
    let classes: Vec<DeviceClass> = node.objects.list().unwrap();
    let names: BTreeSet<_> = classes.into_iter().filter_map(|class| class.metadata.name).collect();
    for name in
        ["gpu.sluice.dev", "mig.gpu.sluice.dev", "mig-2g-10gb.gpu.sluice.dev", "mig-1g-5gb-me.gpu.sluice.dev"]
    {
        assert!(names.contains(name), "{name} in {names:?}");
    }
}

#[test]
fn silent_clients_of_the_admin_port_and_a_hangup_change_nothing() {
    let mut node = Node::started();
    let silent: Vec<_> = (0..100).map(|_| node.connect_to_admin()).collect();
    assert!(node.get("/livez").starts_with("HTTP/1.1 200"));
    node.signal(rustix::process::Signal::HUP);
    node.eventually("the hangup in the log", |node| {
        node.log().contains("SIGHUP changes nothing").then_some(())
    });
    assert!(node.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(node.log().contains("limit of open files"), "{}", node.log());
    assert!(node.terminate());
    drop(silent);
}
