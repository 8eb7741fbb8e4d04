//! What is lifted in which order, and that it is never more than fits.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::World;
use super::*;

fn add_gate(pod: &mut Pod, name: &str) {
    let gates = pod.spec.as_mut().unwrap().scheduling_gates.get_or_insert_default();
    gates.insert(0, PodSchedulingGate { name: name.to_owned() });
}

fn annotate(pod: &mut Pod, seconds: &str) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert("sluice.dev/gate-deadline-seconds".to_owned(), seconds.to_owned());
}

/// Names and actions, in the order of the decisions.
fn actions(view: &Snapshot) -> Vec<(String, Action)> {
    decide(view).into_iter().map(|decision| (decision.pod.name, decision.action)).collect()
}

fn action(view: &Snapshot, name: &str) -> Action {
    actions(view).into_iter().find(|(one, _)| one == name).unwrap().1
}

const LIFT: Action = Action::Lift(Why::SliceFree);
const NONE_FREE: Action = Action::Wait(Reason::NoFreeSlice);

#[test]
fn of_two_pods_for_one_slice_exactly_the_older_one_is_lifted() {
    let mut world = World::of_gpus(1);
    world.add("younger", "7g.40gb", 2);
    world.add("older", "7g.40gb", 1);
    let decisions = actions(&world.view(10));
    assert_eq!(decisions, [("older".to_owned(), LIFT), ("younger".to_owned(), NONE_FREE)]);
}

#[test]
fn priority_goes_before_age() {
    let mut world = World::of_gpus(1);
    world.add("older", "7g.40gb", 1);
    world.add("urgent", "7g.40gb", 2).spec.as_mut().unwrap().priority = Some(100);
    assert_eq!(actions(&world.view(10))[0], ("urgent".to_owned(), LIFT));
}

#[test]
fn a_slice_is_promised_to_whoever_is_in_flight_until_its_claim_has_it() {
    let mut world = World::of_gpus(1);
    world.add("first", "7g.40gb", 1);
    world.add("second", "7g.40gb", 2);
    world.lift("first");
    assert_eq!(action(&world.view(10), "second"), NONE_FREE, "in flight");
    assert!(world.schedule().is_empty());
    assert_eq!(action(&world.view(10), "second"), NONE_FREE, "allocated");
    world.remove("first");
    assert_eq!(action(&world.view(10), "second"), LIFT, "given back");
}

#[test]
fn whoever_took_part_without_a_gate_counts_too() {
    let mut world = World::of_gpus(1);
    let other = world.add("other", "7g.40gb", 5);
    other.metadata.labels = None;
    other.spec.as_mut().unwrap().scheduling_gates = None;
    world.add("gated", "7g.40gb", 1);
    assert_eq!(action(&world.view(10), "gated"), NONE_FREE);
}

#[test]
fn while_another_gate_is_there_nothing_is_lifted_or_promised_and_no_deadline_runs() {
    let mut world = World::of_gpus(1);
    add_gate(world.add("held", "7g.40gb", 1), "example.com/quota");
    world.add("free", "7g.40gb", 2);
    let view = world.view(1000);
    assert_eq!(action(&view, "held"), Action::Wait(Reason::ForeignGate));
    assert_eq!(action(&view, "free"), LIFT);
    assert!(decide_by_age(&view, Duration::ZERO).iter().all(|decision| decision.pod.name != "held"));
    let told = decide(&view).into_iter().find(|decision| decision.pod.name == "held").unwrap().message;
    assert!(told.contains("example.com/quota"), "{told}");
}

