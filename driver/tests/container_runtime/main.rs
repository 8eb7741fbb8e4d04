//! What a container gets for prepared claims, checked with the parts of real container runtimes: the reference CDI
//! library edits an OCI bundle as containerd does, NVIDIA's own runtime and its hook process it, and a stand-in for
//! runc starts nothing.
//!
//!     cargo test -p sluice-driver --test container_runtime -- --ignored

// clippy.toml allows it in tests, which for clippy are only the functions with #[test].
#![allow(clippy::unwrap_used)]

// Fixture of the other tests, of which this one uses a part.
#[allow(dead_code)]
#[path = "../kubelet_plugin/kubelet.rs"]
mod kubelet;
#[allow(dead_code)]
#[path = "../kubelet_plugin/node.rs"]
mod node;
mod runtime;

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use node::Node;
use runtime::{Bundle, Mode};

const SLICE: &str = "gpu-0-mig-1g-5gb-6";
const OTHER_SLICE: &str = "gpu-0-mig-2g-10gb-4";

/// Returns the names of all devices of a prepared claim, or of one of its requests.
fn cdi_devices(node: &Node, claim: &str, request: Option<&str>) -> Vec<String> {
    let devices = node.kubelet().prepare(claim).unwrap();
    devices
        .into_iter()
        .filter(|device| {
            request.is_none_or(|request| device.request_names.iter().any(|name| name == request))
        })
        .flat_map(|device| device.cdi_device_ids)
        .collect()
}

/// Returns the device files of slices and GPUs, without those that every container with a GPU has.
fn own_devices(bundle: &Bundle) -> BTreeSet<String> {
    let shared = ["/dev/nvidiactl", "/dev/nvidia-uvm"];
    bundle.devices().into_iter().filter(|path| !shared.contains(&path.as_str())).collect()
}

