//! Events: XIDs that a test injects, and changes of the MIG mode.

use nvidia_ml::Topology;
use nvidia_ml::code::Code;
use nvidia_ml::state::WHOLE_GPU;

use crate::client::Machine;

const XID: u64 = 8;
const MIG_CHANGE: u64 = 0x100;

#[test]
fn an_xid_reaches_every_set_once_with_the_instance_that_it_is_about() {
    let machine = Machine::new(&Topology::uniform("H100-80GB-HBM3", 2).with_mig());
    let client = machine.client();
    let (first, second) = (client.event_set(client.gpu(1), XID), client.event_set(client.gpu(1), XID));
    let other = client.event_set(client.gpu(0), XID);
    machine.installation.inject_xid(1, 48, Some((7, 0))).unwrap();
    machine.installation.inject_xid(1, 79, None).unwrap();
    for set in [first, second] {
        let slice = client.wait(set, 60_000).unwrap();
        assert_eq!((slice.device, slice.eventType, slice.eventData), (client.gpu(1), XID, 48));
        assert_eq!((slice.gpuInstanceId, slice.computeInstanceId), (7, 0));
        let whole = client.wait(set, 60_000).unwrap();
        assert_eq!((whole.eventData, whole.gpuInstanceId), (79, WHOLE_GPU));
        assert_eq!(client.wait(set, 0).map(|_| ()), Err(Code::TIMEOUT.0));
    }
    assert_eq!(client.wait(other, 0).map(|_| ()), Err(Code::TIMEOUT.0), "another GPU's");
}

#[test]
fn a_wait_ends_when_an_event_comes_in_from_elsewhere() {
    let machine = Machine::h100();
    let client = machine.client();
    let set = client.event_set(client.gpu(0), XID);
    let installation = machine.installation.clone();
    let injector = std::thread::spawn(move || installation.inject_xid(0, 31, None).unwrap());
    assert_eq!(client.wait(set, 60_000).unwrap().eventData, 31);
    injector.join().unwrap();
    client.free(set).unwrap();
    assert_eq!(client.wait(set, 0).map(|_| ()), Err(Code::INVALID_ARGUMENT.0));
}

#[test]
fn a_change_of_the_mig_mode_is_an_event() {
    let machine = Machine::new(&Topology::uniform("H100-80GB-HBM3", 1));
    let client = machine.client();
    let set = client.event_set(client.gpu(0), MIG_CHANGE);
    client.nvml.device_by_index(0).unwrap().set_mig_mode(true).unwrap();
    assert_eq!(client.wait(set, 60_000).unwrap().eventType, MIG_CHANGE);
}
