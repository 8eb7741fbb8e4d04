use std::path::Path;

use sluice_inventory::Placement;

use super::*;
use crate::cdi::Majors;
use crate::checkpoint::file::StateDir;
use crate::checkpoint::{Checkpoint, DeviceRecord, Instance, Phase, SliceRecord};
use crate::gpus::Reason;
use crate::gpus::fake::{FakeGpus, GPU_UUID};

struct Node {
    dir: tempfile::TempDir,
    gpus: Arc<FakeGpus>,
    device_state: DeviceState,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gpus = Arc::new(FakeGpus::default());
        let device_state = start(dir.path(), &gpus, "boot-1");
        Self { dir, gpus, device_state }
    }

    /// Restarts as after a kill: memory is lost, files and GPUs are as they were.
    fn restart(self, boot_id: &str) -> Self {
        let Self { dir, gpus, device_state } = self;
        drop(device_state);
        let device_state = start(dir.path(), &gpus, boot_id);
        device_state.recover();
        Self { dir, gpus, device_state }
    }

    fn prepare(&self, uid: &str, start: u8) -> Result<Vec<DeviceRecord>, DeviceStateError> {
        self.device_state.prepare(uid, "default", uid, vec![wanted(start)])
    }

    fn cdi_file(&self, uid: &str) -> std::path::PathBuf {
        self.dir.path().join("cdi").join(format!("sluice.dev-claim_{uid}.json"))
    }

    fn checkpoint(&self) -> Arc<Checkpoint> {
        self.device_state.checkpoints().checkpoint()
    }
}

fn start(dir: &Path, gpus: &Arc<FakeGpus>, boot_id: &str) -> DeviceState {
    // The thread of the previous store ends a moment after its last handle.
    let state = loop {
        match StateDir::lock(&dir.join("state")) {
            Ok(state) => break state,
            Err(_) => std::thread::yield_now(),
        }
    };
    DeviceState::new(
        Arc::clone(gpus) as Arc<dyn Gpus>,
        CheckpointStore::open(state).unwrap(),
        CdiDir::new(dir.join("cdi"), dir, Majors::default(), None),
        boot_id.to_owned(),
        Arc::new(|| 1_000),
    )
}

/// Returns the record of a 2g.10gb slice at `start`.
fn wanted(start: u8) -> DeviceRecord {
    DeviceRecord {
        requests: vec!["gpu".to_owned()],
        device: format!("gpu-0-mig-2g-10gb-{start}"),
        gpu_uuid: GPU_UUID.to_owned(),
        gpu_minor: 0,
        watches: None,
        sharing: Default::default(),
        profile: "2g.10gb".to_owned(),
        slice: Some(SliceRecord {
            profile_id: 14,
            placement: Placement { start, size: 2 },
            instance: Instance::Absent,
        }),
    }
}

#[test]
fn a_claim_gets_its_instance_at_the_published_placement_and_gives_it_back() {
    let node = Node::new();
    let devices = node.prepare("a", 4).unwrap();
    assert_eq!(node.gpus.standing(), [(5, 14, 4, 1)]);
    assert!(matches!(
        &devices[0].slice.as_ref().unwrap().instance,
        Instance::Standing { gpu_instance: 5, compute, .. } if compute.uuid == "MIG-5-0"
    ));
    assert!(node.cdi_file("a").exists());
    node.device_state.unprepare("a").unwrap();
    assert!(node.gpus.standing().is_empty());
    assert!(!node.cdi_file("a").exists());
    assert!(node.checkpoint().claims.is_empty());
}

#[test]
fn a_prepared_claim_is_prepared_again_without_touching_its_instance() {
    let node = Node::new();
    let first = node.prepare("a", 4).unwrap();
    std::fs::remove_file(node.cdi_file("a")).unwrap();
    assert_eq!(node.prepare("a", 4).unwrap(), first);
    assert!(node.cdi_file("a").exists());
    assert_eq!(node.gpus.changes(), ["create_gpu_instance", "create_compute_instance"]);
}

#[test]
fn an_unknown_claim_is_unprepared_with_success() {
    Node::new().device_state.unprepare("never-seen").unwrap();
}

#[test]
fn a_failed_compute_instance_takes_its_gpu_instance_back() {
    let node = Node::new();
    node.gpus.fail("create_compute_instance", Reason::Other(999));
    let error = node.prepare("a", 4).unwrap_err().to_string();
    assert!(error.contains("gpu-0-mig-2g-10gb-4") && error.contains("999"), "{error}");
    assert!(node.gpus.standing().is_empty());
    assert!(node.checkpoint().claims.is_empty());
    node.gpus.heal();
    node.prepare("a", 4).unwrap();
}

