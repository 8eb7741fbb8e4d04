use super::*;
use crate::ServiceCurve;

/// Returns a full batch.
fn full(expected_us: u64) -> NextBatch {
    NextBatch { expected_us, start_by_us: 0 }
}

/// Returns a batch that can wait until `start_by_us`.
fn waits(expected_us: u64, start_by_us: u64) -> NextBatch {
    NextBatch { expected_us, start_by_us }
}

/// Returns the order of `batches` grants, where each of these users wants a slot for its next batch all the time and
/// batches take their expected time. The first grant is at time 0.
fn order<const USERS: usize>(
    share: &mut SlotShare<char>,
    batches: usize,
    wants: impl Fn(u64) -> [(char, u32, NextBatch); USERS],
) -> String {
    let mut now_us = 0;
    let next = |_| {
        for (key, weight, next) in wants(now_us) {
            share.want(key, weight, next);
        }
        let (key, charged_us) = share.grant(now_us).unwrap();
        share.give_back(key, charged_us, charged_us);
        now_us += charged_us;
        key
    };
    (0..batches).map(next).collect()
}

#[test]
fn a_user_alone_gets_every_slot_and_no_more() {
    let mut share = SlotShare::new(2);
    for _ in 0..2 {
        share.want('a', 1, full(1000));
        assert_eq!(share.grant(0), Some(('a', 1000)));
    }
    share.want('a', 1, full(1000));
    assert_eq!(share.grant(0), None);
    share.give_back('a', 1000, 900);
    assert_eq!(share.grant(0), Some(('a', 1000)));
    assert!((share.part_of('a') - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_user_of_short_batches_runs_several_for_each_long_one() {
    let order = order(&mut SlotShare::new(1), 22, |_| [('s', 1, full(10)), ('l', 1, full(100))]);
    assert_eq!(order.matches('l').count(), 2, "{order}");
}

#[test]
fn what_others_are_granted_before_a_users_turn_is_foreseen() {
    let mut share = SlotShare::new(1);
    share.want('a', 1, full(1000));
    assert_eq!(share.before_turn_of_us('a'), 0, "no other user is there");
    share.grant(0);
    share.want('b', 1, full(300));
    // Four batches of 300 until b has had as much slot time as a.
    assert_eq!(share.before_turn_of_us('a'), 4 * 300);
    assert_eq!(share.before_turn_of_us('b'), 0);
    share.want('a', 1, full(1000));
    let mut foreseen_us = share.before_turn_of_us('a');
    share.give_back('a', 1000, 1000);
    loop {
        let (key, charged_us) = share.grant(0).unwrap();
        if key == 'a' {
            break;
        }
        share.want('b', 1, full(300));
        share.give_back('b', charged_us, charged_us);
        foreseen_us -= charged_us;
    }
    assert_eq!(foreseen_us, 0);
}

#[test]
fn time_without_demand_earns_nothing() {
    let mut share = SlotShare::new(1);
    order(&mut share, 1000, |_| [('a', 1, full(100))]);
    let order = order(&mut share, 20, |_| [('a', 1, full(100)), ('b', 1, full(100))]);
    assert_eq!(order.matches('b').count(), 10, "{order}");
}

#[test]
fn a_slot_that_was_not_used_costs_nothing() {
    let mut share = SlotShare::new(1);
    for _ in 0..5 {
        share.want('a', 1, full(1000));
        assert_eq!(share.grant(0), Some(('a', 1000)));
        share.give_back('a', 1000, 0);
    }
    share.want('b', 1, full(10));
    share.want('a', 1, full(10));
    share.grant(0);
    share.give_back('b', 10, 10);
    assert_eq!(share.grant(0).map(|(key, _)| key), Some('a'));
}

#[test]
fn whoever_leaves_is_forgotten_once_it_holds_nothing() {
    let mut share = SlotShare::new(1);
    share.want('a', 3, full(10));
    share.grant(0);
    share.want('b', 1, full(10));
    assert!((share.part_of('b') - 0.25).abs() < f64::EPSILON);
    share.leave('a');
    assert_eq!(share.grant(0), None, "its slot is still out");
    share.give_back('a', 10, 10);
    share.leave('a');
    assert_eq!(share.grant(0), Some(('b', 10)));
}

/// Returns the order of grants of a flood and of a model with few requests, each batch of which takes 10.
fn beside_a_flood(share: &mut SlotShare<char>, batches: usize, little: impl Fn(u64) -> NextBatch) -> String {
    order(share, batches, |now_us| [('f', 1, full(100)), ('l', 1, little(now_us))])
}

#[test]
fn who_can_wait_takes_turns_and_who_cannot_goes_by_its_share() {
    let patient = |now_us| waits(10, now_us + 200);
    let turns = beside_a_flood(&mut SlotShare::new(1), 20, patient);
    assert_eq!(turns.matches('l').count(), 10, "{turns}");
    // After a batch of the flood the other model would be late: ten of its batches for each of the flood's.
    let hurried = |now_us| waits(10, now_us + 50);
    let shares = beside_a_flood(&mut SlotShare::new(1), 22, hurried);
    assert_eq!(shares.matches('f').count(), 2, "{shares}");
}

#[test]
fn who_has_had_more_than_its_share_waits_although_its_turn_has_come() {
    let wants = |now_us| [('f', 4, full(100)), ('l', 1, waits(100, now_us + 1000))];
    let order = order(&mut SlotShare::new(1), 10, wants);
    assert_eq!(order.matches('l').count(), 2, "{order}");
}

#[test]
fn turns_that_were_not_needed_are_not_saved_up() {
    let mut share = SlotShare::new(1);
    beside_a_flood(&mut share, 1000, |now_us| waits(10, now_us + 200));
    let then = beside_a_flood(&mut share, 20, |_| full(100));
    assert!((9..=11).contains(&then.matches('l').count()), "{then}");
}

#[test]
fn a_heavy_weight_that_kept_to_one_slot_of_two_has_saved_nothing_up() {
    let mut share = SlotShare::new(2);
    share.want('h', 4, waits(100, u64::MAX));
    let mut held_us = share.grant(0).unwrap().1;
    share.want('f', 1, full(100));
    share.grant(0).unwrap();
    for now_us in (100..100_000).step_by(100) {
        share.want('h', 4, waits(100, u64::MAX));
        share.give_back('h', held_us, 100);
        held_us = share.grant(now_us).unwrap().1;
        share.want('f', 1, full(100));
        share.give_back('f', 100, 100);
        assert_eq!(share.grant(now_us), Some(('f', 100)), "no other user wants it");
    }
    share.give_back('f', 100, 100);
    let order = order(&mut share, 20, |_| [('h', 4, full(100)), ('f', 1, full(100))]);
    assert!(order.matches('f').count() >= 3, "{order}");
}

#[test]
fn a_turn_of_each_that_has_waited_longer_is_foreseen() {
    let mut share = SlotShare::new(1);
    let far = 1_000_000;
    for key in ['a', 'b', 'c'] {
        share.want(key, 1, waits(100, far));
        let (key, charged_us) = share.grant(0).unwrap();
        share.give_back(key, charged_us, 120);
    }
    share.want('a', 1, waits(100, far));
    share.want('b', 1, waits(300, far));
    share.want('c', 1, waits(100, far));
    assert_eq!(share.before_turn_of_us('a'), 0);
    assert_eq!(
        share.before_turn_of_us('b'),
        120,
        "as long as the last one of a took, which has waited longer"
    );
    assert_eq!(share.before_turn_of_us('c'), 120 + 300);
    assert_eq!([(); 3].map(|()| share.grant(0).map(|(key, _)| key)), [Some('a'), None, None]);
}

#[test]
fn a_full_batch_gains_nothing_by_waiting_and_another_can_wait_as_its_deadline_allows() {
    let curve =
        ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.1, samples: 100 };
    let lane = Lane { limit_rows: 8, curve: Some(curve) };
    assert_eq!(NextBatch::of_queue(5, Some(100_000), &lane), waits(25_000, 100_000 - curve.p95_us(5)));
    assert_eq!(NextBatch::of_queue(8, Some(100_000), &lane), full(28_000));
    assert_eq!(NextBatch::of_queue(800, None, &lane), full(28_000), "at most so many go in one batch");
    assert_eq!(NextBatch::of_queue(5, Some(1000), &lane), full(25_000), "it is late already");
    let unknown = Lane { curve: None, ..lane };
    assert_eq!(NextBatch::of_queue(5, Some(100_000), &unknown), waits(0, 100_000));
}

#[test]
fn a_user_that_has_stopped_coming_is_not_waited_for() {
    let mut share = SlotShare::new(1);
    share.want('b', 1, waits(2_000_000, u64::MAX));
    share.grant(0).unwrap();
    share.give_back('b', 2_000_000, 2_000_000);
    let mut foreseen = Vec::new();
    for _ in 0..6 {
        share.want('a', 1, waits(30, u64::MAX));
        let (key, charged_us) = share.grant(0).unwrap();
        share.give_back(key, charged_us, charged_us);
        foreseen.push(share.before_turn_of_us('a'));
    }
    assert_eq!(foreseen, [2_000_000, 0, 0, 0, 0, 0], "a round of two");
    share.want('b', 1, waits(2_000_000, u64::MAX));
    assert_eq!(share.before_turn_of_us('a'), 2_000_000);
}
