//! kill -9 at every NVML call that prepare and unprepare make, before and after its effect.
//!
//! The calls are not listed here: a first run asks the simulated library for them, so a call that is added later is
//! tested as well. Each row stops the driver at one call, kills it, restarts it, and checks the simulated GPUs.

use nvidia_ml::{Fault, When};

use crate::kubelet::Kubelet;
use crate::node::{DEADLINE, Node, PROFILE_2G, Standing, told_uuid};

const DEVICE: &str = "gpu-0-mig-2g-10gb-4";
const GATE: &str = "gate";

/// Point at which the driver is killed.
#[derive(Debug, Clone)]
struct Row {
    function: String,
    /// Number of calls of the function that pass before.
    skip: u32,
    when: When,
}

/// Node with a foreign instance and the slice of another claim, which must never change, and with slice-seconds that
/// must never decrease.
fn node() -> (Node, Standing) {
    let mut node = Node::new();
    node.gpus.create_instance(0, PROFILE_2G, 0).unwrap();
    std::fs::create_dir_all(node.path("state")).unwrap();
    let earlier = r#"{"version": 1, "claims": {}, "endedSliceMs": {"2g.10gb": 100000}}"#;
    std::fs::write(node.path("state/checkpoint.json"), earlier).unwrap();
    node.start(&[]);
    node.allocate("other", "gpu-0-mig-2g-10gb-2");
    node.kubelet().prepare("other").unwrap();
    let bystanders = node.standing();
    assert_eq!(bystanders.len(), 2);
    (node, bystanders)
}

fn slice_seconds(node: &Node) -> f64 {
    node.metric("sluice_driver_slice_seconds_total{profile=\"2g.10gb\"}")
}

/// Returns the NVML functions that `operation` calls, in order of their first call, with the number of calls.
fn calls(node: &Node, operation: impl Fn(&Kubelet) + Sync, undo: impl Fn(&Kubelet)) -> Vec<(String, u32)> {
    let mut functions: Vec<(String, u32)> = Vec::new();
    for skip in 0.. {
        node.gpus.add_fault(GATE, &Fault::block("*", When::Before).after_calls(skip)).unwrap();
        let blocked = std::thread::scope(|scope| {
            let kubelet = node.kubelet();
            let call = scope.spawn(|| {
                let kubelet = kubelet;
                operation(&kubelet);
            });
            let blocked = loop {
                if let Some(blocked) = node.gpus.blocked(GATE).pop() {
                    break Some(blocked);
                }
                if call.is_finished() {
                    break None;
                }
                std::thread::yield_now();
            };
            node.gpus.remove_fault(GATE).unwrap();
            call.join().unwrap();
            blocked
        });
        undo(&node.kubelet());
        let Some(blocked) = blocked else { return functions };
        match functions.iter_mut().find(|(function, _)| *function == blocked.function) {
            Some((_, count)) => *count += 1,
            None => functions.push((blocked.function, 1)),
        }
    }
    functions
}