#[test]
fn a_failure_at_the_second_device_takes_the_first_back() {
    let node = Node::new();
    let foreign = node.gpus.add_foreign(19, Placement { start: 1, size: 1 });
    let result = node.device_state.prepare("a", "default", "a", vec![wanted(4), wanted(0)]);
    assert!(matches!(result, Err(DeviceStateError::Foreign { .. })));
    assert_eq!(node.gpus.standing(), [(foreign, 19, 1, 0)]);
}

#[test]
fn what_could_not_be_undone_is_undone_by_the_next_call() {
    let node = Node::new();
    node.gpus.fail("create_compute_instance", Reason::Other(999));
    node.gpus.fail("destroy_gpu_instance", Reason::InUse);
    assert!(matches!(node.prepare("a", 4), Err(DeviceStateError::NotUndone { .. })));
    assert_eq!(node.checkpoint().claims["a"].phase, Phase::Releasing);
    node.gpus.heal();
    node.device_state.unprepare("a").unwrap();
    assert!(node.gpus.standing().is_empty());
}

#[test]
fn a_foreign_instance_is_left_alone_even_when_it_appears_just_before_create() {
    let node = Node::new();
    node.gpus.steal_next_place();
    let error = node.prepare("a", 4).unwrap_err().to_string();
    assert!(error.contains("takes its place"), "{error}");
    node.prepare("a", 4).unwrap_err();
    node.device_state.unprepare("a").unwrap();
    let node = node.restart("boot-1");
    assert_eq!(node.gpus.standing(), [(5, 14, 4, 0)], "the foreign one, as it was");
}

#[test]
fn a_slice_in_use_stays_and_is_released_by_a_later_call() {
    let node = Node::new();
    node.prepare("a", 4).unwrap();
    node.gpus.fail("destroy_gpu_instance", Reason::InUse);
    let error = node.device_state.unprepare("a").unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert_eq!(node.checkpoint().claims["a"].phase, Phase::Releasing);
    node.gpus.heal();
    node.device_state.unprepare("a").unwrap();
    assert!(node.gpus.standing().is_empty());
}

#[test]
fn a_claim_that_is_half_released_can_be_prepared_again() {
    let node = Node::new();
    node.prepare("a", 4).unwrap();
    node.gpus.fail("destroy_gpu_instance", Reason::InUse);
    node.device_state.unprepare("a").unwrap_err();
    node.gpus.heal();
    node.prepare("a", 4).unwrap();
    assert_eq!(node.gpus.standing(), [(5, 14, 4, 1)]);
    assert_eq!(node.checkpoint().claims["a"].phase, Phase::Prepared);
}

#[test]
fn a_prepared_claim_survives_a_restart_and_its_instance_is_made_again_after_a_reboot() {
    let node = Node::new();
    node.prepare("a", 4).unwrap();
    let node = node.restart("boot-1");
    assert_eq!(node.gpus.standing(), [(5, 14, 4, 1)]);
    node.gpus.wipe();
    let node = node.restart("boot-2");
    assert!(node.gpus.standing().is_empty());
    node.prepare("a", 4).unwrap();
    assert_eq!(node.gpus.standing(), [(5, 14, 4, 1)]);
}

#[test]
fn after_a_reboot_an_instance_where_ours_was_is_foreign() {
    let node = Node::new();
    node.prepare("a", 4).unwrap();
    node.gpus.wipe();
    let foreign = node.gpus.add_foreign(14, Placement { start: 4, size: 2 });
    let node = node.restart("boot-2");
    assert!(matches!(node.prepare("a", 4), Err(DeviceStateError::Foreign { .. })));
    node.device_state.unprepare("a").unwrap();
    assert_eq!(node.gpus.standing(), [(foreign, 14, 4, 0)]);
}

#[test]
fn a_failed_repair_keeps_the_claim_and_leaves_nothing_half_made() {
    let node = Node::new();
    node.prepare("a", 4).unwrap();
    node.gpus.wipe();
    node.gpus.fail("create_compute_instance", Reason::Other(999));
    node.prepare("a", 4).unwrap_err();
    assert!(node.gpus.standing().is_empty());
    assert_eq!(node.checkpoint().claims["a"].phase, Phase::Prepared);
    node.gpus.heal();
    node.prepare("a", 4).unwrap();
    assert_eq!(node.gpus.standing(), [(5, 14, 4, 1)]);
}

#[test]
fn a_device_that_another_claim_holds_is_refused_and_unharmed() {
    let node = Node::new();
    node.prepare("a", 4).unwrap();
    let error = node.prepare("b", 4).unwrap_err().to_string();
    assert!(error.contains("default/a"), "{error}");
    assert_eq!(node.gpus.standing(), [(5, 14, 4, 1)]);
}

#[test]
fn a_claim_allocated_anew_moves() {
    let node = Node::new();
    node.prepare("a", 4).unwrap();
    node.prepare("a", 0).unwrap();
    assert_eq!(node.gpus.standing(), [(3, 14, 0, 1)]);
}

mod properties;
