//! Invariants for any order of events: no orphan, no lost claim, foreign instances untouched.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const STARTS: [u8; 3] = [0, 2, 4];

#[derive(Debug, Clone)]
enum Event {
    Prepare {
        claim: usize,
        start: usize,
    },
    Unprepare {
        claim: usize,
    },
    Restart,
    Reboot,
    /// Another program creates a 1g.5gb instance.
    Foreign {
        start: u8,
    },
    /// A call fails from now on.
    Fail {
        method: usize,
        reason: usize,
    },
    Heal,
}

const METHODS: [&str; 6] = [
    "gpu_instances",
    "create_gpu_instance",
    "compute_instances",
    "create_compute_instance",
    "destroy_compute_instance",
    "destroy_gpu_instance",
];

fn reasons() -> [Reason; 3] {
    [Reason::InUse, Reason::Occupied, Reason::Other(999)]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..3usize, 0..3usize).prop_map(|(claim, start)| Event::Prepare { claim, start }),
        3 => (0..3usize).prop_map(|claim| Event::Unprepare { claim }),
        1 => Just(Event::Restart),
        1 => Just(Event::Reboot),
        1 => (0..7u8).prop_map(|start| Event::Foreign { start }),
        2 => (0..6usize, 0..3usize).prop_map(|(method, reason)| Event::Fail { method, reason }),
        2 => Just(Event::Heal),
    ];
    prop::collection::vec(event, 1..24)
}

/// State of the world beside the driver.
#[derive(Default)]
struct World {
    /// Ids of foreign instances.
    foreign: BTreeSet<u32>,
    /// Placements of the devices of prepared claims, by claim.
    handed_out: std::collections::BTreeMap<String, u8>,
    boots: usize,
}

impl World {
    fn apply(&mut self, node: Node, event: &Event) -> Node {
        match event {
            Event::Prepare { claim, start } => {
                let (claim, start) = (format!("c{claim}"), STARTS[*start]);
                match node.prepare(&claim, start) {
                    Ok(_) => drop(self.handed_out.insert(claim, start)),
                    // The claim was allocated another placement, so its old one was released first.
                    Err(_) if self.handed_out.get(&claim) != Some(&start) => {
                        self.handed_out.remove(&claim);
                    }
                    Err(_) => {}
                }
            }
            Event::Unprepare { claim } => {
                let claim = format!("c{claim}");
                // From the first step on, the devices of the claim may be gone.
                self.handed_out.remove(&claim);
                let _ = node.device_state.unprepare(&claim);
            }
            Event::Restart => return node.restart(&format!("boot-{}", self.boots)),
            Event::Reboot => {
                self.boots += 1;
                self.foreign.clear();
                self.handed_out.clear();
                node.gpus.wipe();
                return node.restart(&format!("boot-{}", self.boots));
            }
            Event::Foreign { start } => {
                let placement = Placement { start: *start, size: 1 };
                if !node.gpus.is_taken(placement) {
                    self.foreign.insert(node.gpus.add_foreign(19, placement));
                }
            }
            Event::Fail { method, reason } => {
                node.gpus.fail(METHODS[*method], reasons()[*reason].clone());
            }
            Event::Heal => node.gpus.heal(),
        }
        node
    }

    fn check(&self, node: &Node) {
        let standing = node.gpus.standing();
        for id in &self.foreign {
            let found = standing.iter().find(|(gi, ..)| gi == id);
            assert!(matches!(found, Some((_, 19, _, 0))), "foreign instance {id} was touched: {standing:?}");
        }
        for (claim, start) in &self.handed_out {
            let stands =
                standing.iter().any(|(_, profile, s, computes)| (*profile, s, *computes) == (14, start, 1));
            assert!(stands, "claim {claim} lost its slice at {start}: {standing:?}");
        }
        let ours = standing.iter().filter(|(id, ..)| !self.foreign.contains(id)).count();
        assert!(ours <= node.checkpoint().claims.len(), "an instance without a record: {standing:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_orphaned_lost_or_foreign_and_touched(events in events()) {
        let mut world = World { boots: 1, ..World::default() };
        let mut node = Node::new();
        for event in &events {
            node = world.apply(node, event);
            world.check(&node);
        }
        node.gpus.heal();
        let node = node.restart(&format!("boot-{}", world.boots));
        world.check(&node);
        for claim in ["c0", "c1", "c2"] {
            node.device_state.unprepare(claim).unwrap();
        }
        let left: BTreeSet<u32> = node.gpus.standing().iter().map(|(id, ..)| *id).collect();
        prop_assert_eq!(left, world.foreign);
    }
}
