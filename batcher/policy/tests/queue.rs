//! What the queue promises, whatever waits in it.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use sluice_batch_policy::{Lane, NO_DEADLINE, Order, ServiceCurve, WaitQueue, cut};

#[derive(Debug, Clone)]
struct Arrival {
    key: u8,
    class: u8,
    deadline_us: u64,
    rows: u32,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    // Few different deadlines, so that equal ones are common.
    let deadline = prop_oneof![(0u64..40).prop_map(|step| step * 10_000), Just(NO_DEADLINE)];
    let arrival = (0u8..3, 0u8..2, deadline, 1u32..12).prop_map(|(key, class, deadline_us, rows)| Arrival {
        key,
        class,
        deadline_us,
        rows,
    });
    prop::collection::vec(arrival, 0..60)
}

fn curves() -> impl Strategy<Value = Option<ServiceCurve>> {
    prop::option::of((0.0f64..0.05, 0.0f64..0.005, 0.0f64..0.2).prop_map(|(alpha, beta, spread)| {
        ServiceCurve { alpha_seconds: alpha, beta_seconds: beta, residual_p95_ratio: spread, samples: 50 }
    }))
}

fn filled(arrivals: &[Arrival]) -> (WaitQueue<u8, usize>, Vec<Order>) {
    let mut queue = WaitQueue::new();
    let orders = arrivals
        .iter()
        .enumerate()
        .map(|(at, a)| queue.push(a.key, a.class, a.deadline_us, a.rows, at as u64, at))
        .collect();
    (queue, orders)
}

fn predicted_us(curve: Option<&ServiceCurve>, rows: u32) -> u64 {
    curve.map_or(0, |curve| curve.p95_us(rows))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_taken_dropped_or_left_exactly_once(
        arrivals in arrivals(), curve in curves(), limit_rows in 1u32..20, step_us in 0u64..60_000,
    ) {
        let (mut queue, _) = filled(&arrivals);
        let mut seen = HashSet::new();
        let mut now_us = 0;
        for _ in 0..5 {
            let before = queue.len();
            let batch = queue.cut(now_us, |_| Lane { limit_rows, curve });
            prop_assert_eq!(queue.len() + batch.take.len() + batch.drop.len(), before);
            for waiting in batch.take.iter().chain(batch.drop.iter().map(|(_, waiting)| waiting)) {
                prop_assert!(seen.insert(waiting.payload));
            }
            now_us += step_us;
        }
        let rest: Vec<_> = queue.drain();
        prop_assert!(rest.is_sorted_by_key(|(_, waiting)| waiting.order));
        for (_, waiting) in rest {
            prop_assert!(seen.insert(waiting.payload));
        }
        prop_assert_eq!(seen.len(), arrivals.len());
        prop_assert_eq!((queue.rows(), queue.len()), (0, 0));
    }

    #[test]
    fn a_batch_has_one_key_keeps_to_its_limit_and_to_the_deadlines(
        arrivals in arrivals(), curve in curves(), limit_rows in 1u32..20, now_us in 0u64..400_000,
    ) {
        let (mut queue, _) = filled(&arrivals);
        let batch = queue.cut(now_us, |_| Lane { limit_rows, curve });
        let rows: u32 = batch.take.iter().map(|waiting| waiting.rows).sum();
        prop_assert!(rows <= limit_rows || batch.take.len() == 1);
        for waiting in &batch.take {
            prop_assert_eq!(Some(arrivals[waiting.payload].key), batch.key);
            // Where the curve gives no request a chance, one that is not overdue goes alone.
            let is_the_last_chance = batch.take.len() == 1 && waiting.order.deadline_us > now_us;
            let makes_it = waiting.order.deadline_us >= now_us + predicted_us(curve.as_ref(), rows);
            prop_assert!(makes_it || is_the_last_chance);
        }
        prop_assert!(!batch.take.is_empty() || queue.is_empty(), "a free slot is never left idle");
    }

    #[test]
    fn a_curve_that_gives_nobody_a_chance_still_lets_one_run(arrivals in arrivals(), limit_rows in 1u32..20) {
        let hopeless = ServiceCurve {
            alpha_seconds: 1e6, beta_seconds: 0.0, residual_p95_ratio: 0.0, samples: 1,
        };
        let (mut queue, _) = filled(&arrivals);
        let is_alive = arrivals.iter().any(|arrival| arrival.deadline_us > 0);
        let batch = queue.cut(0, |_| Lane { limit_rows, curve: Some(hopeless) });
        prop_assert_eq!(!batch.take.is_empty(), is_alive);
    }

    #[test]
    fn a_batch_is_taken_in_order(arrivals in arrivals(), limit_rows in 1u32..20) {
        let (mut queue, orders) = filled(&arrivals);
        let batch = queue.cut(0, |_| Lane { limit_rows, curve: None });
        prop_assert!(batch.take.is_sorted_by_key(|waiting| waiting.order));
        let left: HashSet<Order> = queue.drain().into_iter().map(|(_, waiting)| waiting.order).collect();
        // Of its own key none that is left comes before one that was taken: equal deadlines keep their order of
        // arrival.
        if let (Some(key), Some(last)) = (batch.key, batch.take.last()) {
            for (arrival, order) in arrivals.iter().zip(&orders) {
                prop_assert!(arrival.key != key || !left.contains(order) || *order > last.order);
            }
        }
    }

    #[test]
    fn only_heads_that_cannot_make_it_are_dropped(
        arrivals in arrivals(), curve in curves(), limit_rows in 1u32..20, now_us in 0u64..400_000,
    ) {
        // One lane, so that each head's own batch can be told: from it on, in order, up to the limit.
        let mut lane: Vec<(Order, u32)> = arrivals.iter().enumerate()
            .map(|(at, a)| (Order { class: a.class, deadline_us: a.deadline_us, arrival: at as u64 }, a.rows))
            .collect();
        lane.sort();
        let cut = cut(lane.iter().copied(), now_us, limit_rows, curve.as_ref());
        let places: HashMap<Order, usize> = lane.iter().enumerate().map(|(at, (order, _))| (*order, at)).collect();
        for order in &cut.drop {
            let at = places[order];
            let mut rows = lane[at].1;
            for (_, own) in &lane[at + 1..] {
                if rows + own > limit_rows { break }
                rows += own;
            }
            prop_assert!(order.deadline_us < now_us + predicted_us(curve.as_ref(), rows));
        }
    }

    #[test]
    fn rows_ahead_are_those_that_a_new_arrival_would_follow(
        arrivals in arrivals(), class in 0u8..3, step in 0u64..41, cancelled in 0usize..60,
    ) {
        let (mut queue, orders) = filled(&arrivals);
        let mut waiting: Vec<_> = arrivals.iter().zip(&orders).collect();
        if cancelled < waiting.len() {
            let (arrival, order) = waiting.remove(cancelled);
            prop_assert!(queue.cancel(&arrival.key, order).is_some());
            prop_assert!(queue.cancel(&arrival.key, order).is_none());
        }
        let deadline_us = step * 10_000;
        let expected: u64 = waiting.iter()
            .filter(|(_, order)| (order.class, order.deadline_us) <= (class, deadline_us))
            .map(|(arrival, _)| u64::from(arrival.rows))
            .sum();
        prop_assert_eq!(queue.rows_ahead(class, deadline_us), expected);
        prop_assert_eq!(queue.rows(), waiting.iter().map(|(arrival, _)| u64::from(arrival.rows)).sum::<u64>());
    }
}

