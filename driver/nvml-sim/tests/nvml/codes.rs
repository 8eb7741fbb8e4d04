//! Return codes, compared with NVML's documentation.
#![allow(unsafe_code)]

use nvidia_ml::code::Code;
use nvidia_ml::{Installation, Topology};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings as sys;

use crate::client::{Machine, checked, uninitialised, version_2};

const G1: u32 = 19;
const G1_MEDIA: u32 = 20;
const G3: u32 = 9;

/// Returns the code as a client sees it.
fn refused<T>(code: Code) -> Result<T, u32> {
    Err(code.0)
}

#[test]
fn a_taken_placement_is_insufficient_resources_and_an_impossible_one_an_invalid_argument() {
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.gpu(0);
    client.create(gpu, G3, Some((4, 4))).unwrap();
    assert_eq!(client.create(gpu, G1, Some((5, 1))), refused(Code::INSUFFICIENT_RESOURCES));
    assert_eq!(client.create(gpu, G3, Some((4, 4))), refused(Code::INSUFFICIENT_RESOURCES));
    assert_eq!(client.create(gpu, G3, Some((2, 4))), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.create(gpu, G3, Some((0, 3))), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.create(gpu, 77, None), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.list(gpu, G3), Ok(vec![2]), "what was refused left nothing");
}

#[test]
fn the_media_extensions_are_there_once() {
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.gpu(0);
    client.create(gpu, G1_MEDIA, None).unwrap();
    assert_eq!(client.remaining(gpu, G1_MEDIA), Ok(0));
    assert_eq!(client.create(gpu, G1_MEDIA, Some((0, 1))), refused(Code::INSUFFICIENT_RESOURCES));
}

#[test]
fn without_mig_instances_are_not_supported_but_profiles_can_be_read() {
    let machine = Machine::new(&Topology::uniform("H100-80GB-HBM3", 1));
    let client = machine.client();
    let gpu = client.gpu(0);
    assert_eq!(client.create(gpu, G1, None), refused(Code::NOT_SUPPORTED));
    assert_eq!(client.by_id(gpu, 7), refused(Code::NOT_SUPPORTED));
    assert_eq!(client.list(gpu, G1), refused(Code::NOT_SUPPORTED));
    let device = client.nvml.device_by_index(0).unwrap();
    assert_eq!(device.mig_device_count().unwrap(), 0);
    assert!(matches!(device.mig_device_by_index(0), Err(NvmlError::NotSupported)));
    assert_eq!(device.profile_info(0).unwrap().id, G1);

    let device = client.nvml.device_by_index(0).unwrap();
    assert_eq!(device.set_mig_mode(true).unwrap(), 0);
    client.create(gpu, G1, None).unwrap();
    assert_eq!(device.set_mig_mode(false).unwrap(), Code::IN_USE.0, "the activation status");
    let mode = device.mig_mode().unwrap();
    assert_eq!((mode.current, mode.pending), (1, 0));
}

#[test]
fn an_instance_with_compute_instances_is_in_use() {
    let machine = Machine::h100();
    let client = machine.client();
    let instance = client.create(client.gpu(0), G1, None).unwrap();
    let compute = client.create_compute(instance, 0).unwrap();
    assert_eq!(client.destroy(instance), refused(Code::IN_USE));
    assert_eq!(client.create_compute(instance, 0), refused(Code::INSUFFICIENT_RESOURCES));
    assert_eq!(client.create_compute(instance, 1), refused(Code::INVALID_ARGUMENT));
    client.destroy_compute(compute).unwrap();
    client.destroy(instance).unwrap();
}

#[test]
fn stale_handles_are_refused_even_when_the_same_slice_is_made_again() {
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.gpu(0);
    let make = || {
        let instance = client.create(gpu, G1, Some((0, 1))).unwrap();
        (instance, client.create_compute(instance, 0).unwrap())
    };
    let (instance, compute) = make();
    let device = client.compute_info(compute).unwrap().device;
    client.destroy_compute(compute).unwrap();
    client.destroy(instance).unwrap();
    let (again, _) = make();
    assert_ne!(again, instance);
    assert_eq!(client.destroy(instance), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.info(instance).map(|_| ()), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.destroy_compute(compute), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.uuid(device, 96), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.destroy(std::ptr::null_mut()), refused(Code::INVALID_ARGUMENT));
    assert_eq!(client.destroy(gpu.cast()), refused(Code::INVALID_ARGUMENT), "a handle of another kind");
}

