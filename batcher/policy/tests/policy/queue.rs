//! Guarantees of the queue, whatever waits in it.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use proptest::prelude::*;
use sluice_batch_policy::{
    Batch, BatchLimits, BatchSizes, Budget, Lane, NO_DEADLINE, Order, ServiceCurve, Size, Ticket, WaitQueue,
    cut,
};

/// Request with its key.
type Keyed = (u8, Ticket);

fn arrivals(tenants: u32) -> impl Strategy<Value = Vec<Keyed>> {
    // There are few different deadlines, so that equal ones are common.
    let deadline = prop_oneof![(0u64..40).prop_map(|step| step * 10_000), Just(NO_DEADLINE)];
    let arrival = (0u8..3, 0u8..2, 0..tenants, 1u32..4, deadline, 1u32..12).prop_map(
        |(key, class, tenant, weight, deadline_us, rows)| {
            let size = Size { rows, bytes: 100 * u64::from(rows), tokens: 7 * u64::from(rows) };
            (key, Ticket { class, tenant, weight, deadline_us, size, arrived_us: 0 })
        },
    );
    prop::collection::vec(arrival, 0..60)
}

/// Draws budgets in which rows, and sometimes bytes or tokens, are scarce.
fn budgets() -> impl Strategy<Value = Budget> {
    let some = |most: u64| prop_oneof![1u64..most, Just(u64::MAX)];
    (1u32..20, some(2000), some(140)).prop_map(|(rows, bytes, tokens)| Budget { rows, bytes, tokens })
}

fn sizes() -> impl Strategy<Value = BatchSizes> {
    let allowed = || {
        prop::collection::vec(1u32..20, 1..4).prop_map(|mut allowed| {
            allowed.push(1);
            allowed
        })
    };
    prop_oneof![
        Just(BatchSizes::up_to(20)),
        allowed().prop_map(|allowed| BatchSizes::allowed(20, &allowed)),
        allowed().prop_map(|allowed| BatchSizes::padded(20, &allowed)),
    ]
}

static ANY_SIZE: LazyLock<BatchSizes> = LazyLock::new(|| BatchSizes::up_to(u32::MAX));

fn any_size() -> BatchLimits<'static> {
    BatchLimits::of_sizes(&ANY_SIZE)
}

fn lane(limit_rows: u32, curve: Option<ServiceCurve>) -> Lane {
    Lane { limit_rows, curve }
}

fn limits(budget: Budget, sizes: &BatchSizes) -> BatchLimits<'_> {
    BatchLimits { bytes: budget.bytes, tokens: budget.tokens, sizes }
}

/// Takes out the next batch of any size, where no client has gone.
fn next<K: Eq + std::hash::Hash + Clone, T>(
    queue: &mut WaitQueue<K, T>,
    now_us: u64,
    lane: Lane,
) -> Batch<K, T> {
    queue.cut(now_us, |_| lane, &any_size(), |_| false)
}

/// Returns a request of one row, of no tenant.
fn arrival(class: u8, deadline_us: u64, arrived_us: u64) -> Ticket {
    Ticket { class, tenant: 0, weight: 1, deadline_us, size: Size::of_rows(1), arrived_us }
}

fn curves() -> impl Strategy<Value = Option<ServiceCurve>> {
    prop::option::of((0.0f64..0.05, 0.0f64..0.005, 0.0f64..0.2).prop_map(|(alpha, beta, spread)| {
        ServiceCurve { alpha_seconds: alpha, beta_seconds: beta, residual_p95_ratio: spread, samples: 50 }
    }))
}

fn filled(arrivals: &[Keyed]) -> (WaitQueue<u8, usize>, Vec<Order>) {
    let mut queue = WaitQueue::new();
    let orders =
        arrivals.iter().enumerate().map(|(at, &(key, arrival))| queue.push(key, arrival, at)).collect();
    (queue, orders)
}

/// Returns the requests, without keys and tenants, in the order of service.
fn in_order(arrivals: &[Keyed]) -> Vec<(Order, Size)> {
    let place = |(at, (_, arrival)): (usize, &Keyed)| {
        let order =
            Order { class: arrival.class, tenant: 0, deadline_us: arrival.deadline_us, arrival: at as u64 };
        (order, arrival.size)
    };
    let mut requests: Vec<_> = arrivals.iter().enumerate().map(place).collect();
    requests.sort_by_key(|(order, _)| *order);
    requests
}

