//! The parts together, in a discrete-event simulation (simulated server and arrivals, virtual time, seeded).
//!
//! One slot, L(b) = 20 ms + 1 ms·b with noise, objective 300 ms, Poisson arrivals of one row. The curve is learned
//! on the way.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{
    Admission, AdmitView, BatchLimits, BatchSizes, CurveEstimator, Lane, Size, Ticket, WaitQueue, admit,
    batch_limit,
};

const ALPHA: f64 = 0.020;
const BETA: f64 = 0.001;
const OBJECTIVE_US: u64 = 300_000;
/// The queue's own bound, as the batcher has one.
const QUEUE_BOUND: usize = 4096;

#[derive(Debug, Default)]
struct Outcome {
    sent: u64,
    admitted: u64,
    met: u64,
    dropped: u64,
    p50_us: u64,
}

struct Running {
    started_us: u64,
    ends_us: u64,
    arrived_us: Vec<u64>,
}

/// Runs `seconds` after as many of warm-up as the first batches need, which are not counted.
fn simulate(cap_rows: u32, rate_per_second: f64, seconds: u64, seed: u64) -> Outcome {
    let mut random = SmallRng::seed_from_u64(seed);
    let sizes = BatchSizes::up_to(cap_rows);
    let mut estimator = CurveEstimator::new();
    let mut queue: WaitQueue<(), ()> = WaitQueue::new();
    let mut running: Option<Running> = None;
    let mut outcome = Outcome::default();
    let mut latencies_us = Vec::new();
    let counted_from_us = 5_000_000;
    let end_us = counted_from_us + seconds * 1_000_000;
    let mut next_arrival_us = 0.0f64;
    loop {
        let curve = estimator.curve();
        let limit_rows = batch_limit(curve.as_ref(), OBJECTIVE_US, &sizes);
        let finishes =
            running.as_ref().map(|batch| batch.ends_us).filter(|&ends| ends as f64 <= next_arrival_us);
        let now_us = finishes.unwrap_or(next_arrival_us as u64);
        if now_us > end_us {
            break;
        }
        if let (Some(_), Some(batch)) = (finishes, running.take_if(|_| finishes.is_some())) {
            estimator.observe(batch.arrived_us.len() as u32, (now_us - batch.started_us) as f64 / 1e6);
            for arrived_us in batch.arrived_us.iter().filter(|&&arrived_us| arrived_us >= counted_from_us) {
                latencies_us.push(now_us - arrived_us);
                outcome.met += u64::from(now_us - arrived_us <= OBJECTIVE_US);
            }
        } else {
            let gap: f64 = -(1.0 - random.random::<f64>()).ln() / rate_per_second;
            next_arrival_us += gap * 1e6;
            let counted = u64::from(now_us >= counted_from_us);
            outcome.sent += counted;
            let slot_free_in_us = match (&running, &curve) {
                (Some(batch), Some(curve)) => {
                    (batch.started_us + curve.p95_us(batch.arrived_us.len() as u32)).saturating_sub(now_us)
                }
                _ => 0,
            };
            let view = AdmitView {
                now_us,
                deadline_us: now_us + OBJECTIVE_US,
                rows: 1,
                rows_ahead: queue.rows(),
                slots: 1,
                free_slots: u32::from(running.is_none()),
                slot_free_in_us,
                limit_rows,
            };
            let admitted = matches!(admit(&view, curve.as_ref()), Admission::Admit { .. });
            if admitted && queue.len() < QUEUE_BOUND {
                outcome.admitted += counted;
                let arrival = Ticket {
                    class: 1,
                    tenant: 0,
                    weight: 1,
                    deadline_us: now_us + OBJECTIVE_US,
                    size: Size::of_rows(1),
                    arrived_us: now_us,
                };
                queue.push((), arrival, ());
            }
        }
        if running.is_none() {
            let batch = queue.cut(
                now_us,
                |()| Lane { limit_rows, curve },
                &BatchLimits::of_sizes(&sizes),
                |()| false,
            );
            let counted = |arrived_us: u64| u64::from(arrived_us >= counted_from_us);
            outcome.dropped += batch.drop.iter().map(|(_, waiting)| counted(waiting.arrived_us)).sum::<u64>();
            if !batch.take.is_empty() {
                let noise: f64 = (0..4).map(|_| random.random_range(-0.0433..0.0433)).sum();
                let service = (ALPHA + BETA * batch.take.len() as f64) * (1.0 + noise);
                running = Some(Running {
                    started_us: now_us,
                    ends_us: now_us + (service * 1e6) as u64,
                    arrived_us: batch.take.iter().map(|waiting| waiting.arrived_us).collect(),
                });
            }
        }
    }
    latencies_us.sort_unstable();
    outcome.p50_us = latencies_us.get(latencies_us.len() / 2).copied().unwrap_or_default();
    // What is on its way at the end belongs to neither side.
    outcome.admitted -= (queue.len() + running.map_or(0, |batch| batch.arrived_us.len())) as u64;
    outcome
}

/// Rows per second at full batches of the cap.
fn hard_maximum(cap_rows: u32) -> f64 {
    f64::from(cap_rows) / (ALPHA + BETA * f64::from(cap_rows))
}

#[test]
fn overload_keeps_goodput_near_the_hard_maximum_and_promises_to_the_admitted() {
    for cap_rows in [64, 128] {
        for overload in [1.5, 3.0] {
            let seconds = 60;
            let outcome = simulate(cap_rows, overload * hard_maximum(cap_rows), seconds, 42);
            let goodput = outcome.met as f64 / seconds as f64 / hard_maximum(cap_rows);
            let kept = outcome.met as f64 / outcome.admitted as f64;
            println!(
                "cap {cap_rows}, {overload}×: goodput {goodput:.3} of the hard maximum, kept {kept:.4}, {outcome:?}"
            );
            assert!(goodput >= 0.90, "cap {cap_rows}, {overload}×: goodput {goodput}, {outcome:?}");
            assert!(kept >= 0.99, "cap {cap_rows}, {overload}×: kept {kept}, {outcome:?}");
        }
    }
}

#[test]
fn below_the_maximum_nearly_all_are_admitted_and_in_time() {
    let outcome = simulate(64, 0.7 * hard_maximum(64), 60, 43);
    assert!(outcome.met as f64 >= 0.99 * outcome.sent as f64, "{outcome:?}");
}

#[test]
fn low_load_is_not_made_to_wait_for_company() {
    // 2 requests/s: hardly any two meet, and a batch of one takes 21 ms.
    let outcome = simulate(64, 2.0, 60, 44);
    assert!(outcome.p50_us < 23_000, "{outcome:?}");
}
