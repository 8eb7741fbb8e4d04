//! The service curves of one model, and the largest batch that follows from each.

use crate::{BatchSizes, ClassCurves, Lane, ServiceCurve, ShapeClass, batch_limit};

/// Shape classes that have a curve of their own. There are 65 in all, of powers of two; few are in use at a time.
const MOST_CLASSES: usize = 16;

#[derive(Debug)]
pub(super) struct Curves {
    learned: ClassCurves,
    /// Classes that were forgotten since [`Curves::take_forgotten`].
    forgotten: Vec<ShapeClass>,
}

impl Curves {
    pub(super) fn new() -> Self {
        Self { learned: ClassCurves::new(MOST_CLASSES), forgotten: Vec::new() }
    }

    /// Takes in the time of one batch. `class`: `None` for a warm-up batch or an unknown shape.
    pub(super) fn observe(&mut self, class: Option<ShapeClass>, rows: u32, seconds: f64) {
        self.forgotten.extend(self.learned.observe(class, rows, seconds));
    }

    /// Returns the model's common curve.
    pub(super) fn common(&self) -> Option<ServiceCurve> {
        self.learned.common()
    }

    /// Returns the curve of a class.
    pub(super) fn of(&self, class: Option<ShapeClass>) -> Option<ServiceCurve> {
        self.learned.of(class)
    }

    /// Returns curve and B\* for batches of a class.
    pub(super) fn lane(&self, class: Option<ShapeClass>, objective_us: u64, sizes: &BatchSizes) -> Lane {
        let curve = self.learned.of(class);
        Lane { limit_rows: batch_limit(curve.as_ref(), objective_us, sizes), curve }
    }

    /// Returns curve and B\* of all classes that have a curve of their own.
    pub(super) fn lanes(&self, objective_us: u64, sizes: &BatchSizes) -> Vec<(ShapeClass, Lane)> {
        let lane = |(class, curve)| {
            (class, Lane { limit_rows: batch_limit(Some(&curve), objective_us, sizes), curve: Some(curve) })
        };
        self.learned.classes().map(lane).collect()
    }

    /// Returns the curves of all classes that have one of their own.
    pub(super) fn classes(&self) -> impl Iterator<Item = (ShapeClass, ServiceCurve)> {
        self.learned.classes()
    }

    /// Takes out the classes that were forgotten since the last call.
    pub(super) fn take_forgotten(&mut self) -> Vec<ShapeClass> {
        std::mem::take(&mut self.forgotten)
    }
}
