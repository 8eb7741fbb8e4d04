//! MIG instances of the driver as another program sees them: NVIDIA's own Python binding (nvidia-ml-py from PyPI), in
//! a process of its own, on the same simulated NVML.
//!
//!     python3 -m venv /tmp/nvml && /tmp/nvml/bin/pip install -r driver/nvml-sim/tests/python/requirements.txt
//!     PYTHON=/tmp/nvml/bin/python cargo test -p sluice-driver --test independent_client -- --ignored

// clippy.toml allows it in tests, which for clippy are only the functions with #[test].
#![allow(clippy::unwrap_used)]

// Fixture of the other tests, of which this one uses a part.
#[allow(dead_code)]
#[path = "../kubelet_plugin/kubelet.rs"]
mod kubelet;
#[allow(dead_code)]
#[path = "../kubelet_plugin/node.rs"]
mod node;

use std::process::Command;

use node::{Node, told_uuid};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/nvml-sim/tests/python/list_instances.py");

/// Returns the MIG devices that nvidia-ml-py lists.
fn listed(node: &Node) -> Vec<serde_json::Value> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python).arg(SCRIPT).env("LD_LIBRARY_PATH", node.gpus.dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[ignore = "needs nvidia-ml-py: PYTHON=<interpreter that has it> cargo test … -- --ignored"]
fn nvidia_ml_py_lists_the_instance_that_the_driver_has_just_made() {
    let node = Node::started();
    assert!(listed(&node).is_empty());
    node.allocate("bert", "gpu-0-mig-2g-10gb-4");
    node.kubelet().prepare("bert").unwrap();
    let devices = listed(&node);
    let [device] = &devices[..] else { panic!("{devices:?}") };
    println!("{device}");
    assert_eq!((&device["gpu"], &device["profile"]), (&0.into(), &"2g.10gb".into()));
    let told = told_uuid(&node.cdi("bert").unwrap(), "gpu-0-mig-2g-10gb-4").unwrap();
    assert_eq!(device["mig_uuid"], told);
    node.kubelet().unprepare("bert").unwrap();
    assert!(listed(&node).is_empty());
}