const CURVE: ServiceCurve =
    ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.0, samples: 100 };

#[test]
fn the_head_is_dropped_and_the_batch_stays_full() {
    let mut queue = WaitQueue::new();
    // A batch of 8 takes 28 ms: the first request cannot wait for that, though a batch of it alone would make it.
    queue.push("m", 0, 25_000, 1, 0, "tight");
    for _ in 0..8 {
        queue.push("m", 0, 300_000, 1, 0, "ample");
    }
    let batch = queue.cut(0, |_| Lane { limit_rows: 8, curve: Some(CURVE) });
    assert_eq!(batch.drop.iter().map(|(_, waiting)| waiting.payload).collect::<Vec<_>>(), ["tight"]);
    assert_eq!(batch.take.len(), 8);
}

#[test]
fn the_most_urgent_key_is_served_and_classes_come_first() {
    let mut queue = WaitQueue::new();
    queue.push("a", 1, 100_000, 1, 0, 1);
    queue.push("b", 0, 900_000, 1, 1, 2);
    queue.push("a", 0, 800_000, 1, 2, 3);
    let mut next = || {
        let batch = queue.cut(0, |_| Lane { limit_rows: 8, curve: Some(CURVE) });
        (batch.key, batch.take.iter().map(|waiting| waiting.payload).collect::<Vec<_>>())
    };
    assert_eq!(next(), (Some("a"), vec![3, 1]));
    assert_eq!(next(), (Some("b"), vec![2]));
    assert_eq!(next(), (None, vec![]));
}

#[test]
fn a_request_put_back_keeps_its_place() {
    let mut queue = WaitQueue::new();
    for name in ["first", "second", "third"] {
        queue.push("m", 0, 500_000, 1, 0, name);
    }
    let lane = |_: &_| Lane { limit_rows: 2, curve: None };
    let mut taken = queue.cut(0, lane).take;
    queue.put_back("m", taken.remove(1));
    assert_eq!((queue.len(), queue.rows()), (2, 2));
    let names: Vec<_> = queue.cut(0, lane).take.iter().map(|waiting| waiting.payload).collect();
    assert_eq!(names, ["second", "third"]);
}

#[test]
fn the_oldest_wait_is_that_of_the_first_arrival_whatever_its_deadline() {
    let mut queue = WaitQueue::new();
    assert_eq!(queue.oldest_wait_us(5), 0);
    let first = queue.push("a", 0, NO_DEADLINE, 1, 1_000, ());
    queue.push("a", 0, 10_000, 1, 3_000, ());
    assert_eq!(queue.oldest_wait_us(4_000), 3_000);
    queue.cancel(&"a", &first);
    assert_eq!(queue.oldest_wait_us(4_000), 1_000);
}
