//! Computes the replicas that the model wants, before any limit applies.
use crate::curve::Curve;
use crate::decision::{Reason, Steps};
use crate::demand::Demand;
use crate::input::{Input, Sample};
use crate::queueing::QueueModel;
use crate::state::State;

/// Bounds of the correction: observed over predicted quantile.
const CORRECTION: (f64, f64) = (0.7, 1.5);
/// Number of demand windows over which observations are smoothed, because the quantile of one window is noisy.
const CORRECTION_WINDOWS: f64 = 5.0;
/// Range of loads in which predictions are compared with observations: below it the quantile hardly depends on the load,
/// above it too much.
const LOADS: (f64, f64) = (0.1, 0.9);
/// Load of replicas where no number of them meets the objective: at least they are not saturated.
const STABLE_LOAD: f64 = 0.8;

/// Replicas that are wanted, and how later stages treat them.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) replicas: u32,
    pub(super) reason: Reason,
    /// Explanation beyond the reason, for people; may be empty.
    pub(super) note: String,
    /// Whether it rests on measurements; a hold does not.
    pub(super) measured: bool,
    /// Whether it skips the stabilisation windows: panic, from and to zero.
    pub(super) urgent: bool,
    pub(super) to_zero: bool,
    pub(super) from_zero: bool,
}

impl Wanted {
    pub(super) fn hold(current: u32, reason: Reason, note: impl Into<String>) -> Self {
        Self {
            replicas: current,
            reason,
            note: note.into(),
            measured: false,
            urgent: false,
            to_zero: false,
            from_zero: false,
        }
    }

    fn urgent(replicas: u32, reason: Reason) -> Self {
        Self { measured: true, urgent: true, ..Self::hold(replicas, reason, "") }
    }
}

pub(super) fn wanted(input: &Input, demand: Option<&Demand>, state: &mut State, steps: &mut Steps) -> Wanted {
    let current = input.current.replicas;
    let windows = &input.spec.windows;
    let fresh = |sample: Option<Sample>| {
        let recent =
            |s: &Sample| s.value.is_finite() && input.now_ms.saturating_sub(s.at_ms) <= windows.stale_ms;
        sample.filter(recent).map(|s| s.value)
    };
    let queue = fresh(input.signals.queue_rows);
    let waiting = input.signals.demand_latched || queue.is_some_and(|rows| rows > 0.0);
    let arriving = demand.is_some_and(|d| d.significant_burst > 0.0 || (current == 0 && d.burst > 0.0));
    if waiting || arriving {
        state.last_demand_ms = Some(input.now_ms);
    } else if let Some(at_ms) = demand.and_then(|d| d.last_arrival_ms) {
        state.last_demand_ms = state.last_demand_ms.max(Some(at_ms));
    }
    if current == 0 && (waiting || arriving) {
        let replicas = input.spec.min_replicas.max(1);
        return Wanted { from_zero: true, ..Wanted::urgent(replicas, Reason::FromZero) };
    }
    let Some(demand) = demand else {
        return Wanted::hold(current, Reason::MetricsMissing, "no recent sample of demand");
    };
    report(demand, steps);
    let missing = !demand.complete;
    if let Some(seconds) = input.spec.scale_to_zero_after_seconds
        && !waiting
        && !missing
    {
        let last = state.last_demand_ms.or(state.since_ms).unwrap_or(input.now_ms);
        if input.now_ms.saturating_sub(last) >= u64::from(seconds) * 1000 {
            return Wanted { to_zero: true, ..Wanted::urgent(0, Reason::ToZero) };
        }
    }
    if current == 0 {
        return Wanted { measured: true, ..Wanted::hold(0, Reason::Steady, "no demand") };
    }
    let Some(curve) = input.signals.curve.filter(Curve::is_usable) else {
        // Growing blindly is no better than holding: more replicas would not learn the curve faster.
        return Wanted::hold(current, Reason::LearningCurve, "no service curve yet");
    };
    let model =
        Model::new(input, &curve, demand, queue, fresh(input.signals.observed_quantile_ms), state, steps);
    let mut wanted = model.replicas(input, steps);
    steps.model = Some(wanted.replicas);
    panic(input, demand, &model, state, &mut wanted);
    steps.panic = Some(wanted.replicas);
    if wanted.replicas < current && !wanted.urgent {
        if missing {
            return Wanted::hold(
                current,
                Reason::MetricsMissing,
                "a batcher's demand is stale or not a number",
            );
        }
        // Twice as many misses as allowed forbid a scale-down, whatever the model says.
        let missed = fresh(input.signals.attainment).map_or(0.0, |ratio| 1.0 - ratio);
        if missed > 2.0 * (1.0 - input.spec.objective.quantile) {
            let note = format!("{:.1} % of recent requests missed the objective", missed * 100.0);
            return Wanted { measured: true, ..Wanted::hold(current, Reason::ObjectiveMissed, note) };
        }
    }
    wanted
}

fn report(demand: &Demand, steps: &mut Steps) {
    steps.rate_rows_per_second = Some(demand.rate);
    steps.burst_rows_per_second = Some(demand.burst);
    steps.forecast_rows_per_second = Some(demand.forecast);
    steps.burstiness = Some(demand.burstiness);
}

/// Capacity of one replica within the objective, and the demand.
struct Model {
    demand: f64,
    per_replica: f64,
    impossible: bool,
    /// Predicted quantile at the current replicas, corrected, without margin.
    predicted_ms: f64,
}

