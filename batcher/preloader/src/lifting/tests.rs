//! The loop against a cluster in memory whose mirrors may lag behind, in virtual time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use sluice_inventory::Cluster;
use tokio::time::sleep;

use super::events::GateEvent;
use super::lifter::{ClusterView, PatchOutcome, PodPatcher, SETTLE};
use super::*;
use crate::gates::world::{DEADLINE, World};
use crate::gates::{Look, PodRef, Why};

/// The API server, what the mirrors show of it, and what was asked of it.
struct Fake {
    world: World,
    /// What the mirrors show; they follow when told to.
    seen: World,
    /// Answers other than the honest one, for the next patches.
    answers: VecDeque<PatchOutcome>,
    sent: Vec<String>,
    told: Vec<(String, GateEvent)>,
}

#[derive(Clone)]
struct Shared {
    fake: Arc<Mutex<Fake>>,
    changes: watch::Sender<()>,
    changed: watch::Receiver<()>,
}

impl ClusterView for Shared {
    fn see(&mut self) -> Option<(Vec<Arc<Pod>>, Cluster)> {
        self.changed.mark_unchanged();
        let seen = self.fake.lock().unwrap().seen.clone();
        Some((seen.pods.into_iter().map(Arc::new).collect(), seen.cluster))
    }

    fn closed_nodes(&self, _: &Pod) -> Arc<BTreeSet<String>> {
        Arc::default()
    }

    async fn changed(&mut self) {
        self.changed.changed().await.unwrap();
    }
}

impl PodPatcher for Shared {
    async fn lift(&self, pod: PodRef, patch: Patch) -> PatchOutcome {
        let mut fake = self.fake.lock().unwrap();
        fake.sent.push(pod.name.clone());
        let next = fake.answers.pop_front();
        if let Some(PatchOutcome::Refused(_) | PatchOutcome::Gone | PatchOutcome::NotSent) = &next {
            return next.unwrap();
        }
        let found = fake.world.pods.iter_mut().find(|one| one.metadata.name.as_ref() == Some(&pod.name));
        let Some(found) = found else { return PatchOutcome::Gone };
        let mut value = serde_json::to_value(&*found).unwrap();
        match json_patch::patch(&mut value, &patch) {
            Ok(()) => *found = serde_json::from_value(value).unwrap(),
            Err(error) => return PatchOutcome::Refused(error.to_string()),
        }
        next.unwrap_or(PatchOutcome::Lifted)
    }

    fn publish(&self, pod: &PodRef, event: GateEvent) {
        self.fake.lock().unwrap().told.push((pod.name.clone(), event));
    }
}

/// A lifter that runs, and the cluster in its patcher.
struct Bed {
    shared: Shared,
    acts: watch::Sender<bool>,
}

impl Bed {
    /// Has settled as the one that acts.
    async fn start(world: World, rule: Rule) -> Self {
        let (changes, changed) = watch::channel(());
        let fake =
            Fake { seen: world.clone(), world, answers: VecDeque::new(), sent: Vec::new(), told: Vec::new() };
        let shared = Shared { fake: Arc::new(Mutex::new(fake)), changes, changed };
        let (acts, acting) = watch::channel(true);
        tokio::spawn(Lifter::new(DEADLINE, rule, shared.clone(), shared.clone()).run(acting));
        let bed = Self { shared, acts };
        sleep(SETTLE).await;
        bed.pass().await;
        bed
    }

    fn with<T>(&self, act: impl FnOnce(&mut Fake) -> T) -> T {
        act(&mut self.shared.fake.lock().unwrap())
    }

    /// Changes the cluster; the mirrors follow, and everybody acts.
    async fn change(&self, act: impl FnOnce(&mut World)) {
        self.with(|fake| act(&mut fake.world));
        self.follow().await;
    }

    /// The mirrors show what is.
    async fn follow(&self) {
        self.with(|fake| fake.seen = fake.world.clone());
        self.wake().await;
    }

    /// Something changed, if only elsewhere.
    async fn wake(&self) {
        self.shared.changes.send_replace(());
        self.pass().await;
    }

    /// Less time than anything but computing takes.
    async fn pass(&self) {
        sleep(Duration::from_millis(1)).await;
    }