fn paths(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// GPU instance 13 at memory slice 6, instance 5 at 4, each with its compute instance 0.
const FILES_OF_SLICE: [&str; 3] =
    ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap120", "/dev/nvidia-caps/nvidia-cap121"];
const FILES_OF_BOTH: [&str; 5] = [
    "/dev/nvidia0",
    "/dev/nvidia-caps/nvidia-cap120",
    "/dev/nvidia-caps/nvidia-cap121",
    "/dev/nvidia-caps/nvidia-cap48",
    "/dev/nvidia-caps/nvidia-cap49",
];

fn assert_nothing_is_hidden(bundle: &Bundle) {
    assert_eq!(bundle.variable("CUDA_VISIBLE_DEVICES"), None, "it would name some of the devices only");
    assert_eq!(bundle.variable("NVIDIA_VISIBLE_DEVICES").as_deref(), Some("void"));
}

#[test]
#[ignore = "builds NVIDIA's runtime with Go from the module proxy: cargo test … --test container_runtime -- --ignored"]
fn a_container_whose_image_asks_for_all_gpus_gets_its_slice_alone_under_nvidias_runtime() {
    let node = Node::started();
    node.allocate("bert", SLICE);
    let devices = cdi_devices(&node, "bert", None);
    // Proof that the runtime works: without a claim, it grants what the image asks for.
    let without = Bundle::of_image(&["NVIDIA_VISIBLE_DEVICES=all"]);
    without.start(Mode::Legacy).unwrap();
    assert!(without.nvidia_was_asked().contains("--device=all"), "{}", without.nvidia_was_asked());
    for image in [&["NVIDIA_VISIBLE_DEVICES=all"][..], &["NVIDIA_VISIBLE_DEVICES=0"], &[]] {
        for mode in [Mode::Legacy, Mode::Auto] {
            let bundle = Bundle::of_image(image);
            bundle.inject(&node.path("cdi"), &devices);
            bundle.start(mode).unwrap();
            assert_eq!(bundle.nvidia_was_asked(), "", "{mode:?} {image:?}");
            assert_eq!(own_devices(&bundle), paths(&FILES_OF_SLICE), "{mode:?} {image:?}");
        }
    }
}

#[test]
#[ignore = "builds NVIDIA's runtime with Go from the module proxy: cargo test … --test container_runtime -- --ignored"]
fn a_container_with_two_claims_sees_both_also_when_one_was_prepared_before() {
    let node = Node::started();
    node.allocate("shared", SLICE);
    let shared = cdi_devices(&node, "shared", None);
    node.allocate("own", OTHER_SLICE);
    let own = cdi_devices(&node, "own", None);
    for order in [[&shared, &own], [&own, &shared]] {
        let bundle = Bundle::of_image(&["NVIDIA_VISIBLE_DEVICES=all"]);
        bundle.inject(&node.path("cdi"), &order.map(Clone::clone).concat());
        bundle.start(Mode::Legacy).unwrap();
        assert_eq!(own_devices(&bundle), paths(&FILES_OF_BOTH));
        assert_nothing_is_hidden(&bundle);
        for device in [SLICE, OTHER_SLICE] {
            let uuid = bundle.variable(&sluice_config::names::env::uuid(device)).unwrap();
            assert!(uuid.starts_with("MIG-"), "{uuid}");
        }
    }
}

#[test]
#[ignore = "builds NVIDIA's runtime with Go from the module proxy: cargo test … --test container_runtime -- --ignored"]
fn containers_of_two_requests_see_their_own_and_one_of_both_sees_both() {
    let node = Node::started();
    // The scheduler creates one such claim for two extended resources as well.
    node.allocate_requests("both", &[("small", SLICE), ("large", OTHER_SLICE)]);
    let container = |request| {
        let bundle = Bundle::of_image(&[]);
        bundle.inject(&node.path("cdi"), &cdi_devices(&node, "both", request));
        bundle.start(Mode::Legacy).unwrap();
        assert_nothing_is_hidden(&bundle);
        own_devices(&bundle)
    };
    assert_eq!(container(Some("small")), paths(&FILES_OF_SLICE));
    assert_eq!(container(None), paths(&FILES_OF_BOTH));
    let large = container(Some("large"));
    assert_eq!(
        large,
        paths(&["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap48", "/dev/nvidia-caps/nvidia-cap49"])
    );
}

/// Adds the files of NVIDIA's installer to the node's driver root. The simulated library stays the one that is
/// loaded.
fn install_driver_files(node: &Node, version: &str) {
    let folder = node.path("root/usr/lib64");
    let of_version = |name: &str| folder.join(format!("{name}.so.{version}"));
    std::fs::rename(node.gpus.library(), of_version("libnvidia-ml")).unwrap();
    for name in ["libcuda", "libnvidia-ptxjitcompiler", "libnvidia-gpucomp", "libGLX_nvidia"] {
        std::fs::write(of_version(name), version).unwrap();
    }
    for (link, name) in [("libnvidia-ml.so.1", "libnvidia-ml"), ("libcuda.so.1", "libcuda")] {
        symlink(format!("{name}.so.{version}"), folder.join(link)).unwrap();
    }
    symlink("libcuda.so.1", folder.join("libcuda.so")).unwrap();
    std::fs::write(folder.join("libcuda.so.470.1.1"), "of another driver").unwrap();
    std::fs::create_dir_all(node.path("root/usr/bin")).unwrap();
    std::fs::write(node.path("root/usr/bin/nvidia-smi"), "").unwrap();
}

#[test]
#[ignore = "builds NVIDIA's runtime with Go from the module proxy: cargo test … --test container_runtime -- --ignored"]
fn a_container_has_the_libraries_of_the_nodes_driver_once_whatever_it_claims() {
    let mut node = Node::new();
    install_driver_files(&node, "550.54.14");
    node.start(&[]);
    node.allocate_requests("both", &[("small", SLICE), ("large", OTHER_SLICE)]);
    node.allocate("whole", "gpu-1");
    let both = cdi_devices(&node, "both", None);
    let whole = cdi_devices(&node, "whole", None);
    let real = |name: &str| std::fs::canonicalize(node.path("root/usr/lib64")).unwrap().join(name);
    for devices in [both.clone(), both[..1].to_vec(), [both.clone(), whole].concat()] {
        let bundle = Bundle::of_image(&["NVIDIA_VISIBLE_DEVICES=all", "LD_LIBRARY_PATH=/opt/of/the/image"]);
        bundle.inject(&node.path("cdi"), &devices);
        bundle.start(Mode::Legacy).unwrap();
        let mounts = bundle.mounts();
        let paths: BTreeSet<&str> = mounts.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths.len(), mounts.len(), "something is mounted twice: {mounts:?}");
        for (folder, name, file) in [
            ("/usr/lib64", "libcuda.so.1", "libcuda.so.550.54.14"),
            ("/usr/lib64", "libcuda.so", "libcuda.so.550.54.14"),
            ("/usr/lib/x86_64-linux-gnu", "libcuda.so.1", "libcuda.so.550.54.14"),
            ("/usr/lib/x86_64-linux-gnu", "libnvidia-ml.so.1", "libnvidia-ml.so.550.54.14"),
            ("/usr/lib64", "libnvidia-gpucomp.so.550.54.14", "libnvidia-gpucomp.so.550.54.14"),
        ] {
            let path = format!("{folder}/{name}");
            let source = mounts.iter().find(|(other, _)| *other == path).map(|(_, source)| source);
            assert_eq!(source, Some(&real(file)), "{path} in {mounts:?}");
        }
        assert!(paths.contains("/usr/bin/nvidia-smi"));
        assert!(!paths.iter().any(|path| path.contains("470.1.1") || path.contains("GLX")), "{paths:?}");
        assert_eq!(bundle.variable("LD_LIBRARY_PATH").as_deref(), Some("/opt/of/the/image"));
    }
}

#[test]
#[ignore = "builds NVIDIA's runtime with Go from the module proxy: cargo test … --test container_runtime -- --ignored"]
fn no_library_is_mounted_where_there_is_none_or_it_was_switched_off() {
    let mut node = Node::started();
    let mounts = |node: &Node| {
        node.allocate("bert", SLICE);
        let bundle = Bundle::of_image(&[]);
        bundle.inject(&node.path("cdi"), &cdi_devices(node, "bert", None));
        bundle.mounts()
    };
    assert_eq!(mounts(&node), []);
    assert!(node.terminate());
    install_driver_files(&node, "550.54.14");
    node.start(&["--mount-libraries", "false"]);
    assert_eq!(mounts(&node), []);
    assert!(node.terminate());
    node.start(&["--driver-root-on-host", "/run/nvidia/driver"]);
    let mounts = mounts(&node);
    assert!(!mounts.is_empty());
    assert!(mounts.iter().all(|(_, source)| source.starts_with("/run/nvidia/driver/usr")), "{mounts:?}");
}
