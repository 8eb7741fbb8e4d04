//! Tenants get parts of the service by their weights for as long as they have requests.

use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use sluice_batch_policy::{BatchLimits, BatchSizes, Lane, NO_DEADLINE, Size, Ticket, WaitQueue};

static ANY_SIZE: LazyLock<BatchSizes> = LazyLock::new(|| BatchSizes::up_to(64));

struct Queue {
    waiting: WaitQueue<u8, ()>,
    weights: Vec<u32>,
    served_rows: HashMap<u32, u64>,
}

impl Queue {
    fn new(weights: Vec<u32>) -> Self {
        Self { waiting: WaitQueue::new(), weights, served_rows: HashMap::new() }
    }

    fn push(&mut self, key: u8, tenant: u32, rows: u32) {
        let arrival = Ticket {
            class: 1,
            tenant,
            weight: self.weights[tenant as usize],
            deadline_us: NO_DEADLINE,
            size: Size::of_rows(rows),
            arrived_us: 0,
        };
        self.waiting.push(key, arrival, ());
    }

    /// Serves one batch; with `refill`, each request of it is replaced by another one of its tenant.
    fn serve(&mut self, limit_rows: u32, refill: bool) -> Vec<u32> {
        let lane = Lane { limit_rows, curve: None };
        let batch = self.waiting.cut(0, |_| lane, &BatchLimits::of_sizes(&ANY_SIZE), |()| false);
        let mut tenants = Vec::new();
        for taken in batch.take {
            let tenant = taken.order.tenant;
            tenants.push(tenant);
            *self.served_rows.entry(tenant).or_default() += u64::from(taken.size.rows);
            if let (true, Some(key)) = (refill, batch.key) {
                self.push(key, tenant, taken.size.rows);
            }
        }
        tenants
    }

    fn rows_of(&self, tenant: u32) -> f64 {
        self.served_rows.get(&tenant).copied().unwrap_or(0) as f64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn while_all_wait_shares_follow_the_weights(
        weights in prop::collection::vec(1u32..6, 2..5),
        sizes in prop::collection::vec(1u32..6, 5),
        floods in prop::collection::vec(40usize..200, 5),
        limit_rows in 6u32..33,
    ) {
        let mut queue = Queue::new(weights.clone());
        for tenant in 0..weights.len() {
            for _ in 0..floods[tenant] {
                queue.push(0, tenant as u32, sizes[tenant]);
            }
        }
        for _ in 0..300 {
            queue.serve(limit_rows, true);
        }
        let per_weight: Vec<f64> =
            (0..weights.len()).map(|tenant| queue.rows_of(tenant as u32) / f64::from(weights[tenant])).collect();
        let (least, most) = per_weight.iter().fold((f64::MAX, 0f64), |(least, most), &rows| {
            (least.min(rows), most.max(rows))
        });
        // Start-time fair queueing: two tenants that wait all the time differ by at most one request of each (here at
        // a weight of 1), and by the room that a batch leaves unused.
        prop_assert!(most - least <= 6.0 + 6.0, "{per_weight:?} of {weights:?}");
    }

    #[test]
    fn nobody_starves_whatever_the_keys_and_the_floods(
        weights in prop::collection::vec(1u32..50, 2..5), limit_rows in 1u32..17, own_key in any::<bool>(),
    ) {
        let mut queue = Queue::new(weights.clone());
        let last = weights.len() as u32 - 1;
        for tenant in 0..last {
            for _ in 0..100 {
                queue.push(0, tenant, 1);
            }
        }
        // The tenant's requests may share a batch with the others', or not.
        queue.push(u8::from(own_key), last, 1);
        let others: u32 = weights[..last as usize].iter().sum();
        let rounds = others.div_ceil(limit_rows) + 2;
        let served = (0..rounds).any(|_| queue.serve(limit_rows, true).contains(&last));
        prop_assert!(served, "not within {rounds} batches");
    }

    #[test]
    fn a_tenant_that_is_alone_gets_everything(limit_rows in 1u32..33, weight in 1u32..10) {
        let mut queue = Queue::new(vec![weight, 1]);
        for _ in 0..100 {
            queue.push(0, 0, 1);
        }
        while !queue.waiting.is_empty() {
            let expected = (limit_rows as usize).min(queue.waiting.len());
            prop_assert_eq!(queue.serve(limit_rows, false).len(), expected);
        }
    }
}

#[test]
fn having_been_idle_earns_no_credit_and_having_had_all_costs_nothing() {
    // One tenant, then two, then three: from the moment at which one arrives all have equal parts.
    let mut queue = Queue::new(vec![1, 1, 1]);
    for tenants in 1..=3 {
        for _ in 0..1000 {
            queue.push(0, tenants - 1, 1);
        }
        queue.served_rows.clear();
        for _ in 0..60 {
            queue.serve(10, true);
        }
        for tenant in 0..tenants {
            let (part, fair) = (queue.rows_of(tenant), 600.0 / f64::from(tenants));
            assert!((part - fair).abs() <= 1.0, "{tenant} of {tenants}: {part}");
        }
    }
}

#[test]
fn leaving_and_coming_back_does_not_wipe_out_what_was_served() {
    let mut queue = Queue::new(vec![1, 1, 1]);
    for _ in 0..200 {
        queue.push(0, 0, 1);
        queue.push(0, 1, 1);
    }
    for _ in 0..20 {
        queue.serve(8, true);
        // The third tenant sends a large request each time its last one was served; it gets at most a third.
        if !queue.waiting.is_empty() && queue.waiting.rows() == 400 {
            queue.push(0, 2, 8);
        }
    }
    for _ in 0..200 {
        queue.serve(8, true);
    }
    let rows: Vec<f64> = (0..3).map(|tenant| queue.rows_of(tenant)).collect();
    assert!(rows[2] <= rows[0] + 8.0 && rows[2] <= rows[1] + 8.0, "{rows:?}");
}

#[test]
fn inside_a_tenant_the_earliest_deadline_goes_first() {
    let mut queue: WaitQueue<u8, u64> = WaitQueue::new();
    for (tenant, deadline_us) in [(0, 900), (0, 100), (1, 800), (0, 500), (1, 200)] {
        let arrival =
            Ticket { class: 0, tenant, weight: 1, deadline_us, size: Size::of_rows(1), arrived_us: 0 };
        queue.push(0, arrival, deadline_us);
    }
    let lane = Lane { limit_rows: 1, curve: None };
    let limits = BatchLimits::of_sizes(&ANY_SIZE);
    let order: Vec<u64> =
        (0..5).map(|_| queue.cut(0, |_| lane, &limits, |_| false).take[0].payload).collect();
    assert_eq!(order, [100, 200, 500, 800, 900]);
}
