//! Discovery of slots on simulated servers: k workers, a queue inside the server, noise.

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::SlotDiscovery;

/// Server with k workers whose batches take L(rows) with 10 % noise, and clients that saturate it or not.
struct Server {
    workers: usize,
    random: SmallRng,
    now_us: u64,
    /// Ends of the running batches, and number of batches that wait inside the server.
    at_work: Vec<u64>,
    inside: u32,
}

impl Server {
    fn new(workers: usize, seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self { workers, random, now_us: 0, at_work: Vec::new(), inside: 0 }
    }

    fn start(&mut self) {
        if self.at_work.len() < self.workers {
            let noise: f64 = (0..4).map(|_| self.random.random_range(-0.0866..0.0866)).sum();
            self.at_work.push(self.now_us + (8_400.0 * (1.0 + noise)) as u64);
        } else {
            self.inside += 1;
        }
    }

    /// Runs until a batch ends.
    fn end(&mut self) {
        let first = (0..self.at_work.len()).min_by_key(|&at| self.at_work[at]).unwrap();
        self.now_us = self.at_work.swap_remove(first);
        if self.inside > 0 {
            self.inside -= 1;
            self.start();
        }
    }

    /// Runs `batches` batches with work waiting all the time and returns the numbers of slots that were used, in order.
    fn saturated(&mut self, discovery: &mut SlotDiscovery, batches: u32) -> Vec<u32> {
        let mut used = Vec::new();
        for _ in 0..batches {
            while (self.at_work.len() as u32 + self.inside) < discovery.slots() {
                self.start();
            }
            self.end();
            discovery.ended(self.now_us, 64.0);
            used.push(discovery.slots());
        }
        used
    }
}

/// Returns the number of slots that was used most of the time at the end.
fn settled(used: &[u32]) -> u32 {
    let last = &used[used.len() / 2..];
    (1..=64).max_by_key(|slots| last.iter().filter(|used| *used == slots).count()).unwrap()
}

/// Runs batches that end `apart_us` apart until the number of slots changes, and returns it; `None` if it does not
/// change within a measurement.
fn until_it_changes(discovery: &mut SlotDiscovery, now_us: &mut u64, apart_us: u64) -> Option<u32> {
    let before = discovery.slots();
    (0..100).find_map(|_| {
        *now_us += apart_us;
        discovery.ended(*now_us, 64.0);
        Some(discovery.slots()).filter(|&slots| slots != before)
    })
}

#[test]
fn a_gain_that_was_luck_is_taken_back_before_more_is_tried() {
    let (mut discovery, mut now_us) = (SlotDiscovery::new(1, 8), 0);
    assert_eq!(until_it_changes(&mut discovery, &mut now_us, 1000), Some(2), "tries one more");
    // For the length of one measurement the server is a tenth faster with any number of slots.
    for _ in 0..70 {
        now_us += 900;
        discovery.ended(now_us, 64.0);
    }
    assert_eq!(discovery.slots(), 2, "which looks like a gain");
    assert_eq!(until_it_changes(&mut discovery, &mut now_us, 1000), Some(1), "one less is tried");
    assert_eq!(until_it_changes(&mut discovery, &mut now_us, 1000), None, "and does as much");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_workers_of_a_server_are_found(workers in prop::sample::select(vec![1usize, 2, 4]), seed in any::<u64>()) {
        let mut discovery = SlotDiscovery::new(1, 32);
        let mut server = Server::new(workers, seed);
        let used = server.saturated(&mut discovery, 1_500);
        prop_assert_eq!(settled(&used), workers as u32);
        // Later tries do not change the number.
        let used = server.saturated(&mut discovery, 6_000);
        prop_assert!(used.iter().all(|&slots| slots <= workers as u32 + 1), "{:?}", used.iter().max());
        prop_assert_eq!(settled(&used), workers as u32);
    }

    #[test]
    fn a_hint_that_is_too_high_is_corrected(hint in 1..7u32, seed in any::<u64>()) {
        let mut discovery = SlotDiscovery::new(hint, 32);
        // One try in thousands is wrong by chance; the next one comes within 1 536 batches.
        let used = Server::new(2, seed).saturated(&mut discovery, 8_000);
        prop_assert_eq!(settled(&used), 2);
    }

    #[test]
    fn a_server_that_changes_is_followed(seed in any::<u64>()) {
        let mut discovery = SlotDiscovery::new(1, 32);
        let mut server = Server::new(1, seed);
        server.saturated(&mut discovery, 500);
        server.workers = 3;
        let used = server.saturated(&mut discovery, 12_000);
        prop_assert_eq!(settled(&used), 3);
    }

    #[test]
    fn without_saturation_nothing_is_tried(seed in any::<u64>(), gap in 1..30u32) {
        let mut discovery = SlotDiscovery::new(1, 32);
        let mut server = Server::new(4, seed);
        for _ in 0..200 {
            server.saturated(&mut discovery, gap);
            discovery.unsaturated();
        }
        prop_assert_eq!(discovery.slots(), 1);
    }
}
