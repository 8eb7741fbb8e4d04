//! Curves of one model: a common one, and one per shape class.

use std::collections::BTreeMap;

use super::{CurveEstimator, ServiceCurve};

/// Class of rows by their number of elements, as a power of two: the time of a row depends on it, beside the model.
/// Requests of one merge key are of one class, because a key fixes all dimensions but the rows.
///
/// Elements are counted over all inputs. An element of type BYTES counts as one, however long it is: its length is
/// not part of the key, so that a batch has texts of all lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeClass(u8);

impl ShapeClass {
    /// Returns the class of rows of `elements_per_row` elements.
    pub fn of_elements(elements_per_row: u64) -> Self {
        // log2, rounded up: 0 to 64.
        Self((u64::BITS - (elements_per_row.max(1) - 1).leading_zeros()) as u8)
    }

    /// Returns the most elements that a row of this class has.
    pub fn most_elements(self) -> u128 {
        1 << self.0
    }
}

/// Service curves of one model, all learned from the same batches.
///
/// The common curve is learned from all batches, whatever their class, and is used for a class of which nothing is
/// known. A new class starts from it: it has the common curve until it has seen three batches of its own, and the shape
/// of that curve until batches of different sizes show its own. Each class follows steps and ignores outliers by itself
/// ([`CurveEstimator`]). The number of classes is bounded; for one more the least recently used class is forgotten.
#[derive(Debug, Clone)]
pub struct ClassCurves {
    common: CurveEstimator,
    classes: BTreeMap<ShapeClass, Class>,
    most_classes: usize,
    batches: u64,
}

#[derive(Debug, Clone)]
struct Class {
    estimator: CurveEstimator,
    /// Number of the class's own batches so far, up to [`OWN_BATCHES`].
    own: usize,
    /// Number of the class's newest batch.
    last_used: u64,
}

/// Number of batches from which on a class has a curve of its own: the median of three does not follow one outlier.
const OWN_BATCHES: usize = 3;

impl ClassCurves {
    /// Creates curves of at most `most_classes` classes (at least 1).
    pub fn new(most_classes: usize) -> Self {
        Self {
            common: CurveEstimator::new(),
            classes: BTreeMap::new(),
            most_classes: most_classes.max(1),
            batches: 0,
        }
    }

    /// Takes in one batch as [`CurveEstimator::observe`] does. `class` is `None` where the class is not known
    /// (warm-up). Returns the class that was forgotten for this one; `None` where none was.
    pub fn observe(
        &mut self,
        class: Option<ShapeClass>,
        rows: u32,
        service_seconds: f64,
    ) -> Option<ShapeClass> {
        let prior = self.common.curve();
        self.common.observe(rows, service_seconds);
        let class = class?;
        self.batches += 1;
        let forgotten = self.make_room_for(class);
        let known = self.classes.entry(class).or_insert_with(|| Class {
            estimator: prior.as_ref().map_or_else(CurveEstimator::new, CurveEstimator::starting_from),
            own: 0,
            last_used: 0,
        });
        known.last_used = self.batches;
        known.own = (known.own + 1).min(OWN_BATCHES);
        known.estimator.observe(rows, service_seconds);
        forgotten
    }

    /// Returns the model's common curve; `None` before the first batch.
    pub fn common(&self) -> Option<ServiceCurve> {
        self.common.curve()
    }

    /// Returns the curve to use for a class: its own, else the common one; `None` before the first batch.
    pub fn of(&self, class: Option<ShapeClass>) -> Option<ServiceCurve> {
        let own = class.and_then(|class| self.classes.get(&class)).and_then(Class::curve);
        own.or_else(|| self.common())
    }

    /// Returns the classes that have a curve of their own, with these curves.
    pub fn classes(&self) -> impl Iterator<Item = (ShapeClass, ServiceCurve)> {
        self.classes.iter().filter_map(|(class, known)| Some((*class, known.curve()?)))
    }

    fn make_room_for(&mut self, class: ShapeClass) -> Option<ShapeClass> {
        if self.classes.contains_key(&class) || self.classes.len() < self.most_classes {
            return None;
        }
        let (oldest, _) = self.classes.iter().min_by_key(|(_, known)| known.last_used)?;
        let oldest = *oldest;
        self.classes.remove(&oldest);
        Some(oldest)
    }
}

impl Class {
    fn curve(&self) -> Option<ServiceCurve> {
        self.estimator.curve().filter(|_| self.own >= OWN_BATCHES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two_of_elements() {
        let most = |elements| ShapeClass::of_elements(elements).most_elements();
        assert_eq!([0, 1, 2, 3, 4, 5, 128, 129].map(most), [1, 1, 2, 4, 4, 8, 128, 256]);
        assert_eq!(most(u64::MAX), 1 << 64);
    }
}
