//! Gauges of a queue, for autoscalers and operators; set before each scrape.

use metrics::gauge;
use sluice_batch_policy::{AttainmentWindow, BusyWindow, Engine, Forecast, ServiceCurve, ShapeClass};
use sluice_config::metric_names::batcher as names;

use super::{Entry, ModelHandle};
use crate::upstream::slot::Slot;

/// Window of the busy fraction, microseconds.
const BUSY_WINDOW_US: u64 = 5_000_000;
/// Window of the attainment ratio, microseconds.
const ATTAINMENT_WINDOW_US: u64 = 30_000_000;

/// State of the queue that only its owner knows.
pub(super) struct View {
    pub(super) forecast: Forecast,
    pub(super) oldest_wait_us: u64,
    pub(super) inflight: usize,
    pub(super) latched: bool,
}

/// Sliding windows of the gauges that are means over the last seconds.
pub(super) struct Windows {
    busy: BusyWindow,
    attainment: AttainmentWindow,
}

impl Windows {
    pub(super) fn new(now_us: u64) -> Self {
        Self {
            busy: BusyWindow::new(BUSY_WINDOW_US, now_us),
            attainment: AttainmentWindow::new(ATTAINMENT_WINDOW_US, now_us),
        }
    }

    /// Records that `busy` of `slots` slots are busy from now on.
    pub(super) fn set_busy(&mut self, now_us: u64, busy: u32, slots: u32) {
        self.busy.set(now_us, busy, slots);
    }

    /// Records the requests that the request tasks have counted since the last call.
    pub(super) fn count(&mut self, handle: &ModelHandle, now_us: u64) {
        let (met, missed) = handle.metrics.attainment.take();
        for (count, was_met) in [(met, true), (missed, false)] {
            for _ in 0..count {
                self.attainment.record(now_us, was_met);
            }
        }
    }

    pub(super) fn set_gauges(&mut self, handle: &ModelHandle, view: &View, now_us: u64) {
        let forecast = &view.forecast;
        let wait_us = forecast.wait_us(now_us, handle.queued_rows()).unwrap_or(0);
        let gauges = &handle.metrics.gauges;
        gauges.queue_rows.set(handle.queued_rows() as f64);
        gauges.oldest_wait.set(view.oldest_wait_us as f64 / 1e6);
        gauges.inflight.set(view.inflight as f64);
        gauges.slots.set(f64::from(forecast.slots));
        gauges.busy.set(self.busy.fraction(now_us));
        gauges.predicted_wait.set(wait_us as f64 / 1e6);
        gauges.attainment.set(self.attainment.ratio(now_us).unwrap_or(1.0));
        let (alpha, beta, samples) = forecast
            .curve
            .map_or((0.0, 0.0, 0), |curve| (curve.alpha_seconds, curve.beta_seconds, curve.samples));
        gauges.alpha.set(alpha);
        gauges.beta.set(beta);
        gauges.samples.set(samples as f64);
        gauges.limit.set(f64::from(forecast.limit_rows));
        gauges.latched.set(if view.latched { 1.0 } else { 0.0 });
    }
}

/// Sets the series of the curves of shape classes. Those of classes that were forgotten are set to zero samples.
pub(super) fn set_class_curves(handle: &ModelHandle, engine: &mut Engine<Box<Entry>, Slot>) {
    let set = |class: ShapeClass, curve: Option<ServiceCurve>| {
        let labels =
            [("model", handle.metrics.label.to_string()), ("shape_class", class.most_elements().to_string())];
        let (alpha, beta, samples) =
            curve.map_or((0.0, 0.0, 0), |curve| (curve.alpha_seconds, curve.beta_seconds, curve.samples));
        gauge!(names::CLASS_CURVE_ALPHA_SECONDS, &labels).set(alpha);
        gauge!(names::CLASS_CURVE_BETA_SECONDS, &labels).set(beta);
        gauge!(names::CLASS_CURVE_SAMPLES, &labels).set(samples as f64);
    };
    engine.take_forgotten_classes().into_iter().for_each(|class| set(class, None));
    engine.class_curves().for_each(|(class, curve)| set(class, Some(curve)));
}