    fn sent(&self) -> Vec<String> {
        self.with(|fake| std::mem::take(&mut fake.sent))
    }

    fn told(&self) -> Vec<(String, GateEvent)> {
        self.with(|fake| std::mem::take(&mut fake.told))
    }
}

fn two_for_one_gpu() -> World {
    let mut world = World::of_gpus(1);
    world.add("first", "7g.40gb", -2);
    world.add("second", "7g.40gb", -1);
    world
}

#[tokio::test(start_paused = true)]
async fn what_was_lifted_and_is_not_seen_yet_is_neither_lifted_again_nor_given_away() {
    let bed = Bed::start(two_for_one_gpu(), Rule::Capacity).await;
    assert_eq!(bed.sent(), ["first"]);
    // The mirrors still show both gated, and the slice free.
    for _ in 0..5 {
        bed.wake().await;
        sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(bed.sent(), [""; 0]);
    bed.follow().await;
    bed.change(|world| assert!(world.schedule().is_empty())).await;
    assert_eq!(bed.sent(), [""; 0]);
    bed.change(|world| world.remove("first")).await;
    assert_eq!(bed.sent(), ["second"]);
    assert!(
        bed.told()
            .iter()
            .any(|(pod, told)| pod == "second" && matches!(told, GateEvent::Lifted(Why::SliceFree, _)))
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_once_why_and_who_waits_a_moment_is_not() {
    let bed = Bed::start(two_for_one_gpu(), Rule::Capacity).await;
    let waits = |told: Vec<(String, GateEvent)>| {
        told.into_iter()
            .filter_map(|(pod, told)| match told {
                GateEvent::Waits(because) => Some((pod, because)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(waits(bed.told()), []);
    for _ in 0..5 {
        sleep(Duration::from_secs(2)).await;
        bed.wake().await;
    }
    let told = waits(bed.told());
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "second");
    assert!(told[0].1.contains("7g.40gb: 0 free"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_lift_is_told_and_tried_again_later_and_the_slice_goes_to_the_next() {
    let mut world = World::of_gpus(1);
    world.add("holder", "7g.40gb", -3);
    world.lift("holder");
    world.schedule();
    world.add("first", "7g.40gb", -2);
    world.add("second", "7g.40gb", -1);
    let bed = Bed::start(world, Rule::Capacity).await;
    bed.with(|fake| fake.answers.push_back(PatchOutcome::Refused("policy says no".to_owned())));
    bed.change(|world| world.remove("holder")).await;
    assert_eq!(bed.sent(), ["first", "second"]);
    assert!(bed.told().contains(&("first".to_owned(), GateEvent::Refused("policy says no".to_owned()))));
    bed.change(|world| world.remove("second")).await;
    assert_eq!(bed.sent(), [""; 0], "it backs off");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.sent(), ["first"], "nothing but time has changed");
}

#[tokio::test(start_paused = true)]
async fn a_lift_that_may_have_been_done_holds_its_slice_until_it_is_asked_again() {
    let bed = Bed::start(World::of_gpus(1), Rule::Capacity).await;
    bed.with(|fake| fake.answers.push_back(PatchOutcome::Unknown("the connection broke".to_owned())));
    bed.change(|world| *world = two_for_one_gpu()).await;
    assert_eq!(bed.sent(), ["first"]);
    bed.wake().await;
    assert_eq!(bed.sent(), [""; 0]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bed.sent()[0], "first", "the mirrors still show its gate");
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_same_name_is_not_lifted_for_the_one_before() {
    let mut world = World::of_gpus(1);
    world.add("again", "7g.40gb", -1);
    let bed = Bed::start(World::of_gpus(1), Rule::Capacity).await;
    bed.with(|fake| {
        fake.seen = world.clone();
        world.remove("again");
        world.add("other", "1g.5gb", -1);
        world.add("again", "7g.40gb", -1);
        fake.world = world.clone();
    });
    bed.wake().await;
    assert_eq!(bed.sent(), ["again"]);
    let is_gated = |fake: &mut Fake| !Look::of(fake.world.pod("again"), false).our_gates.is_empty();
    assert!(bed.with(is_gated), "the server saw that it is another one");
    bed.follow().await;
    assert!(bed.sent().contains(&"again".to_owned()));
    assert!(!bed.with(is_gated), "a new one does not wait for what the old one was refused");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_needs_no_other_event() {
    let mut world = World::of_gpus(1);
    world.add("holder", "7g.40gb", 0);
    world.lift("holder");
    world.schedule();
    let late = world.add("late", "7g.40gb", 0);
    late.metadata.annotations =
        Some([("sluice.dev/gate-deadline-seconds".to_owned(), "20".to_owned())].into());
    // The clock on the wall stands still in this test: what counts is since when it was seen.
    let bed = Bed::start(world, Rule::Capacity).await;
    sleep(Duration::from_millis(19_900)).await;
    assert_eq!(bed.sent(), [""; 0]);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(bed.sent(), ["late"]);
    assert!(bed.told().iter().any(|(_, told)| matches!(told, GateEvent::Lifted(Why::Deadline, _))));
}

#[tokio::test(start_paused = true)]
async fn a_clock_stops_while_another_gate_is_there() {
    let mut world = World::of_gpus(1);
    world.add("holder", "7g.40gb", 0);
    world.lift("holder");
    world.schedule();
    let held = world.add("held", "7g.40gb", -10_000);
    let gates = held.spec.as_mut().unwrap().scheduling_gates.as_mut().unwrap();
    gates.push(k8s_openapi::api::core::v1::PodSchedulingGate { name: "example.com/quota".to_owned() });
    let bed = Bed::start(world, Rule::Capacity).await;
    sleep(Duration::from_secs(1000)).await;
    bed.change(|world| {
        world.pod("held").spec.as_mut().unwrap().scheduling_gates.as_mut().unwrap().pop();
    })
    .await;
    sleep(DEADLINE - Duration::from_secs(1)).await;
    assert_eq!(bed.sent(), [""; 0], "it has waited for us for less than its deadline");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bed.sent(), ["held"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_node_could_take_is_lifted_after_a_while_without_any_other_event() {
    let mut world = World::of_gpus(1);
    let slices = std::mem::take(&mut world.cluster.slices);
    world.add("a", "7g.40gb", -1);
    let bed = Bed::start(world, Rule::Capacity).await;
    sleep(Duration::from_secs(9)).await;
    bed.change(|world| world.cluster.slices.clone_from(&slices)).await;
    assert_eq!(bed.sent(), ["a"]);
    assert!(bed.told().iter().any(|(_, told)| matches!(told, GateEvent::Lifted(Why::SliceFree, _))));
    bed.change(|world| {
        world.remove("a");
        world.cluster.slices.clear();
        world.add("b", "7g.40gb", -1);
    })
    .await;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(bed.sent(), [""; 0]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bed.sent(), ["b"]);
    assert!(bed.told().iter().any(|(_, told)| matches!(told, GateEvent::Lifted(Why::NeedsNode, _))));
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_lifts_and_a_new_one_decides_what_the_old_one_would_have() {
    let bed = Bed::start(World::of_gpus(1), Rule::Capacity).await;
    bed.acts.send_replace(false);
    bed.pass().await;
    bed.change(|world| *world = two_for_one_gpu()).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bed.sent(), [""; 0]);
    // Another one lifted the first of them meanwhile, and was gone before its claim was allocated.
    bed.change(|world| world.lift("first")).await;
    bed.acts.send_replace(true);
    sleep(SETTLE * 2).await;
    assert_eq!(bed.sent(), [""; 0], "the slice is promised");
    bed.change(|world| world.remove("first")).await;
    assert_eq!(bed.sent(), ["second"]);
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_lifts_by_age_alone_and_only_while_nobody_leads() {
    let mut world = World::of_gpus(1);
    world.add("a", "7g.40gb", 0);
    let bed = Bed::start(world, Rule::Age { grace: WATCHDOG_GRACE }).await;
    sleep(DEADLINE).await;
    assert_eq!(bed.sent(), [""; 0], "whoever leads would have lifted it by now");
    bed.acts.send_replace(false);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(bed.sent(), [""; 0], "somebody leads");
    bed.acts.send_replace(true);
    sleep(SETTLE + DEADLINE + WATCHDOG_GRACE).await;
    bed.pass().await;
    assert_eq!(bed.sent(), ["a"]);
}
