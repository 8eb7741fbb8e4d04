//! Admission while models share slots, in a discrete-event simulation: one slot, L(b) = 20 ms + 1 ms·b with noise,
//! Poisson arrivals of one row, objective 300 ms. `-- --nocapture` prints the figures.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{
    Admission, AdmitView, BatchLimits, BatchSizes, Lane, ServiceCurve, Size, SlotShare, Ticket, WaitQueue,
    admit,
};

const CURVE: ServiceCurve =
    ServiceCurve { alpha_seconds: 0.020, beta_seconds: 0.001, residual_p95_ratio: 0.08, samples: 100 };
const CAP_ROWS: u32 = 64;
const OBJECTIVE_US: u64 = 300_000;
const WARM_UP_US: u64 = 2_000_000;
const SECONDS: u64 = 20;

#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    sent: u64,
    admitted: u64,
    met: u64,
}

impl Outcome {
    /// Part of what was admitted.
    fn kept(&self) -> f64 {
        self.met as f64 / self.admitted.max(1) as f64
    }

    /// Part of all that was sent.
    fn attainment(&self) -> f64 {
        self.met as f64 / self.sent.max(1) as f64
    }
}

fn hard_maximum() -> f64 {
    f64::from(CAP_ROWS) / CURVE.seconds(CAP_ROWS)
}

struct Running {
    model: usize,
    started_us: u64,
    ends_us: u64,
    expected_us: u64,
    charged_us: u64,
    arrived_us: Vec<u64>,
}

/// Models at these rates, in parts of the hard maximum. `counts_others`: whether admission knows of the other one.
fn simulate(loads: [f64; 2], counts_others: bool) -> [Outcome; 2] {
    let mut random = SmallRng::seed_from_u64(5);
    let sizes = BatchSizes::up_to(CAP_ROWS);
    let lane = Lane { limit_rows: CAP_ROWS, curve: Some(CURVE) };
    let mut share = SlotShare::new(1);
    let mut queues: [WaitQueue<(), ()>; 2] = [WaitQueue::new(), WaitQueue::new()];
    let mut outcomes = [Outcome::default(); 2];
    let mut running: Option<Running> = None;
    let rate = loads.iter().sum::<f64>() * hard_maximum();
    let mut next_arrival_us = 0.0f64;
    let counted = |arrived_us: u64| u64::from(arrived_us >= WARM_UP_US);
    while next_arrival_us < (WARM_UP_US + SECONDS * 1_000_000) as f64 {
        let arrival_us = next_arrival_us as u64;
        let ended = running.take_if(|batch| batch.ends_us <= arrival_us);
        let now_us = ended.as_ref().map_or(arrival_us, |batch| batch.ends_us);
        if let Some(batch) = ended {
            let wants = |queue: &WaitQueue<(), ()>| CURVE.us((queue.rows() as u32).min(CAP_ROWS));
            if !queues[batch.model].is_empty() {
                share.want(batch.model, 1, wants(&queues[batch.model]));
            }
            share.give_back(batch.model, batch.charged_us, batch.ends_us - batch.started_us);
            for &arrived_us in batch.arrived_us.iter().filter(|&&arrived_us| counted(arrived_us) > 0) {
                outcomes[batch.model].met += u64::from(batch.ends_us - arrived_us <= OBJECTIVE_US);
            }
        } else {
            next_arrival_us += -(1.0 - random.random::<f64>()).ln() / rate * 1e6;
            let model = usize::from(random.random_range(0.0..loads[0] + loads[1]) >= loads[0]);
            let deadline_us = now_us + OBJECTIVE_US;
            outcomes[model].sent += counted(now_us);
            let free_in_us = running.as_ref().map_or(0, |batch| batch.expected_us.saturating_sub(now_us));
            let (turn_us, part) = match counts_others {
                true => (share.before_turn_of_us(model), share.part_of(model)),
                false => (0, 1.0),
            };
            let view = AdmitView {
                now_us,
                deadline_us,
                rows: 1,
                rows_ahead: queues[model].rows(),
                slots: 1,
                free_slots: share.free(),
                slot_free_in_us: free_in_us + turn_us,
                limit_rows: CAP_ROWS,
                rows_per_second: 0.0,
                share: part,
            };
            if matches!(admit(&view, Some(&CURVE)), Admission::Admit { .. }) {
                outcomes[model].admitted += counted(now_us);
                let size = Size::of_rows(1);
                let ticket = Ticket { class: 1, tenant: 0, weight: 1, deadline_us, size, arrived_us: now_us };
                queues[model].push((), ticket, ());
                share.want(model, 1, CURVE.us((queues[model].rows() as u32).min(CAP_ROWS)));
            }
        }
        while let Some((model, charged_us)) = share.grant() {
            let batch = queues[model].cut(now_us, |()| lane, &BatchLimits::of_sizes(&sizes), |()| false);
            if batch.take.is_empty() {
                share.give_back(model, charged_us, 0);
                continue;
            }
            if !queues[model].is_empty() {
                share.want(model, 1, CURVE.us((queues[model].rows() as u32).min(CAP_ROWS)));
            }
            let noise: f64 = (0..4).map(|_| random.random_range(-0.0433..0.0433)).sum();
            let rows = batch.take.len() as u32;
            let ends_us = now_us + (CURVE.seconds(rows) * (1.0 + noise) * 1e6) as u64;
            running = Some(Running {
                model,
                started_us: now_us,
                ends_us,
                expected_us: now_us + CURVE.p95_us(rows),
                charged_us,
                arrived_us: batch.take.iter().map(|waiting| waiting.arrived_us).collect(),
            });
        }
    }
    // What is on its way at the end belongs to neither side.
    for (model, queue) in queues.iter_mut().enumerate() {
        let left = queue.drain().into_iter().map(|(_, waiting)| counted(waiting.arrived_us)).sum::<u64>();
        let flying = running.iter().filter(|batch| batch.model == model).flat_map(|batch| &batch.arrived_us);
        outcomes[model].admitted -= left + flying.map(|&arrived_us| counted(arrived_us)).sum::<u64>();
    }
    outcomes
}

#[test]
fn a_model_that_floods_is_promised_no_more_than_its_part_of_the_slot() {
    // Of the slot time, not of the rows: a model that sends little has small batches, but gets its turn.
    for other in [3.0, 0.2, 0.05] {
        let [flood, beside] = simulate([3.0, other], true);
        let unaware = simulate([3.0, other], false)[0].kept();
        println!(
            "a model at 3×, another at {other}×: kept {:.4} and {:.4}; {unaware:.4} where the other is not counted",
            flood.kept(),
            beside.kept()
        );
        assert!(unaware <= 0.75, "there is something to count: {unaware}");
        assert!(flood.kept() >= 0.93, "{other}×: {}", flood.kept());
        assert!(beside.kept() >= 0.98, "{other}×: {}", beside.kept());
    }
}

#[test]
fn a_neighbour_that_hardly_sends_costs_hardly_anything() {
    let [busy, _] = simulate([0.9, 0.002], true);
    println!("0.9× beside 0.002×: {:.4} of what was sent in time", busy.attainment());
    assert!(busy.attainment() >= 0.98, "{}", busy.attainment());
}
