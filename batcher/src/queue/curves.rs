//! The service curves of one model: what the owner decides by, per shape class, and what is shown of them.

use metrics::gauge;
use sluice_batch_policy::{BatchSizes, ClassCurves, Lane, ServiceCurve, ShapeClass, batch_limit};
use sluice_config::metric_names::batcher as names;

use super::ModelHandle;

/// Shape classes that have a curve of their own. There are 65 in all, of powers of two; few are in use at a time.
const MOST_CLASSES: usize = 16;

pub(super) struct Curves {
    learned: ClassCurves,
    /// Their series are set to zero samples with the next gauges.
    forgotten: Vec<ShapeClass>,
}

impl Curves {
    pub(super) fn new() -> Self {
        Self { learned: ClassCurves::new(MOST_CLASSES), forgotten: Vec::new() }
    }

    /// Takes in the time of one batch; without a class where it was a warm-up or of an unknown shape.
    pub(super) fn observe(&mut self, class: Option<ShapeClass>, rows: u32, seconds: f64) {
        self.forgotten.extend(self.learned.observe(class, rows, seconds));
    }

    /// The model's common curve.
    pub(super) fn common(&self) -> Option<ServiceCurve> {
        self.learned.common()
    }

    /// The curve of a class.
    pub(super) fn of(&self, class: Option<ShapeClass>) -> Option<ServiceCurve> {
        self.learned.of(class)
    }

    /// Curve and B* for batches of a class.
    pub(super) fn lane(&self, class: Option<ShapeClass>, objective_us: u64, sizes: &BatchSizes) -> Lane {
        let curve = self.learned.of(class);
        Lane { limit_rows: batch_limit(curve.as_ref(), objective_us, sizes), curve }
    }

    /// The same for all classes that have a curve of their own.
    pub(super) fn lanes(&self, objective_us: u64, sizes: &BatchSizes) -> Vec<(ShapeClass, Lane)> {
        let lane = |(class, curve)| {
            (class, Lane { limit_rows: batch_limit(Some(&curve), objective_us, sizes), curve: Some(curve) })
        };
        self.learned.classes().map(lane).collect()
    }

    /// The series of each class.
    pub(super) fn set_gauges(&mut self, handle: &ModelHandle) {
        let set = |class: ShapeClass, curve: Option<ServiceCurve>| {
            let labels = [
                ("model", handle.metrics.label.to_string()),
                ("shape_class", class.most_elements().to_string()),
            ];
            let (alpha, beta, samples) =
                curve.map_or((0.0, 0.0, 0), |curve| (curve.alpha_seconds, curve.beta_seconds, curve.samples));
            gauge!(names::CLASS_CURVE_ALPHA_SECONDS, &labels).set(alpha);
            gauge!(names::CLASS_CURVE_BETA_SECONDS, &labels).set(beta);
            gauge!(names::CLASS_CURVE_SAMPLES, &labels).set(samples as f64);
        };
        self.forgotten.drain(..).for_each(|class| set(class, None));
        self.learned.classes().for_each(|(class, curve)| set(class, Some(curve)));
    }
}
