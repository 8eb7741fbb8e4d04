//! Calls that fail or block by a fault, and processes that are killed there.

use std::time::Duration;

use nvidia_ml::code::Code;
use nvidia_ml::fault::{Action, FaultError};
use nvidia_ml::{Fault, When};

use crate::client::{Client, Machine};
use crate::processes::{child, chosen_by_parent};

const CREATE: &str = "nvmlDeviceCreateGpuInstanceWithPlacement";
const DESTROY: &str = "nvmlGpuInstanceDestroy";
const G3: u32 = 9;
const DEADLINE: Duration = Duration::from_secs(60);

/// Creates a GPU instance and destroys it.
#[test]
#[ignore = "other tests run it as a process of its own"]
fn maker() {
    let client = Client::open(&chosen_by_parent());
    let instance = client.create(client.gpu(0), G3, Some((4, 4))).unwrap();
    client.destroy(instance).unwrap();
}

/// Kills the process where it blocks in `function`, and returns the ids of the remaining GPU instances.
fn left_after_kill(function: &str, when: When) -> Vec<u32> {
    let machine = Machine::h100();
    let installation = &machine.installation;
    installation.add_fault("stop", &Fault::block(function, when)).unwrap();
    let mut maker = child("faults::maker", installation, 0);
    let blocked = installation.wait_blocked("stop", DEADLINE).unwrap();
    assert_eq!((blocked.pid, blocked.function.as_str(), blocked.when), (maker.id(), function, when));
    maker.kill().unwrap();
    maker.wait().unwrap();
    installation.remove_fault("stop").unwrap();
    assert!(installation.blocked("stop").is_empty());
    let client = machine.client();
    let left = client.list(client.gpu(0), G3).unwrap();
    // The GPU can be used in any case: the dead process holds no lock.
    client.create(client.gpu(0), G3, Some((0, 4))).unwrap();
    left
}

#[test]
fn killed_before_creation_there_is_no_instance_and_after_it_there_is() {
    assert_eq!(left_after_kill(CREATE, When::Before), Vec::<u32>::new());
    assert_eq!(left_after_kill(CREATE, When::After), [2]);
}

#[test]
fn killed_before_destruction_the_instance_is_there_and_after_it_is_gone() {
    assert_eq!(left_after_kill(DESTROY, When::Before), [2]);
    assert_eq!(left_after_kill(DESTROY, When::After), Vec::<u32>::new());
}

#[test]
fn a_process_can_be_stopped_at_any_call_one_after_the_other() {
    let mut stopped_at = Vec::new();
    for calls in 0..50 {
        let machine = Machine::h100();
        let installation = &machine.installation;
        installation.add_fault("any", &Fault::block("*", When::Before).after_calls(calls)).unwrap();
        let mut maker = child("faults::maker", installation, 0);
        let start = std::time::Instant::now();
        let blocked = loop {
            if let Some(blocked) = installation.blocked("any").pop() {
                break Some(blocked);
            }
            if maker.try_wait().unwrap().is_some() {
                break None;
            }
            assert!(start.elapsed() < DEADLINE);
            std::thread::yield_now();
        };
        maker.kill().unwrap();
        maker.wait().unwrap();
        let Some(blocked) = blocked else { break };
        stopped_at.push(blocked.function);
    }
    assert_eq!(stopped_at.first().map(String::as_str), Some("nvmlInit_v2"));
    assert_eq!(stopped_at.last().map(String::as_str), Some("nvmlShutdown"));
    assert!(stopped_at.iter().any(|function| function == CREATE));
}

#[test]
fn a_blocked_call_goes_on_when_its_fault_is_removed() {
    let machine = Machine::h100();
    machine.installation.add_fault("stop", &Fault::block(CREATE, When::Before)).unwrap();
    let maker = child("faults::maker", &machine.installation, 0);
    machine.installation.wait_blocked("stop", DEADLINE).unwrap();
    machine.installation.remove_fault("stop").unwrap();
    assert!(maker.wait_with_output().unwrap().status.success());
    assert!(machine.installation.instances().unwrap().is_empty());
}

#[test]
fn an_error_before_a_call_has_no_effect_and_one_after_it_has() {
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.gpu(0);
    let fault = |when| Fault::error(CREATE, when, Code::GPU_IS_LOST).times(1);
    machine.installation.add_fault("lost", &fault(When::Before)).unwrap();
    assert_eq!(client.create(gpu, G3, Some((4, 4))), Err(15));
    assert_eq!(client.list(gpu, G3), Ok(vec![]));
    machine.installation.add_fault("lost", &fault(When::After)).unwrap();
    assert_eq!(client.create(gpu, G3, Some((4, 4))), Err(15));
    assert_eq!(client.list(gpu, G3), Ok(vec![2]), "the answer was lost, not the instance");
    assert!(client.create(gpu, G3, Some((0, 4))).is_ok(), "once means once");
}

#[test]
fn skipped_calls_go_through() {
    let machine = Machine::h100();
    let client = machine.client();
    let fault = Fault::error("nvmlDeviceGetUUID", When::Before, Code::UNKNOWN).after_calls(2).times(1);
    machine.installation.add_fault("third", &fault).unwrap();
    let answers = [(); 4].map(|()| client.uuid(client.gpu(0), 96).is_ok());
    assert_eq!(answers, [true, true, false, true]);
}

#[test]
fn a_fault_that_can_never_strike_is_refused() {
    let machine = Machine::h100();
    let fault = Fault::block("nvmlDeviceCreateGpuInstanse", When::Before);
    let error = machine.installation.add_fault("typo", &fault).unwrap_err();
    assert!(error.to_string().contains("`nvmlDeviceCreateGpuInstance`"), "{error}");
    let error = machine.installation.add_fault("a/b", &Fault::block("*", When::Before)).unwrap_err();
    assert!(matches!(error, FaultError::BadName { .. }));
    // A broken handwritten fault makes every call fail, instead of none.
    let faults = machine.installation.dir().join("faults");
    std::fs::create_dir_all(&faults).unwrap();
    let client = machine.client();
    let gpu = client.gpu(0);
    std::fs::write(faults.join("hand.yaml"), "{function: nvmlInit_v2, when: sometimes, action: block}")
        .unwrap();
    assert_eq!(client.uuid(gpu, 96), Err(Code::UNKNOWN.0));
}

#[test]
fn a_fault_file_is_what_the_documentation_says() {
    let machine = Machine::h100();
    let fault = Fault::error(DESTROY, When::After, Code::IN_USE).times(2);
    machine.installation.add_fault("busy", &fault).unwrap();
    let by_hand = "function: nvmlGpuInstanceDestroy\nwhen: after\naction: error\ncode: 19\ncount: 2\n";
    let written = std::fs::read_to_string(machine.installation.dir().join("faults/busy.yaml")).unwrap();
    let parse = |text: &str| serde_saphyr::from_str::<Fault>(text).unwrap();
    assert_eq!(parse(by_hand), parse(&written));
    assert_eq!(parse(by_hand).action, Action::Error);
}
