//! Scale of an axis: maps values to positions, and chooses round values for its labels.

/// A linear axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    step: f64,
}

impl Scale {
    /// Creates the scale that maps values `low..high` to positions `from..to`, with about `ticks` labels.
    pub(super) fn new(low: f64, high: f64, from: f64, to: f64, ticks: u32) -> Self {
        // An empty or unknown range is drawn as 0 to 1.
        let (low, high) = if low.is_finite() && high > low { (low, high) } else { (0.0, 1.0) };
        Self { low, high, from, to, step: round_step((high - low) / f64::from(ticks)) }
    }

    /// Creates a scale as `new` does, with the high end raised to a whole step.
    pub(super) fn with_whole_steps(low: f64, high: f64, from: f64, to: f64, ticks: u32) -> Self {
        let scale = Self::new(low, high, from, to, ticks);
        Self { high: scale.low + ((scale.high - scale.low) / scale.step).ceil() * scale.step, ..scale }
    }

    /// Returns the position of a value; a value outside the range is drawn at the edge.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + part * (self.to - self.from)
    }

    /// Returns round values and their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = (-self.step.log10()).ceil().max(0.0) as usize;
        let first = (self.low / self.step).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last)
            .map(|index| index as f64 * self.step)
            .map(|value| (value, format!("{value:.decimals$}")))
            .collect()
    }
}

/// Returns the smallest of 1, 2 and 5 times a power of ten that is not below `raw`.
fn round_step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= raw * (1.0 - 1e-9)).unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_round_and_cover_the_range() {
        let labels = |low, high, ticks| {
            let scale = Scale::with_whole_steps(low, high, 0.0, 100.0, ticks);
            scale.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(labels(0.0, 93.0, 5), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(0.0, 0.9, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(0.0, 0.0, 5).first().map(String::as_str), Some("0.0"));
    }

    #[test]
    fn values_outside_stay_on_the_axis() {
        let scale = Scale::new(0.0, 10.0, 100.0, 0.0, 5);
        assert_eq!([scale.at(5.0), scale.at(20.0), scale.at(-1.0)], [50.0, 0.0, 100.0]);
    }
}