#[test]
fn after_its_deadline_a_pod_is_lifted_whatever_is_free() {
    let mut world = World::of_gpus(1);
    world.add("holder", "7g.40gb", 0);
    world.lift("holder");
    world.schedule();
    world.add("patient", "7g.40gb", 0);
    annotate(world.add("hasty", "7g.40gb", 0), "20");
    annotate(world.add("wrong", "7g.40gb", 0), "soon");
    let at = |second, name: &str| action(&world.view(second), name);
    let open = Action::Lift(Why::Deadline);
    assert_eq!((at(19, "hasty"), at(20, "hasty")), (NONE_FREE, open));
    assert_eq!((at(299, "patient"), at(300, "patient")), (NONE_FREE, open));
    assert_eq!((at(299, "wrong"), at(300, "wrong")), (NONE_FREE, open), "what cannot be read does not count");
    let decisions = decide(&world.view(300));
    assert!(decisions[0].message.contains("held by ns/holder-slice-x"), "{}", decisions[0].message);
    let by_age = |second| decide_by_age(&world.view(second), Duration::from_secs(10)).len();
    assert_eq!((by_age(29), by_age(30), by_age(310)), (0, 1, 3), "whoever stands in waits a little longer");
}

#[test]
fn a_pod_is_told_of_other_namespaces_by_number_alone() {
    let mut world = World::of_gpus(1);
    world.add("holder", "7g.40gb", 0);
    world.lift("holder");
    world.schedule();
    for name in ["mine", "theirs"] {
        world.add(name, "7g.40gb", 1);
    }
    let mut view = world.view(10);
    for gated in view.gated.iter_mut().filter(|gated| gated.pod.name == "theirs") {
        gated.pod.namespace = "rival".to_owned();
        gated.wants.claims.iter_mut().for_each(|claim| claim.metadata.namespace = Some("rival".to_owned()));
    }
    let told = |view: &Snapshot, name: &str| {
        let decisions = decide(view);
        decisions.into_iter().find(|decision| decision.pod.name == name).unwrap().message
    };
    let (mine, theirs) = (told(&view, "mine"), told(&view, "theirs"));
    assert!(mine.contains("held by ns/holder-slice-x"), "{mine}");
    assert!(theirs.contains("1 device held by other namespaces") && !theirs.contains("ns/"), "{theirs}");
}

#[test]
fn what_no_node_could_ever_take_is_lifted_after_a_while_so_that_autoscalers_see_it() {
    let mut world = World::of_gpus(1);
    world.cluster.slices.clear();
    world.add("a", "2g.10gb", 0);
    world.claim("a").spec.devices.as_mut().unwrap().requests.as_mut().unwrap()[0]
        .exactly
        .as_mut()
        .unwrap()
        .device_class_name = "mig-9g.gpu.sluice.dev".to_owned();
    world.add("b", "2g.10gb", 0);
    let mut view = world.view(1);
    for name in ["a", "b"] {
        assert_eq!(action(&view, name), Action::Wait(Reason::NeedsNode), "{name}");
    }
    view.gated.iter_mut().for_each(|gated| gated.unplaceable_for = UNPLACEABLE_FOR);
    for decision in decide(&view) {
        assert_eq!(decision.action, Action::Lift(Why::NeedsNode), "{decision:?}");
    }
}

#[test]
fn a_node_that_is_closed_for_now_takes_nobody_and_is_waited_for() {
    let mut world = World::of_gpus(1);
    world.add("a", "2g.10gb", 0);
    world.cluster.unschedulable_nodes.insert("n".to_owned());
    let mut view = world.view(1);
    view.gated[0].wants.closed_nodes = Arc::new(BTreeSet::from(["n".to_owned()]));
    assert_eq!(action(&view, "a"), NONE_FREE);
    view.cluster.unschedulable_nodes.clear();
    assert_eq!(
        action(&view, "a"),
        Action::Wait(Reason::NeedsNode),
        "only this pod is kept off, and for ever"
    );
}

#[test]
fn what_cannot_be_counted_is_left_to_the_scheduler() {
    let mut world = World::of_gpus(1);
    world.add("alternatives", "2g.10gb", 0);
    world.claim("alternatives").spec = serde_json::from_value(json!({"devices": {"requests": [
        {"name": "gpu", "firstAvailable": [{"name": "a", "deviceClassName": "gpu.sluice.dev"}]},
    ]}}))
    .unwrap();
    assert_eq!(action(&world.view(1), "alternatives"), Action::Lift(Why::NotCounted));
    world.add("nothing", "2g.10gb", 0).spec.as_mut().unwrap().resource_claims = None;
    assert_eq!(action(&world.view(1), "nothing"), Action::Lift(Why::NothingToClaim));
    world.add("early", "2g.10gb", 0);
    world.cluster.claims.pop();
    assert_eq!(action(&world.view(1), "early"), Action::Wait(Reason::ClaimMissing));
}

