//! Instances from creation to destruction, and their properties.

use nvidia_ml::Topology;
use nvidia_ml::geometry::{ComputeProfile, Model};
use nvidia_ml::topology::UuidMode;
use nvml_wrapper_sys::bindings as sys;

use crate::client::{Client, Machine, text, version_2};

const G1: u32 = 19;
const G2: u32 = 14;
const G3: u32 = 9;

/// Returns the ids that instances of these profiles get one after another, without a placement.
fn ids_in_order(profiles: [u32; 4]) -> Vec<Result<u32, u32>> {
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.gpu(0);
    let create = |profile| Ok(client.info(client.create(gpu, profile, None)?)?.id);
    profiles.into_iter().map(create).collect()
}

#[test]
fn the_default_placement_follows_the_real_driver() {
    assert_eq!(ids_in_order([G1, G1, G2, G3]), [Ok(13), Ok(11), Ok(3), Err(23)]);
    assert_eq!(ids_in_order([G3, G1, G2, G1]), [Ok(2), Ok(7), Ok(4), Ok(8)]);
}

#[test]
fn an_instance_can_be_made_used_and_taken_down() {
    let machine = Machine::new(&Topology::uniform("A100-SXM4-40GB", 2).with_mig());
    let client = machine.client();
    let gpu = client.gpu(1);
    let instance = client.create(gpu, G2, Some((2, 2))).unwrap();
    let info = client.info(instance).unwrap();
    assert_eq!((info.id, info.profileId, info.placement.start, info.placement.size), (4, G2, 2, 2));
    assert_eq!(info.device, gpu);

    let whole = client.compute_profile_info(instance, 1).unwrap();
    assert_eq!((whole.id, whole.sliceCount, whole.multiprocessorCount), (1, 2, 28));
    assert_eq!(text(&whole.name), "MIG 2g.10gb");
    let compute = client.create_compute(instance, whole.id).unwrap();
    let info = client.compute_info(compute).unwrap();
    assert_eq!((info.id, info.profileId, info.gpuInstance), (0, 1, instance));
    assert_eq!(client.ids(info.device), Ok((4, 0)));

    let uuid = client.uuid(info.device, 96).unwrap();
    let device = client.nvml.device_by_uuid(uuid.as_str()).unwrap();
    assert_eq!(device.name().unwrap(), "NVIDIA A100-SXM4-40GB MIG 2g.10gb");
    assert!(device.mig_is_mig_device_handle().unwrap());
    assert_eq!(device.memory_info().unwrap().total, 9984 << 20);
    assert_eq!(device.mig_parent_device().unwrap().index().unwrap(), 1);
    let attributes = device.attributes().unwrap();
    assert_eq!((attributes.multiprocessor_count, attributes.memory_size_mb), (28, 9984));
    assert_eq!(client.nvml.device_by_index(1).unwrap().mig_device_by_index(0).unwrap().uuid().unwrap(), uuid);

    client.destroy_compute(compute).unwrap();
    client.destroy(instance).unwrap();
    assert_eq!(client.list(gpu, G2), Ok(vec![]));
    assert!(machine.installation.instances().unwrap().is_empty());
}

#[test]
fn instances_outlive_their_maker_and_others_see_them_at_once() {
    let machine = Machine::h100();
    let first = machine.client();
    // A second copy of the library has its own memory, so for the library it is another process.
    let elsewhere = Machine::h100();
    let second_library = elsewhere.installation.library();
    std::fs::copy(second_library, machine.installation.dir().join("second.so")).unwrap();
    let second = nvml_wrapper::Nvml::builder()
        .lib_path(machine.installation.dir().join("second.so").as_os_str())
        .init()
        .map(|nvml| Client { nvml })
        .unwrap();
    let instance = first.create(first.gpu(0), G3, Some((4, 4))).unwrap();
    assert_eq!(second.list(second.gpu(0), G3), Ok(vec![2]));
    drop(first);
    let found = second.by_id(second.gpu(0), 2).unwrap();
    second.destroy(found).unwrap();
    let again = machine.client();
    assert_eq!(again.list(again.gpu(0), G3), Ok(vec![]));
    assert_eq!(again.destroy(instance), Err(2), "a handle of a closed library");
}

#[test]
fn mig_uuids_repeat_in_deterministic_mode_alone() {
    let made_twice = |uuid_mode| {
        let machine = Machine::new(&Topology { uuid_mode, ..Topology::uniform("A30-24GB", 1).with_mig() });
        let client = machine.client();
        [(); 2].map(|()| {
            let instance = client.create(client.gpu(0), 5, Some((2, 2))).unwrap();
            let compute = client.create_compute(instance, 1).unwrap();
            let uuid = client.uuid(client.compute_info(compute).unwrap().device, 96).unwrap();
            client.destroy_compute(compute).unwrap();
            client.destroy(instance).unwrap();
            uuid
        })
    };
    let [first, second] = made_twice(UuidMode::Deterministic);
    assert_eq!(first, second);
    let [first, second] = made_twice(UuidMode::Random);
    assert_ne!(first, second);
}

