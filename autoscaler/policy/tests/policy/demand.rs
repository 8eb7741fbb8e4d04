//! Demand from counters: what is known, what is not, and what comes.
use crate::fixtures::*;
use crate::server::{exponential, rng};
use sluice_scaling_policy::demand::{Demand, measure};
use sluice_scaling_policy::{Sample, Series, Windows};

fn of(series: &[Series]) -> Option<Demand> {
    measure(series, NOW, &Windows::default(), 10_000)
}

/// Samples a second apart of a counter that follows `rate(seconds before now)`.
fn following(rate: impl Fn(f64) -> f64) -> Series {
    let mut series = counter(NOW, 200, 0.0);
    let mut value = 0.0;
    for sample in &mut series.samples {
        #[expect(clippy::cast_precision_loss, reason = "some minutes")]
        let ago = (NOW - sample.at_ms) as f64 / 1000.0;
        value += rate(ago);
        sample.value = value;
    }
    series
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 0.02 * b.abs().max(1e-9)
}

#[test]
fn rates_of_several_batchers_add_up() {
    let mut other = counter(NOW, 100, 5.0);
    other.source = "other".to_owned();
    let demand = of(&[counter(NOW, 100, 20.0), other]).unwrap();
    assert!(near(demand.rate, 25.0) && near(demand.burst, 25.0), "{demand:?}");
    assert!(demand.complete);
}

#[test]
fn a_counter_that_begins_anew_is_not_negative_demand() {
    let mut series = counter(NOW, 100, 10.0);
    series.samples.iter_mut().skip(60).for_each(|s| s.value -= 600.0);
    assert!(near(of(&[series]).unwrap().rate, 10.0));
}

#[test]
fn missing_stale_and_nan_are_not_zero() {
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[Series { source: "a".to_owned(), samples: vec![] }]), None);
    assert_eq!(of(&[counter(NOW - 20_000, 100, 10.0)]), None, "stale");
    let one = Series { source: "a".to_owned(), samples: vec![Sample { at_ms: NOW, value: 7.0 }] };
    assert_eq!(of(&[one]), None, "one sample is no rate");
    let mut nan = counter(NOW, 100, 10.0);
    nan.samples.last_mut().unwrap().value = f64::NAN;
    nan.source = "nan".to_owned();
    assert_eq!(of(std::slice::from_ref(&nan)), None);
    let partly = of(&[counter(NOW, 100, 10.0), nan]).unwrap();
    assert!(!partly.complete && partly.rate > 10.0);
}

#[test]
fn a_burst_shows_at_once_and_chance_does_not() {
    let demand = of(&[following(|ago| if ago < 6.0 { 400.0 } else { 100.0 })]).unwrap();
    assert!(demand.burst > 350.0 && demand.significant_burst > 300.0 && demand.rate < 150.0, "{demand:?}");
    let steady = of(&[counter(NOW, 130, 100.0)]).unwrap();
    assert!(steady.significant_burst < steady.rate);
}

#[test]
fn a_ramp_is_continued_and_a_fall_is_not() {
    let rising = of(&[following(|ago| 300.0 - ago)]).unwrap();
    assert!(near(rising.forecast, 310.0), "one row/s more each second, ten seconds ahead: {rising:?}");
    let falling = of(&[following(|ago| 100.0 + ago)]).unwrap();
    assert!((falling.forecast - falling.rate).abs() < f64::EPSILON, "{falling:?}");
}

#[test]
fn a_forecast_is_bounded() {
    let demand =
        measure(&[following(|ago| (200.0 - ago).max(0.0))], NOW, &Windows::default(), 3_600_000).unwrap();
    assert!(demand.forecast <= 2.0 * demand.rate.max(demand.significant_burst) + 1e-9, "{demand:?}");
}

#[test]
fn poisson_arrivals_have_burstiness_one_and_groups_their_size() {
    for (group, want) in [(1.0, 1.0), (8.0, 8.0)] {
        let mut rng = rng(5);
        let (mut series, mut value, mut next) = (counter(NOW, 120, 0.0), 0.0, 0.0);
        for (second, sample) in series.samples.iter_mut().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "two minutes")]
            while next < second as f64 {
                next += exponential(&mut rng, group / 200.0);
                value += group;
            }
            sample.value = value;
        }
        assert!((of(&[series]).unwrap().burstiness - want).abs() < f64::EPSILON, "groups of {group}");
    }
}
