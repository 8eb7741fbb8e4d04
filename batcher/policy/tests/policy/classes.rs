//! Shape classes have curves of their own, which are learned separately, start from the common one and do not disturb
//! each other.

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{ClassCurves, ServiceCurve, ShapeClass};

/// L(b) = α + β·b, seconds.
type Line = (f64, f64);

fn short_rows() -> ShapeClass {
    ShapeClass::of_elements(128)
}

fn long_rows() -> ShapeClass {
    ShapeClass::of_elements(512)
}

/// Runs one batch of random size: noise of the given relative standard deviation, and an outlier of up to ten times in
/// 3 %.
fn batch(random: &mut SmallRng, line: Line, noise: f64) -> (u32, f64) {
    let rows = random.random_range(1..=64);
    // The sum of four uniform values is near enough to a normal one.
    let noise = noise * (0..4).map(|_| random.random_range(-0.866..0.866)).sum::<f64>();
    let outlier = if random.random_bool(0.03) { random.random_range(2.0..10.0) } else { 1.0 };
    (rows, (line.0 + line.1 * f64::from(rows)) * (1.0 + noise) * outlier)
}

fn feed(curves: &mut ClassCurves, random: &mut SmallRng, class: ShapeClass, line: Line, noise: f64) {
    let (rows, seconds) = batch(random, line, noise);
    curves.observe(Some(class), rows, seconds);
}

/// Returns the worst relative error over the batch sizes that have most of the rows.
fn error(curve: &ServiceCurve, line: Line) -> f64 {
    let error = |rows: u32| (curve.seconds(rows) / (line.0 + line.1 * f64::from(rows)) - 1.0).abs();
    (8..=64).map(error).fold(0.0, f64::max)
}

/// Draws the lines of two classes.
fn lines(random: &mut SmallRng) -> [(ShapeClass, Line); 2] {
    let mut line = || (random.random_range(0.002..0.05), random.random_range(0.0002..0.003));
    [(short_rows(), line()), (long_rows(), line())]
}

/// Returns the errors after `batches` batches of each of two classes, for many pairs of lines.
fn errors_after(batches: u32, noise: f64) -> Vec<f64> {
    let mut errors = Vec::new();
    for seed in 0..PAIRS {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut curves = ClassCurves::new(8);
        let lines = lines(&mut random);
        for _ in 0..batches {
            for (class, line) in lines {
                feed(&mut curves, &mut random, class, line, noise);
            }
        }
        errors.extend(lines.map(|(class, line)| error(&curves.of(Some(class)).unwrap(), line)));
    }
    errors
}

const PAIRS: u64 = 200;

/// Checks nearly all runs, not all, because the curve is learned from noise: where chance looks like a step just before
/// the end, only a few batches are left to learn from. The seeds are fixed.
fn assert_nearly_all_below(errors: &[f64], limit: f64) {
    let above = errors.iter().filter(|&&error| error >= limit).count();
    assert!(above * 100 <= errors.len(), "{above} of {} are not below {limit}", errors.len());
    assert!(errors.iter().all(|&error| error < 0.25), "{errors:?}");
}

#[test]
fn two_classes_are_told_apart_within_5_percent_after_200_batches() {
    assert_nearly_all_below(&errors_after(200, 0.05), 0.05);
}

#[test]
fn noise_of_10_percent_costs_a_few_percent_more() {
    assert_nearly_all_below(&errors_after(250, 0.10), 0.08);
}

#[test]
fn a_step_of_one_class_does_not_disturb_the_other() {
    let mut errors = Vec::new();
    for seed in 0..PAIRS {
        let mut random = SmallRng::seed_from_u64(seed);
        let factor =
            if seed % 2 == 0 { random.random_range(0.3..0.6) } else { random.random_range(1.6..4.0) };
        let [small, large] = lines(&mut random);
        let (mut stepped, mut steady) = (ClassCurves::new(8), ClassCurves::new(8));
        for _ in 0..200 {
            for (class, line) in [small, large] {
                let (rows, seconds) = batch(&mut random, line, 0.05);
                stepped.observe(Some(class), rows, seconds);
                steady.observe(Some(class), rows, seconds);
            }
        }
        let after = (small.1.0 * factor, small.1.1 * factor);
        for _ in 0..200 {
            feed(&mut stepped, &mut random, short_rows(), after, 0.05);
        }
        errors.push(error(&stepped.of(Some(short_rows())).unwrap(), after));
        assert_eq!(stepped.of(Some(long_rows())), steady.of(Some(long_rows())), "seed {seed}");
    }
    assert_nearly_all_below(&errors, 0.05);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_class_that_was_not_seen_has_the_common_curve_and_then_its_shape(
        line in (0.002f64..0.05, 0.0002f64..0.003), factor in 1.5f64..6.0, seed in 0u64..1_000_000,
    ) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut curves = ClassCurves::new(8);
        for _ in 0..200 {
            feed(&mut curves, &mut random, short_rows(), line, 0.02);
        }
        prop_assert_eq!(curves.of(Some(long_rows())), curves.common());
        prop_assert_eq!(curves.of(None), curves.common());
        // All batches of the new class have one size: only the common curve's shape tells α from β.
        let larger = (line.0 * factor, line.1 * factor);
        for seen in 0..3 {
            prop_assert_eq!(curves.of(Some(long_rows())), curves.common(), "after {} batches", seen);
            curves.observe(Some(long_rows()), 16, larger.0 + larger.1 * 16.0);
        }
        let curve = curves.of(Some(long_rows())).unwrap();
        prop_assert!(error(&curve, larger) < 0.15, "{larger:?}: {curve:?}");
    }
}

#[test]
fn one_outlier_does_not_make_the_curve_of_a_new_class() {
    let mut curves = ClassCurves::new(8);
    for batch in 0..100u32 {
        let rows = 1 + batch % 64;
        curves.observe(Some(short_rows()), rows, 0.020 + 0.001 * f64::from(rows));
    }
    for seconds in [0.056, 5.6, 0.056] {
        curves.observe(Some(long_rows()), 8, seconds);
    }
    let curve = curves.of(Some(long_rows())).unwrap();
    assert!((curve.seconds(8) / 0.056 - 1.0).abs() < 0.05, "{curve:?}");
}

#[test]
fn warm_up_teaches_the_common_curve_alone() {
    let mut curves = ClassCurves::new(8);
    curves.observe(None, 8, 0.028);
    assert!(curves.common().is_some());
    assert_eq!(curves.classes().count(), 0);
}

#[test]
fn the_class_that_was_not_used_for_longest_is_forgotten() {
    let mut curves = ClassCurves::new(2);
    let class = |elements| ShapeClass::of_elements(elements);
    let mut see = |elements| (0..3).filter_map(|_| curves.observe(Some(class(elements)), 4, 0.01)).last();
    assert_eq!(see(1), None);
    assert_eq!(see(2), None);
    assert_eq!(see(1), None);
    assert_eq!(see(4), Some(class(2)), "1 was used after 2");
    let known: Vec<u128> = curves.classes().map(|(class, _)| class.most_elements()).collect();
    assert_eq!(known, [1, 4]);
}