#[test]
fn a_gpu_instance_can_hold_several_compute_instances() {
    let machine = Machine::h100();
    let client = machine.client();
    let instance = client.create(client.gpu(0), G3, Some((0, 4))).unwrap();
    let model = Model::find("H100-80GB-HBM3").unwrap();
    let profiles = ComputeProfile::all(model, model.profile(G3).unwrap());
    assert_eq!(profiles.len(), 3);
    let single = client.create_compute(instance, 0).unwrap();
    assert_eq!(client.create_compute(instance, 1), Err(23), "a pair begins at slice 0, which is taken");
    client.create_compute(instance, 0).unwrap();
    client.create_compute(instance, 0).unwrap();
    assert_eq!(client.create_compute(instance, 0), Err(23));
    let device = client.compute_info(single).unwrap().device;
    assert_eq!(client.ids(device), Ok((1, 0)));
    let gpu = client.nvml.device_by_index(0).unwrap();
    let names: Vec<_> = (0..3).map(|index| gpu.mig_device_by_index(index).unwrap().name().unwrap()).collect();
    assert_eq!(names, ["NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb"; 3]);
}

#[test]
fn every_model_answers_with_its_table() {
    for model in Model::all() {
        let machine = Machine::new(&Topology::uniform(model.name, 1).with_mig());
        let client = machine.client();
        let gpu = client.gpu(0);
        let device = client.nvml.device_by_index(0).unwrap();
        assert_eq!(device.name().unwrap(), model.product_name);
        assert_eq!(device.memory_info().unwrap().total, model.memory_mib << 20);
        let capability = device.cuda_compute_capability().unwrap();
        assert_eq!((capability.major, capability.minor), model.compute_capability);
        assert_eq!(device.mig_device_count().unwrap(), model.compute_slices);
        let version = version_2::<sys::nvmlGpuInstanceProfileInfo_v2_t>();
        let infos: Vec<_> =
            (0..18).filter_map(|profile| client.profile_info(gpu, profile, version).ok()).collect();
        assert_eq!(infos.len(), model.profiles.len());
        for info in infos {
            let profile = model.profile(info.id).unwrap();
            assert_eq!(text(&info.name), format!("MIG {}", profile.name));
            assert_eq!(info.memorySizeMB, profile.memory_mib);
            assert_eq!(info.multiprocessorCount, profile.multiprocessors);
            assert_eq!(info.instanceCount, profile.max_instances);
            let expected: Vec<_> =
                profile.placements().iter().map(|place| (place.start, place.size)).collect();
            assert_eq!(client.placements(gpu, info.id), Ok(expected));
        }
    }
}

#[test]
fn devices_are_found_by_every_name_that_they_have() {
    let machine = Machine::new(&Topology::uniform("H200-141GB-HBM3E", 3));
    let client = machine.client();
    assert_eq!(client.nvml.device_count().unwrap(), 3);
    let device = client.nvml.device_by_index(2).unwrap();
    let same = |found: nvml_wrapper::Device<'_>| assert_eq!(found.index().unwrap(), 2);
    same(client.nvml.device_by_uuid(device.uuid().unwrap()).unwrap());
    let pci = device.pci_info().unwrap();
    same(client.nvml.device_by_pci_bus_id(pci.bus_id.as_str()).unwrap());
    same(client.nvml.device_by_pci_bus_id(pci.bus_id.to_lowercase()).unwrap());
    assert_eq!(device.minor_number().unwrap(), 2);
    assert_eq!(pci.pci_device_id, 0x2335_10DE);
    assert_eq!(client.nvml.sys_driver_version().unwrap(), "580.95.05");
    assert_eq!(client.nvml.sys_cuda_driver_version().unwrap(), 13000);
}

#[test]
fn an_administrator_makes_instances_beside_the_driver_and_a_reboot_ends_them() {
    let machine = Machine::h100();
    let client = machine.client();
    let uuid = machine.installation.create_instance(0, G3, 4).unwrap();
    assert!(client.nvml.device_by_uuid(uuid.as_str()).unwrap().mig_is_mig_device_handle().unwrap());
    assert_eq!(client.create(client.gpu(0), G1, Some((6, 1))), Err(23));
    let refused = machine.installation.create_instance(0, G1, 6).unwrap_err();
    assert!(refused.to_string().contains("Insufficient Resources"), "{refused}");
    let seen = machine.installation.instances().unwrap();
    assert_eq!((seen[0].profile, seen[0].gpu_instance_id), ("3g.40gb", 2));
    assert_eq!(seen[0].compute_instances, [(0, uuid)]);
    machine.installation.reboot().unwrap();
    assert!(machine.installation.instances().unwrap().is_empty());
    assert!(client.create(client.gpu(0), G1, Some((6, 1))).is_ok(), "MIG is still on");
}
