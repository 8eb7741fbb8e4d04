//! Rows that the backlog predicts to be served before a new arrival.

use sluice_batch_policy::{Backlog, Flow};

fn flow(class: u8, tenant: u32) -> Flow {
    Flow { class, tenant, weight: 1 }
}

#[test]
fn a_class_waits_for_those_before_it_and_its_own_alone() {
    let mut backlog = Backlog::new();
    for (class, rows) in [(0, 3), (1, 10), (2, 100)] {
        backlog.enter(flow(class, 0), rows);
    }
    assert_eq!([0, 1, 2, 3].map(|class| backlog.rows_ahead(flow(class, 0), 1)), [3, 13, 113, 113]);
    backlog.leave(flow(1, 0), 10);
    assert_eq!(backlog.rows_ahead(flow(2, 0), 1), 103);
}

#[test]
fn of_another_tenants_flood_only_the_fair_part_is_ahead() {
    let mut backlog = Backlog::new();
    for _ in 0..1000 {
        backlog.enter(flow(1, 7), 1);
    }
    assert_eq!(backlog.requests_of(7), 1000);
    assert_eq!(backlog.rows_ahead(flow(1, 8), 1), 1, "one of theirs for the one that arrives");
    backlog.enter(flow(1, 8), 4);
    assert_eq!(backlog.rows_ahead(flow(1, 8), 1), 4 + 5);
    assert_eq!(backlog.rows_ahead(Flow { weight: 5, ..flow(1, 8) }, 1), 4 + 1);
    assert_eq!(backlog.rows_ahead(flow(1, 7), 1), 1000 + 4, "no more of the others than there is");
}

#[test]
fn an_idle_queue_has_nothing_ahead_whoever_was_served_before() {
    let mut backlog = Backlog::new();
    for _ in 0..50 {
        backlog.enter(flow(1, 1), 8);
        backlog.leave(flow(1, 1), 8);
        backlog.served([(flow(1, 1), 8)].into_iter());
    }
    assert_eq!(backlog.rows_ahead(flow(1, 2), 1), 0);
    assert_eq!(backlog.rows_ahead(flow(2, 1), 1), 0);
}

#[test]
fn who_is_overtaken_is_told_so() {
    let mut backlog = Backlog::new();
    backlog.enter(flow(2, 0), 60);
    for _ in 0..100 {
        backlog.enter(flow(1, 0), 8);
        backlog.leave(flow(1, 0), 8);
        backlog.served([(flow(1, 0), 8), (flow(2, 0), 8)].into_iter());
    }
    let ahead = backlog.rows_ahead(flow(2, 0), 1);
    // Twice the 60, and a margin of 1.645 · √60 for random arrivals.
    assert!((130..=134).contains(&ahead), "half of the service goes to the first class: {ahead}");
    assert_eq!(backlog.rows_ahead(flow(1, 0), 1), 0, "it is not overtaken itself");
}

#[test]
fn absurd_numbers_do_not_overflow() {
    let mut backlog = Backlog::new();
    for tenant in 0..10 {
        backlog.enter(Flow { weight: u32::MAX, ..flow(0, tenant) }, u32::MAX);
    }
    assert!(backlog.rows_ahead(flow(0, 99), u32::MAX) > u64::from(u32::MAX));
}
