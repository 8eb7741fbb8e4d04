use sluice_inventory::Placement;

use super::*;
use crate::device_state::Instances;
use crate::gpus::fake::{GPU_UUID, gpu};

fn well(gpu: Gpu, instances: Option<Instances>) -> ObservedGpus {
    let gpus = [(gpu.uuid.clone(), Observation::Well { gpu: Box::new(gpu), instances })].into();
    ObservedGpus { gpus, is_incomplete: false }
}

fn failing(reason: Reason) -> ObservedGpus {
    ObservedGpus { gpus: [(GPU_UUID.to_owned(), Observation::Failing(reason))].into(), is_incomplete: false }
}

fn held(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns an inventory that has observed one healthy GPU.
fn inventory() -> Inventory {
    let mut inventory = Inventory::default();
    inventory.see(well(gpu(), Some(Instances::default())), &held(&[]));
    assert_eq!(inventory.offer(&held(&[])), Offer { gpus: vec![gpu()], marks: BTreeMap::new() });
    inventory
}

const SLICE: &str = "gpu-0-mig-2g-10gb-4";

#[test]
fn a_lost_gpu_is_tainted_while_a_claim_has_something_of_it_and_not_offered_after_that() {
    for reason in [Reason::Lost, Reason::ResetRequired] {
        let mut inventory = inventory();
        inventory.see(failing(reason), &held(&[SLICE]));
        let offer = inventory.offer(&held(&[SLICE]));
        assert_eq!(offer.gpus, [gpu()]);
        assert_eq!(offer.marks.len(), DeviceIndex::new(&[gpu()]).len());
        assert!(offer.marks.values().all(|mark| *mark == Mark::Tainted(Fault::GpuLost)));
        assert_eq!(inventory.worth_keeping(&offer), [gpu()]);
        let offer = inventory.offer(&held(&[]));
        assert_eq!(offer, Offer::default());
        assert!(inventory.worth_keeping(&offer).is_empty());
        // The GPU comes back as it was.
        inventory.see(well(gpu(), Some(Instances::default())), &held(&[]));
        assert_eq!(inventory.offer(&held(&[])).gpus, [gpu()]);
    }
}

#[test]
fn a_gpu_that_is_absent_at_the_start_is_lost_only_when_all_gpus_answered() {
    let mut inventory = Inventory::remembered(vec![gpu()]);
    inventory.see(ObservedGpus { gpus: BTreeMap::new(), is_incomplete: true }, &held(&[SLICE]));
    assert!(inventory.offer(&held(&[SLICE])).marks.is_empty());
    inventory.see(ObservedGpus::default(), &held(&[SLICE]));
    assert_eq!(inventory.offer(&held(&[SLICE])).marks[SLICE], Mark::Tainted(Fault::GpuLost));
    assert_eq!(inventory.lost(GPU_UUID), Some(&Reason::Absent));
}

#[test]
fn one_failed_look_says_nothing_and_several_keep_new_claims_away() {
    let mut inventory = inventory();
    inventory.see(failing(Reason::Other(999)), &held(&[]));
    assert!(inventory.offer(&held(&[])).marks.is_empty());
    inventory.see_nothing();
    let offer = inventory.offer(&held(&[]));
    assert_eq!(offer.marks[SLICE], Mark::Tainted(Fault::Unreachable));
    inventory.see(well(gpu(), None), &held(&[]));
    assert!(inventory.offer(&held(&[])).marks.is_empty());
}

#[test]
fn places_of_foreign_instances_are_not_offered_until_they_are_gone() {
    let mut inventory = inventory();
    let foreign = GpuInstance { id: 5, profile_id: 14, placement: Placement { start: 4, size: 2 } };
    let instances = Instances { foreign: vec![foreign], missing: BTreeSet::new() };
    inventory.see(well(gpu(), Some(instances)), &held(&[]));
    // A check that could not list instances keeps those of the last one.
    inventory.see(well(gpu(), None), &held(&[]));
    let marks = inventory.offer(&held(&[])).marks;
    let withheld: Vec<&str> = marks.keys().map(String::as_str).collect();
    assert_eq!(withheld, ["gpu-0-mig-1g-5gb-4", "gpu-0-mig-1g-5gb-5", SLICE, "gpu-0-mig-3g-20gb-4"]);
    assert!(marks.values().all(|mark| *mark == Mark::Withheld));
    inventory.see(well(gpu(), Some(Instances::default())), &held(&[]));
    assert!(inventory.offer(&held(&[])).marks.is_empty());
}

#[test]
fn a_foreign_instance_with_the_media_engines_blocks_every_place_that_needs_them() {
    let mut with_media = gpu();
    let mut media = with_media.mig_profiles[0].clone();
    (media.profile_id, media.name, media.has_media_extensions) = (20, "1g.5gb+me".to_owned(), true);
    with_media.mig_profiles.push(media);
    let mut inventory = Inventory::default();
    for (profile_id, blocks) in [(20, true), (19, false), (77, true)] {
        let foreign = GpuInstance { id: 7, profile_id, placement: Placement { start: 0, size: 1 } };
        let instances = Instances { foreign: vec![foreign], missing: BTreeSet::new() };
        inventory.see(well(with_media.clone(), Some(instances)), &held(&[]));
        let marks = inventory.offer(&held(&[])).marks;
        assert_eq!(marks.contains_key("gpu-0-mig-1g-5gb-me-6"), blocks, "profile {profile_id}");
        assert!(!marks.contains_key("gpu-0-mig-1g-5gb-6"));
    }
}

#[test]
fn a_slice_whose_instance_is_gone_is_tainted_also_where_a_foreign_one_took_its_place() {
    let mut inventory = inventory();
    let foreign = GpuInstance { id: 5, profile_id: 14, placement: Placement { start: 4, size: 2 } };
    let missing = [("uid".to_owned(), SLICE.to_owned())].into();
    let instances = Instances { foreign: vec![foreign], missing };
    inventory.see(well(gpu(), Some(instances)), &held(&[SLICE]));
    assert_eq!(inventory.offer(&held(&[SLICE])).marks[SLICE], Mark::Tainted(Fault::InstanceGone));
    assert_eq!(inventory.missing().len(), 1);
}

#[test]
fn a_gpu_whose_mode_was_switched_under_a_claim_keeps_its_devices_until_the_claim_ends() {
    let mut inventory = inventory();
    let mut whole = gpu();
    whole.mig_enabled = false;
    inventory.see(well(whole.clone(), Some(Instances::default())), &held(&[SLICE]));
    let offer = inventory.offer(&held(&[SLICE]));
    assert_eq!((&offer.gpus, offer.marks[SLICE]), (&vec![gpu()], Mark::Tainted(Fault::MigModeChanged)));
    let offer = inventory.offer(&held(&[]));
    assert_eq!(offer, Offer { gpus: vec![whole], marks: BTreeMap::new() });
}

#[test]
fn a_lost_gpu_whose_number_another_one_has_now_is_not_offered() {
    let mut inventory = Inventory::remembered(vec![gpu()]);
    let mut other = gpu();
    other.uuid = "GPU-A-new".to_owned();
    inventory.see(well(other.clone(), Some(Instances::default())), &held(&[SLICE]));
    assert_eq!(inventory.offer(&held(&[SLICE])).gpus, [other]);
}