impl Model {
    fn new(
        input: &Input,
        curve: &Curve,
        demand: &Demand,
        queue: Option<f64>,
        observed_ms: Option<f64>,
        state: &mut State,
        steps: &mut Steps,
    ) -> Self {
        let spec = &input.spec;
        let slot = QueueModel::new(curve, spec.objective.quantile, demand.burstiness);
        let current = f64::from(input.current.replicas);
        let served_now = demand.rate.max(demand.significant_burst);
        let prediction = slot.quantile_ms(served_now / current);
        steps.predicted_quantile_ms = prediction.is_finite().then_some(prediction);
        correct(input, &slot, demand, observed_ms, state);
        let correction = state.correction.unwrap_or(1.0);
        steps.correction = Some(correction);
        // Replicas that are starting will help to drain the queue, so it calls for fewer others.
        let starting = input.current.ready < input.current.replicas;
        let drain_ms = spec.windows.drain_ms + if starting { spec.startup_ms } else { 0 };
        let usual = f64::from(input.current.ready.max(1)) * f64::from(curve.batch_rows_limit);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a window")]
        let backlog = (queue.unwrap_or(0.0) - usual).max(0.0) * 1000.0 / drain_ms.max(1) as f64;
        steps.backlog_rows_per_second = Some(backlog);
        let total = served_now.max(demand.forecast) + backlog;
        steps.demand_rows_per_second = Some(total);
        let within = slot.rows_per_second_within(spec.objective.latency_ms, correction);
        let per_replica = within.unwrap_or(STABLE_LOAD * slot.saturation_rows_per_second());
        steps.capacity_per_replica_rows_per_second = Some(per_replica);
        Self {
            demand: total,
            per_replica,
            impossible: within.is_none(),
            predicted_ms: slot.quantile_ms(total / current) * correction,
        }
    }

    /// Returns the replicas that `rows_per_second` need, as a fraction.
    fn need(&self, rows_per_second: f64) -> f64 {
        rows_per_second / self.per_replica
    }

    /// Returns the need in whole replicas, with a tolerance around the current ones.
    fn replicas(&self, input: &Input, steps: &mut Steps) -> Wanted {
        let current = input.current.replicas;
        let need = self.need(self.demand);
        steps.need = Some(need);
        let behavior = &input.spec.behavior;
        let up = ceil(need).max(1);
        let measured = |replicas, reason| Wanted { measured: true, ..Wanted::hold(replicas, reason, "") };
        if up > current {
            // The tolerance never excuses a miss: it applies only while the objective is met by prediction.
            let small = need <= f64::from(current) * (1.0 + behavior.scale_up.tolerance);
            if small && !self.impossible && self.predicted_ms <= input.spec.objective.latency_ms {
                return measured(current, Reason::WithinTolerance);
            }
            let reason = if self.impossible { Reason::ObjectiveImpossible } else { Reason::DemandRose };
            return measured(up, reason);
        }
        // Scale down only as far as the tolerance still fits, so that no replica has to come back at once.
        let down = ceil(need * (1.0 + behavior.scale_down.tolerance)).max(1);
        if down < current {
            return measured(down, Reason::DemandFell);
        }
        let reason = match up < current {
            _ if self.impossible => Reason::ObjectiveImpossible,
            true => Reason::WithinTolerance,
            false => Reason::Steady,
        };
        measured(current, reason)
    }
}

/// Updates the correction, observed / predicted smoothed, where both are meaningful: nothing starts, no panic, moderate load.
fn correct(input: &Input, slot: &QueueModel, demand: &Demand, observed_ms: Option<f64>, state: &mut State) {
    let Some(observed_ms) = observed_ms.filter(|ms| *ms > 0.0) else { return };
    let windows = &input.spec.windows;
    // Latencies were observed over the past window, during which the replicas must not have changed.
    let settled =
        state.scale_events.last().is_none_or(|e| input.now_ms.saturating_sub(e.at_ms) > windows.demand_ms);
    if !settled || input.current.ready != input.current.replicas || state.panic_until_ms.is_some() {
        return;
    }
    let per_slot = demand.rate / f64::from(input.current.ready);
    let load = per_slot / slot.saturation_rows_per_second();
    if !(LOADS.0..=LOADS.1).contains(&load) {
        return;
    }
    let ratio = (observed_ms / slot.quantile_ms(per_slot)).clamp(CORRECTION.0, CORRECTION.1);
    // Observations overlap: the weight follows from the time since the last decision.
    let last_ms = state.recommendations.last().map_or(input.now_ms, |r| r.at_ms);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a window")]
    let (passed, window) = (input.now_ms.saturating_sub(last_ms) as f64, windows.demand_ms.max(1) as f64);
    let weight = passed / (passed + CORRECTION_WINDOWS * window);
    let before = state.correction.unwrap_or(1.0);
    state.correction = Some(before + weight * (ratio - before));
}

/// Scales up at once for a burst that exceeds the replicas, and forbids a scale-down until it has been over for a while.
fn panic(input: &Input, demand: &Demand, model: &Model, state: &mut State, wanted: &mut Wanted) {
    let current = input.current.replicas;
    // A constant rate above the capacity is not a burst: the model handles it.
    let stands_out = demand.significant_burst > demand.rate;
    if stands_out && model.need(demand.significant_burst) > f64::from(current) {
        state.panic_until_ms = Some(input.now_ms + input.spec.windows.panic_ms);
        let replicas = ceil(model.need(demand.burst)).max(wanted.replicas);
        let reason = if model.impossible { Reason::ObjectiveImpossible } else { Reason::Panic };
        *wanted = Wanted::urgent(replicas, reason);
    } else if state.panic_until_ms.is_some_and(|until| input.now_ms < until) {
        if wanted.replicas < current {
            *wanted = Wanted::urgent(current, Reason::Panic);
        }
    } else {
        state.panic_until_ms = None;
    }
}

/// Rounds up to whole replicas; a number just above a whole one counts as that.
fn ceil(need: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating, never negative")]
    let whole = (need - 1e-9).ceil().max(0.0) as u32;
    whole
}
