//! Shape classes have curves of their own: told apart, started from the common one, not disturbed by each other.

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

/// One batch of random size: noise of the given relative standard deviation, and an outlier of up to ten times in 3 %.
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

/// The worst relative error over the batch sizes that carry most rows.
fn error(curve: &ServiceCurve, line: Line) -> f64 {
    let error = |rows: u32| (curve.seconds(rows) / (line.0 + line.1 * f64::from(rows)) - 1.0).abs();
    (8..=64).map(error).fold(0.0, f64::max)
}

fn lines() -> impl Strategy<Value = (Line, Line)> {
    let line = || (0.002f64..0.05, 0.0002f64..0.003);
    (line(), line())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_classes_are_told_apart_within_5_percent_after_200_batches(
        (small, large) in lines(), seed in 0u64..1_000_000,
    ) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut curves = ClassCurves::new(8);
        for _ in 0..200 {
            feed(&mut curves, &mut random, short_rows(), small, 0.05);
            feed(&mut curves, &mut random, long_rows(), large, 0.05);
        }
        for (class, line) in [(short_rows(), small), (long_rows(), large)] {
            let curve = curves.of(Some(class)).unwrap();
            prop_assert!(error(&curve, line) < 0.05, "{line:?}: {curve:?}");
        }
    }

    #[test]
    fn noise_of_10_percent_costs_a_few_percent_more(
        (small, large) in lines(), seed in 0u64..1_000_000,
    ) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut curves = ClassCurves::new(8);
        for _ in 0..250 {
            feed(&mut curves, &mut random, short_rows(), small, 0.10);
            feed(&mut curves, &mut random, long_rows(), large, 0.10);
        }
        for (class, line) in [(short_rows(), small), (long_rows(), large)] {
            let curve = curves.of(Some(class)).unwrap();
            prop_assert!(error(&curve, line) < 0.12, "{line:?}: {curve:?}");
        }
    }

    #[test]
    fn a_step_of_one_class_does_not_disturb_the_other(
        (small, large) in lines(), factor in prop_oneof![0.3f64..0.6, 1.6f64..4.0], seed in 0u64..1_000_000,
    ) {
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut stepped, mut steady) = (ClassCurves::new(8), ClassCurves::new(8));
        for _ in 0..200 {
            for class in [(short_rows(), small), (long_rows(), large)] {
                let (rows, seconds) = batch(&mut random, class.1, 0.05);
                stepped.observe(Some(class.0), rows, seconds);
                steady.observe(Some(class.0), rows, seconds);
            }
        }
        let after = (small.0 * factor, small.1 * factor);
        for _ in 0..200 {
            feed(&mut stepped, &mut random, short_rows(), after, 0.05);
        }
        let curve = stepped.of(Some(short_rows())).unwrap();
        prop_assert!(error(&curve, after) < 0.05, "{after:?}: {curve:?}");
        prop_assert_eq!(stepped.of(Some(long_rows())), steady.of(Some(long_rows())));
    }

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
        // All batches of the new class have one size: α and β cannot be told apart but by the common curve's shape.
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
