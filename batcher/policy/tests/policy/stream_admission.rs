//! Admission of streams: which requests start, wait or are rejected.

use proptest::prelude::*;
use sluice_batch_policy::{
    Arrival, Left, LimitBounds, NO_DEADLINE, StreamAdmission, StreamAdmissionSettings,
};

const SECOND_US: u64 = 1_000_000;

/// Creates an admission with a fixed limit per server.
fn admission(limit: f64, servers: u32) -> StreamAdmission<u32> {
    let bounds = LimitBounds { least: limit, most: limit, start: limit };
    let mut admission =
        StreamAdmission::new(StreamAdmissionSettings { bounds, most_waiting: 4, hold_us: 30 * SECOND_US }, 0);
    admission.set_servers(0, servers);
    admission
}

fn started(admission: &mut StreamAdmission<u32>, now_us: u64) -> Vec<u32> {
    std::iter::from_fn(|| admission.next(now_us))
        .map(|left| match left {
            Left::Starts { payload, .. } => payload,
            Left::Expired { .. } => panic!("{left:?}"),
        })
        .collect()
}

#[test]
fn those_above_the_limit_wait_and_start_by_class_and_deadline() {
    let mut admission = admission(2.0, 1);
    for (id, class, deadline_us) in [
        (1, 1, NO_DEADLINE),
        (2, 1, NO_DEADLINE),
        (3, 1, 50 * SECOND_US),
        (4, 1, 40 * SECOND_US),
        (5, 0, NO_DEADLINE),
    ] {
        assert_eq!(admission.arrive(0, class, deadline_us, None, id), Arrival::Waits);
        if id <= 2 {
            assert_eq!(started(&mut admission, 0), [id]);
        }
    }
    assert_eq!((started(&mut admission, 0), admission.running(), admission.waiting()), (vec![], 2, 3));
    for next in [5, 4, 3] {
        admission.ended(SECOND_US, 1.0, Some(1.0));
        assert_eq!(started(&mut admission, SECOND_US), [next]);
    }
}

#[test]
fn two_servers_take_twice_as_many() {
    let mut admission = admission(2.0, 2);
    let mut all = Vec::new();
    for id in 0..6 {
        assert_eq!(admission.arrive(0, 0, NO_DEADLINE, None, id), Arrival::Waits);
        all.extend(started(&mut admission, 0));
    }
    assert_eq!(all, [0, 1, 2, 3]);
}

#[test]
fn a_start_that_is_predicted_too_late_is_refused_with_the_time_to_come_back() {
    let mut admission = admission(2.0, 1);
    for id in 0..3 {
        admission.arrive(0, 0, NO_DEADLINE, None, id);
        started(&mut admission, 0);
        admission.ended(4 * SECOND_US, 1.0, Some(4.0));
    }
    // Streams take 4 s; two run, two wait: a third waiting one would start after (2 + 3 - 2) * 4 s / 2.
    (3..7).for_each(|id| {
        assert_eq!(admission.arrive(10 * SECOND_US, 0, NO_DEADLINE, None, id), Arrival::Waits)
    });
    assert_eq!(started(&mut admission, 10 * SECOND_US), [3, 4]);
    let late = admission.arrive(10 * SECOND_US, 0, 15 * SECOND_US, None, 8);
    assert_eq!(late, Arrival::Waits, "its deadline puts it before those without one");
    let late = admission.arrive(10 * SECOND_US, 1, 15 * SECOND_US, None, 9);
    assert_eq!(late, Arrival::TooLate { payload: 9, retry_after_us: 8 * SECOND_US });
    let in_time = admission.arrive(10 * SECOND_US, 1, 18 * SECOND_US, None, 10);
    assert_eq!(in_time, Arrival::Waits);
    let full = admission.arrive(10 * SECOND_US, 1, NO_DEADLINE, None, 11);
    assert!(matches!(full, Arrival::Full { payload: 11, .. }), "{full:?}");
}

#[test]
fn one_that_did_not_start_in_time_is_told_so() {
    let mut admission = admission(1.0, 1);
    admission.arrive(0, 0, NO_DEADLINE, None, 1);
    assert_eq!(started(&mut admission, 0), [1]);
    admission.arrive(0, 0, 5 * SECOND_US, None, 2);
    assert_eq!(admission.next_expiry_us(), Some(5 * SECOND_US));
    assert_eq!(admission.next(5 * SECOND_US - 1), None);
    let left = admission.next(5 * SECOND_US).unwrap();
    assert!(matches!(left, Left::Expired { payload: 2, held: false, .. }), "{left:?}");
}

