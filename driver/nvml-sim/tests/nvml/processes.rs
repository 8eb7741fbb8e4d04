//! Several processes on the same simulated GPUs.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use nvidia_ml::geometry::Model;
use nvidia_ml::{Installation, Topology};

use crate::client::{Client, Machine};

/// Variable that tells a copy of this program which folder to use and what to do.
const DIR: &str = "SLUICE_NVML_SIM_CHILD_DIR";
const SEED: &str = "SLUICE_NVML_SIM_CHILD_SEED";

/// Starts a copy of this program that runs one of the tests for child processes.
pub(crate) fn child(test: &str, installation: &Installation, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(DIR, installation.dir())
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the installation that the parent process chose.
pub(crate) fn chosen_by_parent() -> Installation {
    Installation::open(std::env::var_os(DIR).expect("only a parent runs this").as_ref()).unwrap()
}

/// Creates and destroys instances at random, and prints those that remain in the end.
#[test]
#[ignore = "other tests run it as a process of its own"]
fn racer() {
    let client = Client::open(&chosen_by_parent());
    let mut random: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound
    };
    let model = Model::find("H100-80GB-HBM3").unwrap();
    let mut held = Vec::new();
    for _ in 0..60 {
        if !held.is_empty() && below(2) == 0 {
            let (_, instance, compute) = held.swap_remove(below(held.len()));
            client.destroy_compute(compute).unwrap();
            client.destroy(instance).unwrap();
            continue;
        }
        let gpu = below(2);
        let profile = &model.profiles[below(model.profiles.len())];
        let place = (profile.starts[below(profile.starts.len())], profile.size);
        match client.create(client.gpu(gpu as u32), profile.id, Some(place)) {
            Ok(instance) => {
                // No other process uses compute slices in it, so one of a single slice fits.
                let compute = client.create_compute(instance, 0).unwrap();
                held.push(((gpu, client.info(instance).unwrap().id), instance, compute));
            }
            Err(code) => assert_eq!(code, 23),
        }
    }
    for ((gpu, id), ..) in held {
        println!("held {gpu} {id}");
    }
}

#[test]
fn processes_that_race_leave_exactly_what_they_hold() {
    let machine = Machine::new(&Topology::uniform("H100-80GB-HBM3", 2).with_mig());
    let racers: Vec<_> = (1..=5).map(|seed| child("processes::racer", &machine.installation, seed)).collect();
    let mut held = Vec::new();
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let text = String::from_utf8(output.stdout).unwrap();
        // The test harness prints its own text before the first line.
        held.extend(text.lines().filter_map(|line| {
            let mut words = line.split_once("held ")?.1.split(' ').map(|word| word.parse::<u32>().unwrap());
            Some((words.next().unwrap(), words.next().unwrap()))
        }));
    }
    let instances = machine.installation.instances().unwrap();
    let existing: BTreeSet<_> =
        instances.iter().map(|instance| (instance.gpu as u32, instance.gpu_instance_id)).collect();
    assert_eq!(held.iter().copied().collect::<BTreeSet<_>>(), existing);
    assert_eq!(held.len(), existing.len(), "nothing is held twice");
    for (at, one) in instances.iter().enumerate() {
        assert_eq!(one.compute_instances.len(), 1);
        for other in &instances[at + 1..] {
            let apart = one.start + one.size <= other.start || other.start + other.size <= one.start;
            assert!(one.gpu != other.gpu || apart, "{one:?} {other:?}");
        }
    }
}