fn predicted_us(curve: Option<&ServiceCurve>, rows: u32) -> u64 {
    curve.map_or(0, |curve| curve.p95_us(rows))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_taken_dropped_gone_or_left_exactly_once(
        arrivals in arrivals(4), curve in curves(), budget in budgets(), sizes in sizes(), step_us in 0u64..60_000,
        overdue_at in 0usize..6, gone in 0usize..10,
    ) {
        let (mut queue, _) = filled(&arrivals);
        let mut seen = HashSet::new();
        let mut now_us = 0;
        for round in 0..5 {
            let before = queue.len();
            if round == overdue_at {
                for waiting in queue.overdue(now_us) {
                    prop_assert!(waiting.order.deadline_us <= now_us);
                    prop_assert!(seen.insert(waiting.payload));
                }
                prop_assert!(queue.earliest_deadline_us().is_none_or(|earliest| earliest > now_us));
                continue;
            }
            let batch = queue.cut(now_us, |_| lane(budget.rows, curve), &limits(budget, &sizes), |&at| at % 10 == gone);
            let left = queue.len() + batch.take.len() + batch.drop.len() + batch.gone.len();
            prop_assert_eq!(left, before);
            prop_assert!(batch.gone.iter().all(|waiting| waiting.payload % 10 == gone));
            let dropped = batch.drop.iter().map(|(_, waiting)| waiting);
            for waiting in batch.take.iter().chain(dropped).chain(&batch.gone) {
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
        prop_assert_eq!(queue.earliest_deadline_us(), None);
    }

    #[test]
    fn a_batch_has_one_key_and_keeps_to_budgets_sizes_and_deadlines(
        arrivals in arrivals(4), curve in curves(), budget in budgets(), sizes in sizes(), now_us in 0u64..400_000,
    ) {
        let (mut queue, _) = filled(&arrivals);
        let batch = queue.cut(now_us, |_| lane(budget.rows, curve), &limits(budget, &sizes), |_| false);
        let size = batch.take.iter().fold(Size::default(), |total, waiting| total.plus(waiting.size));
        prop_assert_eq!(size, batch.size);
        prop_assert!(batch.sent_rows >= size.rows);
        let is_alone = batch.take.len() == 1;
        prop_assert!(budget.holds(size.padded_to(batch.sent_rows)) || is_alone && batch.sent_rows == size.rows);
        for waiting in &batch.take {
            prop_assert_eq!(Some(arrivals[waiting.payload].0), batch.key);
            // Where by the curve no request can make its deadline, one whose deadline is not over is sent alone.
            let is_the_last_chance = is_alone && waiting.order.deadline_us > now_us;
            let makes_it = waiting.order.deadline_us >= now_us + predicted_us(curve.as_ref(), batch.sent_rows);
            prop_assert!(makes_it || is_the_last_chance);
        }
        prop_assert!(!batch.take.is_empty() || queue.is_empty(), "a free slot is never left idle");
    }

    #[test]
    fn a_cut_leaves_no_room_that_the_next_one_in_order_would_fit_into(
        mut arrivals in arrivals(4), budget in budgets(),
    ) {
        // All requests are of one tenant: with several, the order depends on the rows that the batch itself has served.
        arrivals.iter_mut().for_each(|(key, arrival)| (*key, arrival.tenant) = (0, 0));
        let (mut queue, _) = filled(&arrivals);
        let limits = limits(budget, &ANY_SIZE);
        let batch = queue.cut(0, |_| lane(budget.rows, None), &limits, |_| false);
        let following = queue.cut(0, |_| lane(budget.rows, None), &limits, |_| false);
        if let Some(follower) = following.take.first() {
            prop_assert!(!budget.holds(batch.size.plus(follower.size)));
        }
    }

    #[test]
    fn a_curve_that_gives_nobody_a_chance_still_lets_one_run(arrivals in arrivals(4), limit_rows in 1u32..20) {
        let hopeless = ServiceCurve {
            alpha_seconds: 1e6, beta_seconds: 0.0, residual_p95_ratio: 0.0, samples: 1,
        };
        let (mut queue, _) = filled(&arrivals);
        let is_alive = arrivals.iter().any(|(_, arrival)| arrival.deadline_us > 0);
        let batch = next(&mut queue, 0, lane(limit_rows, Some(hopeless)));
        prop_assert_eq!(!batch.take.is_empty(), is_alive);
    }

    #[test]
    fn without_tenants_a_batch_is_taken_by_class_and_deadline(arrivals in arrivals(1), limit_rows in 1u32..20) {
        let (mut queue, orders) = filled(&arrivals);
        let batch = next(&mut queue, 0, lane(limit_rows, None));
        prop_assert!(batch.take.is_sorted_by_key(|waiting| waiting.order));
        let left: HashSet<Order> = queue.drain().into_iter().map(|(_, waiting)| waiting.order).collect();
        // No remaining request of the batch's key comes before one that was taken: equal deadlines keep their order
        // of arrival.
        if let (Some(key), Some(last)) = (batch.key, batch.take.last()) {
            for ((other, _), order) in arrivals.iter().zip(&orders) {
                prop_assert!(*other != key || !left.contains(order) || *order > last.order);
            }
        }
    }

    #[test]
    fn classes_come_before_shares_and_shares_before_deadlines(arrivals in arrivals(4), limit_rows in 1u32..20) {
        let (mut queue, orders) = filled(&arrivals);
        let batch = next(&mut queue, 0, lane(limit_rows, None));
        prop_assert!(batch.take.is_sorted_by_key(|waiting| waiting.order.class));
        let left: HashSet<Order> = queue.drain().into_iter().map(|(_, waiting)| waiting.order).collect();
        let of_key = |(other, _): &Keyed| Some(*other) == batch.key;
        for waiting in &batch.take {
            for ((_, arrival), order) in arrivals.iter().zip(&orders).filter(|(keyed, _)| of_key(keyed)) {
                prop_assert!(arrival.class >= waiting.order.class || !left.contains(order));
                let is_own = (arrival.class, arrival.tenant) == (waiting.order.class, waiting.order.tenant);
                prop_assert!(!is_own || !left.contains(order) || *order > waiting.order);
            }
        }
    }

    #[test]
    fn only_those_that_cannot_make_it_are_dropped(
        mut arrivals in arrivals(1), curve in curves(), limit_rows in 1u32..20, now_us in 0u64..400_000,
    ) {
        // All requests are of one class, so that each head's own batch is known: from it on, in order, up to the limit.
        // With several, a late request of a lower class leaves its room to the one behind it.
        arrivals.iter_mut().for_each(|(_, arrival)| arrival.class = 1);
        let requests = in_order(&arrivals);
        let cut = cut(requests.iter().copied(), now_us, &lane(limit_rows, curve), &any_size());
        let places: HashMap<Order, usize> =
            requests.iter().enumerate().map(|(at, (order, _))| (*order, at)).collect();
        for order in &cut.drop {
            let at = places[order];
            let mut rows = requests[at].1.rows;
            for (_, own) in &requests[at + 1..] {
                if rows + own.rows > limit_rows { break }
                rows += own.rows;
            }
            prop_assert!(order.deadline_us < now_us + predicted_us(curve.as_ref(), rows));
        }
    }

    #[test]
    fn of_several_classes_none_is_dropped_that_would_make_it_in_a_full_batch(
        arrivals in arrivals(1), curve in curves(), limit_rows in 1u32..20, now_us in 0u64..400_000,
    ) {
        let requests = in_order(&arrivals);
        let cut = cut(requests.iter().copied(), now_us, &lane(limit_rows, curve), &any_size());
        let sizes: HashMap<Order, Size> = requests.into_iter().collect();
        for order in &cut.drop {
            let rows = sizes[order].rows.max(limit_rows);
            prop_assert!(order.deadline_us < now_us + predicted_us(curve.as_ref(), rows));
        }
    }

    #[test]
    fn a_cancelled_request_is_found_once(arrivals in arrivals(3), at in 0usize..60) {
        let (mut queue, orders) = filled(&arrivals);
        let Some(order) = orders.get(at) else { return Ok(()) };
        let rows = queue.rows();
        prop_assert_eq!(queue.cancel(order).map(|waiting| waiting.payload), Some(at));
        prop_assert_eq!(queue.rows(), rows - u64::from(arrivals[at].1.size.rows));
        prop_assert!(queue.cancel(order).is_none());
    }
}

const CURVE: ServiceCurve =
    ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.0, samples: 100 };

#[test]
fn the_head_is_dropped_and_the_batch_stays_full() {
    let mut queue = WaitQueue::new();
    // A batch of 8 takes 28 ms: too late for the first request, although a batch of it alone would be in time.
    queue.push("m", arrival(0, 25_000, 0), "tight");
    for _ in 0..8 {
        queue.push("m", arrival(0, 300_000, 0), "ample");
    }
    let batch = next(&mut queue, 0, lane(8, Some(CURVE)));
    assert_eq!(batch.drop.iter().map(|(_, waiting)| waiting.payload).collect::<Vec<_>>(), ["tight"]);
    assert_eq!(batch.take.len(), 8);
}

#[test]
fn one_that_cannot_ride_along_leaves_its_room_to_the_next() {
    let mut queue = WaitQueue::new();
    for _ in 0..4 {
        queue.push("m", arrival(0, 300_000, 0), "first class");
    }
    queue.push("m", arrival(1, 25_000, 0), "tight");
    for _ in 0..8 {
        queue.push("m", arrival(1, 300_000, 0), "second class");
    }
    let batch = next(&mut queue, 0, lane(8, Some(CURVE)));
    assert_eq!(batch.take.len(), 8);
    assert!(batch.take.iter().all(|waiting| waiting.payload != "tight"));
    assert!(batch.drop.is_empty(), "a batch of its own would still be in time");
    assert_eq!(queue.len(), 5);
}

#[test]
fn a_batch_to_be_padded_is_judged_by_the_time_of_its_padded_size() {
    let padded = BatchSizes::padded(64, &[1, 64]);
    let mut queue = WaitQueue::new();
    // 8 rows would take 28 ms; padded to 64 rows they take 84 ms.
    queue.push("m", arrival(0, 50_000, 0), "tight");
    for _ in 0..7 {
        queue.push("m", arrival(0, 300_000, 0), "ample");
    }
    let batch = queue.cut(0, |_| lane(64, Some(CURVE)), &BatchLimits::of_sizes(&padded), |_| false);
    assert_eq!(batch.drop.len(), 1);
    assert_eq!((batch.size.rows, batch.sent_rows), (7, 64));
}

#[test]
fn the_most_urgent_key_is_served_and_classes_come_first() {
    let mut queue = WaitQueue::new();
    queue.push("a", arrival(1, 100_000, 0), 1);
    queue.push("b", arrival(0, 900_000, 1), 2);
    queue.push("a", arrival(0, 800_000, 2), 3);
    let mut next = || {
        let batch = next(&mut queue, 0, lane(8, Some(CURVE)));
        (batch.key, batch.take.iter().map(|waiting| waiting.payload).collect::<Vec<_>>())
    };
    assert_eq!(next(), (Some("a"), vec![3, 1]));
    assert_eq!(next(), (Some("b"), vec![2]));
    assert_eq!(next(), (None, vec![]));
}

#[test]
fn those_that_have_gone_take_no_room() {
    let mut queue = WaitQueue::new();
    for number in 0..6 {
        queue.push("m", arrival(0, 500_000, 0), number);
    }
    let batch = queue.cut(0, |_| lane(3, None), &any_size(), |number| number % 2 == 0);
    assert_eq!(batch.take.iter().map(|waiting| waiting.payload).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!(batch.gone.iter().map(|waiting| waiting.payload).collect::<Vec<_>>(), [0, 2, 4]);
    assert_eq!((queue.len(), queue.rows()), (0, 0));
}

#[test]
fn the_oldest_wait_is_that_of_the_first_arrival_whatever_its_deadline() {
    let mut queue = WaitQueue::new();
    assert_eq!(queue.oldest_wait_us(5), 0);
    let first = queue.push("a", arrival(0, NO_DEADLINE, 1_000), ());
    queue.push("a", arrival(0, 10_000, 3_000), ());
    assert_eq!(queue.oldest_wait_us(4_000), 3_000);
    queue.cancel(&first);
    assert_eq!(queue.oldest_wait_us(4_000), 1_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Requests of keys that may not be sent stay and do not change the batch.
    #[test]
    fn what_may_not_go_stays_and_hinders_nobody(arrivals in arrivals(3), barred in 0u8..3, curve in curves()) {
        let lane = lane(20, curve);
        let (mut all, _) = filled(&arrivals);
        let mut others = WaitQueue::new();
        for (at, &(key, arrival)) in arrivals.iter().enumerate().filter(|(_, (key, _))| *key != barred) {
            others.push(key, arrival, at);
        }
        let mut waiting = all.len() - others.len();
        loop {
            let cut = all.cut_where(0, |_| lane, &any_size(), |_| false, |key| *key != barred);
            let expected = next(&mut others, 0, lane);
            let taken = |batch: &Batch<u8, usize>| -> Vec<usize> {
                batch.take.iter().map(|waiting| waiting.payload).collect()
            };
            prop_assert_eq!(taken(&cut), taken(&expected));
            prop_assert_eq!(cut.drop.len(), expected.drop.len());
            if cut.take.is_empty() {
                break;
            }
        }
        waiting -= all.drain().len();
        prop_assert_eq!(waiting, 0);
    }
}