#[test]
fn without_a_server_requests_are_held_beyond_their_deadlines() {
    let mut admission = admission(4.0, 0);
    admission.arrive(0, 0, SECOND_US, None, 1);
    admission.arrive(0, 0, SECOND_US, None, 2);
    assert_eq!(admission.next(29 * SECOND_US), None);
    admission.set_servers(29 * SECOND_US, 1);
    assert_eq!(started(&mut admission, 29 * SECOND_US), [1, 2]);
    admission.set_servers(30 * SECOND_US, 0);
    admission.arrive(30 * SECOND_US, 0, 31 * SECOND_US, None, 3);
    let left = admission.next(60 * SECOND_US).unwrap();
    assert!(matches!(left, Left::Expired { payload: 3, held: true, .. }), "{left:?}");
}

#[test]
fn a_request_weighs_what_it_costs_in_tokens() {
    let mut admission = admission(4.0, 1);
    for id in 0..4 {
        admission.arrive(0, 0, NO_DEADLINE, Some(1000), id);
        started(&mut admission, 0);
    }
    admission.ended(1, 1.0, Some(1.0));
    // Three of weight 1 run; one of three times the mean weight does not fit beside them, one of a quarter would.
    admission.arrive(1, 0, NO_DEADLINE, Some(3000), 4);
    assert_eq!(started(&mut admission, 1), [] as [u32; 0]);
    admission.ended(2, 1.0, Some(1.0));
    assert_eq!(started(&mut admission, 2), [] as [u32; 0]);
    admission.ended(3, 1.0, Some(1.0));
    assert_eq!(started(&mut admission, 3), [4]);
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { class: u8, patience_us: u64, tokens: Option<u64> },
    End,
    Pass(u64),
    Servers(u32),
    Leave(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let arrive = (0u8..3, 1u64..20_000_000, prop::option::of(1u64..100_000))
        .prop_map(|(class, patience_us, tokens)| Step::Arrive { class, patience_us, tokens });
    let step = prop_oneof![
        4 => arrive,
        3 => Just(Step::End),
        2 => (1u64..5_000_000).prop_map(Step::Pass),
        1 => (0u32..3).prop_map(Step::Servers),
        1 => (0u32..200).prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_request_starts_expires_leaves_or_is_refused_exactly_once(steps in steps(), limit in 1.0f64..6.0) {
        let mut admission = admission(limit, 1);
        let (mut now_us, mut arrived, mut out) = (0u64, 0u32, Vec::new());
        let mut running: Vec<f64> = Vec::new();
        let mut servers = 1;
        for step in steps {
            match step {
                Step::Arrive { class, patience_us, tokens } => {
                    match admission.arrive(now_us, class, now_us + patience_us, tokens, arrived) {
                        Arrival::Waits => {}
                        Arrival::Full { payload, retry_after_us } | Arrival::TooLate { payload, retry_after_us } => {
                            prop_assert!(retry_after_us > 0);
                            out.push(payload);
                        }
                    }
                    arrived += 1;
                }
                Step::End => {
                    if let Some(weight) = running.pop() {
                        admission.ended(now_us, weight, Some(1.0));
                    }
                }
                Step::Pass(us) => now_us += us,
                Step::Servers(count) => {
                    servers = count;
                    admission.set_servers(now_us, count);
                }
                Step::Leave(id) => {
                    let before = admission.waiting();
                    admission.retain(now_us, |&waiting| waiting != id);
                    if admission.waiting() < before {
                        out.push(id);
                    }
                }
            }
            while let Some(left) = admission.next(now_us) {
                match left {
                    Left::Starts { payload, weight, .. } => {
                        prop_assert!(servers > 0);
                        running.push(weight);
                        out.push(payload);
                        let sum: f64 = running.iter().sum();
                        prop_assert!(running.len() == 1 || sum <= limit * f64::from(servers) + 1e-6);
                    }
                    Left::Expired { payload, .. } => out.push(payload),
                }
            }
            prop_assert!(admission.waiting() <= 4);
            prop_assert_eq!(admission.running() as usize, running.len());
            prop_assert!(
                servers == 0 || admission.waiting() == 0 || !running.is_empty(), "an idle server is given work"
            );
        }
        prop_assert_eq!(out.len() + admission.waiting(), arrived as usize);
        out.sort_unstable();
        out.dedup();
        prop_assert_eq!(out.len() + admission.waiting(), arrived as usize, "none twice");
    }
}