#[test]
fn a_small_pod_passes_a_large_one_only_while_there_is_another_place_for_that() {
    let mut world = World::of_gpus(2);
    for name in ["x", "y"] {
        world.add(name, "3g.20gb", 0);
        world.lift(name);
    }
    world.schedule();
    // Both on the first GPU; the second one is free.
    world.add("large", "7g.40gb", 1);
    world.add("large-2", "7g.40gb", 2);
    world.add("small", "1g.5gb", 3);
    let view = world.view(10);
    assert_eq!(action(&view, "large"), LIFT);
    assert_eq!(action(&view, "large-2"), NONE_FREE);
    // The first GPU comes back to large-2 one day, but not if it is nibbled at.
    assert_eq!(action(&view, "small"), NONE_FREE, "three of eight memory slices were not left");
    world.remove("x");
    assert_eq!(action(&world.view(10), "small"), Action::Wait(Reason::BehindOlder));
    world.remove("large");
    let view = world.view(10);
    assert_eq!((action(&view, "large-2"), action(&view, "small")), (LIFT, LIFT));
}

#[test]
fn a_pod_of_several_claims_is_lifted_when_one_node_has_all_of_them() {
    let mut world = World::of_gpus(1);
    let mut elsewhere = World::of_gpus(1).cluster.slices;
    for slice in &mut elsewhere {
        let text = serde_json::to_string(slice).unwrap();
        let text = text.replace("\"n\"", "\"m\"").replace("n/gpu", "m/gpu").replace("\"n-", "\"m-");
        *slice = serde_json::from_str(&text).unwrap();
    }
    world.cluster.slices.extend(elsewhere);
    let pod = world.add("pair", "7g.40gb", 1);
    let entry = json!({"name": "other", "resourceClaimName": "shared"});
    pod.spec.as_mut().unwrap().resource_claims.as_mut().unwrap().push(serde_json::from_value(entry).unwrap());
    assert_eq!(action(&world.view(5), "pair"), Action::Wait(Reason::ClaimMissing));
    let mut shared = world.claim("pair").clone();
    shared.metadata.name = Some("shared".to_owned());
    shared.metadata.owner_references = None;
    world.cluster.claims.push(shared);
    assert_eq!(action(&world.view(5), "pair"), Action::Wait(Reason::NeedsNode), "a node has one GPU each");
    let requests = world.claim("pair").spec.devices.as_mut().unwrap().requests.as_mut().unwrap();
    requests[0].exactly.as_mut().unwrap().device_class_name = "mig-1g-5gb.gpu.sluice.dev".to_owned();
    let last = world.cluster.claims.last_mut().unwrap().spec.devices.as_mut().unwrap();
    last.requests.as_mut().unwrap()[0].exactly.as_mut().unwrap().device_class_name =
        "mig-3g-20gb.gpu.sluice.dev".to_owned();
    assert_eq!(action(&world.view(5), "pair"), LIFT);
}

#[test]
fn only_gates_of_ours_are_removed_and_only_from_the_pod_that_was_seen() {
    let mut world = World::of_gpus(1);
    let pod = world.add("a", "2g.10gb", 0);
    add_gate(pod, "example.com/quota");
    add_gate(pod, "gpu-preload");
    let ours = Look::of(pod, false).our_gates;
    assert_eq!(ours, [(0, "gpu-preload".to_owned()), (2, "sluice.dev/gpu-preload".to_owned())]);
    let uid = pod.metadata.uid.clone().unwrap();
    let before = serde_json::to_value(&*pod).unwrap();
    let patched =
        |mut value: Value, uid: &str| json_patch::patch(&mut value, &lift_patch(uid, &ours)).map(|()| value);
    let after = patched(before.clone(), &uid).unwrap();
    assert_eq!(after["spec"]["schedulingGates"], json!([{"name": "example.com/quota"}]));
    assert!(patched(before, "another").is_err(), "another pod of the same name");
    assert!(patched(after, &uid).is_err(), "the gates are not where they were");
    pod.metadata.labels = None;
    assert_eq!(
        Look::of(pod, false).our_gates.len(),
        1,
        "the bare name is nobody's where a pod has not opted in"
    );
    assert_eq!(Look::of(pod, false).foreign_gates, ["gpu-preload", "example.com/quota"]);
}