#[test]
fn unknown_ids_are_not_found() {
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.gpu(0);
    assert_eq!(client.by_id(gpu, 7), refused(Code::NOT_FOUND));
    let instance = client.create(gpu, G1, None).unwrap();
    assert_eq!(client.compute_by_id(instance, 0), refused(Code::NOT_FOUND));
    let device = client.nvml.device_by_index(0).unwrap();
    assert!(matches!(device.mig_device_by_index(0), Err(NvmlError::NotFound)));
    assert!(matches!(device.mig_device_by_index(7), Err(NvmlError::InvalidArg)));
    assert!(matches!(client.nvml.device_by_index(1), Err(NvmlError::InvalidArg)));
    assert!(matches!(client.nvml.device_by_uuid("MIG-none"), Err(NvmlError::NotFound)));
    assert!(matches!(client.nvml.device_by_pci_bus_id("00000000:FF:00.0"), Err(NvmlError::NotFound)));
}

#[test]
fn a_wrong_struct_version_is_a_version_mismatch() {
    let machine = Machine::h100();
    let client = machine.client();
    let right = version_2::<sys::nvmlGpuInstanceProfileInfo_v2_t>();
    assert!(client.profile_info(client.gpu(0), 0, right).is_ok());
    for wrong in [0, right + 1, right & 0x00FF_FFFF] {
        let answer = client.profile_info(client.gpu(0), 0, wrong).map(|_| ());
        assert_eq!(answer, refused(Code::ARGUMENT_VERSION_MISMATCH));
    }
}

#[test]
fn a_small_buffer_is_an_insufficient_size() {
    let machine = Machine::h100();
    let client = machine.client();
    // "GPU-", 36 characters and the final zero.
    assert_eq!(client.uuid(client.gpu(0), 40), refused(Code::INSUFFICIENT_SIZE));
    assert_eq!(client.uuid(client.gpu(0), 41).map(|uuid| uuid.len()), Ok(40));
}

#[test]
fn the_library_works_between_the_first_initialisation_and_the_last_shutdown() {
    let machine = Machine::h100();
    let raw = uninitialised(&machine.installation);
    let mut count = 0;
    // SAFETY: `count` is a place for the answer, here and below; the other functions take nothing.
    let mut device_count = || checked(unsafe { raw.nvmlDeviceGetCount_v2(&mut count) });
    // SAFETY: see above.
    let init = || checked(unsafe { raw.nvmlInit_v2() });
    // SAFETY: see above.
    let shutdown = || checked(unsafe { raw.nvmlShutdown() });
    assert_eq!(device_count(), refused(Code::UNINITIALIZED));
    assert_eq!(shutdown(), refused(Code::UNINITIALIZED));
    assert_eq!((init(), init(), shutdown()), (Ok(()), Ok(()), Ok(())));
    assert_eq!(device_count(), Ok(()), "initialised twice, closed once");
    assert_eq!(shutdown(), Ok(()));
    assert_eq!(device_count(), refused(Code::UNINITIALIZED));
}

#[test]
fn a_topology_that_is_missing_or_wrong_means_no_driver() {
    let machine = Machine::h100();
    let init = |installation: &Installation| {
        Nvml::builder().lib_path(installation.library().as_os_str()).init().map(|_| ())
    };
    let topology = machine.installation.dir().join("topology.yaml");
    std::fs::write(&topology, "gpus: [{model: H100-80GB-HBM3, colour: red}]").unwrap();
    assert!(matches!(init(&machine.installation), Err(NvmlError::DriverNotLoaded)));
    std::fs::remove_file(&topology).unwrap();
    assert!(matches!(init(&machine.installation), Err(NvmlError::DriverNotLoaded)));
}

#[test]
fn a_state_file_that_cannot_be_read_is_an_unknown_error_and_stays() {
    let machine = Machine::h100();
    let client = machine.client();
    let state = machine.installation.dir().join("state.json");
    std::fs::write(&state, "{").unwrap();
    let gpu = client.nvml.device_by_index(0).unwrap();
    assert!(matches!(gpu.uuid(), Err(NvmlError::Unknown)));
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "{");
}

#[test]
fn what_is_not_simulated_is_there_and_not_supported() {
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.nvml.device_by_index(0).unwrap();
    assert!(matches!(gpu.encoder_sessions(), Err(NvmlError::NotSupported)));
    assert!(matches!(gpu.utilization_rates(), Err(NvmlError::NotSupported)), "a GPU that is cut up has none");
    assert!(!gpu.gpm_support().unwrap());
}