/// Returns the first and the last call of each function, before and after its effect.
fn rows(calls: &[(String, u32)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (function, count) in calls {
        let mut skips = vec![0, count - 1];
        skips.dedup();
        for skip in skips {
            for when in [When::Before, When::After] {
                rows.push(Row { function: function.clone(), skip, when });
            }
        }
    }
    rows
}

/// Runs `operation` until it stops at the call of the row, and kills the driver there.
fn kill_at(node: &mut Node, row: &Row, operation: impl Fn(&Kubelet) -> Result<(), String> + Send) {
    let fault = Fault::block(&row.function, row.when).after_calls(row.skip);
    node.gpus.add_fault(GATE, &fault).unwrap();
    let kubelet = node.kubelet();
    std::thread::scope(|scope| {
        let call = scope.spawn(move || operation(&kubelet));
        let blocked = node.gpus.wait_blocked(GATE, DEADLINE).unwrap();
        assert_eq!(blocked.function, row.function);
        node.kill();
        call.join().unwrap().unwrap_err();
    });
    node.gpus.remove_fault(GATE).unwrap();
}

/// Checks that the slice of the claim exists once beside the others, and that its CDI file names it.
fn assert_prepared(node: &Node, bystanders: &Standing, row: &Row) {
    let mut standing = node.standing();
    let ours = standing.iter().position(|(gpu, _, start, _)| (*gpu, *start) == (0, 4));
    let (_, profile, _, computes) = standing.remove(ours.unwrap_or_else(|| panic!("{row:?}: no slice")));
    assert_eq!((profile.as_str(), computes.len()), ("2g.10gb", 1), "{row:?}");
    assert_eq!(standing, *bystanders, "{row:?}");
    assert_eq!(told_uuid(&node.cdi("bert").unwrap(), DEVICE), Some(computes[0].clone()), "{row:?}");
}

fn print(title: &str, rows: &[Row]) {
    println!("{title}: {} rows", rows.len());
    for row in rows {
        println!("  kill -9 {:?} call {} of {}: ok", row.when, row.skip + 1, row.function);
    }
}

#[test]
fn a_driver_killed_inside_prepare_leaves_no_orphan_and_prepares_when_asked_again() {
    let (mut node, bystanders) = node();
    node.allocate("bert", DEVICE);
    let prepare = |kubelet: &Kubelet| kubelet.prepare("bert").map(|_| ());
    let undo = |kubelet: &Kubelet| kubelet.unprepare("bert").unwrap();
    let rows = rows(&calls(&node, |kubelet| prepare(kubelet).unwrap(), undo));
    let mut seconds = slice_seconds(&node);
    assert!(seconds >= 100.0);
    for row in &rows {
        kill_at(&mut node, row, prepare);
        node.start(&[]);
        assert_eq!(node.standing(), bystanders, "{row:?}: an orphan, or a bystander harmed");
        assert!(node.cdi("bert").is_none(), "{row:?}");
        node.kubelet().prepare("bert").unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_prepared(&node, &bystanders, row);
        node.kubelet().prepare("other").unwrap_or_else(|error| panic!("{row:?}: {error}"));
        node.kubelet().unprepare("bert").unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_eq!(node.standing(), bystanders, "{row:?}");
        let now = slice_seconds(&node);
        assert!(now >= seconds, "{row:?}: slice-seconds fell from {seconds} to {now}");
        seconds = now;
    }
    print("prepare, then prepared again", &rows);
}

#[test]
fn a_driver_killed_inside_prepare_of_a_claim_that_then_vanishes_leaves_nothing() {
    let (mut node, bystanders) = node();
    node.allocate("bert", DEVICE);
    let prepare = |kubelet: &Kubelet| kubelet.prepare("bert").map(|_| ());
    let undo = |kubelet: &Kubelet| kubelet.unprepare("bert").unwrap();
    let rows = rows(&calls(&node, |kubelet| prepare(kubelet).unwrap(), undo));
    for row in &rows {
        node.allocate("bert", DEVICE);
        kill_at(&mut node, row, prepare);
        node.delete_claim("bert");
        node.start(&[]);
        assert_eq!(node.standing(), bystanders, "{row:?}");
        assert!(node.cdi("bert").is_none(), "{row:?}");
        // The placement is free for another claim.
        node.allocate("next", DEVICE);
        node.kubelet().prepare("next").unwrap_or_else(|error| panic!("{row:?}: {error}"));
        node.kubelet().unprepare("next").unwrap_or_else(|error| panic!("{row:?}: {error}"));
    }
    print("prepare, then the claim is deleted", &rows);
}

#[test]
fn a_driver_killed_inside_unprepare_finishes_it() {
    let (mut node, bystanders) = node();
    node.allocate("bert", DEVICE);
    node.kubelet().prepare("bert").unwrap();
    let unprepare = |kubelet: &Kubelet| kubelet.unprepare("bert");
    let undo = |kubelet: &Kubelet| drop(kubelet.prepare("bert").unwrap());
    let rows = rows(&calls(&node, |kubelet| unprepare(kubelet).unwrap(), undo));
    let mut seconds = slice_seconds(&node);
    for row in &rows {
        kill_at(&mut node, row, unprepare);
        node.start(&[]);
        assert_eq!(node.standing(), bystanders, "{row:?}");
        assert!(node.cdi("bert").is_none(), "{row:?}");
        node.kubelet().unprepare("bert").unwrap_or_else(|error| panic!("{row:?}: {error}"));
        let now = slice_seconds(&node);
        assert!(now >= seconds, "{row:?}: slice-seconds fell from {seconds} to {now}");
        seconds = now;
        node.kubelet().prepare("bert").unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_prepared(&node, &bystanders, row);
    }
    print("unprepare, then unprepared again", &rows);
}

#[test]
fn a_driver_killed_again_while_it_recovers_recovers_at_the_next_start() {
    let (mut node, bystanders) = node();
    node.allocate("bert", DEVICE);
    let functions = [
        "nvmlDeviceGetGpuInstances",
        "nvmlGpuInstanceGetInfo",
        "nvmlDeviceGetGpuInstanceById",
        "nvmlComputeInstanceDestroy",
        "nvmlGpuInstanceDestroy",
    ];
    let rows = rows(&functions.map(|function| (function.to_owned(), 1)));
    let created =
        Row { function: "nvmlGpuInstanceCreateComputeInstance".to_owned(), skip: 0, when: When::After };
    for row in &rows {
        kill_at(&mut node, &created, |kubelet| kubelet.prepare("bert").map(|_| ()));
        node.gpus.add_fault(GATE, &Fault::block(&row.function, row.when)).unwrap();
        node.spawn(&[]);
        node.gpus.wait_blocked(GATE, DEADLINE).unwrap();
        node.kill();
        node.gpus.remove_fault(GATE).unwrap();
        node.start(&[]);
        assert_eq!(node.standing(), bystanders, "{row:?}");
        node.kubelet().prepare("bert").unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_prepared(&node, &bystanders, row);
        node.kubelet().unprepare("bert").unwrap();
    }
    print("recovery", &rows);
}