#[derive(Debug, Clone)]
enum Step {
    Add(&'static str, i32),
    /// Lifts what is decided; so many of the patches are answered before the process starts anew.
    Lift(usize),
    Schedule,
    Remove(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let profile = prop::sample::select(vec!["1g.5gb", "2g.10gb", "3g.20gb", "7g.40gb"]);
    let step = prop_oneof![
        4 => (profile, 0..2).prop_map(|(profile, priority)| Step::Add(profile, priority)),
        3 => (0_usize..4).prop_map(Step::Lift),
        2 => Just(Step::Schedule),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever happens in between: who is lifted is placed, older ones of a kind go before younger ones, and
    /// one that has just started decides as one that has seen everything.
    #[test]
    fn never_more_is_lifted_than_is_free_and_never_out_of_turn(gpus in 1_u32..3, steps in steps()) {
        let mut world = World::of_gpus(gpus);
        for (second, step) in steps.into_iter().enumerate() {
            match step {
                Step::Add(profile, priority) => {
                    let name = format!("{profile}-{second}").replace('.', "-");
                    world.add(&name, profile, second as i64).spec.as_mut().unwrap().priority = Some(priority);
                }
                Step::Lift(count) => {
                    let lifts = decide(&world.view(30)).into_iter().filter(|one| one.action == LIFT);
                    lifts.take(count).for_each(|one| world.lift(&one.pod.name));
                }
                Step::Schedule => { world.schedule(); }
                Step::Remove(at) => if !world.pods.is_empty() {
                    let name = at.get(&world.pods).metadata.name.clone().unwrap();
                    world.remove(&name);
                },
            }
        }
        // Every shorter sequence is a case of its own.
        check(&world)?;
    }

    /// Of one profile exactly as many as are free.
    #[test]
    fn as_many_are_lifted_as_are_free(gpus in 1_u32..4, taken in 0_usize..8, waiting in 0_usize..12) {
        let mut world = World::of_gpus(gpus);
        for n in 0..taken {
            let name = format!("taken-{n}");
            world.add(&name, "2g.10gb", 0);
            world.lift(&name);
        }
        let unplaced = world.schedule().len();
        for n in 0..waiting {
            world.add(&format!("w-{n:02}"), "2g.10gb", 1);
        }
        let free = gpus as usize * 3 - (taken - unplaced);
        let lifts = decide(&world.view(5)).into_iter().filter(|one| one.action == LIFT).count();
        prop_assert_eq!(lifts, free.min(waiting));
    }
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let view = world.view(30);
    let decisions = decide(&view);
    let mut shuffled = view.clone();
    shuffled.gated.reverse();
    shuffled.in_flight.reverse();
    prop_assert_eq!(&decisions, &decide(&shuffled));
    let mut after = world.clone();
    let waiting_before = after.schedule();
    let mut lifted = BTreeSet::new();
    // One after another, as the patches arrive.
    for decision in decisions.iter().filter(|decision| decision.action == LIFT) {
        after.lift(&decision.pod.name);
        let left = after.schedule();
        prop_assert_eq!(&left, &waiting_before, "{} was lifted and has no place", decision.pod.name);
        lifted.insert(decision.pod.name.as_str());
    }
    for (at, decision) in decisions.iter().enumerate() {
        let profile = |name: &str| name.split('-').take(2).map(str::to_owned).collect::<Vec<_>>();
        if decision.action == NONE_FREE {
            let of_its_kind =
                decisions[at..].iter().filter(|one| profile(&one.pod.name) == profile(&decision.pod.name));
            for later in of_its_kind {
                prop_assert!(!lifted.contains(later.pod.name.as_str()), "{later:?} went before {decision:?}");
            }
        }
    }
    Ok(())
}
